//! Tests the conversion of journals of earlier releases (`migrations/0007_log`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::super::earlier::copies::copies;
use super::super::export::import;
use super::super::fault_injection::FaultHook;
use super::super::log::{self, LogWriter};
use super::super::store::StreamHead;
use super::archiving::{Ending, all, archives};
use super::*;
use crate::archive::Places;
use crate::open::recover::read_meta_up_to;

/// The last schema of the earlier releases.
const EARLIER: u16 = 5;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A journal of an earlier release.
#[derive(Debug, Clone)]
struct Input {
    /// A directory with a log, or a file with exported records.
    source: PathBuf,
    /// Whether the release wrote a log at all.
    has_log: bool,
    /// Whether it was killed after it wrote the last batch to the log and before it wrote it to the database.
    killed: bool,
    /// Whether its archives were moved elsewhere.
    moved: bool,
}

/// Every journal of an earlier release that is stored, whole and killed between its two parts.
fn inputs() -> Vec<Input> {
    let mut sources = vec![repository().join("fixtures/journals/0.1.0/journal.jsonl")];
    for migration in fs::read_dir(repository().join("migrations")).expect("readable") {
        let migration = migration.expect("readable").path();
        for part in ["before", "after"].map(|part| migration.join(part)) {
            let exported = part.join("journal.jsonl");
            if part.join("evidence").exists() || part.join("00000001.seg").exists() {
                sources.push(part);
            } else if exported.exists() && schema(&exported) <= EARLIER {
                sources.push(exported);
            }
        }
    }
    sources.sort();
    let mut inputs = Vec::new();
    for source in sources {
        let has_log = !source.is_file() || schema(&source) > 1;
        let has_archives = source.join("archive").exists();
        for (killed, moved) in [(false, false), (true, false), (false, true), (true, true)] {
            if (has_log || !killed) && (has_archives || !moved) {
                inputs.push(Input { source: source.clone(), has_log, killed, moved });
            }
        }
    }
    inputs
}

fn entries(exported: &Path) -> Vec<Entry> {
    import(&fs::read_to_string(exported).expect("readable")).expect("exported records")
}

fn schema(exported: &Path) -> u16 {
    entries(exported).iter().map(|entry| entry.schema).max().expect("records")
}

/// The batches of exported records, one record each. No stream has ended in them.
fn batches_of_entries(entries: &[Entry]) -> Vec<Batch> {
    let start = Head { position: 0, hash: entries[0].prev };
    let mut heads = BTreeMap::<Uuid, StreamHead>::new();
    let batch = |entry: &Entry| {
        let Entry { schema, position, epoch, stream, seq, .. } = *entry;
        let first_position = heads.get(&stream).map_or(position, |head| head.first_position);
        let state = StreamState::Open;
        let head = StreamHead { stream, state, last_seq: seq, first_position, last_position: position };
        heads.insert(stream, head);
        let meta = Meta { schema, epoch, head: entry.head(), truncated_at: start };
        let envelope = super::super::envelope::of(entry);
        let records = vec![StoredRecord { position, stream, seq, envelope }];
        Batch { meta, records, streams: vec![head] }
    };
    entries.iter().map(batch).collect()
}

/// The batches of a log with its states. The first also has the heads of the streams that a file carries over.
fn batches_of_log(dir: &Path) -> Vec<Batch> {
    let (mut batches, mut heads) = (Vec::<Batch>::new(), BTreeMap::<Uuid, StreamHead>::new());
    let summary = log::read(&dir.join("evidence"), &mut |admitted| {
        let mut streams = vec![];
        for (state, entry, _) in &admitted.records {
            let Entry { stream, position, seq: last_seq, .. } = *entry;
            let (first_position, last_position) = (position, position);
            let head = StreamHead { stream, state: *state, last_seq, first_position, last_position };
            let head = heads.get(&stream).map_or(head, |known| known.joined(head));
            heads.insert(stream, head);
            streams.push(head);
        }
        let records = admitted.records.into_iter().map(|(_, entry, envelope)| {
            let Entry { position, stream, seq, .. } = entry;
            StoredRecord { position, stream, seq, envelope }
        });
        let meta = Meta { schema: EARLIER, epoch: admitted.epoch, head: admitted.head, ..Meta::new() };
        batches.push(Batch { meta, records: records.collect(), streams });
        Ok(())
    });
    let summary = summary.expect("readable").expect("a log");
    assert_eq!(summary.damage, None);
    batches.iter_mut().for_each(|batch| batch.meta.truncated_at = summary.start);
    if let Some(newest) = summary.checkpoint
        && let Some(file) = newest.file_of_copies
    {
        let copies = copies(&Places::new(dir, None), &newest, file, no_links).expect("the file is there");
        batches[0].streams.extend(copies.into_iter().map(|(stream, (state, entries))| {
            let (first, last) = (&entries[0], entries.last().expect("records"));
            StreamHead {
                stream,
                state,
                last_seq: last.seq,
                first_position: first.position,
                last_position: last.position,
            }
        }));
    }
    batches
}

