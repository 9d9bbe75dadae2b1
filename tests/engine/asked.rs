//! Tests user requests to resume and to abandon a run: each is accepted once, wherever the daemon is killed.

use std::sync::Arc;

use serde_json::{Value, json};
use stillpoint::drill::rbac::Rbac;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::machine::group::Event;
use stillpoint::machine::group::Stage as RunStage;
use stillpoint::machine::group::table::TABLE;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::Point;
use stillpoint::machine::kit::Stage as _;
use stillpoint::sim::api_server::Preconditions;
use stillpoint::sim::{Cluster, Config};

use crate::testbed::{End, Passed, Testbed};
use crate::{disruptions, invariants};

const MEMBERS: usize = 2;

async fn set_up() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    testbed
}

fn point(name: &str) -> Point {
    name.parse().expect("a point")
}

/// Writes a request as `stillpoint groups` does. Does nothing while no GroupSnapshot shows the run.
pub fn ask(cluster: &Cluster, request: &str, id: &str) {
    let hand = cluster.api().caller("person");
    let all = hand.list("groupsnapshots", Some("shop"), &Default::default()).expect("a list");
    for run in all {
        let name = run["metadata"]["name"].as_str().expect("a name");
        let patch = json!({"metadata": {
            "labels": {"stillpoint.dev/request": request},
            "annotations": {"stillpoint.dev/request-id": id, "stillpoint.dev/request-by": "alice@desk"},
        }});
        hand.merge_patch("groupsnapshots", Some("shop"), name, None, patch).expect("a patch");
    }
}

fn status(testbed: &Testbed) -> Value {
    testbed.list("groupsnapshots", Some("shop")).first().map(|run| run["status"].clone()).unwrap_or_default()
}

fn is_stuck_at(testbed: &Testbed, row: &str) -> bool {
    let status = status(testbed);
    status["state"] == "Stuck" && status["row"] == row
}

async fn requests(testbed: &Testbed) -> usize {
    testbed
        .group_records()
        .await
        .iter()
        .filter(|record| matches!(record.event, Event::RequestReceived(_)))
        .count()
}

/// A way to get a run stuck, and its fix.
struct Case {
    row: &'static str,
    at: &'static str,
    spoil: fn(&Cluster, &Rbac),
    mend: fn(&Cluster, &Rbac),
}

fn force_away(cluster: &Cluster, plural: &str, object: &Value) {
    let hand = cluster.api().caller("administrator");
    let meta = &object["metadata"];
    let (namespace, name) = (meta["namespace"].as_str(), meta["name"].as_str().expect("a name"));
    // Ignored: the object may have no finalizers, or be deleted already.
    let _ = hand.merge_patch(plural, namespace, name, None, json!({"metadata": {"finalizers": null}}));
    let _ = hand.delete(plural, namespace, name, Preconditions::default());
}

fn delete_a_content(cluster: &Cluster, _: &Rbac) {
    disruptions::delete_first(cluster, "volumesnapshotcontents");
}

fn delete_the_hollow(cluster: &Cluster, _: &Rbac) {
    let hand = cluster.api().caller("administrator");
    let contents = hand.list("volumesnapshotcontents", None, &Default::default()).expect("a list");
    let going = |content: &&Value| content["metadata"]["deletionTimestamp"].is_string();
    let content = contents.iter().find(going).expect("a content that is being deleted");
    let name = content["spec"]["volumeSnapshotRef"]["name"].as_str().expect("a name");
    hand.delete("volumesnapshots", Some("shop"), name, Preconditions::default()).expect("a delete");
}

fn lose_and_refuse(cluster: &Cluster, rbac: &Rbac) {
    rbac.deny("create volumesnapshotcontents");
    disruptions::delete_member(cluster, "orders-db-1");
}

fn lose(cluster: &Cluster, _: &Rbac) {
    disruptions::delete_member(cluster, "orders-db-1");
}

fn lose_the_stub_and_refuse(cluster: &Cluster, rbac: &Rbac) {
    rbac.deny("create volumegroupsnapshotcontents");
    let hand = cluster.api().caller("administrator");
    for stub in hand.list("volumegroupsnapshotcontents", None, &Default::default()).expect("a list") {
        force_away(cluster, "volumegroupsnapshotcontents", &stub);
    }
}

