//! Single interleavings and damages around an archiving, each of which once lost, hid or revived something.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::archive::Policy;
use super::archiving::{Ending, all, archives, everything, run};
use super::random::{Kill, REFERS, directory, options};
use super::*;

/// Stops the first call of a kind until it is released.
struct Gate {
    call: Call,
    reached: std::sync::atomic::AtomicBool,
    open: std::sync::atomic::AtomicBool,
}

impl Gate {
    fn at(call: Call) -> Arc<Gate> {
        Arc::new(Gate { call, reached: false.into(), open: false.into() })
    }

    async fn wait(&self) {
        while !self.reached.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    fn release(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

impl FaultInjection for Gate {
    fn before(&self, call: Call) -> std::io::Result<Answer> {
        if call == self.call {
            self.reached.store(true, Ordering::SeqCst);
            while !self.open.load(Ordering::SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        Ok(Answer::Go)
    }

    fn after(&self, _: Call) {}
}

/// Everything, without an end of the current segment.
fn whole_segments() -> Policy {
    Policy { records: u64::MAX, before_ns: i64::MIN, copied_percent: 1000 }
}

async fn finish(journal: &Journal, number: u128, seq: u64) {
    journal.append(stream(number), seq, vec![record("over")], StreamState::Finished).await.expect("ended");
}

/// Kills an archiving behind its copies and before its checkpoint.
async fn killed_before_checkpoint(dir: &Path, segment_bytes: u64) {
    for n in 0..30 {
        let _ = fs::remove_dir_all(dir);
        let faults = Arc::new(Kill { left: AtomicU64::new(u64::MAX), sled: PathBuf::new(), synced: None });
        let options = Options { faults: Some(faults.clone()), ..options(segment_bytes) };
        let (journal, _) = Journal::open_thread(dir, options).expect("opened");
        append(&journal, 100, 0, "begun").await.expect("appended");
        run(&journal, 1..8).await;
        faults.left.store(n, Ordering::SeqCst);
        journal.archive(all(), 5).await.expect_err("killed");
        drop(journal);
        let mut kinds = vec![];
        super::super::log::read(&dir.join("log"), &mut |admitted| {
            kinds.extend(admitted.records.iter().map(|(_, entry, _)| entry.record.kind));
            Ok(())
        })
        .expect("readable");
        if kinds.last() == Some(&35) {
            return;
        }
    }
    panic!("no kill behind the copies");
}

#[tokio::test]
async fn copies_without_a_checkpoint_do_not_cost_the_index() {
    let dir = directory();
    let dir = dir.path().join("j");
    killed_before_checkpoint(&dir, 3000).await;
    let (journal, opened) = Journal::open_thread(&dir, options(3000)).expect("opened");
    assert_eq!((opened.streams.len(), opened.repairs), (1, vec![]));
    finish(&journal, 100, 1).await;
    // The segment with the copies of the killed archiving is the current one, and stays.
    let archived = journal.archive(Policy { records: u64::MAX, ..all() }, 6).await.expect("archived");
    println!(
        "{:?}",
        archived.archives.iter().map(|c| (c.first, c.last.position, c.carry.from)).collect::<Vec<_>>()
    );
    println!(
        "{:?}",
        journal
            .entries(1, 100)
            .await
            .expect("readable")
            .iter()
            .map(|e| (e.position, e.record.kind))
            .collect::<Vec<_>>()
    );
    drop(journal);
    let (_, opened) = Journal::open_thread(&dir, options(700)).expect("opened");
    assert_eq!(opened.streams, []);
    assert_eq!(opened.repairs, [], "nothing was lost");
}

#[tokio::test]
async fn run_that_ends_while_it_is_copied_stays_ended() {
    let dir = directory();
    let gate = Gate::at(Call::ArchiveWrite);
    let (journal, _) =
        Journal::open_thread(dir.path(), Options { faults: Some(gate.clone()), ..options(3000) })
            .expect("opened");
    append(&journal, 100, 0, "begun").await.expect("appended");
    run(&journal, 1..8).await;
    let own = journal.clone();
    let archiving = tokio::spawn(async move { own.archive(all(), 5).await });
    gate.wait().await;
    // The run ends behind the look at the streams, and the log goes on to its next segment before the copies.
    finish(&journal, 100, 1).await;
    run(&journal, 20..40).await;
    gate.release();
    let first = archiving.await.expect("ended").expect("archived");
    assert!(!first.archives.is_empty());
    let second = journal.archive(whole_segments(), 6).await.expect("archived");
    assert!(!second.archives.is_empty());
    assert_eq!(append(&journal, 100, 2, "again").await, Err(AppendError::Archived { stream: stream(100) }));
    drop(journal);
    let (journal, opened) = Journal::open_thread(dir.path(), options(3000)).expect("opened");
    assert_eq!(opened.streams.len(), 0, "it has ended: {:?}", opened.repairs);
    assert_eq!(opened.repairs, []);
    assert!(append(&journal, 100, 1, "again").await.is_err());
}

#[tokio::test]
async fn many_streams_are_copied() {
    let dir = directory();
    let (journal, _) = Journal::open_thread(dir.path(), options(16 << 20)).expect("opened");
    for number in 0..1100 {
        append(&journal, 1000 + number, 0, "stuck").await.expect("appended");
    }
    let archived = journal.archive(all(), 5).await.map_err(|error| error.to_string());
    assert_eq!(archived.map(|archived| archived.copied), Ok(1100));
}

#[tokio::test]
async fn holding_stream_that_works_again_does_not_stop_the_next_open() {
    let dir = directory();
    let (journal, _) = Journal::open_thread(dir.path(), options(700)).expect("opened");
    append(&journal, 300, 0, "drop").await.expect("appended");
    append(&journal, 300, 1, "keep").await.expect("appended");
    journal.append(stream(300), 2, vec![record("over")], StreamState::Holding).await.expect("appended");
    run(&journal, 1..4).await;
    everything(&journal).await;
    // Something that it holds is to be freed. This takes two appends.
    if let Err(refused) = append(&journal, 300, 3, "free").await {
        println!("refused: {refused}");
        return;
    }
    drop(journal);
    let opened = Journal::open_thread(dir.path(), options(700)).map(|(_, opened)| opened.streams.len());
    assert_eq!(opened.map_err(|error| error.text()), Ok(1));
}

#[tokio::test]
async fn archiving_that_was_dropped_is_repeated() {
    for polls in 1..60 {
        let dir = directory();
        let (journal, _) = Journal::open_thread(dir.path(), options(3000)).expect("opened");
        run(&journal, 1..4).await;
        append(&journal, 100, 0, "begun").await.expect("appended");
        let own = journal.clone();
        let mut archiving = Box::pin(async move { own.archive(all(), 5).await });
        let mut done = false;
        for _ in 0..polls {
            done = futures::poll!(&mut archiving).is_ready();
            if done {
                break;
            }
            tokio::task::yield_now().await;
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        drop(archiving);
        let again = journal.archive(all(), 6).await.expect("archived");
        println!(
            "{polls} polls, then {:?}",
            again.archives.iter().map(|c| (c.first, c.last.position)).collect::<Vec<_>>()
        );
        drop(journal);
        let opened = Journal::open_thread(dir.path(), options(700)).map(|(_, opened)| opened.streams.len());
        assert_eq!(opened.map_err(|error| error.text()), Ok(1), "dropped after {polls} polls");
        if done {
            break;
        }
    }
}

#[tokio::test]
async fn ended_stream_is_not_opened_between_checkpoint_and_truncation() {
    for state in [StreamState::Finished, StreamState::Holding] {
        let dir = directory();
        let (journal, _) = Journal::open_thread(dir.path(), options(3000)).expect("opened");
        append(&journal, 50, 0, "drop").await.expect("appended");
        journal.append(stream(50), 1, vec![record("drop")], state).await.expect("appended");
        run(&journal, 1..4).await;
        let own = journal.clone();
        let mut archiving = Box::pin(async move { own.archive(all(), 5).await });
        loop {
            assert!(futures::poll!(&mut archiving).is_pending());
            tokio::task::yield_now().await;
            std::thread::sleep(std::time::Duration::from_millis(3));
            let entries = journal.entries(1, 1000).await.expect("readable");
            if entries.iter().any(|entry| entry.record.kind == 33) {
                break;
            }
        }
        let again = append(&journal, 50, 2, "again").await;
        archiving.await.expect("archived");
        drop(journal);
        let opened = Journal::open_thread(dir.path(), options(3000)).map(|(_, opened)| opened.streams.len());
        let opened = opened.map_err(|error| error.text());
        assert_eq!(opened, Ok(usize::from(again.is_ok())), "{state:?}, the append: {again:?}");
    }
}

#[tokio::test]
async fn ended_stream_that_holds_during_archiving_keeps_its_receipt() {
    let dir = directory();
    let gate = Gate::at(Call::ArchiveWrite);
    let (journal, _) =
        Journal::open_thread(dir.path(), Options { faults: Some(gate.clone()), ..options(3000) })
            .expect("opened");
    append(&journal, 50, 0, "keep").await.expect("appended");
    finish(&journal, 50, 1).await;
    run(&journal, 1..4).await;
    let own = journal.clone();
    let archiving = tokio::spawn(async move { own.archive(all(), 5).await });
    gate.wait().await;
    let held = journal.append(stream(50), 2, vec![record("held")], StreamState::Holding).await;
    gate.release();
    let archived = archiving.await.expect("ended");
    if let (Ok(_), Ok(_)) = (held, archived) {
        assert_eq!(texts(&journal.live(stream(50)).await.expect("readable")), ["keep", "held"]);
    }
}

#[tokio::test]
async fn stream_whose_copies_outlive_its_end_is_read_whole() {
    let dir = directory();
    let (journal, _) = Journal::open_thread(dir.path(), options(3000)).expect("opened");
    append(&journal, 5, 0, "one").await.expect("appended");
    let refers = Record { kind: REFERS, version: 1, time_ns: 1, payload: 5u128.to_be_bytes().to_vec() };
    journal.append(stream(60), 0, vec![refers], StreamState::Open).await.expect("appended");
    run(&journal, 10..17).await;
    // The first segment holds the beginning of the run, the second its end, the third the copies.
    finish(&journal, 5, 1).await;
    append(&journal, 70, 0, &"x".repeat(3000)).await.expect("appended");
    append(&journal, 71, 0, "").await.expect("appended");
    let archived =
        journal.archive(Policy { copied_percent: 50, ..whole_segments() }, 5).await.expect("archived");
    assert!(archived.stays.is_some() && archived.copied >= 2, "{:?} {:?}", archived.copied, archived.stays);
    finish(&journal, 60, 1).await;
    finish(&journal, 70, 1).await;
    let archived = journal.archive(whole_segments(), 6).await.expect("archived");
    assert_eq!(archived.archives.len(), 1);
    assert_eq!(texts(&journal.stream(stream(5)).await.expect("readable")), ["one", "over"]);
}

/// Damages a byte of a file: in its header, or in the middle.
fn damage(path: &Path, header: bool) {
    let mut bytes = fs::read(path).expect("readable");
    let at = if header { 12 } else { bytes.len() / 2 };
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[tokio::test]
async fn rebuild_from_index_at_every_state_of_an_archiving() {
    rebuilds(false).await;
}

#[tokio::test]
async fn rebuild_of_headers_at_every_state_of_an_archiving() {
    rebuilds(true).await;
}

async fn rebuilds(header: bool) {
    let mut cases = 0;
    let mut failed = vec![];
    for n in (0..80).step_by(every(9) * 3) {
        for segment in 0..8 {
            let dir = directory();
            let faults =
                Arc::new(Kill { left: AtomicU64::new(u64::MAX), sled: PathBuf::new(), synced: None });
            let options = || options(1500);
            let (journal, _) =
                Journal::open_thread(dir.path(), Options { faults: Some(faults.clone()), ..options() })
                    .expect("opened");
            append(&journal, 100, 0, "begun").await.expect("appended");
            run(&journal, 1..5).await;
            everything(&journal).await;
            append(&journal, 100, 1, "stuck").await.expect("appended");
            append(&journal, 300, 0, "drop").await.expect("appended");
            append(&journal, 300, 1, "keep").await.expect("appended");
            journal
                .append(stream(300), 2, vec![record("over")], StreamState::Holding)
                .await
                .expect("appended");
            run(&journal, 5..12).await;
            faults.left.store(n, Ordering::SeqCst);
            let killed = journal.archive(all(), 5).await.is_err();
            drop(journal);
            if !killed && segment > 0 {
                break;
            }
            let segments = super::super::log::segments(&dir.path().join("log")).expect("readable");
            let Some(damaged) = segments.get(segment) else { break };
            damage(&damaged.path, header);
            cases += 1;
            let case = format!("killed at {n} ({killed}), segment {segment} of {}", segments.len());
            let rebuilt = Journal::rebuild_from_index(dir.path(), &options(), None, false);
            match rebuilt {
                Err(JournalError::NotDamaged { .. }) => continue,
                Err(error) => {
                    failed.push(format!("{case}: {}", error.text()));
                    continue;
                }
                Ok(_) => {}
            }
            match Journal::open_thread(dir.path(), options()) {
                Err(error) => failed.push(format!("{case}: open {}", error.text())),
                Ok((journal, opened)) => {
                    let open: Vec<_> = opened.streams.iter().map(|(_, entries)| texts(entries)).collect();
                    if open != [["begun", "stuck"]] {
                        failed.push(format!("{case}: open {open:?}"))
                    }
                    let live = texts(&journal.live(stream(300)).await.expect("readable"));
                    if !live.ends_with(&["keep".into(), "over".into()]) {
                        failed.push(format!("{case}: holding {live:?}"))
                    }
                    for number in 1..12 {
                        if append(&journal, number, 0, "again").await.is_ok() {
                            failed.push(format!("{case}: run {number} again"))
                        }
                    }
                    if let Err(error) = journal.archive(all(), 9).await {
                        failed.push(format!("{case}: archive {error}"))
                    }
                    drop(journal);
                    match Journal::open_thread(dir.path(), options()) {
                        Ok((_, opened)) if opened.repairs.is_empty() => {}
                        other => failed.push(format!(
                            "{case}: second open {:?}",
                            other.map(|(_, opened)| opened.repairs)
                        )),
                    }
                }
            }
        }
    }
    failed.iter().for_each(|line| println!("{line:.250}"));
    println!("{cases} cases, {} failed", failed.len());
    assert!(failed.is_empty());
}

#[tokio::test]
async fn largest_records_are_copied_and_copied_again() {
    let dir = directory();
    let (journal, _) = Journal::open_thread(dir.path(), options(100_000)).expect("opened");
    let largest =
        |byte: u8| Record { kind: 1, version: 1, time_ns: 1, payload: vec![byte; MAX_PAYLOAD_BYTES] };
    // The largest append, and streams with some large records.
    journal.append(stream(1), 0, (0..64).map(largest).collect(), StreamState::Open).await.expect("appended");
    for number in 2..5 {
        for seq in 0..10 {
            append(&journal, number, seq, &"y".repeat(8000)).await.expect("appended");
        }
    }
    let small: Vec<_> = (0..1024).map(|_| record("")).collect();
    journal.append(stream(9), 0, small, StreamState::Open).await.expect("appended");
    for round in 0..4 {
        let archived = everything(&journal).await;
        assert!(archived.copied > 1000 || round == 0, "{}", archived.copied);
    }
    drop(journal);
    let blobs = fs::read_dir(dir.path().join("sled/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0);
    for lose in [false, true, false] {
        if lose {
            fs::remove_dir_all(dir.path().join("sled")).expect("removed");
            archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("removed"));
        }
        let (journal, opened) = Journal::open_thread(dir.path(), options(100_000)).expect("opened");
        assert_eq!(opened.repairs.len(), usize::from(lose));
        let counts: Vec<_> =
            opened.streams.iter().map(|(id, entries)| (id.as_u128(), entries.len())).collect();
        assert_eq!(counts, [(1, 64), (2, 10), (3, 10), (4, 10), (9, 1024)]);
        everything(&journal).await;
    }
    let found = Snapshot::open(dir.path()).expect("readable").verify(None);
    assert_eq!(found.verdict, Verdict::NeedsArchive, "{found:?}");
}

/// Lays out a journal of an earlier release, one of whose copied runs ended behind its archives: the record of its
/// end and one of another run have segments of their own.
fn earlier_with_an_end(dir: &Path) -> (Vec<Head>, uuid::Uuid, u64) {
    use super::super::envelope::{EnvelopeFields, encode};
    use super::super::log::LogWriter;
    use super::super::store::StreamHead;
    let mut heads = super::converting::with_copies(dir);
    let mut store = SledStore::open(&dir.join("sled")).expect("opened");
    let mut open: Vec<_> = store
        .streams()
        .expect("readable")
        .into_iter()
        .filter(|head| head.state == StreamState::Open)
        .collect();
    open.sort_by_key(|head| head.last_position);
    let ended = open[0];
    let summary =
        super::super::log::read(&dir.join("evidence"), &mut |_| Ok(())).expect("readable").expect("a log");
    let mut log =
        LogWriter::resume(&dir.join("evidence"), &summary, 100, Default::default()).expect("resumed");
    let mut meta = store.meta().expect("readable").expect("written");
    for (stream, seq, first) in
        [(ended.stream, ended.last_seq + 1, ended.first_position), (stream(4711), 1, 0)]
    {
        let position = meta.head.position + 1;
        let record = record("over");
        let (envelope, hash) = encode(&EnvelopeFields {
            schema: 5,
            position,
            epoch: meta.epoch,
            stream,
            seq,
            prev: meta.head.hash,
            record: &record,
        });
        meta.head = Head { position, hash };
        heads.push(meta.head);
        let first_position = if first == 0 { position } else { first };
        let head = StreamHead {
            stream,
            state: StreamState::Finished,
            last_seq: seq,
            first_position,
            last_position: position,
        };
        let batch = Batch {
            meta,
            records: vec![StoredRecord { position, stream, seq, envelope }],
            streams: vec![head],
        };
        log.append(&batch).expect("written");
        store.write(&batch).expect("written");
    }
    log.sync().expect("synced");
    store.sync().expect("synced");
    (heads, ended.stream, ended.last_seq + 1)
}

#[tokio::test]
async fn run_that_ended_before_the_conversion_stays_ended() {
    let dir = directory();
    let (_, ended, seq) = earlier_with_an_end(dir.path());
    let (journal, opened) =
        Journal::open_thread(dir.path(), super::converting::options()).expect("converted");
    assert_eq!((opened.streams.len(), &opened.repairs), (3, &vec![]));
    let archived = journal.archive(whole_segments(), 6).await.expect("archived");
    assert_eq!(archived.archives.len(), 2);
    let refused = journal.append(ended, seq, vec![record("again")], StreamState::Open).await;
    assert_eq!(refused, Err(AppendError::Archived { stream: ended }));
    drop(journal);
    let (journal, opened) = Journal::open_thread(dir.path(), super::converting::options()).expect("opened");
    let again: Vec<_> = opened.streams.iter().filter(|(stream, _)| *stream == ended).collect();
    assert!(again.is_empty(), "it is open again with {} records: {:?}", again[0].1.len(), opened.repairs);
    assert_eq!(opened.repairs, []);
    assert!(journal.append(ended, seq - 1, vec![record("again")], StreamState::Open).await.is_err());
}

#[test]
fn conversion_killed_at_each_call_without_its_database() {
    let (mut kills, mut failed) = (0, vec![]);
    for lost in ["nothing", "missing before", "missing after", "unopenable before", "unopenable after"] {
        for n in (0..60).step_by(every(10)) {
            let dir = directory();
            let (heads, ended, _) = earlier_with_an_end(dir.path());
            let lose = |when: &str| match lost.strip_suffix(when) {
                Some("missing ") => drop(fs::remove_dir_all(dir.path().join("sled"))),
                Some("unopenable ") => {
                    fs::write(dir.path().join("sled/conf"), b"not a configuration").expect("written")
                }
                _ => {}
            };
            lose("before");
            let faults = Ending::at(n);
            let killed = Journal::open_thread(
                dir.path(),
                Options { faults: Some(faults), ..super::converting::options() },
            );
            let was_killed = killed.is_err();
            drop(killed);
            kills += 1;
            if dir.path().join("sled").exists() {
                lose("after")
            }
            let case = format!("{lost}, killed at {n}: {was_killed}");
            match Journal::open_thread(dir.path(), super::converting::options()) {
                Err(error) => failed.push(format!("{case}: {}", error.text())),
                Ok((_, opened)) => {
                    if opened.streams.len() != 3 || opened.streams.iter().any(|(stream, _)| *stream == ended)
                    {
                        failed.push(format!("{case}: {} open", opened.streams.len()));
                    }
                    let rebuilt =
                        opened.repairs.iter().any(|repair| matches!(repair, Repair::IndexRebuilt { .. }));
                    if rebuilt && lost == "nothing" {
                        failed.push(format!("{case}: {:?}", opened.repairs))
                    }
                }
            }
            let found = Snapshot::open(dir.path()).expect("readable").verify(heads.last());
            if found.verdict != Verdict::Intact {
                failed.push(format!("{case}: {found:?}"))
            }
            if !was_killed {
                break;
            }
        }
    }
    failed.iter().for_each(|line| println!("{line:.250}"));
    println!("{kills} kills, {} failed", failed.len());
    assert!(failed.is_empty());
}

#[tokio::test]
async fn copies_of_several_appends_killed_at_each_call() {
    let (mut kills, mut failed) = (0, vec![]);
    for lost in ["nothing", "both"] {
        for n in (0..60).step_by(every(6) * 3) {
            let dir = directory();
            let faults =
                Arc::new(Kill { left: AtomicU64::new(u64::MAX), sled: PathBuf::new(), synced: None });
            let options = || options(400_000);
            let (journal, _) =
                Journal::open_thread(dir.path(), Options { faults: Some(faults.clone()), ..options() })
                    .expect("opened");
            for number in 1..3 {
                for seq in 0..10 {
                    append(&journal, number, seq, &format!("{seq} {}", "z".repeat(60_000)))
                        .await
                        .expect("appended");
                }
            }
            run(&journal, 10..12).await;
            everything(&journal).await;
            append(&journal, 1, 10, "more").await.expect("appended");
            faults.left.store(n, Ordering::SeqCst);
            let killed = journal.archive(all(), 6).await.is_err();
            drop(journal);
            kills += u64::from(killed);
            let case = format!("{lost} lost, killed at {n}");
            if matches!(lost, "sled" | "both") {
                fs::remove_dir_all(dir.path().join("sled")).expect("removed")
            }
            if matches!(lost, "archives" | "both") {
                archives(dir.path(), "seg").iter().for_each(|path| fs::remove_file(path).expect("removed"))
            }
            for round in 0..2 {
                match Journal::open_thread(dir.path(), options()) {
                    Err(error) => {
                        failed.push(format!("{case}: {}", error.text()));
                        break;
                    }
                    Ok((journal, opened)) => {
                        let counts: Vec<_> = opened
                            .streams
                            .iter()
                            .map(|(id, entries)| (id.as_u128(), entries.len()))
                            .collect();
                        if counts != [(1, 11), (2, 10)] {
                            failed.push(format!("{case}, round {round}: {counts:?}"))
                        }
                        let rebuilt = !opened.repairs.is_empty();
                        if rebuilt != (round == 0 && matches!(lost, "sled" | "both")) {
                            failed.push(format!("{case}, round {round}: {:?}", opened.repairs))
                        }
                        if let Err(error) = journal.archive(all(), 7).await {
                            failed.push(format!("{case}: {error}"))
                        }
                    }
                }
            }
            let found = Snapshot::open(dir.path()).expect("readable").verify(None);
            if !matches!(found.verdict, Verdict::Intact | Verdict::NeedsArchive) {
                failed.push(format!("{case}: {found:?}"))
            }
            if !killed {
                break;
            }
        }
    }
    failed.iter().for_each(|line| println!("{line:.250}"));
    println!("{kills} kills, {} failed", failed.len());
    assert!(failed.is_empty());
}