impl Input {
    /// Lays the journal out as the earlier release left it. Returns its heads.
    fn lay_out(&self, dir: &Path) -> Vec<Head> {
        let batches = match self.source.is_file() {
            true => {
                let batches = batches_of_entries(&entries(&self.source));
                if self.has_log {
                    let start = batches[0].meta.truncated_at;
                    let path = dir.join("evidence");
                    let mut log =
                        LogWriter::begin(&path, start, 1 << 20, FaultHook::default()).expect("begun");
                    batches.iter().for_each(|batch| log.append(batch).expect("written"));
                    log.sync().expect("synced");
                }
                batches
            }
            false => {
                let is_log = self.source.join("00000001.seg").exists();
                copy(&self.source, &if is_log { dir.join("evidence") } else { dir.to_owned() });
                let gone = archives(dir, "seg").into_iter().filter(|_| self.moved);
                gone.for_each(|path| fs::remove_file(path).expect("moved"));
                batches_of_log(dir)
            }
        };
        let mut store = SledStore::open(&dir.join("sled")).expect("opened");
        let whole = batches.len() - usize::from(self.killed && batches.len() > 1);
        batches[..whole].iter().for_each(|batch| store.write(batch).expect("written"));
        store.sync().expect("synced");
        batches
            .iter()
            .flat_map(|batch| batch.records.iter().map(|record| head_of(&record.envelope)))
            .collect()
    }

    fn name(&self) -> String {
        let source = self.source.strip_prefix(repository()).expect("below").display().to_string();
        let killed = if self.killed { ", killed between its parts" } else { "" };
        format!("{source}{killed}{}", if self.moved { ", archives moved" } else { "" })
    }
}

fn head_of(envelope: &[u8]) -> Head {
    super::super::envelope::open(envelope).expect("an envelope").head()
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("readable").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target)
        } else {
            fs::copy(&entry, &target).map(|_| ()).expect("copied")
        }
    }
}

pub(super) fn options() -> Options {
    Options { lock_attempts: 1, ballast_bytes: 0, ..Options::default() }
}

/// The open runs of the journal and their records, after its conversion.
pub(super) fn converted(dir: &Path, heads: &[Head], case: &str) -> Vec<(Uuid, usize)> {
    let (journal, opened) =
        Journal::open_thread(dir, options()).unwrap_or_else(|error| panic!("{case}: {error:?}"));
    let set_aside = opened.repairs.iter().any(|repair| matches!(repair, Repair::IndexRebuilt { .. }));
    assert!(!set_aside, "{case}: {:?}", opened.repairs);
    drop(journal);
    let snapshot = Snapshot::open(dir).expect(case);
    let verdict = snapshot.verify(heads.last()).verdict;
    assert!(matches!(verdict, Verdict::Intact | Verdict::NeedsArchive), "{case}: {verdict:?}");
    let found: Vec<Head> = snapshot.entries().map(|entry| entry.expect(case).head()).collect();
    let first = found.iter().position(|head| head == &heads[0]).expect(case);
    assert_eq!(found[first..first + heads.len()], *heads, "{case}");
    opened.streams.iter().map(|(stream, entries)| (*stream, entries.len())).collect()
}

/// Whether a release that knows schemas up to [`EARLIER`] refuses the directory: the log has another name, and
/// the database names a newer schema.
fn is_refused_by_earlier_release(dir: &Path) -> bool {
    let store = SledStore::open(&dir.join("sled")).expect("opened");
    let refused = read_meta_up_to(EARLIER, &store).is_err();
    // Before that, nothing may have been renamed.
    assert!(refused || !dir.join("log").exists(), "renamed before the schema was on disk");
    refused
}

