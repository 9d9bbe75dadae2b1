//! Tests faults of the journal in the middle of a run, with a cluster behind it.
//!
//! Either the run ends Completed, or the daemon refuses to start with a clear message and without a call that
//! changes anything. Nothing is lost.
//!
//! The journal is a real directory, written inline on simulated time. A fault occurs while the daemon is
//! stopped, or in the calls of the running daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stillpoint::audit;
use stillpoint::cluster::Adapter;
use stillpoint::domain::problem::{Code, Problem};
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::engine::{Config, Engine};
use stillpoint::journal::{
    self, Answer, Batch, Call, FaultInjection, Journal, Meta, Opened, Options, Owner, Repair, SledStore,
    Snapshot, Store,
};
use stillpoint::machine::kit::Point;
use stillpoint::records::journal_options;
use tempfile::TempDir;

use crate::invariants;
use crate::share::few_or_all;
use crate::testbed::Testbed;

const MEMBERS: usize = 2;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EROFS: i32 = 30;

/// Points at which the first incarnation is killed: before anything exists, in each state, during effects,
/// past the pivot.
const KILLS: [&str; 7] = [
    "planned/after-record",
    "create/after-effects",
    "vs-bound/after-record",
    "retain/mid-effects",
    "detach/mid-effects",
    "delete-group/after-effects",
    "cleaned/after-record",
];

/// A cluster and a directory, which outlive the daemons on them.
struct Scene {
    testbed: Testbed,
    dir: TempDir,
}

/// End of an incarnation.
#[derive(Debug)]
enum End {
    Phase(String),
    Killed,
    Problem(Problem),
    /// The daemon did not start.
    Refused(Problem),
}

fn options() -> Options {
    Options { ballast_bytes: 0, segment_bytes: 6000, ..journal_options() }
}

impl Scene {
    async fn new() -> Self {
        let testbed = Testbed::new(stillpoint::sim::Config::default());
        testbed.claims("shop", "orders-db", MEMBERS).await;
        testbed.backup("shop");
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        Self { testbed, dir }
    }

