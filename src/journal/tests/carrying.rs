//! Tests the carry-over: unfinished runs do not block archiving, and are resumed.

use std::fs;
use std::path::{Path, PathBuf};

use super::archiving::{archives, everything, holds, run, small};
use super::*;

/// A stuck run of two records, all archived. Its first record precedes seven runs that ended, and its
/// second is among them.
async fn stuck(dir: &Path) -> (Journal, Vec<Head>) {
    let (journal, _) = Journal::open_thread(dir, small()).expect("opened");
    run(&journal, 1..4).await;
    append(&journal, 100, 0, "begun").await.expect("appended");
    run(&journal, 4..6).await;
    append(&journal, 100, 1, "stuck").await.expect("appended");
    run(&journal, 6..8).await;
    let heads = journal.entries(1, 1 << 20).await.expect("readable").iter().map(Entry::head).collect();
    assert_eq!(everything(&journal).await.carried, 1);
    (journal, heads)
}

fn reopened(dir: &Path) -> (Journal, Opened) {
    Journal::open_thread(dir, small()).unwrap_or_else(|error| panic!("opened again: {error:?}"))
}

fn refused(dir: &Path) -> JournalError {
    Journal::open_thread(dir, small()).err().expect("it is not opened")
}

fn carried(dir: &Path) -> Vec<PathBuf> {
    archives(dir, "carried")
}

/// Checks that the run of stream 100 is resumed with these records, and can be read and appended to.
async fn resumed(journal: &Journal, opened: &Opened, records: &[&str]) {
    let [(id, entries)] = opened.streams.as_slice() else { panic!("{:?}", opened.streams) };
    assert_eq!(*id, stream(100));
    assert_eq!(texts(entries), records);
    assert_eq!(&journal.stream(stream(100)).await.expect("readable"), entries);
    assert!(append(journal, 100, 0, "again").await.is_err(), "it is known");
}

#[tokio::test]
async fn open_run_does_not_block_archiving() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, heads) = stuck(dir.path()).await;
    assert!(journal.entries(1, 100).await.expect("readable")[0].position > heads.len() as u64);
    assert_eq!(carried(dir.path()).len(), 1, "one file, whatever the number of archives");
    holds(dir.path(), &journal, &heads).await;
    drop(journal);
    let (journal, opened) = reopened(dir.path());
    assert_eq!(opened.repairs, []);
    resumed(&journal, &opened, &["begun", "stuck"]).await;

    // The run continues in the live journal, over another archive, and ends there.
    append(&journal, 100, 2, "asked").await.expect("appended");
    run(&journal, 8..10).await;
    assert_eq!(everything(&journal).await.carried, 1);
    drop(journal);
    let (journal, opened) = reopened(dir.path());
    resumed(&journal, &opened, &["begun", "stuck", "asked"]).await;
    journal.append(stream(100), 3, vec![record("end")], StreamState::Finished).await.expect("appended");
    let all = ["begun", "stuck", "asked", "end"];
    assert_eq!(texts(&journal.stream(stream(100)).await.expect("readable")), all);
    assert_eq!(everything(&journal).await.carried, 0);
    assert_eq!(carried(dir.path()), Vec::<PathBuf>::new(), "nothing is carried any more");
    assert_eq!(texts(&journal.stream(stream(100)).await.expect("from the archives")), all);
    assert_eq!(append(&journal, 100, 4, "more").await, Err(AppendError::Archived { stream: stream(100) }));
    holds(dir.path(), &journal, &heads).await;
    drop(journal);
    assert_eq!(reopened(dir.path()).1.streams, []);
}

#[tokio::test]
async fn opens_without_archives_after_losing_index() {
    for lost in ["nothing", "sled"] {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = stuck(dir.path()).await;
        append(&journal, 100, 2, "asked").await.expect("appended");
        drop(journal);
        archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("moved"));
        if lost != "nothing" {
            fs::remove_dir_all(dir.path().join(lost)).expect("removed");
        }
        let (journal, opened) = reopened(dir.path());
        assert_eq!(opened.repairs.is_empty(), lost == "nothing", "{:?}", opened.repairs);
        resumed(&journal, &opened, &["begun", "stuck", "asked"]).await;
        run(&journal, 8..10).await;
        assert_eq!(everything(&journal).await.carried, 1, "{lost} lost");
        drop(journal);
        let (journal, opened) = reopened(dir.path());
        resumed(&journal, &opened, &["begun", "stuck", "asked"]).await;
    }
}

