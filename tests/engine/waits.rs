//! A run that waits says why: in its status, in one Warning Event for each cause, and with members that are counted.

use serde_json::{Value, json};
use stillpoint::sim::Config;
use stillpoint::sim::api_server::{Answer, CallInfo, FaultDecision};

use crate::asked::ask;
use crate::stage::Stage;
use crate::{hands, invariants};

const MEMBERS: usize = 3;

async fn stage() -> Stage {
    let stage = Stage::new(Config::default());
    stage.claims("shop", "orders-db", MEMBERS).await;
    stage.backup("shop");
    stage
}

fn status(stage: &Stage) -> Value {
    stage.list("groupsnapshots", Some("shop")).first().map(|run| run["status"].clone()).unwrap_or_default()
}

fn waiting_for(stage: &Stage) -> String {
    status(stage)["waitingFor"].as_str().unwrap_or_default().to_owned()
}

/// Notes of the Warning Events with that reason on the GroupSnapshot.
fn warnings(stage: &Stage, reason: &str) -> Vec<String> {
    let events = stage.list("events", Some("shop"));
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

/// What a life does meanwhile; the Backup completes.
async fn completes(stage: &Stage, meanwhile: impl Future<Output = ()>) {
    let (end, ()) = tokio::join!(stage.live(None), meanwhile);
    assert!(end.is("Completed"), "{end:?}\n{}", stage.shown().await);
    assert_eq!(invariants::completed(stage, "shop", MEMBERS).await, Ok(()));
    assert_eq!(status(stage)["members"], "3/3");
    assert!(status(stage)["waiting"].is_null(), "{}", status(stage));
}

/// A quota of VolumeSnapshots that has room for two: the snapshot-controller says it to its log alone.
#[tokio::test(start_paused = true)]
async fn members_that_a_quota_forbids_are_missed() {
    let stage = stage().await;
    let made = std::sync::atomic::AtomicUsize::new(0);
    let over_quota = move |call: &CallInfo| {
        let makes = call.verb == "create" && call.plural == "volumesnapshots";
        makes && made.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2
    };
    stage.cluster.api().set_actor_faults(refuse(over_quota, 403));
    let seen = async {
        stage.pass(60).await;
        let (text, status) = (waiting_for(&stage), status(&stage));
        println!("{text}");
        assert!(text.contains("2 of 3 VolumeSnapshots of the group exist"), "{status:#}");
        assert_eq!((&status["members"], &status["membersReady"]), (&json!("2/3"), &json!(2)));
        let waiting = &status["waiting"];
        assert_eq!(
            (&waiting["row"], &waiting["cause"]),
            (&json!("created/wait-ready"), &json!("ObjectsNotMade"))
        );
        assert!(waiting["since"].is_string() && waiting["deadline"].is_string(), "{waiting:#}");
        let told = warnings(&stage, "ObjectsNotMade");
        assert_eq!(told.len(), 1, "{told:#?}");
        stage.pass(600).await;
        assert_eq!(warnings(&stage, "ObjectsNotMade"), told, "once for each cause");
        stage.cluster.api().set_actor_faults(nothing());
    };
    completes(&stage, seen).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_delete_behind_the_pivot_shows_its_cause() {
    let stage = stage().await;
    let deletes = |call: &CallInfo| {
        call.agent == "stillpoint" && call.verb == "delete" && call.plural == "volumegroupsnapshots"
    };
    stage.cluster.api().set_faults(refuse(deletes, 403));
    let seen = async {
        let refused = |stage: &Stage| !warnings(stage, "StepRefused").is_empty();
        assert!(stage.comes(refused).await, "{}", stage.shown().await);
        let (text, status) = (waiting_for(&stage), status(&stage));
        println!("{text}");
        assert!(text.starts_with("retry: delete VolumeGroupSnapshot shop/sp-orders-db-"), "{status:#}");
        assert!(text.contains(": 403 "), "{status:#}");
        let waiting = &status["waiting"];
        assert_eq!(waiting["row"], "release/5-delete-group");
        assert!(waiting["nextTry"].is_string() && waiting["lastError"].is_string(), "{waiting:#}");
        assert_eq!(waiting["objects"][0]["kind"], "VolumeGroupSnapshot");
        assert_eq!(warnings(&stage, "StepRefused").len(), 1);
        stage.cluster.api().set_faults(nothing());
    };
    completes(&stage, seen).await;
}

/// A webhook that does not answer makes the API server answer 503: the step is tried again, at last once a minute.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_does_not_wait_out_its_pause() {
    let stage = stage().await;
    let writes = |call: &CallInfo| {
        call.agent == "stillpoint" && call.verb == "delete" && call.plural == "volumegroupsnapshots"
    };
    stage.cluster.api().set_faults(refuse(writes, 503));
    let seen = async {
        let waits = |stage: &Stage| waiting_for(stage).starts_with("retry: delete");
        assert!(stage.comes(waits).await);
        stage.pass(200).await;
        let tries = stage.calls.all().len();
        stage.until(|stage| stage.calls.all().len() > tries).await;
        // A pause of a minute has just begun.
        stage.pass(5).await;
        stage.cluster.api().set_faults(nothing());
        ask(&stage.cluster, "resume", "now");
        let asked = tokio::time::Instant::now();
        stage.until(|stage| stage.list("volumegroupsnapshots", None).is_empty()).await;
        assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
    };
    completes(&stage, seen).await;
}

#[tokio::test(start_paused = true)]
async fn a_foreign_finalizer_that_holds_the_group_is_shown() {
    let stage = stage().await;
    let finalizers = |stage: &Stage, change: fn(&mut Vec<Value>)| {
        let group = stage.list("volumegroupsnapshots", None).remove(0);
        let mut all = group["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        change(&mut all);
        let name = group["metadata"]["name"].as_str().expect("a name");
        let patch = json!({"metadata": {"finalizers": all}});
        stage.hand().merge_patch("volumegroupsnapshots", Some("shop"), name, None, patch).expect("a patch");
    };
    let held = |cluster: &stillpoint::sim::Cluster| hands::hold_group(cluster, "example.com/keep");
    let seen = async {
        assert!(stage.comes(|stage| !warnings(stage, "HeldByFinalizer").is_empty()).await);
        let (text, status) = (waiting_for(&stage), status(&stage));
        println!("{text}");
        assert!(text.contains("is being deleted, and finalizer example.com/keep holds it"), "{status:#}");
        assert_eq!(status["waiting"]["objects"][0]["finalizers"], json!(["example.com/keep"]));
        finalizers(&stage, |all| all.retain(|one| one != "example.com/keep"));
    };
    let life = stage.live_acting("delete-group/before-intent".parse().expect("a point"), held, None);
    let (end, ()) = tokio::join!(life, seen);
    assert!(end.is("Completed"), "{end:?}\n{}", stage.shown().await);
}
