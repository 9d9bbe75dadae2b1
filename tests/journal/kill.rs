//! Kills a writing process with SIGKILL at any moment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use stillpoint::journal::archive::Policy;
use stillpoint::journal::{Head, Journal};

use crate::common::{append_all, block_on, missing, options};

const KILLS: u64 = 50;
const VARIABLE: &str = "STILLPOINT_TEST_WRITER";

/// Not an independent test: the process that [`fifty_kills`] kills.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(VARIABLE) else { return };
    let (journal, opened) = Journal::open_thread(Path::new(&dir), options()).expect("opened");
    for round in 0.. {
        let first = u128::from(opened.epoch) << 64 | round << 32;
        for head in append_all(&journal, first..first + 3, 200) {
            println!("head {head}");
        }
        if round % 5 == 4 {
            // The kills hit the archiving as often as other code.
            let archived = block_on(journal.archive(Policy::everything(), 0)).expect("archived");
            archived.archives.iter().for_each(|archive| println!("archive {}", archive.last));
        }
        std::io::stdout().flush().expect("the parent reads");
    }
}

/// Starts a writer on `dir`, kills it after `lines` heads, and returns all heads that it printed.
fn killed(dir: &Path, lines: usize) -> Vec<Head> {
    let program = std::env::current_exe().expect("this binary");
    let mut writer = Command::new(program)
        .args(["--exact", "kill::writer", "--nocapture"])
        .env(VARIABLE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut heads = Vec::new();
    for line in BufReader::new(writer.stdout.take().expect("piped")).lines() {
        // The last line may be incomplete.
        let Ok(line) = line else { break };
        let head = line.strip_prefix("head ").or(line.strip_prefix("archive "));
        heads.extend(head.and_then(|text| text.parse::<Head>().ok()));
        if heads.len() == lines {
            writer.kill().expect("killed");
        }
    }
    writer.wait().expect("it has ended");
    heads
}

#[test]
fn fifty_kills_lose_no_acknowledged_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut random, mut heads) = (fastrand::Rng::with_seed(1), Vec::new());
    for kill in 0..KILLS {
        let printed = killed(dir.path(), random.usize(1..60));
        assert!(!printed.is_empty(), "kill {kill}: the writer wrote nothing");
        heads.extend(printed);
        assert_eq!(missing(dir.path(), &heads, &format!("kill {kill}")), 0);
    }
    let archives = std::fs::read_dir(dir.path().join("archive")).map_or(0, Iterator::count) / 2;
    assert!(archives > 0, "nothing was archived");
    println!("{KILLS} kills, {} acknowledged, {archives} archives, none lost", heads.len());
}
