//! Tests readers that do not hold the journal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::testing::batches;
use super::*;

/// Writes a journal with eight records and closes it. Returns its head.
async fn sample(dir: &Path) -> Head {
    let (journal, _) = Journal::open_thread(dir, impatient()).expect("created");
    for seq in 0..4 {
        append(&journal, 1, seq, "one").await.expect("appended");
        append(&journal, 2, seq, "two").await.expect("appended");
    }
    journal.head()
}

/// A log of these batches, as a closed journal.
fn written(dir: &Path, batches: &[Batch]) -> Snapshot {
    let faults = super::super::fault_injection::FaultHook::default();
    let log = super::super::log::LogWriter::begin(&dir.join("log"), Head::genesis(), 1 << 20, faults);
    let mut log = log.expect("begun");
    batches.iter().for_each(|batch| log.append(batch).expect("appended"));
    Snapshot::open(dir).expect("opened")
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable"));
    let files = files.filter(|entry| entry.file_type().expect("known").is_file());
    files
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("readable"))
        })
        .collect()
}

#[tokio::test]
async fn snapshot_reads_all_entries_without_changing_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = sample(dir.path()).await;
    let before = files(&dir.path().join("sled"));
    let snapshot = Snapshot::open(dir.path()).expect("opened");
    let entries: Vec<_> = snapshot.entries().collect::<Result<_, _>>().expect("intact");
    assert_eq!(texts(&entries), ["one", "two"].repeat(4));
    assert_eq!(chain::check(entries), Ok(Verified { records: 8, head }));
    assert_eq!((snapshot.meta().epoch, snapshot.meta().head), (1, head));
    let verification = snapshot.verify(Some(&head));
    assert_eq!(verification, Verification { verdict: Verdict::Intact, records: 8, head, problem: None });
    drop(snapshot);
    assert_eq!(files(&dir.path().join("sled")), before);
}

#[tokio::test]
async fn raw_walk_of_snapshot_suffices_for_verification() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = sample(dir.path()).await;
    let snapshot = Snapshot::open(dir.path()).expect("opened");
    let raw: Vec<_> = snapshot.raw().collect::<Result<_, _>>().expect("readable");
    let entries: Vec<_> = chain::walk(raw).collect::<Result<_, _>>().expect("intact");
    assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(head));
}

#[test]
fn snapshot_of_missing_journal_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = Snapshot::open(&dir.path().join("nowhere")).err().expect("missing");
    assert!(matches!(error, JournalError::Missing { .. }), "{error:?}");
    let error = Snapshot::open(dir.path()).err().expect("missing");
    assert!(matches!(error, JournalError::Missing { .. }), "{error:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0, "looking creates nothing");
}

#[test]
fn refuses_snapshot_of_held_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { pid: 4711, ..impatient() };
    let (journal, _) = Journal::open_thread(dir.path(), options).expect("opened");
    let error = Snapshot::open(dir.path()).err().expect("held");
    assert!(matches!(&error, JournalError::Held { owner: Some(Owner { pid: 4711, .. }), .. }), "{error:?}");
    drop(journal);
    assert!(Snapshot::open(dir.path()).is_ok());
}

#[tokio::test]
async fn published_head_detects_truncation_and_other_history() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = sample(dir.path()).await;
    let snapshot = Snapshot::open(dir.path()).expect("opened");
    let third = snapshot.entries().nth(2).expect("a third").expect("intact").head();
    for expected in [Head::genesis(), third, head] {
        assert_eq!(snapshot.verify(Some(&expected)).verdict, Verdict::Intact);
    }
    let later = snapshot.verify(Some(&Head { position: 9, ..head }));
    assert_eq!(later.verdict, Verdict::CutTail);
    assert_eq!(
        later.problem.expect("a problem").to_string(),
        "record 9: is missing; a head at record 9 was published"
    );
    for position in [0, 3, 8] {
        let other = snapshot.verify(Some(&Head { position, hash: [1; 32] }));
        assert_eq!(other.verdict, Verdict::Corrupt);
        assert_eq!(other.problem, Some(ChainProblem { position, what: Fault::OtherHistory }));
    }
}

#[test]
fn valid_frames_with_wrong_contents_are_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut behind = batches(4);
    behind[3].meta = behind[2].meta;
    let verification = written(dir.path(), &behind).verify(None);
    assert_eq!((verification.verdict, verification.records), (Verdict::Corrupt, 3), "past the head");

    let dir = tempfile::tempdir().expect("a directory");
    let mut before = batches(4);
    before[3].records.clear();
    let verification = written(dir.path(), &before).verify(None);
    assert_eq!((verification.verdict, verification.records), (Verdict::Corrupt, 3), "before the head");

    let dir = tempfile::tempdir().expect("a directory");
    let mut corrupt = batches(4);
    corrupt[1].records[0].envelope.truncate(50);
    let snapshot = written(dir.path(), &corrupt);
    let verification = snapshot.verify(None);
    let problem = ChainProblem { position: 2, what: Fault::Short { bytes: 50 } };
    assert_eq!((verification.verdict, verification.records), (Verdict::Corrupt, 1));
    assert_eq!(verification.problem, Some(problem));
    let seen: Vec<_> = snapshot.entries().map(|entry| entry.map(|entry| entry.position)).collect();
    assert_eq!(seen, [Ok(1)], "a reader gets the records before the damage");
}

