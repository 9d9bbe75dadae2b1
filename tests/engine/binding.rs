//! Tests the binding of one journal to one cluster: whatever happens to it, no daemon frees storage that
//! another keeps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::cluster::Adapter;
use stillpoint::cluster::binding::NAME;
use stillpoint::domain::problem::{Code, Problem};
use stillpoint::drill::stale_daemon::copy;
use stillpoint::engine::backup_spec::Defaults;
use stillpoint::engine::binding::BindingOptions;
use stillpoint::engine::clock::Clock;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::engine::{self, Engine};
use stillpoint::journal::{Disk, Journal, MemoryStore};
use stillpoint::machine::kit::Point;
use stillpoint::sim::api_server::{FaultDecision, Preconditions};
use stillpoint::sim::{Cluster, Config, DriverConfig};
use uuid::Uuid;

use crate::invariants;
use crate::share::{few_or_all, plays_all, share};
use crate::testbed::{End, Passed, Testbed};

const MEMBERS: usize = 3;
const HOME: &str = "stillpoint";

/// A daemon of these drills: its journal, its namespace and its binding.
struct Daemon {
    disk: Disk,
    namespace: &'static str,
    binding: BindingOptions,
}

impl Daemon {
    fn new(number: u128, namespace: &'static str) -> Self {
        let binding = BindingOptions::new(Uuid::from_u128(number << 64));
        Self { disk: Disk::new(), namespace, binding }
    }

    fn with(&self, binding: BindingOptions) -> Self {
        Self { disk: self.disk.clone(), namespace: self.namespace, binding }
    }

    /// Runs one incarnation. Returns why it ended itself.
    async fn run_daemon(&self, cluster: &Cluster, clock: Clock) -> Problem {
        let store = MemoryStore::open(&self.disk).expect("the disk is free");
        let (journal, opened) = Journal::open_task(store).expect("the journal opens");
        let client = kube::Client::new(cluster.api().router(), "default");
        let adapter = Adapter::connect(client).await.expect("the cluster answers");
        let start = Uuid::from_u128(self.binding.start.as_u128() + u128::from(journal.epoch()));
        let config = engine::Config {
            group_logic: stillpoint::machine::kit::Logic::default(),
            namespace: self.namespace.to_owned(),
            defaults: Defaults::default(),
            points: CrashPoints::none(),
            clock,
            binding: BindingOptions { start, ..self.binding },
        };
        let problem = Engine::new(adapter, journal, opened, config).run().await;
        self.disk.crash();
        problem
    }