fn allow(_: &Cluster, rbac: &Rbac) {
    rbac.restore();
}

fn take_the_name(cluster: &Cluster, _: &Rbac) {
    disruptions::replace_first(cluster, "volumegroupsnapshots");
}

fn free_the_name(cluster: &Cluster, _: &Rbac) {
    disruptions::delete_foreign_groups(cluster);
}

fn refuse_the_delete(_: &Cluster, rbac: &Rbac) {
    rbac.deny("delete volumegroupsnapshots");
}

const CASES: [Case; 6] = [
    Case { row: "release/refused", at: "detach/after-outcome", spoil: refuse_the_delete, mend: allow },
    Case {
        row: "release/7-name-taken",
        at: "restore-names/after-outcome",
        spoil: take_the_name,
        mend: free_the_name,
    },
    Case {
        row: "release/hollow",
        at: "delete-group/after-outcome",
        spoil: delete_a_content,
        mend: delete_the_hollow,
    },
    Case {
        row: "release/rebuild-refused",
        at: "delete-group/after-outcome",
        spoil: lose_and_refuse,
        mend: allow,
    },
    Case {
        row: "release/rebuild-refused",
        at: "delete-content/after-outcome",
        spoil: lose_and_refuse,
        mend: allow,
    },
    Case {
        row: "release/stub-refused",
        at: "rebuild/after-outcome",
        spoil: lose_the_stub_and_refuse,
        mend: allow,
    },
];

/// Returns points at which the case is spoilt. For the stub, a member must be lost late before that.
fn spoiling(testbed: &Testbed, case: &Case) -> CrashPoints {
    let (cluster, rbac) = (testbed.cluster.clone(), testbed.rbac.clone());
    let (at, spoil, late) = (point(case.at), case.spoil, case.row == "release/stub-refused");
    let done = std::sync::atomic::AtomicBool::new(false);
    CrashPoints::ask(move |passed| {
        if late && passed == point("delete-content/after-outcome") {
            lose(&cluster, &rbac);
        }
        if passed == at && !done.swap(true, std::sync::atomic::Ordering::SeqCst) {
            spoil(&cluster, &rbac);
        }
        Verdict::GoOn
    })
}

async fn stuck(case: &Case) -> Testbed {
    let mut testbed = set_up().await;
    testbed.defaults.keep_group_name = case.row == "release/7-name-taken";
    testbed.run_daemon_until(spoiling(&testbed, case), |testbed| is_stuck_at(testbed, case.row)).await;
    testbed
}

/// Rows that result from two daemons with opposite decisions (`fence`). No fix by a user makes such a run
/// complete. The drills of `rows` end such runs.
const TWO_DAEMONS: [&str; 2] = ["retained/nothing-left", "undo/e-kept"];

/// Row of a run that was already abandoned: it does not complete any more.
const GIVEN_UP: &str = "abandoned/refused";

#[test]
fn every_stuck_row_has_a_case() {
    let rows = TABLE.iter().filter(|row| matches!(row.then, Action::Stick { .. })).map(|row| row.id);
    let mut rows: Vec<&str> = rows.collect();
    let mut cases: Vec<&str> =
        CASES.iter().map(|case| case.row).chain(TWO_DAEMONS).chain([GIVEN_UP]).collect();
    rows.sort_unstable();
    cases.sort_unstable();
    cases.dedup();
    assert_eq!(rows, cases);
}