#[tokio::test]
async fn rebuilds_carry_over_from_archives_or_refuses_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = stuck(dir.path()).await;
    drop(journal);
    let path = carried(dir.path()).remove(0);
    let (saved, name) = (fs::read(&path).expect("readable"), path.file_name().expect("a name").to_owned());
    let forged = forged(&saved);
    for damage in [None, Some(saved[..saved.len() / 2].to_vec()), Some(forged.clone())] {
        match &damage {
            None => fs::remove_file(&path).expect("removed"),
            Some(bytes) => fs::write(&path, bytes).expect("written"),
        }
        let (journal, opened) = reopened(dir.path());
        let name = name.to_str().expect("a name").to_owned();
        assert_eq!(opened.repairs, [Repair::CarryOverRebuilt { name }]);
        resumed(&journal, &opened, &["begun", "stuck"]).await;
        assert_eq!(fs::read(&path).expect("it is there"), saved);
    }
    // If an archive was moved away, the file cannot be rebuilt. The error names the missing archive and the
    // fix.
    let archive = archives(dir.path(), "seg").remove(0);
    fs::rename(&archive, dir.path().join("elsewhere")).expect("moved");
    for (bytes, what) in
        [(None, "it is missing"), (Some(forged), "it is not the file that its checkpoint names")]
    {
        fs::remove_file(&path).expect("removed");
        bytes.iter().for_each(|bytes| fs::write(&path, bytes).expect("written"));
        let error = refused(dir.path());
        let text = error.to_string();
        assert!(matches!(error, JournalError::CarryOverLost { runs: 1, .. }), "{text}");
        let missing = archive.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(
            [path.to_str().expect("a path"), what, missing].iter().all(|word| text.contains(word)),
            "{text}"
        );
        assert_eq!(error.verdict(), Some(Verdict::Corrupt));
        fs::write(&path, &saved).expect("written");
    }
    fs::remove_file(&path).expect("removed");
    fs::rename(dir.path().join("elsewhere"), &archive).expect("moved back");
    assert!(Journal::open_thread(dir.path(), small()).is_ok(), "the archive is back");
}

/// The same file with another word in a record, and with every hash in it recomputed.
fn forged(file: &[u8]) -> Vec<u8> {
    let body = &file[..file.len() - 32];
    let at = body.windows(5).position(|five| five == b"stuck").expect("the word is there");
    let mut body = body.to_vec();
    body[at..at + 5].copy_from_slice(b"right");
    let begins = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes")) as usize;
    // The envelope around the word. Its length precedes it.
    let start = (0..at).rev().find(|&start| start + 4 + begins(start) == at + 5 + 32).expect("an envelope");
    let hash = *blake3::hash(&body[start + 4..at + 5]).as_bytes();
    body[at + 5..at + 37].copy_from_slice(&hash);
    let hash = *blake3::hash(&body).as_bytes();
    body.extend(hash);
    body
}

#[tokio::test]
async fn rebuilds_index_that_lost_carried_over_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = stuck(dir.path()).await;
    drop(journal);
    let mut store = SledStore::open(&dir.path().join("sled")).expect("opened");
    let meta = store.meta().expect("readable").expect("there is one");
    store.truncate(&Truncation { meta, records: vec![], streams: vec![stream(100)] }).expect("forgotten");
    store.sync().expect("synced");
    drop(store);
    let (journal, opened) = reopened(dir.path());
    assert!(matches!(&opened.repairs[..], [Repair::IndexRebuilt { .. }]), "{:?}", opened.repairs);
    resumed(&journal, &opened, &["begun", "stuck"]).await;
}