    /// Runs the daemon as a pod: it is started again after each end. Collects the codes of the ends in `ends`.
    async fn restarted(&self, cluster: &Cluster, clock: Clock, ends: &std::cell::RefCell<Vec<Code>>) {
        loop {
            let problem = self.run_daemon(cluster, clock).await;
            ends.borrow_mut().push(problem.code);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

async fn stage_with(driver: DriverConfig, seed: u64) -> Testbed {
    let testbed = Testbed::new(Config { driver, seed, ..Config::default() });
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed
}

async fn set_up() -> Testbed {
    stage_with(DriverConfig::default(), 1).await
}

fn binding_of(testbed: &Testbed, namespace: &str) -> Option<Value> {
    testbed.hand().get("configmaps", Some(namespace), NAME).ok()
}

fn delete_binding(testbed: &Testbed, namespace: &str) {
    // Ignored: the binding may be deleted already.
    let _ = testbed.hand().delete("configmaps", Some(namespace), NAME, Preconditions::default());
}

/// Returns members whose snapshot is not in the storage, and Completed Backups that lack members.
fn lost(testbed: &Testbed) -> Vec<String> {
    let storage: BTreeSet<String> =
        testbed.cluster.storage().physical_snapshots().into_iter().map(|one| one.snapshot_handle).collect();
    let snapshots = testbed.list("volumesnapshots", None);
    let mut lost = Vec::new();
    for snapshot in &snapshots {
        let receipt = snapshot["metadata"]["annotations"]["stillpoint.dev/receipt"].as_str();
        let Some(receipt) = receipt.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
            continue;
        };
        let handle = receipt["snapshotHandle"].as_str().unwrap_or_default();
        if snapshot["metadata"]["deletionTimestamp"].is_null() && !storage.contains(handle) {
            lost.push(format!("{} has no storage {handle}", snapshot["metadata"]["name"]));
        }
    }
    for backup in testbed.list("backups", None) {
        let uid = &backup["metadata"]["uid"];
        let members = snapshots.iter().filter(|s| s["metadata"]["labels"]["velero.io/backup-uid"] == *uid);
        let ready = members.filter(|snapshot| snapshot["status"]["readyToUse"] == true).count();
        if backup["status"]["phase"] == "Completed" && ready != MEMBERS {
            lost.push(format!("{} is Completed with {ready} members", backup["metadata"]["name"]));
        }
    }
    lost
}

#[tokio::test(start_paused = true)]
async fn second_journal_in_a_namespace_is_refused() {
    let testbed = set_up().await;
    testbed.backup("shop");
    assert!(testbed.run_daemon(None).await.is("Completed"));
    let second = Daemon::new(2, HOME);
    let problem = second.run_daemon(&testbed.cluster, testbed.clock).await;
    assert_eq!(problem.code, Code::BindingRefused, "{problem}");
    let bound = binding_of(&testbed, HOME).expect("a binding");
    let id = bound["data"]["journal"].as_str().expect("an id");
    assert!(problem.reason.contains(id), "{problem}");
    assert!(problem.fix.contains(&format!("--take-over {id}")), "{problem}");
    assert_eq!(lost(&testbed), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn objects_carry_the_journal_id() {
    let testbed = set_up().await;
    testbed.backup("shop");
    assert!(testbed.run_daemon(None).await.is("Completed"));
    let bound = binding_of(&testbed, HOME).expect("a binding");
    assert_eq!(bound["metadata"]["labels"]["velero.io/exclude-from-backup"], "true");
    let id = &bound["data"]["journal"];
    for plural in ["volumesnapshots", "volumesnapshotcontents", "groupsnapshots"] {
        for object in testbed.list(plural, None) {
            assert_eq!(object["metadata"]["labels"]["stillpoint.dev/journal"], *id, "{plural}");
        }
    }
    assert_eq!(testbed.nightly()["metadata"]["annotations"]["stillpoint.dev/journal"], *id);
}

#[tokio::test(start_paused = true)]
async fn running_daemon_recreates_deleted_binding() {
    let testbed = set_up().await;
    let daemon = Daemon::new(1, HOME);
    let life = daemon.run_daemon(&testbed.cluster, testbed.clock);
    let watch = async {
        testbed.until(|testbed| binding_of(testbed, HOME).is_some()).await;
        let before = binding_of(&testbed, HOME).expect("a binding");
        delete_binding(&testbed, HOME);
        testbed.until(|testbed| binding_of(testbed, HOME).is_some()).await;
        let after = binding_of(&testbed, HOME).expect("a binding");
        assert_eq!(before["data"]["journal"], after["data"]["journal"]);
        assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    };
    tokio::select! {
        problem = life => panic!("the daemon ended: {problem}"),
        () = watch => {}
    }
}

#[tokio::test(start_paused = true)]
async fn older_copy_of_a_journal_is_refused() {
    let testbed = set_up().await;
    testbed.backup("shop");
    let point = "vs-bound/after-record".parse().expect("a point");
    assert!(matches!(testbed.run_daemon(Some(point)).await, End::Killed));
    let older = Daemon { disk: copy(&testbed.disk), ..Daemon::new(9, HOME) };
    assert!(testbed.run_daemon(None).await.is("Completed"));
    let problem = older.run_daemon(&testbed.cluster, testbed.clock).await;
    assert_eq!(problem.code, Code::BindingRefused, "{problem}");
    assert!(problem.reason.contains("older copy"), "{problem}");
    assert_eq!(lost(&testbed), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn ignores_binding_copied_from_another_cluster() {
    let testbed = set_up().await;
    let data = json!({
        "journal": Uuid::from_u128(77).to_string(), "cluster": "another", "epoch": "9",
        "head": format!("9:{}", "00".repeat(32)), "supersedes": "",
    });
    let object = json!({"metadata": {"name": NAME, "namespace": HOME}, "data": data});
    testbed.hand().create("configmaps", object).expect("created");
    testbed.backup("shop");
    assert!(testbed.run_daemon(None).await.is("Completed"));
    let bound = binding_of(&testbed, HOME).expect("a binding");
    assert_ne!(bound["data"]["journal"], Uuid::from_u128(77).to_string());
}

#[tokio::test(start_paused = true)]
async fn journal_of_another_cluster_is_refused() {
    let testbed = set_up().await;
    testbed.backup("shop");
    assert!(testbed.run_daemon(None).await.is("Completed"));
    let other = Testbed::new(Config { seed: 5, ..Config::default() });
    let moved = Daemon { disk: copy(&testbed.disk), ..Daemon::new(9, HOME) };
    let problem = moved.run_daemon(&other.cluster, other.clock).await;
    assert_eq!(problem.code, Code::BindingRefused, "{problem}");
    assert!(problem.reason.contains("cluster"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn taken_over_daemon_stops_without_another_write() {
    let testbed = set_up().await;
    let (first, second) = (Daemon::new(1, HOME), Daemon::new(2, HOME));
    let take_over = async {
        testbed.until(|testbed| binding_of(testbed, HOME).is_some()).await;
        let bound = binding_of(&testbed, HOME).expect("a binding");
        let id: Uuid = bound["data"]["journal"].as_str().expect("an id").parse().expect("a UUID");
        let second = second.with(BindingOptions { take_over: Some(id), ..second.binding });
        let life = second.run_daemon(&testbed.cluster, testbed.clock);
        let problem = tokio::select! {
            problem = life => problem,
            () = testbed.pass(60) => return,
        };
        panic!("the second daemon ended: {problem}");
    };
    let (problem, ()) = tokio::join!(first.run_daemon(&testbed.cluster, testbed.clock), take_over);
    assert_eq!(problem.code, Code::Overtaken, "{problem}");
}

/// Events on the binding while two daemons run, each with its own journal.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Nothing,
    Deleted,
    DeletedAgainAndAgain,
    NamesAnotherCluster,
    TakenOver,
}

const HAPPENS: [Happens; 5] = [
    Happens::Nothing,
    Happens::Deleted,
    Happens::DeletedAgainAndAgain,
    Happens::NamesAnotherCluster,
    Happens::TakenOver,
];

/// Runs two daemons with their own journals, restarted as pods are, on a cluster in which every call has its
/// own delay.
async fn two_journals(happens: Happens, other: &'static str, seed: u64) -> Result<(), String> {
    let driver = DriverConfig { not_ready_ms: 2_000, ..DriverConfig::default() };
    let testbed = stage_with(driver, seed).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut delays, mut chance) = (random.fork(), random.fork());
    testbed.cluster.api().set_faults(Box::new(move |call| {
        if call.verb == "watch" || call.agent != "stillpoint" {
            return FaultDecision::none();
        }
        FaultDecision { before_ms: delays.u64(..150), delay_ms: delays.u64(..150), ..FaultDecision::none() }
    }));
    if other != HOME {
        testbed.hand().create("namespaces", json!({"metadata": {"name": other}})).expect("created");
    }
    let (first, second) = (Daemon::new(1, HOME), Daemon::new(2, other));
    let backup = |namespace: &str, name: String| {
        let object = json!({
            "metadata": {"name": name, "namespace": namespace}, "spec": {"includedNamespaces": ["shop"]},
        });
        testbed.hand().create("backups", object).expect("created");
    };
    let script = async {
        tokio::time::sleep(Duration::from_millis(random.u64(..3_000))).await;
        for number in 0..3 {
            backup(HOME, format!("q{number}"));
            if other != HOME {
                backup(other, format!("r{number}"));
            }
            tokio::time::sleep(Duration::from_millis(random.u64(..2_000))).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..6_000))).await;
        happen(&testbed, happens, &mut random).await;
        // Long enough for every deadline of a rollback.
        testbed.pass(600).await;
    };
    let ends = std::cell::RefCell::new(Vec::new());
    let late = chance.u64(..2_000);
    let takes = async {
        tokio::time::sleep(Duration::from_millis(late)).await;
        let id = bound_id(&testbed).filter(|_| matches!(happens, Happens::TakenOver));
        if let Some(id) = id {
            testbed.pass(10).await;
            let second = second.with(BindingOptions { take_over: Some(id), ..second.binding });
            second.restarted(&testbed.cluster, testbed.clock, &ends).await;
        }
        second.restarted(&testbed.cluster, testbed.clock, &ends).await;
    };
    tokio::select! {
        () = first.restarted(&testbed.cluster, testbed.clock, &ends) => {}
        () = takes => {}
        () = script => {}
    }
    first.disk.crash();
    second.disk.crash();
    testbed.cluster.api().clear_faults();
    testbed.pass(60).await;
    match lost(&testbed) {
        lost if lost.is_empty() => Ok(()),
        lost => Err(format!("{happens:?} {other} seed {seed}: {lost:?}, ends {:?}", ends.borrow())),
    }
}

fn bound_id(testbed: &Testbed) -> Option<Uuid> {
    binding_of(testbed, HOME)?["data"]["journal"].as_str()?.parse().ok()
}

async fn happen(testbed: &Testbed, happens: Happens, random: &mut fastrand::Rng) {
    match happens {
        Happens::Nothing | Happens::TakenOver => {}
        Happens::Deleted => delete_binding(testbed, HOME),
        Happens::DeletedAgainAndAgain => {
            for _ in 0..20 {
                delete_binding(testbed, HOME);
                tokio::time::sleep(Duration::from_millis(random.u64(..1_500))).await;
            }
        }
        Happens::NamesAnotherCluster => {
            let copied = json!({"data": {"cluster": "another"}});
            // Ignored: the binding may be deleted already.
            let _ = testbed.hand().merge_patch("configmaps", Some(HOME), NAME, None, copied);
        }
    }
}

/// Returns the seeds of the small share, or as many as `STILLPOINT_JOURNAL_PAIRS` sets.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let wanted = std::env::var("STILLPOINT_JOURNAL_PAIRS").ok().and_then(|text| text.parse().ok());
    1..=wanted.unwrap_or(few_or_all(1, 4))
}

#[test]
fn two_journals_never_free_each_others_storage() {
    let mut drills = 0;
    for seed in seeds() {
        for happens in HAPPENS {
            let elsewhere = plays_all() || matches!(happens, Happens::Deleted);
            for other in [HOME, "stillpoint-2"].into_iter().take(if elsewhere { 2 } else { 1 }) {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .start_paused(true)
                    .build()
                    .expect("a runtime");
                runtime.block_on(two_journals(happens, other, seed)).expect("nothing is lost");
                drills += 1;
            }
        }
    }
    println!("two journals: {drills} drills, none lost");
}

/// Takes a checkpoint of the cluster when the run passes `at`.
async fn checkpoint_at(testbed: &Testbed, at: Point) -> stillpoint::sim::api_server::Checkpoint {
    let taken = Arc::new(std::sync::Mutex::new(None));
    let (slot, cluster) = (taken.clone(), testbed.cluster.clone());
    let points = CrashPoints::ask(move |point| {
        if point == at {
            slot.lock().expect("free").get_or_insert_with(|| cluster.checkpoint());
        }
        Verdict::GoOn
    });
    let end = testbed.run_daemon_with(points, Arc::default()).await;
    assert!(end.is("Completed"), "{at}: {end:?}");
    let taken = taken.lock().expect("free").take();
    taken.expect("the run passed the point")
}

async fn went_back_to(at: Point) -> Result<(), String> {
    let testbed = set_up().await;
    testbed.backup("shop");
    let before = checkpoint_at(&testbed, at).await;
    testbed.cluster.restore(&before);
    let mut end = testbed.run_daemon(None).await;
    if matches!(&end, End::Problem(problem) if problem.code == Code::ClusterWentBack) {
        end = testbed.run_daemon(None).await;
    }
    if !end.is("Completed") {
        return Err(format!("{at}: {end:?}\n{}", testbed.shown().await));
    }
    // The Backup is published before the run that is released again is over.
    let settled = |testbed: &Testbed| testbed.group_objects() == 0 && lost(testbed).is_empty();
    testbed.run_daemon_until(CrashPoints::none(), settled).await;
    let physical = testbed.cluster.ledger().physical_snapshots;
    if physical != MEMBERS {
        return Err(format!("{at}: {physical} physical snapshots of {MEMBERS}"));
    }
    Ok(())
}

#[test]
fn etcd_restored_after_completion_loses_nothing() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime")
    };
    let points = runtime().block_on(async {
        let (testbed, passed) = (set_up().await, Passed::default());
        testbed.backup("shop");
        assert!(testbed.run_daemon_with(passed.watch(), Arc::default()).await.is("Completed"));
        passed.distinct()
    });
    let name = |name: &str| points.iter().position(|point| point.to_string() == name).expect(name);
    // Before the members exist, the old state contains nothing that could be released again.
    let from = name("vs-bound/after-record");
    let mut drills = 0;
    for point in share(points[from..].to_vec(), 4) {
        runtime().block_on(went_back_to(point)).expect("nothing is lost");
        drills += 1;
    }
    println!("etcd restored: {drills} drills, none lost");
}

#[tokio::test(start_paused = true)]
async fn frees_nothing_until_cluster_is_confirmed() {
    let testbed = set_up().await;
    testbed.backup("shop");
    let at = "vs-bound/after-record".parse().expect("a point");
    assert!(matches!(testbed.run_daemon(Some(at)).await, End::Killed));
    let before = testbed.cluster.checkpoint();
    let killed = "relabelled/after-record".parse().expect("a point");
    assert!(matches!(testbed.run_daemon(Some(killed)).await, End::Killed));
    testbed.cluster.restore(&before);
    // Without its class the run cannot be released, and is rolled back.
    crate::disruptions::delete_all(&testbed.cluster, "volumesnapshotclasses");
    let waits = |testbed: &Testbed| {
        let shown = testbed.list("groupsnapshots", Some("shop"));
        shown
            .iter()
            .any(|one| one["status"]["waitingFor"].as_str().is_some_and(|w| w.contains("confirm-cluster")))
    };
    testbed.run_daemon_until(CrashPoints::none(), waits).await;
    assert_eq!(testbed.cluster.ledger().physical_snapshots, MEMBERS, "nothing is freed");
    let confirm = async {
        testbed.until(waits).await;
        let bound = binding_of(&testbed, HOME).expect("a binding");
        let confirmed = json!({"data": {"confirm": bound["data"]["epoch"]}});
        testbed.hand().merge_patch("configmaps", Some(HOME), NAME, None, confirmed).expect("patched");
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        end = testbed.run_daemon(None) => end,
        () = confirm => End::Hung,
    };
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    invariants::undone(&testbed, "shop").await.expect("everything is freed");
}

/// Copies a cluster on the same storage, as from one snapshot of etcd. Returns the result of the daemon on the
/// copy.
async fn cloned(journal: &str, no_free: bool) -> (Option<Problem>, usize) {
    let testbed = set_up().await;
    testbed.backup("shop");
    let at = "created/after-record".parse().expect("a point");
    assert!(matches!(testbed.run_daemon(Some(at)).await, End::Killed));
    let older = copy(&testbed.disk);
    let at = "retained/after-record".parse().expect("a point");
    assert!(matches!(testbed.run_daemon(Some(at)).await, End::Killed));
    let equal = copy(&testbed.disk);
    let clone = testbed.cluster.copy(Config { seed: 3, ..Config::default() });
    let at = "clear-names/after-outcome".parse().expect("a point");
    assert!(matches!(testbed.run_daemon(Some(at)).await, End::Killed));
    let disk = match journal {
        "older" => older,
        "equal" => equal,
        _ => copy(&testbed.disk),
    };
    // The run on the copy is rolled back, because the class of the release is missing there.
    let caller = clone.api().caller("administrator");
    for class in caller.list("volumesnapshotclasses", None, &Default::default()).expect("a list") {
        let name = class["metadata"]["name"].as_str().expect("a name").to_owned();
        caller.delete("volumesnapshotclasses", None, &name, Preconditions::default()).expect("deleted");
    }
    let daemon = Daemon { disk, ..Daemon::new(4, HOME) };
    let daemon = daemon.with(BindingOptions { no_free, ..daemon.binding });
    let ended =
        tokio::time::timeout(Duration::from_secs(1_800), daemon.run_daemon(&clone, testbed.clock)).await.ok();
    daemon.disk.crash();
    (ended, clone.storage().physical_snapshots().len())
}

#[tokio::test(start_paused = true)]
async fn cloned_cluster_frees_nothing_of_the_original() {
    let (ended, left) = cloned("older", false).await;
    assert_eq!((ended.map(|problem| problem.code), left), (Some(Code::BindingRefused), MEMBERS));
    let (ended, left) = cloned("newer", false).await;
    assert_eq!((ended.map(|problem| problem.to_string()), left), (None, MEMBERS), "doubt");
    let (ended, left) = cloned("equal", true).await;
    assert_eq!((ended.map(|problem| problem.to_string()), left), (None, MEMBERS), "--no-free");
}

#[tokio::test(start_paused = true)]
async fn namespace_of_a_velero_server_is_refused() {
    let testbed = set_up().await;
    let deployment = json!({
        "metadata": {"name": "velero", "namespace": HOME},
        "spec": {"template": {"spec": {"containers": [
            {"name": "velero", "command": ["/velero"], "args": ["server", "--features=EnableCSI"]},
        ]}}},
    });
    testbed.hand().create("deployments", deployment).expect("created");
    testbed.backup("shop");
    let End::Problem(problem) = testbed.run_daemon(None).await else { panic!("it has to end") };
    assert_eq!(problem.code, Code::VeleroNamespace, "{problem}");
    assert!(testbed.nightly()["status"]["phase"].is_null());
}

#[tokio::test(start_paused = true)]
async fn ignores_backup_in_phase_of_another_program() {
    let testbed = set_up().await;
    testbed.backup("shop");
    let phase = json!({"status": {"phase": "InProgress"}});
    testbed.hand().merge_patch("backups", Some(HOME), "nightly", None, phase).expect("patched");
    let told = |testbed: &Testbed| {
        let events = testbed.list("events", Some(HOME));
        events.iter().any(|event| event["reason"] == "NotOurs")
    };
    testbed.run_daemon_until(CrashPoints::none(), told).await;
    assert_eq!(testbed.nightly()["status"]["phase"], "InProgress");
    assert!(testbed.list("volumegroupsnapshots", None).is_empty());
}

/// Another program released the members while the group exists. The members may be in use, so that their
/// storage is freed only after a user has decided.
#[test]
fn rollback_keeps_members_released_by_another_program() {
    let case =
        "undo-retained,n=2,rival=release-members@unwinding/after-record,seed=1".parse().expect("a case");
    let played = stillpoint::drill::pool::play_alone(&case);
    assert!(played.held() && played.helped, "{:?}", played.broken);
}