/// Damage below the records: a byte of sled's own file. sled may refuse, panic, or open with fewer records.
/// It must never open with other records that pass for the journal.
#[tokio::test]
async fn detects_every_flipped_byte_of_index_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = sample(dir.path()).await;
    let file = dir.path().join("sled/db");
    let intact = fs::read(&file).expect("readable");
    let used = intact.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    let (mut refused, mut seen) = (0, 0);
    for offset in (0..used).step_by(used / 60) {
        let mut flipped = intact.clone();
        flipped[offset] ^= 0x10;
        fs::write(&file, flipped).expect("written");
        let Ok(snapshot) = Snapshot::open(dir.path()) else {
            refused += 1;
            continue;
        };
        match snapshot.verify(Some(&head)).verdict {
            Verdict::Intact => {
                let entries: Vec<_> = snapshot.entries().collect::<Result<_, _>>().expect("intact");
                assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(head), "byte {offset}");
                seen += usize::from(!snapshot.remarks().is_empty());
            }
            _ => seen += 1,
        }
    }
    assert!(refused + seen > 0, "no flip did any harm: the test looks at the wrong bytes");
}

/// Changes one record of the index.
fn changed_in_index(dir: &Path, position: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let mut store = SledStore::open(&dir.join("sled")).expect("opened");
    let meta = store.meta().expect("readable").expect("there is one");
    let mut envelope = store.record(position).expect("readable").expect("there is one");
    let entry = envelope::open(&envelope).expect("it holds");
    change(&mut envelope);
    let record = StoredRecord { position, stream: entry.stream, seq: entry.seq, envelope };
    store.write(&Batch { meta, records: vec![record], streams: vec![] }).expect("written");
    store.sync().expect("synced");
}

/// No record is lost, and the next start rebuilds the index.
#[tokio::test]
async fn verifies_log_when_index_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = sample(dir.path()).await;
    changed_in_index(dir.path(), 5, |envelope| envelope[60] ^= 1);
    let snapshot = Snapshot::open(dir.path()).expect("opened");
    let mut handed_out = vec![];
    let found = snapshot.verify_each(Some(&head), |entry| handed_out.push(entry));
    assert_eq!(found, Verification { verdict: Verdict::Intact, records: 8, head, problem: None });
    assert_eq!(
        snapshot.remarks(),
        [
            "the index cannot be used (the journal is damaged: record 5: its hash does not hold): the next start rebuilds it from the log"
        ]
    );
    assert_eq!(chain::check(handed_out), Ok(Verified { records: 8, head }));
    // A published head is checked as usual.
    let published = Head { position: 3, hash: [1; 32] };
    assert_eq!(snapshot.verify(Some(&published)).verdict, Verdict::Corrupt);
    drop(snapshot);
    // The journal is not lost. So it is not recovered from the cluster, which has less information.
    assert!(matches!(Replacement::is_called_for(dir.path()), Err(JournalError::NotLost { .. })));
    let (_, opened) = Journal::open_thread(dir.path(), impatient()).expect("rebuilt");
    assert!(matches!(opened.repairs[..], [Repair::IndexRebuilt { .. }]), "{:?}", opened.repairs);
}

#[tokio::test]
async fn reports_damage_in_log_and_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let head = sample(dir.path()).await;
    changed_in_index(dir.path(), 5, |envelope| envelope[60] ^= 1);
    let segment = dir.path().join("log/00000001.seg");
    let mut bytes = fs::read(&segment).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).expect("written");
    let snapshot = Snapshot::open(dir.path()).expect("opened");
    let found = snapshot.verify(Some(&head));
    let position = found.problem.as_ref().map(|problem| problem.position);
    assert_eq!((found.verdict, Some(found.records + 1)), (Verdict::Corrupt, position));
    assert!(matches!(snapshot.refusal(), Some(JournalError::Damaged { .. })), "{:?}", snapshot.refusal());
    drop(snapshot);
    let rebuildable = Replacement::is_called_for(dir.path());
    assert!(matches!(rebuildable, Err(JournalError::NotLost { .. })), "the index has the damaged record");
    fs::write(dir.path().join("sled/conf"), b"not a configuration").expect("written");
    assert!(Replacement::is_called_for(dir.path()).is_ok());
}