#[tokio::test]
async fn carries_over_ended_streams_referenced_by_open_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open_thread(dir.path(), Options { links, ..small() }).expect("opened");
    let backup = stream(200);
    journal.append(backup, 0, vec![accepted(&[1, 100])], StreamState::Open).await.expect("appended");
    run(&journal, 1..4).await;
    append(&journal, 100, 0, "stuck").await.expect("appended");
    run(&journal, 4..6).await;
    assert_eq!(
        everything(&journal).await.carried,
        3,
        "the one that refers to others, the one that ended and the one that is stuck"
    );
    drop(journal);
    archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("moved"));
    let linked = Options { links, ..small() };
    let (journal, opened) = Journal::open_thread(dir.path(), linked).expect("opened again");
    let open: Vec<_> = opened.streams.iter().map(|(stream, _)| *stream).collect();
    assert_eq!(open, [backup, stream(100)], "what has ended is not resumed");
    assert_eq!(texts(&journal.stream(stream(1)).await.expect("carried")), ["one", "two", "three"]);
    assert_eq!(append(&journal, 1, 3, "more").await, Err(AppendError::Archived { stream: stream(1) }));
    let gone = journal.stream(stream(2)).await.expect_err("no run needs it");
    assert!(matches!(gone, JournalError::ArchiveMissing { .. }), "{gone}");
}

/// A record that refers to streams. Their numbers are its payload.
fn accepted(groups: &[u128]) -> Record {
    let payload = groups.iter().flat_map(|number| number.to_be_bytes()).collect();
    Record { kind: REFERS, version: 1, time_ns: 1, payload }
}

const REFERS: u16 = 16;

fn links(record: &Record) -> Vec<uuid::Uuid> {
    let numbers = record.payload.chunks_exact(16).filter(|_| record.kind == REFERS);
    numbers.map(|bytes| stream(u128::from_be_bytes(bytes.try_into().expect("16 bytes")))).collect()
}

/// A stuck run costs only its own records, and not those of the runs that end after it.
#[tokio::test]
async fn stuck_run_keeps_disk_and_memory_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = stuck(dir.path()).await;
    let size = |name: &str| {
        let files = fs::read_dir(dir.path().join(name)).expect("there").flatten();
        files
            .filter(|file| file.path().extension().is_none_or(|e| e != "seg" || name == "evidence"))
            .map(|file| file.metadata().map_or(0, |meta| meta.len()))
            .sum::<u64>()
    };
    let before = fs::read(&carried(dir.path())[0]).expect("readable");
    let mut journal = Some(journal);
    let mut sizes = vec![];
    for round in 1..5u128 {
        let open = journal.take().unwrap_or_else(|| reopened(dir.path()).0);
        run(&open, round * 1000..round * 1000 + 50).await;
        everything(&open).await;
        drop(open);
        let (_, opened) = reopened(dir.path());
        assert_eq!(opened.streams.len(), 1);
        assert!(opened.records < 100, "{} live records after {round} rounds", opened.records);
        sizes.push(size("evidence"));
        assert_eq!(
            fs::read(&carried(dir.path())[0]).expect("readable"),
            before,
            "one file, of the same bytes"
        );
    }
    assert!(sizes[3] <= sizes[0] + 1_000, "{sizes:?}");
}

#[tokio::test]
async fn reads_whole_run_without_archives() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, heads) = stuck(dir.path()).await;
    append(&journal, 100, 2, "asked").await.expect("appended");
    drop(journal);
    let path = carried(dir.path()).remove(0);
    let saved = fs::read(&path).expect("readable");
    let read = || {
        let snapshot = Snapshot::open(dir.path()).expect("readable");
        let verification = snapshot.verify(None);
        (texts(snapshot.carried()), verification.verdict, verification.problem, snapshot.remarks().len())
    };
    assert_eq!(read(), (vec![], Verdict::Intact, None, 0), "every record is in the chain");
    fs::write(&path, forged(&saved)).expect("written");
    assert_eq!(read(), (vec![], Verdict::Intact, None, 1), "the next start rebuilds it");

    archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("moved"));
    let what = "it is not the file that its checkpoint names";
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let position = heads.len() as u64;
    let problem = Some(ChainProblem { position, what: Fault::CarryOver { name, what } });
    assert_eq!(read(), (vec![], Verdict::Corrupt, problem, 1));
    fs::write(&path, saved).expect("written");
    let begun = ["begun", "stuck"].map(str::to_owned).to_vec();
    assert_eq!(read(), (begun, Verdict::NeedsArchive, None, 1), "a remark says that archives are elsewhere");
}