#[tokio::test(start_paused = true)]
async fn resumed_run_completes_after_cause_is_fixed() {
    for case in &CASES {
        let testbed = stuck(case).await;
        // A request to resume that comes too early leads to a new decision, and the run is stuck again.
        ask(&testbed.cluster, "resume", "early");
        let again = |testbed: &Testbed| {
            is_stuck_at(testbed, case.row) && status(testbed)["answered"]["id"] == "early"
        };
        testbed.run_daemon_until(CrashPoints::none(), again).await;
        assert_eq!(requests(&testbed).await, 1);
        (case.mend)(&testbed.cluster, &testbed.rbac);
        ask(&testbed.cluster, "resume", "mended");
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Completed"), "{}: {end:?}\n{}", case.row, testbed.shown().await);
        invariants::settled(&testbed).await;
        assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()), "{}", case.row);
        let answered = status(&testbed)["answered"].clone();
        assert_eq!((&answered["request"], &answered["by"]), (&json!("resume"), &json!("alice@desk")));
        if case.row != "release/hollow" {
            let message = answered["message"].as_str().expect("a sentence");
            assert!(message.starts_with("the run was stuck"), "{message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_stuck_run_retains_its_storage() {
    for case in &CASES {
        let testbed = stuck(case).await;
        ask(&testbed.cluster, "abandon", "enough");
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Failed"), "{}: {end:?}\n{}", case.row, testbed.shown().await);
        assert_eq!(invariants::kept(&testbed, "shop", MEMBERS).await, Ok(()), "{}", case.row);
        let reason = testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains("SP0023") && reason.contains("alice@desk abandoned the run"), "{reason}");
    }
}

/// Runs the daemon; after two minutes a user makes the request.
async fn asked_after_a_while(testbed: &Testbed, points: CrashPoints, request: &str) -> End {
    let asks = async {
        testbed.pass(120).await;
        ask(&testbed.cluster, request, "later");
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        end = testbed.run_daemon_with(points, Arc::default()) => end,
        never = asks => match never {},
    }
}

/// Calls `act` at the point, once.
fn acting(testbed: &Testbed, at: &str, act: impl Fn(&Cluster, &Rbac) + Send + Sync + 'static) -> CrashPoints {
    let (cluster, rbac, at) = (testbed.cluster.clone(), testbed.rbac.clone(), point(at));
    let done = std::sync::atomic::AtomicBool::new(false);
    CrashPoints::ask(move |passed| {
        if passed == at && !done.swap(true, std::sync::atomic::Ordering::SeqCst) {
            act(&cluster, &rbac);
        }
        Verdict::GoOn
    })
}

#[tokio::test(start_paused = true)]
async fn permanently_refused_rollback_can_retain_storage() {
    let testbed = set_up().await;
    let points = acting(&testbed, "retained/after-record", |cluster, rbac| {
        rbac.deny("delete volumegroupsnapshots");
        ask(cluster, "abandon", "a-1");
    });
    let end = asked_after_a_while(&testbed, points, "abandon-keep-storage").await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::kept(&testbed, "shop", MEMBERS).await, Ok(()));
    let shown = status(&testbed);
    assert_eq!((&shown["code"], &shown["state"]), (&json!("SP0023"), &json!("Failed")));
    let message = shown["message"].as_str().unwrap_or_default();
    assert!(message.contains("what had not been freed by then is retained"), "{message}");
}

/// Adds a finalizer that no component removes.
fn hold(cluster: &Cluster, plural: &str) {
    let hand = cluster.api().caller("administrator");
    for object in hand.list(plural, None, &Default::default()).expect("a list") {
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.push(json!("example.com/held"));
        let (namespace, name) =
            (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str());
        let held = json!({"metadata": {"finalizers": finalizers}});
        hand.merge_patch(plural, namespace, name.expect("a name"), None, held).expect("a patch");
    }
}

#[tokio::test(start_paused = true)]
async fn abandoning_ends_rollback_blocked_by_finalizer() {
    let testbed = set_up().await;
    let points = acting(&testbed, "retained/after-record", |cluster, _| {
        hold(cluster, "volumegroupsnapshots");
        hold(cluster, "volumegroupsnapshotcontents");
        ask(cluster, "abandon", "a-1");
    });
    let end = asked_after_a_while(&testbed, points, "abandon-keep-storage").await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(status(&testbed)["code"], "SP0023");
}

