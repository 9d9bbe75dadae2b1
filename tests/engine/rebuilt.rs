//! Tests the loss of both halves of the journal: the state of the cluster suffices to end every run without a
//! second cut.

use std::sync::Arc;

use stillpoint::cluster::Adapter;
use stillpoint::domain::problem::Code;
use stillpoint::drill::wire::Calls;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::engine::recover_from_cluster::{self, Rebuilt};
use stillpoint::journal::{Batch, Disk, Journal, MemoryStore, Meta, Store};
use stillpoint::machine::group::reconstruct::Standing;
use stillpoint::machine::kit::Point;
use stillpoint::sim::{Cluster, Config};

use crate::share::{few_or_all, share};
use crate::testbed::{End, Passed, Testbed};
use crate::{disruptions, invariants};

const MEMBERS: usize = 2;

async fn set_up() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    testbed
}

/// Returns every point that a run without faults passes.
async fn points() -> Vec<Point> {
    let (testbed, passed) = (set_up().await, Passed::default());
    assert!(testbed.run_daemon_with(passed.watch(), Arc::default()).await.is("Completed"));
    passed.distinct()
}

/// Creates a testbed whose daemon was killed at a point and whose journal was then lost.
async fn lost_at(point: Point) -> Testbed {
    let mut testbed = set_up().await;
    let end = testbed.run_daemon(Some(point)).await;
    assert!(matches!(end, End::Killed), "{point}: {end:?}");
    forget(&mut testbed);
    testbed
}

/// Discards the journal, and with it the decision records of every call so far.
fn forget(testbed: &mut Testbed) {
    testbed.disk = Disk::new();
    testbed.calls = Calls::default();
}

/// Writes the state of the cluster into a new journal.
async fn rebuilt(testbed: &Testbed) -> Vec<Rebuilt> {
    let client = kube::Client::new(testbed.cluster.api().router(), "default");
    let adapter = Adapter::connect(client).await.expect("the cluster answers");
    let found = recover_from_cluster::look(&adapter, "stillpoint").await.expect("everything can be read");
    let mut store = MemoryStore::open(&testbed.disk).expect("free");
    let meta = Meta { epoch: found.epoch, ..Meta::new() };
    store.write(&Batch { meta, records: vec![], streams: vec![] }).expect("written");
    store.sync().expect("synced");
    let (journal, opened) = Journal::open_task(store).expect("opened");
    assert!(opened.epoch > found.epoch, "no object is claimed by a later epoch");
    let rebuilt =
        recover_from_cluster::record(&journal, uuid::Uuid::from_u128(7), &found, testbed.clock.now())
            .await
            .expect("recorded");
    testbed.disk.crash();
    rebuilt
}

/// Counts the VolumeGroupSnapshots that were created so far.
fn created(testbed: &Testbed) -> u64 {
    let tally = testbed.cluster.api().tally();
    let verbs = tally.0.get("stillpoint").and_then(|verbs| verbs.get("create"));
    verbs.and_then(|resources| resources.get("volumegroupsnapshots")).copied().unwrap_or(0)
}

/// A run that was over when the journal was lost has no decision to repeat.
const NOTHING_DECIDED: &str = "journal chain valid and replay identical: 0 decisions, different: []";

async fn ends_right(testbed: &Testbed, standing: Option<Standing>, end: &End) -> Result<(), String> {
    match end {
        End::Phase(phase) if phase == "Completed" => {
            match invariants::completed(testbed, "shop", MEMBERS).await {
                Err(broken) if standing == Some(Standing::Completed) && broken == NOTHING_DECIDED => Ok(()),
                other => other,
            }
        }
        End::Phase(phase) if phase == "Failed" => invariants::undone(testbed, "shop").await,
        other => Err(format!("ended as {other:?}")),
    }
}

#[tokio::test(start_paused = true)]
async fn recovers_run_from_cluster_at_every_point() {
    let (mut failures, mut standings) = (vec![], std::collections::BTreeMap::<String, usize>::new());
    for point in share(points().await, 3) {
        let testbed = lost_at(point).await;
        let rebuilt = rebuilt(&testbed).await;
        let standing = rebuilt.first().and_then(|run| run.standing.clone().ok());
        let before = created(&testbed);
        let end = testbed.run_daemon(None).await;
        let told = standing.map_or("left out", Standing::name);
        *standings.entry(told.to_owned()).or_default() += 1;
        println!("{point:<28} {told:<16} {end:?}");
        if let Err(reason) = ends_right(&testbed, standing, &end).await {
            failures.push(format!("{point} ({told}): {reason}"));
        }
        // Before anything exists the run starts again; a create that was sent is never repeated.
        if before + u64::from(before == 0 && standing.is_none()) < created(&testbed) {
            failures.push(format!("{point} ({told}): {before} creates before, {} now", created(&testbed)));
        }
    }
    println!("{standings:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for standing in ["to be undone", "bound", "past the pivot", "completed"] {
        assert!(standings.contains_key(standing), "no point led to {standing}: {standings:?}");
    }
}

/// Deletes the class of the release, which rolls back a run in its last reversible state.
fn take_class(cluster: &Cluster) {
    disruptions::delete_first(cluster, "volumesnapshotclasses");
}

