//! Tests that a waiting run reports why: in its status, in one Warning Event for each cause, and with a count
//! of members.

use serde_json::{Value, json};
use stillpoint::sim::Config;
use stillpoint::sim::api_server::{Answer, CallInfo, FaultDecision};

use crate::asked::ask;
use crate::testbed::Testbed;
use crate::{disruptions, invariants};

const MEMBERS: usize = 3;

async fn set_up() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    testbed
}

fn status(testbed: &Testbed) -> Value {
    testbed.list("groupsnapshots", Some("shop")).first().map(|run| run["status"].clone()).unwrap_or_default()
}

fn waiting_for(testbed: &Testbed) -> String {
    status(testbed)["waitingFor"].as_str().unwrap_or_default().to_owned()
}

/// Returns the notes of the Warning Events with that reason on the GroupSnapshot.
fn warnings(testbed: &Testbed, reason: &str) -> Vec<String> {
    let events = testbed.list("events", Some("shop"));
    let of_run = events.iter().filter(|event| {
        event["involvedObject"]["kind"] == "GroupSnapshot"
            && event["type"] == "Warning"
            && event["reason"] == reason
    });
    of_run.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

fn refuse(
    refuses: impl Fn(&CallInfo) -> bool + Send + 'static,
    code: u16,
) -> stillpoint::sim::api_server::Faults {
    Box::new(move |call| match refuses(call) {
        true => FaultDecision::of(false, Answer::Status(code, None)),
        false => FaultDecision::none(),
    })
}

fn nothing() -> stillpoint::sim::api_server::Faults {
    Box::new(|_| FaultDecision::none())
}

/// Runs one incarnation together with `meanwhile`; the Backup completes.
async fn completes(testbed: &Testbed, meanwhile: impl Future<Output = ()>) {
    let (end, ()) = tokio::join!(testbed.run_daemon(None), meanwhile);
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(testbed, "shop", MEMBERS).await, Ok(()));
    assert_eq!(status(testbed)["members"], "3/3");
    assert!(status(testbed)["waiting"].is_null(), "{}", status(testbed));
}

/// A quota of VolumeSnapshots has room for two: the snapshot-controller reports it only in its log.
#[tokio::test(start_paused = true)]
async fn reports_members_forbidden_by_quota() {
    let testbed = set_up().await;
    let made = std::sync::atomic::AtomicUsize::new(0);
    let over_quota = move |call: &CallInfo| {
        let makes = call.verb == "create" && call.plural == "volumesnapshots";
        makes && made.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2
    };
    testbed.cluster.api().set_actor_faults(refuse(over_quota, 403));
    let seen = async {
        testbed.pass(60).await;
        let (text, status) = (waiting_for(&testbed), status(&testbed));
        println!("{text}");
        assert!(text.contains("2 of 3 VolumeSnapshots of the group exist"), "{status:#}");
        assert_eq!((&status["members"], &status["membersReady"]), (&json!("2/3"), &json!(2)));
        let waiting = &status["waiting"];
        assert_eq!(
            (&waiting["row"], &waiting["cause"]),
            (&json!("created/wait-ready"), &json!("ObjectsNotMade"))
        );
        assert!(waiting["since"].is_string() && waiting["deadline"].is_string(), "{waiting:#}");
        let told = warnings(&testbed, "ObjectsNotMade");
        assert_eq!(told.len(), 1, "{told:#?}");
        testbed.pass(600).await;
        assert_eq!(warnings(&testbed, "ObjectsNotMade"), told, "once for each cause");
        testbed.cluster.api().set_actor_faults(nothing());
    };
    completes(&testbed, seen).await;
}

#[tokio::test(start_paused = true)]
async fn shows_cause_of_refused_delete_after_pivot() {
    let testbed = set_up().await;
    let deletes = |call: &CallInfo| {
        call.agent == "stillpoint" && call.verb == "delete" && call.plural == "volumegroupsnapshots"
    };
    testbed.cluster.api().set_faults(refuse(deletes, 403));
    let seen = async {
        let refused = |testbed: &Testbed| !warnings(testbed, "StepRefused").is_empty();
        assert!(testbed.comes(refused).await, "{}", testbed.shown().await);
        let (text, status) = (waiting_for(&testbed), status(&testbed));
        println!("{text}");
        assert!(text.starts_with("retry: delete VolumeGroupSnapshot shop/sp-orders-db-"), "{status:#}");
        assert!(text.contains(": 403 "), "{status:#}");
        let waiting = &status["waiting"];
        assert_eq!(waiting["row"], "release/5-delete-group");
        assert!(waiting["nextTry"].is_string() && waiting["lastError"].is_string(), "{waiting:#}");
        assert_eq!(waiting["objects"][0]["kind"], "VolumeGroupSnapshot");
        assert_eq!(warnings(&testbed, "StepRefused").len(), 1);
        testbed.cluster.api().set_faults(nothing());
    };
    completes(&testbed, seen).await;
}

/// A webhook that does not reply makes the API server reply 503. The step is retried, in the end once per
/// minute.
#[tokio::test(start_paused = true)]
async fn resumed_run_skips_the_remaining_pause() {
    let testbed = set_up().await;
    let writes = |call: &CallInfo| {
        call.agent == "stillpoint" && call.verb == "delete" && call.plural == "volumegroupsnapshots"
    };
    testbed.cluster.api().set_faults(refuse(writes, 503));
    let seen = async {
        let waits = |testbed: &Testbed| waiting_for(testbed).starts_with("retry: delete");
        assert!(testbed.comes(waits).await);
        testbed.pass(200).await;
        let tries = testbed.calls.all().len();
        testbed.until(|testbed| testbed.calls.all().len() > tries).await;
        // A retry pause of one minute has just begun.
        testbed.pass(5).await;
        testbed.cluster.api().set_faults(nothing());
        ask(&testbed.cluster, "resume", "now");
        let asked = tokio::time::Instant::now();
        testbed.until(|testbed| testbed.list("volumegroupsnapshots", None).is_empty()).await;
        assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    };
    completes(&testbed, seen).await;
}

#[tokio::test(start_paused = true)]
async fn shows_foreign_finalizer_that_blocks_group() {
    let testbed = set_up().await;
    let finalizers = |testbed: &Testbed, change: fn(&mut Vec<Value>)| {
        let group = testbed.list("volumegroupsnapshots", None).remove(0);
        let mut all = group["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        change(&mut all);
        let name = group["metadata"]["name"].as_str().expect("a name");
        let patch = json!({"metadata": {"finalizers": all}});
        testbed.hand().merge_patch("volumegroupsnapshots", Some("shop"), name, None, patch).expect("a patch");
    };
    let held = |cluster: &stillpoint::sim::Cluster| disruptions::hold_group(cluster, "example.com/keep");
    let seen = async {
        assert!(testbed.comes(|testbed| !warnings(testbed, "HeldByFinalizer").is_empty()).await);
        let (text, status) = (waiting_for(&testbed), status(&testbed));
        println!("{text}");
        assert!(text.contains("is being deleted, and finalizer example.com/keep holds it"), "{status:#}");
        assert_eq!(status["waiting"]["objects"][0]["finalizers"], json!(["example.com/keep"]));
        finalizers(&testbed, |all| all.retain(|one| one != "example.com/keep"));
    };
    let life = testbed.run_daemon_acting("delete-group/before-intent".parse().expect("a point"), held, None);
    let (end, ()) = tokio::join!(life, seen);
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
}