#[tokio::test(start_paused = true)]
async fn second_request_ends_run_that_cannot_retain() {
    let testbed = set_up().await;
    let points = acting(&testbed, "detach/after-outcome", |cluster, rbac| {
        rbac.deny("patch volumegroupsnapshotcontents");
        disruptions::unretain(cluster);
        ask(cluster, "abandon", "a-1");
    });
    testbed.run_daemon_until(points, |testbed| is_stuck_at(testbed, GIVEN_UP)).await;
    ask(&testbed.cluster, "abandon-keep-storage", "a-2");
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    let shown = status(&testbed);
    assert_eq!((&shown["answered"]["id"], &shown["code"]), (&json!("a-2"), &json!("SP0023")));
    assert!(shown["message"].as_str().unwrap_or_default().contains("as it is"), "{shown:#}");
    assert_eq!(testbed.cluster.ledger().physical_snapshots, MEMBERS);
}

#[tokio::test(start_paused = true)]
async fn resuming_healthy_run_only_returns_a_message() {
    let testbed = set_up().await;
    let act = |cluster: &Cluster| ask(cluster, "resume", "r-1");
    let end = testbed.run_daemon_acting(point("created/after-record"), act, None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()));
    let message = status(&testbed)["answered"]["message"].as_str().expect("an answer").to_owned();
    assert!(message.starts_with("the run was not stuck but "), "{message}");
}

/// Requests to abandon the run at each point of a run that completes. Returns how many runs were rolled back
/// and how many kept their storage.
async fn abandoned_at_each(points: Vec<Point>) -> (usize, usize) {
    let (mut undone, mut kept) = (0, 0);
    for at in points {
        let testbed = set_up().await;
        let end = testbed.run_daemon_acting(at, |cluster| ask(cluster, "abandon", "a-1"), None).await;
        let shown = status(&testbed);
        let holds = match shown["code"].as_str() {
            Some("SP0022") => {
                undone += 1;
                invariants::undone(&testbed, "shop").await
            }
            Some("SP0023") => {
                kept += 1;
                invariants::kept(&testbed, "shop", MEMBERS).await
            }
            // The request came after the end of the run, or before the run was published.
            None => invariants::completed(&testbed, "shop", MEMBERS).await,
            Some(other) => Err(format!("{other}: {shown:#}")),
        };
        let failed = shown["code"].is_string();
        assert!(
            end.is(if failed { "Failed" } else { "Completed" }),
            "{at}: {end:?}\n{}",
            testbed.shown().await
        );
        assert_eq!(holds, Ok(()), "asked at {at}\n{}", testbed.shown().await);
    }
    (undone, kept)
}

#[tokio::test(start_paused = true)]
async fn run_can_be_abandoned_at_every_point() {
    let testbed = set_up().await;
    let passed = Passed::default();
    let end = testbed.run_daemon_with(passed.watch(), Arc::default()).await;
    assert!(end.is("Completed"), "{end:?}");
    let points = crate::share::share(passed.distinct(), 5);
    let (undone, kept) = abandoned_at_each(points.clone()).await;
    println!(
        "of {} points: {undone} undone, {kept} kept, {} over",
        points.len(),
        points.len() - undone - kept
    );
    let least = |all: usize| if crate::share::plays_all() { all } else { all / 5 };
    assert!(undone > least(10) && kept > least(5), "{undone} undone, {kept} kept");
}

/// Kills the daemon at `crash` while the request is pending, and starts it again.
async fn killed(request: &str, at: &str, crash: &str) -> Testbed {
    let testbed = set_up().await;
    let wanted = request.to_owned();
    let act = move |cluster: &Cluster| ask(cluster, &wanted, "r-1");
    let end = testbed.run_daemon_acting(point(at), act, Some(point(crash))).await;
    assert!(matches!(end, End::Killed), "{crash}: {end:?}");
    let end = testbed.run_daemon(None).await;
    assert!(matches!(end, End::Phase(_)), "{end:?}");
    assert_eq!(requests(&testbed).await, 1, "it is taken once");
    assert_eq!(status(&testbed)["answered"]["id"], "r-1");
    testbed
}