#[test]
fn converts_every_stored_journal_killed_at_each_call() {
    let inputs = inputs();
    let mut kills = 0;
    for (index, input) in inputs.iter().enumerate() {
        let dir = tempfile::tempdir().expect("a directory");
        let heads = input.lay_out(dir.path());
        let whole = converted(dir.path(), &heads, &input.name());
        assert!(is_refused_by_earlier_release(dir.path()));
        // Each input begins at another call.
        let step = every(8);
        for n in ((index % step) as u64..).step_by(step) {
            let dir = tempfile::tempdir().expect("a directory");
            let heads = input.lay_out(dir.path());
            let faults = Ending::at(n);
            let killed = Journal::open_thread(dir.path(), Options { faults: Some(faults), ..options() });
            if killed.is_ok() {
                break;
            }
            kills += 1;
            let case = format!("{}, killed at call {n}", input.name());
            is_refused_by_earlier_release(dir.path());
            assert_eq!(converted(dir.path(), &heads, &case), whole, "{case}");
        }
    }
    println!("{} journals, {kills} kills", inputs.len());
    assert!(
        inputs.len() >= 16 && kills > 10 * inputs.len() / every(8),
        "{} journals, {kills} kills",
        inputs.len()
    );
}

/// A journal with archives, and with a file of copies.
pub(super) fn with_copies(dir: &Path) -> Vec<Head> {
    Input {
        source: repository().join("migrations/0007_log/before"),
        has_log: true,
        killed: false,
        moved: false,
    }
    .lay_out(dir)
}

#[test]
fn conversion_needs_no_archives_and_removes_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    with_copies(dir.path());
    let names = |dir: &Path| -> Vec<_> {
        let mut names: Vec<_> = fs::read_dir(dir.join("archive")).expect("there").flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        names.iter().map(fs::DirEntry::file_name).collect()
    };
    archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("moved"));
    let before = names(dir.path());
    let (_, opened) = Journal::open_thread(dir.path(), options()).expect("it opens");
    assert_eq!((opened.streams.len(), opened.repairs), (4, vec![]));
    assert_eq!(names(dir.path()), before);
    // What the release wrote is not read again.
    archives(dir.path(), "carried").iter().for_each(|path| fs::remove_file(path).expect("removed"));
    fs::remove_dir_all(dir.path().join("sled")).expect("removed");
    let (_, opened) = Journal::open_thread(dir.path(), options()).expect("it opens");
    assert_eq!(opened.streams.len(), 4);
}

#[test]
fn lost_file_of_copies_is_rebuilt_from_archives_or_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    with_copies(dir.path());
    let file = archives(dir.path(), "carried").remove(0);
    let saved = fs::read(&file).expect("readable");
    for damage in [None, Some([&saved[..saved.len() - 1], &[0]].concat())] {
        let copied = tempfile::tempdir().expect("a directory");
        copy(dir.path(), copied.path());
        let file = archives(copied.path(), "carried").remove(0);
        match &damage {
            None => fs::remove_file(&file).expect("removed"),
            Some(bytes) => fs::write(&file, bytes).expect("written"),
        }
        let (_, opened) = Journal::open_thread(copied.path(), options()).expect("the archives have it");
        assert_eq!(opened.streams.len(), 4);
    }
    fs::remove_file(&file).expect("removed");
    let archive = archives(dir.path(), "seg").remove(0);
    fs::rename(&archive, dir.path().join("moved")).expect("moved");
    let refused = Journal::open_thread(dir.path(), options()).err().expect("the runs cannot be resumed");
    assert!(matches!(refused, JournalError::CarryOverLost { runs: 4, .. }), "{refused}");
    assert!(refused.fix().contains("put that file back"), "{}", refused.fix());
    fs::rename(dir.path().join("moved"), &archive).expect("moved back");
    assert!(Journal::open_thread(dir.path(), options()).is_ok());
}

#[tokio::test]
async fn converted_journal_archives_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let heads = with_copies(dir.path());
    let (journal, opened) = Journal::open_thread(dir.path(), options()).expect("it opens");
    let archived = journal.archive(all(), 5).await.expect("archived");
    let open: usize = opened.streams.iter().map(|(_, entries)| entries.len()).sum();
    assert_eq!((archived.archives.len(), archived.copied), (1, open as u64));
    drop(journal);
    assert_eq!(converted(dir.path(), &heads, "archived again").len(), 4);
}

#[test]
fn rebuilt_log_of_earlier_release_is_put_in_place() {
    // The release was killed between the two renames of a rebuild.
    let dir = tempfile::tempdir().expect("a directory");
    let heads = with_copies(dir.path());
    fs::rename(dir.path().join("evidence"), dir.path().join("evidence.rebuilt"))
        .expect("as before the last one");
    converted(dir.path(), &heads, "rebuilt");
    assert!(dir.path().join("log").exists() && !dir.path().join("evidence").exists());
}