fn point(text: &str) -> Point {
    text.parse().unwrap_or_else(|_| panic!("no point {text}"))
}

#[tokio::test(start_paused = true)]
async fn recovers_rollback_from_cluster_at_every_point() {
    let (begin, passed) = (point("retained/before-record"), Passed::default());
    let whole = set_up().await;
    let cluster = whole.cluster.clone();
    let points = passed.watch_and(move |passed| {
        if passed == begin {
            take_class(&cluster)
        }
        Verdict::GoOn
    });
    let end = whole.run_daemon_with(points, Arc::default()).await;
    assert!(end.is("Failed"), "{end:?}");
    let all = passed.distinct();
    let from = all.iter().position(|passed| *passed == begin).expect("it was retained");
    let (mut failures, mut standings) = (vec![], std::collections::BTreeMap::<&str, usize>::new());
    for point in share(all[from + 1..].to_vec(), 3) {
        let mut testbed = set_up().await;
        let end = testbed.run_daemon_acting(begin, take_class, Some(point)).await;
        assert!(matches!(end, End::Killed), "{point}: {end:?}");
        forget(&mut testbed);
        let before = created(&testbed);
        let rebuilt = rebuilt(&testbed).await;
        let standing = rebuilt.first().and_then(|run| run.standing.clone().ok());
        let told = standing.map_or("left out", Standing::name);
        *standings.entry(told).or_default() += 1;
        let end = testbed.run_daemon(None).await;
        // Without the class the Backup's groups are refused when the Backup is resumed, before the run has
        // ended.
        let over = |testbed: &Testbed| {
            let shown = testbed.list("groupsnapshots", Some("shop"));
            shown.iter().all(|shown| shown["status"]["state"] == "Failed")
        };
        testbed.run_daemon_until(CrashPoints::none(), over).await;
        let undone = match invariants::undone(&testbed, "shop").await {
            Err(broken) if standing == Some(Standing::Failed) && broken == NOTHING_DECIDED => Ok(()),
            other => other,
        };
        if !end.is("Failed") || undone.is_err() || created(&testbed) != before {
            failures.push(format!("{point} ({told}): {end:?} {undone:?}"));
        }
    }
    println!("{} points, {standings:?}", all.len() - from - 1);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(standings.contains_key("to be undone") && standings.contains_key("failed"), "{standings:?}");
}

#[tokio::test(start_paused = true)]
async fn frees_import_after_journal_is_lost() {
    let mut testbed = set_up().await;
    let end = testbed.run_daemon_acting(
        point("retained/before-record"),
        take_class,
        Some(point("unwinding/after-record")),
    );
    assert!(matches!(end.await, End::Killed));
    disruptions::tear_group_and_content(&testbed.cluster);
    let end = testbed.run_daemon(Some(point("undo-free-import/before-intent"))).await;
    assert!(matches!(end, End::Killed), "{end:?}");
    assert_eq!(testbed.list("volumegroupsnapshotcontents", None).len(), 1, "the import stands");
    assert_eq!(testbed.cluster.ledger().physical_snapshots, MEMBERS);
    forget(&mut testbed);
    let standings: Vec<_> = rebuilt(&testbed).await.into_iter().map(|run| run.standing).collect();
    assert_eq!(standings, [Ok(Standing::Undo)]);
    testbed.run_daemon_until(CrashPoints::none(), |testbed| testbed.group_objects() == 0).await;
    testbed.until(|testbed| testbed.cluster.ledger().physical_snapshots == 0).await;
}

#[tokio::test(start_paused = true)]
async fn neither_cuts_nor_deletes_members_of_unknown_run() {
    let mut refused = 0;
    for point in share(points().await, 4) {
        let testbed = lost_at(point).await;
        let labelled = |testbed: &Testbed| {
            let snapshots = testbed.list("volumesnapshots", Some("shop"));
            let own =
                |object: &&serde_json::Value| object["metadata"]["labels"]["stillpoint.dev/run"].is_string();
            snapshots.iter().filter(own).count()
        };
        let (before, members) = (created(&testbed), labelled(&testbed));
        if members == 0 {
            continue;
        }
        refused += 1;
        let problem = testbed.life(CrashPoints::none()).await;
        assert_eq!(problem.code, Code::BindingRefused, "{point}: {problem}");
        assert!(problem.fix.contains("journal rebuild --from-cluster"), "{point}: {problem}");
        testbed.pass(1800).await;
        assert_eq!((created(&testbed), labelled(&testbed)), (before, members), "{point}");
        assert_eq!(testbed.ended(), None, "{point}: its Backup stays as it is");
        let going = testbed.list("volumesnapshots", None);
        assert!(going.iter().all(|snapshot| snapshot["metadata"]["deletionTimestamp"].is_null()), "{point}");
        // The run goes on after it is rebuilt.
        testbed.disk.crash();
        let mut testbed = testbed;
        testbed.disk = Disk::new();
        rebuilt(&testbed).await;
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Completed") || end.is("Failed"), "{point}: {end:?}");
    }
    println!("{refused} points at which it is refused");
    assert!(refused > few_or_all(4, 10), "only {refused}");
}