    /// Creates a scene whose daemon was killed at a point.
    async fn killed_at(kill: &str) -> Self {
        let scene = Self::new().await;
        let point = kill.parse().unwrap_or_else(|_| panic!("no point {kill}"));
        let end = scene.run_daemon(options(), Some(point)).await.0;
        assert!(matches!(end, End::Killed), "{kill}: {end:?}");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn engine(&self, journal: Journal, opened: Opened, points: CrashPoints) -> Engine {
        let client = self.testbed.client(&self.testbed.disk, "stillpoint/test");
        let adapter = Adapter::connect(client).await.expect("the cluster answers");
        let config = Config {
            group_logic: stillpoint::machine::kit::Logic::default(),
            namespace: "stillpoint".to_owned(),
            defaults: self.testbed.defaults.clone(),
            points,
            clock: self.testbed.clock,
            binding: self.testbed.binding,
        };
        Engine::observed(adapter, journal, opened, config, self.testbed.metrics.clone())
    }

    /// Changes one bit in the middle of the first segment of the log, or changes it back.
    fn flip_bit(&self) {
        let segment = self.path("log/00000001.seg");
        let mut bytes = fs::read(&segment).expect("readable");
        // The claim of the first start is longer than this.
        bytes[60] ^= 1;
        fs::write(&segment, bytes).expect("written");
    }

    /// Runs one incarnation until the Backup or the daemon ends, or the daemon is killed. Also returns the
    /// repairs of its open.
    async fn run_daemon(&self, options: Options, crash_at: Option<Point>) -> (End, Vec<Repair>) {
        let opened = Journal::open_inline(self.dir.path(), options);
        let (journal, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => return (End::Refused(stillpoint::records::problem(&error, "journal")), vec![]),
        };
        let repairs = opened.repairs.clone();
        let killed = Arc::new(tokio::sync::Notify::new());
        let signal = killed.clone();
        let points = CrashPoints::ask(move |point| {
            if Some(point) == crash_at {
                signal.notify_one();
                return Verdict::Halt;
            }
            Verdict::GoOn
        });
        let engine = self.engine(journal, opened, points).await;
        let ended = async {
            assert!(self.testbed.comes(|testbed| testbed.ended().is_some()).await, "it hangs");
            End::Phase(self.testbed.ended().unwrap_or_default())
        };
        let end = tokio::select! {
            biased;
            () = killed.notified() => End::Killed,
            problem = engine.run() => End::Problem(problem),
            end = ended => end,
        };
        // The writer releases the directory in its next turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        (end, repairs)
    }

    /// Checks that the second incarnation completes, that all invariants hold, and that the journal is intact.
    async fn completes(&self, told: &str) -> Vec<Repair> {
        let (end, repairs) = self.run_daemon(options(), None).await;
        assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{told}: {end:?}");
        let broken = invariants::of_cluster(&self.testbed, "shop", MEMBERS);
        assert!(broken.is_empty(), "{told}: {broken:?}");
        let snapshot = Snapshot::open(self.dir.path()).expect("readable");
        assert_eq!(snapshot.verify(None).verdict, journal::Verdict::Intact, "{told}");
        let entries: Vec<_> = snapshot.entries().collect::<Result<_, _>>().expect("readable");
        let report = audit::replay(&entries);
        assert!(report.different.is_empty() && report.decisions > 0, "{told}: {:?}", report.different);
        repairs
    }

    /// Checks that the daemon does not start, reports this code and changes nothing.
    async fn refused(&self, told: &str, code: Code, word: &str) {
        let (writes, before) = (self.testbed.writes(), files(self.dir.path()));
        let (end, _) = self.run_daemon(options(), None).await;
        let End::Refused(problem) = end else { panic!("{told}: {end:?}") };
        assert_eq!(problem.code, code, "{told}: {problem}");
        assert!(problem.to_string().contains(word) && !problem.fix.is_empty(), "{told}: {problem}");
        assert_eq!(self.testbed.writes(), writes, "{told}: the cluster was touched");
        for (path, bytes) in before {
            // The opened database may clean up its own files. No record of the evidence changes.
            if path.extension().is_some_and(|extension| extension == "seg") {
                assert_eq!(fs::read(&path).ok(), Some(bytes), "{told}: {}", path.display());
            }
        }
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut left) = (vec![], vec![dir.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => left.push(path),
                false => found.extend(fs::read(&path).map(|bytes| (path, bytes))),
            }
        }
    }
    found
}

fn segments(scene: &Scene) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(scene.path("log")).expect("there").map(|entry| entry.expect("readable").path());
    let mut paths: Vec<_> = entries.collect();
    paths.sort();
    paths
}

fn change(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("readable");
    how(&mut bytes);
    fs::write(path, bytes).expect("written");
}