#[tokio::test(start_paused = true)]
async fn request_is_applied_once_despite_daemon_kill() {
    for crash in ["asked/before-record", "asked/after-record"] {
        let testbed = killed("abandon", "created/after-record", crash).await;
        assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()), "{crash}");
        let testbed = killed("resume", "created/after-record", crash).await;
        assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()), "{crash}");
        let testbed = killed("abandon", "delete-group/after-intent", crash).await;
        assert_eq!(invariants::kept(&testbed, "shop", MEMBERS).await, Ok(()), "{crash}");
    }
}

#[tokio::test(start_paused = true)]
async fn rollback_of_abandoned_run_survives_daemon_kill() {
    let undo = [
        "undo-free/mid-effects",
        "undo-delete-group/after-intent",
        "undo-delete-group/after-effects",
        "failed/before-record",
    ];
    for crash in undo {
        let testbed = set_up().await;
        let act = |cluster: &Cluster| ask(cluster, "abandon", "r-1");
        let end = testbed.run_daemon_acting(point("retain/after-outcome"), act, Some(point(crash))).await;
        assert!(matches!(end, End::Killed), "{crash}: {end:?}");
        let end = testbed.run_daemon(None).await;
        assert!(end.is("Failed"), "{crash}: {end:?}\n{}", testbed.shown().await);
        assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()), "{crash}");
        assert_eq!(requests(&testbed).await, 1, "{crash}");
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_run_repairs_reverted_policy_before_end() {
    let testbed = set_up().await;
    let act = |cluster: &Cluster| {
        disruptions::unretain(cluster);
        disruptions::unretain_member(cluster);
        ask(cluster, "abandon", "r-1");
    };
    let end = testbed.run_daemon_acting(point("detach/after-outcome"), act, None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::kept(&testbed, "shop", MEMBERS).await, Ok(()));
}

/// A value that is not a request is ignored and stops nothing. The same holds for a request that names another
/// run.
#[tokio::test(start_paused = true)]
async fn invalid_request_changes_nothing() {
    for (request, id) in [("explode", "r-1"), ("abandon", "")] {
        let testbed = set_up().await;
        let act = move |cluster: &Cluster| ask(cluster, request, id);
        let end = testbed.run_daemon_acting(point("created/after-record"), act, None).await;
        assert!(end.is("Completed"), "{end:?}");
        assert_eq!(requests(&testbed).await, 0);
    }
}

/// As the page of SP0023 describes: set the policies to Delete, delete the group, then the leftovers.
#[tokio::test(start_paused = true)]
async fn documented_steps_reclaim_storage_of_abandoned_run() {
    let testbed = set_up().await;
    let act = |cluster: &Cluster| ask(cluster, "abandon", "r-1");
    let end = testbed.run_daemon_acting(point("detach/after-outcome"), act, None).await;
    assert!(end.is("Failed"), "{end:?}");
    assert_eq!(testbed.cluster.ledger().physical_snapshots, MEMBERS);
    let hand = testbed.hand();
    let run = testbed.group_records().await.iter().find_map(|record| match &record.event {
        Event::Planned(plan) => Some(plan.run.to_string()),
        _ => None,
    });
    let ours = [("stillpoint.dev/run".to_owned(), run.expect("a plan"))].into();
    for plural in ["volumegroupsnapshotcontents", "volumesnapshotcontents"] {
        for content in hand.list(plural, None, &ours).expect("a list") {
            let name = content["metadata"]["name"].as_str().expect("a name");
            let patch = json!({"spec": {"deletionPolicy": "Delete"}});
            hand.merge_patch(plural, None, name, None, patch).expect("a patch");
        }
    }
    for plural in ["volumegroupsnapshots", "volumesnapshots"] {
        for object in hand.list(plural, Some("shop"), &Default::default()).expect("a list") {
            let name = object["metadata"]["name"].as_str().expect("a name");
            hand.delete(plural, Some("shop"), name, Preconditions::default()).expect("a delete");
        }
        testbed.until(|testbed| testbed.list(plural, None).is_empty()).await;
    }
    testbed.until(|testbed| testbed.cluster.ledger().physical_snapshots == 0).await;
    testbed.until(|testbed| testbed.list("volumesnapshotcontents", None).is_empty()).await;
}

#[test]
fn abandoned_run_ends_after_retention_is_observed() {
    assert!(!RunStage::Abandoned.is_final());
}
