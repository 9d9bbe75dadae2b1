//! The `journal` commands while a daemon runs, and after the daemon was killed.

use std::fs;

use serde_json::Value;

use crate::process::{Ended, ended, wait};
use crate::stage::Stage;

/// Runs a `journal` command.
fn journal(stage: &Stage, args: &[&str]) -> Ended {
    let dir = stage.journal().display().to_string();
    ended(&[&["journal"], args, &["--journal", &dir]].concat())
}

#[test]
fn reads_from_running_daemon_or_from_copy() {
    let mut stage = Stage::with_group(2);
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Completed");

    let asked = journal(&stage, &["verify", "-o", "json"]).with(0);
    assert!(
        asked.stderr.contains(&format!("asked the daemon that has {}", stage.journal().display())),
        "{}",
        asked.stderr
    );
    assert!(asked.stderr.contains(&format!("pid {}", daemon.id())), "{}", asked.stderr);
    assert_eq!(asked.json()["verdict"], "intact");
    let lines = journal(&stage, &["export"]).with(0).stdout;
    let streams = journal(&stage, &["list", "-o", "json"]).with(0).json();
    assert_eq!(journal(&stage, &["replay", "-o", "json"]).with(0).json()["different"], Value::Array(vec![]));
    let expected = format!("{}:{}", asked.json()["head"]["position"], "0".repeat(64));
    journal(&stage, &["verify", "--expect-head", &expected]).with(4);

    daemon.kill();
    let copied = journal(&stage, &["verify", "-o", "json"]).with(0);
    assert!(copied.stderr.contains("private copy"), "{}", copied.stderr);
    assert_eq!(copied.json(), asked.json());
    assert_eq!(journal(&stage, &["export"]).with(0).stdout, lines);
    assert_eq!(journal(&stage, &["list", "-o", "json"]).with(0).json(), streams);

    // The next daemon replaces the socket that the killed daemon left.
    let mut daemon = stage.daemon(&[]);
    wait("the second life", || {
        assert!(daemon.running(), "the daemon ended: {:?}", daemon.end());
        let said = journal(&stage, &["list"]).stderr;
        said.contains(&format!("pid {}, epoch 2", daemon.id())).then_some(())
    });
}

#[test]
fn held_journal_without_socket_is_locked() {
    let mut stage = Stage::new();
    let mut daemon = stage.daemon(&[]);
    let socket = stage.journal().join("daemon.sock");
    wait("the socket", || {
        assert!(daemon.running(), "the daemon ended: {:?}", daemon.end());
        socket.exists().then_some(())
    });
    fs::remove_file(&socket).expect("removed");
    let verified = journal(&stage, &["verify", "-o", "json"]).with(4).json();
    assert_eq!(verified["verdict"], "locked");
    let refused = journal(&stage, &["show", "-o", "json"]).with(4).json();
    assert_eq!(refused["error"]["code"], "SP0031");
}