/// A fault from which the journal recovers: its name and its action.
type Fault = (&'static str, fn(&Scene));

/// Faults that the open must report.
const MENDED: [Fault; 4] = [
    ("log torn at its end", |scene| {
        let last = segments(scene).pop().expect("a segment");
        change(&last, |bytes| bytes.extend(b"SPfr half a frame"));
    }),
    ("sled lost", |scene| fs::remove_dir_all(scene.path("sled")).expect("removed")),
    ("sled refuses", |scene| fs::write(scene.path("sled/conf"), "not a configuration").expect("written")),
    ("sled overwritten", |scene| change(&scene.path("sled/db"), |bytes| bytes.fill(0xa5))),
];

#[tokio::test(start_paused = true)]
async fn recovers_journal_from_its_log_and_completes() {
    for kill in KILLS {
        for (fault, damage) in MENDED {
            let scene = Scene::killed_at(kill).await;
            damage(&scene);
            let repairs = scene.completes(&format!("{fault} at {kill}")).await;
            assert!(!repairs.is_empty(), "{fault} at {kill}: nobody was told");
        }
    }
    println!("{} faults at {} points, all completed", MENDED.len(), KILLS.len());
}

#[tokio::test(start_paused = true)]
async fn flipped_bit_in_index_is_repaired_or_harmless() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..20 {
        let scene = Scene::killed_at(KILLS[round % KILLS.len()]).await;
        let mut at = 0;
        change(&scene.path("sled/db"), |bytes| {
            // Most of the file is space that was never written.
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(1);
            at = random.usize(..written);
            bytes[at] ^= 1 << random.u8(..8);
        });
        scene.completes(&format!("seed 7, round {round}, byte {at}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_unrepairable_journal_and_changes_nothing() {
    for kill in ["vs-bound/after-record", "detach/mid-effects"] {
        for index in ["whole", "lost"] {
            let scene = Scene::killed_at(kill).await;
            change(&segments(&scene).remove(0), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
            });
            if index == "lost" {
                fs::remove_dir_all(scene.path("sled")).expect("removed");
            }
            scene.refused("damaged log", Code::JournalCorrupt, "segment 1 of the log is damaged").await;
            let rebuilt = Journal::rebuild_from_index(scene.dir.path(), &options(), None, false);
            assert_eq!(rebuilt.is_ok(), index == "whole", "{rebuilt:?}");
            if rebuilt.is_ok() {
                scene.completes("rebuilt from its index").await;
            }
        }

        let scene = Scene::killed_at(kill).await;
        fs::remove_dir_all(scene.path("log")).expect("removed");
        scene.refused("lost log", Code::JournalCorrupt, "ends at record 0, but its index names record").await;

        let scene = Scene::killed_at(kill).await;
        for name in ["sled", "log"] {
            fs::remove_dir_all(scene.path(name)).expect("removed");
        }
        scene.refused("both lost", Code::JournalCorrupt, "has lost its log and its index").await;

        let scene = Scene::killed_at(kill).await;
        let owner = Owner { pid: 1, host: "other".to_owned(), epoch: 9, position: 0 };
        fs::write(scene.path("owner.json"), serde_json::to_vec(&owner).expect("plain")).expect("written");
        scene.refused("an older copy of the journal", Code::JournalCorrupt, "epoch 9 had been claimed").await;

        let scene = Scene::killed_at(kill).await;
        let mut store = SledStore::open(&scene.path("sled")).expect("free");
        let meta = store.meta().expect("readable").expect("written");
        let newer = Meta { schema: meta.schema + 1, ..meta };
        store.write(&Batch { meta: newer, records: vec![], streams: vec![] }).expect("written");
        store.sync().expect("synced");
        drop(store);
        scene.refused("a newer schema", Code::JournalNewer, "newer stillpoint").await;
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_held_journal_until_it_is_free() {
    let scene = Scene::killed_at("retain/mid-effects").await;
    let held = Journal::open_thread(scene.dir.path(), options()).expect("free");
    let (end, _) = scene.run_daemon(Options { lock_attempts: 1, ..options() }, None).await;
    let End::Refused(problem) = end else { panic!("{end:?}") };
    assert_eq!(problem.code, Code::JournalLocked, "{problem}");
    assert!(problem.to_string().contains("is held by pid"), "{problem}");
    drop(held);
    scene.completes("after it was free").await;
}

/// Fails every call from the n-th on, as a disk does that is missing, full or read-only.
struct Failing {
    left: AtomicU64,
    error: i32,
    /// Fails only the n-th call.
    once: bool,
}

impl FaultInjection for Failing {
    fn before(&self, call: Call) -> io::Result<Answer> {
        // It writes nothing.
        if call == Call::RoomLook {
            return Ok(Answer::Go);
        }
        let left = self.left.load(Ordering::SeqCst);
        self.left.store(left.saturating_sub(1), Ordering::SeqCst);
        match left {
            0 if self.once => {
                self.left.store(u64::MAX, Ordering::SeqCst);
                Err(io::Error::from_raw_os_error(self.error))
            }
            0 => Err(io::Error::from_raw_os_error(self.error)),
            _ => Ok(Answer::Go),
        }
    }

    fn after(&self, _: Call) {}
}

#[tokio::test(start_paused = true)]
async fn next_daemon_completes_after_disk_failure() {
    let mut ended = 0;
    for (error, once) in [(EIO, true), (ENOSPC, false), (EROFS, false)] {
        // Every 5th call that reaches the disk, or every 15th in a share, up to a run without a fault.
        for n in (0..).step_by(few_or_all(15, 5) as usize) {
            let scene = Scene::new().await;
            let probe = Arc::new(Failing { left: AtomicU64::new(n), error, once });
            let (end, _) = scene.run_daemon(Options { faults: Some(probe), ..options() }, None).await;
            let told = format!("error {error} at call {n}");
            match end {
                End::Phase(phase) => {
                    assert_eq!(phase, "Completed", "{told}");
                    assert!(n > 60, "{told}: only so many calls reach the disk");
                    break;
                }
                End::Problem(problem) | End::Refused(problem) => {
                    assert_eq!(problem.code, Code::JournalIo, "{told}: {problem}");
                    assert!(!problem.fix.is_empty(), "{told}: {problem}");
                }
                End::Killed => panic!("{told}: nobody kills it"),
            }
            ended += 1;
            scene.completes(&told).await;
        }
    }
    println!("{ended} daemons ended by their disk, all runs completed by the next");
}

/// Reports no space until the ballast file is deleted.
struct Full(PathBuf);

impl FaultInjection for Full {
    fn before(&self, _: Call) -> io::Result<Answer> {
        if self.0.exists() { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(Answer::Go) }
    }

    fn after(&self, _: Call) {}
}

#[tokio::test(start_paused = true)]
async fn ballast_completes_run_on_full_disk() {
    let roomy = || Options { ballast_bytes: 1 << 20, ..options() };
    for kill in KILLS {
        let scene = Scene::new().await;
        let point = kill.parse().unwrap_or_else(|_| panic!("no point {kill}"));
        assert!(matches!(scene.run_daemon(roomy(), Some(point)).await.0, End::Killed), "{kill}");
        let ballast = scene.path("ballast");
        assert!(ballast.exists(), "{kill}: nothing was put aside");
        let full = Options { faults: Some(Arc::new(Full(ballast))), ..roomy() };
        let (end, repairs) = scene.run_daemon(full, None).await;
        assert!(matches!(&end, End::Phase(phase) if phase == "Completed"), "{kill}: {end:?}");
        assert!(matches!(repairs[..], [Repair::BallastSpent { .. }, ..]), "{kill}: {repairs:?}");
    }
}

/// A disk without free room, as long as it is set.
struct Crowded(AtomicBool);

impl FaultInjection for Crowded {
    fn before(&self, call: Call) -> io::Result<Answer> {
        let full = call == Call::RoomLook && self.0.load(Ordering::SeqCst);
        if full { Err(io::Error::from_raw_os_error(ENOSPC)) } else { Ok(Answer::Go) }
    }

    fn after(&self, _: Call) {}
}

#[tokio::test(start_paused = true)]
async fn takes_new_backup_once_disk_has_room() {
    let scene = Scene::new().await;
    let disk = Arc::new(Crowded(AtomicBool::new(true)));
    let crowded = Options { faults: Some(disk.clone()), ..options() };
    let (journal, opened) = Journal::open_inline(scene.dir.path(), crowded).expect("opened");
    let engine = scene.engine(journal, opened, CrashPoints::none()).await;
    let waits =
        |testbed: &Testbed| testbed.list("events", None).iter().any(|event| event["reason"] == "JournalFull");
    let work = async {
        assert!(scene.testbed.comes(waits).await, "nothing says that the Backup has to wait");
        assert_eq!(scene.testbed.ended(), None, "it was taken without room");
        disk.0.store(false, Ordering::SeqCst);
        assert!(scene.testbed.comes(|testbed| testbed.ended().as_deref() == Some("Completed")).await);
    };
    tokio::select! {
        problem = engine.run() => panic!("{problem}"),
        () = work => {}
    }
}

#[tokio::test(start_paused = true)]
async fn takes_no_new_backup_once_log_is_damaged() {
    let scene = Scene::new().await;
    let (journal, opened) = Journal::open_inline(scene.dir.path(), options()).expect("opened");
    scene.flip_bit();
    journal.reread().await.expect_err("a damaged log");
    let engine = scene.engine(journal, opened, CrashPoints::none()).await;
    let left = |testbed: &Testbed| {
        testbed.list("events", None).iter().any(|event| event["reason"] == "JournalDamaged")
    };
    tokio::select! {
        problem = engine.run() => panic!("the daemon ended: {problem}"),
        came = scene.testbed.comes(left) => assert!(came, "nothing says that the log is damaged"),
    }
    assert_eq!((scene.testbed.ended(), scene.testbed.group_objects()), (None, 0));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    scene.flip_bit();
    scene.completes("after the repair").await;
}
