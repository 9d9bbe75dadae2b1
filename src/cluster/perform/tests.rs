//! Tests the results of answers. The API server is a script: one answer for each call, in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::Response;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::cluster::connect::USER_AGENT;
use crate::machine::group::GroupMachine;
use crate::machine::group::effect::Effect;
use crate::machine::kit::Entry;
use crate::machine::kit::Kind;
use crate::machine::kit::Machine as _;

/// The answer of the scripted API server to one call.
enum Answer {
    Says(u16, Value),
    Silence,
}

/// Calls that the scripted API server received: method, path, user agent.
type Calls = Arc<Mutex<Vec<(String, String, String)>>>;

/// The groups, Backups, the readiness of an API server without Backups, GroupSnapshots.
const DISCOVERY: usize = 4;

/// An adapter to an API server that serves v1beta2 of the group API and returns these answers.
async fn scripted(answers: Vec<Answer>) -> (Adapter, Calls) {
    let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [{
        "name": "groupsnapshot.storage.k8s.io",
        "versions": [
            {"groupVersion": "groupsnapshot.storage.k8s.io/v1beta1", "version": "v1beta1"},
            {"groupVersion": "groupsnapshot.storage.k8s.io/v1beta2", "version": "v1beta2"},
        ],
        "preferredVersion": {"groupVersion": "groupsnapshot.storage.k8s.io/v1beta1", "version": "v1beta1"},
    }]});
    let missing = || failure(404, "NotFound");
    let discovery = [Answer::Says(200, groups), missing(), missing(), missing()];
    let script: VecDeque<_> = discovery.into_iter().chain(answers).collect();
    let (script, calls) = (Arc::new(Mutex::new(script)), Calls::default());
    let seen = calls.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let agent =
            request.headers().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let call = (request.method().to_string(), request.uri().path().to_owned(), agent.to_owned());
        seen.lock().expect("the list of calls").push(call);
        let answer = script.lock().expect("the script").pop_front().expect("a call that the script knows");
        async move {
            match answer {
                Answer::Says(code, body) => {
                    let body = Body::from(body.to_string().into_bytes());
                    Ok::<_, std::convert::Infallible>(
                        Response::builder().status(code).body(body).expect("an answer"),
                    )
                }
                Answer::Silence => std::future::pending().await,
            }
        }
    });
    let adapter = Adapter::connect(Client::new(service, "default")).await.expect("a cluster");
    (adapter, calls)
}

fn failure(code: u16, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no",
    });
    Answer::Says(code, status)
}

fn snapshot(metadata: Value) -> Answer {
    let mut metadata = metadata;
    metadata["namespace"] = json!("shop");
    metadata["name"] = json!("s");
    Answer::Says(200, json!({"kind": "VolumeSnapshot", "metadata": metadata, "spec": {"source": {}}}))
}

fn id(name: &str) -> ObjectId {
    ObjectId { namespace: "shop".into(), name: name.into(), uid: Uid::from("u1") }
}

fn delete() -> Effect {
    Effect::DeleteSnapshot { snapshot: id("s") }
}

fn done(version: &str) -> Outcome {
    Outcome::Done { uid: "u1".into(), resource_version: version.into() }
}

async fn check(effect: Effect, answers: Vec<Answer>, outcome: Outcome) -> Option<ObjectChange> {
    let (adapter, calls) = scripted(answers).await;
    let performed = adapter.carry_out(&GroupMachine::calls(&effect)).await;
    assert_eq!(performed.outcome, outcome);
    assert!(calls.lock().expect("the list of calls").iter().skip(DISCOVERY).all(|call| call.2 == USER_AGENT));
    performed.object
}

#[tokio::test(start_paused = true)]
async fn delete_with_finalizers_leaves_terminating_object() {
    let terminating = json!({
        "uid": "u1", "resourceVersion": "8", "deletionTimestamp": "2026-11-20T18:03:04Z", "finalizers": ["f"],
    });
    let object = check(delete(), vec![snapshot(terminating)], done("8")).await;
    assert!(
        matches!(object, Some(ObjectChange::Snapshot(object)) if object.metadata.deletion_timestamp.is_some())
    );
}

#[tokio::test(start_paused = true)]
async fn delete_of_missing_object_succeeds() {
    let success = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}});
    for answer in [failure(404, "NotFound"), Answer::Says(200, success)] {
        let object = check(delete(), vec![answer], done("")).await;
        assert!(matches!(object, Some(ObjectChange::Gone(Kind::VolumeSnapshot, gone)) if gone == id("s")));
    }
}

#[tokio::test(start_paused = true)]
async fn removing_last_finalizer_ends_terminating_object() {
    let effect = Effect::SetGroupName { snapshot: id("s"), old: Some("g".into()), new: None };
    let ended = json!({"uid": "u1", "resourceVersion": "8", "deletionTimestamp": "2026-11-20T18:03:04Z"});
    let object = check(effect, vec![snapshot(ended)], done("8")).await;
    assert!(matches!(object, Some(ObjectChange::Gone(Kind::VolumeSnapshot, _))));
}

#[tokio::test(start_paused = true)]
async fn rejection_is_determinate_and_not_retried() {
    let refused = |code, reason: &str| Outcome::Determinate { code, message: format!("{reason}: no") };
    check(delete(), vec![failure(409, "Conflict")], refused(409, "Conflict")).await;
    check(delete(), vec![failure(429, "TooManyRequests")], refused(429, "TooManyRequests")).await;
    let create = Effect::CreateSnapshot {
        namespace: "shop".into(),
        name: "s".into(),
        content: "c".into(),
        class: "k".into(),
        labels: Default::default(),
        annotations: Default::default(),
    };
    check(create, vec![failure(409, "AlreadyExists")], refused(409, "AlreadyExists")).await;
}

#[tokio::test(start_paused = true)]
async fn unknown_result_is_indeterminate_and_not_retried() {
    for answer in [failure(504, "Timeout"), failure(500, "InternalError"), Answer::Says(200, json!("?"))] {
        let (adapter, calls) = scripted(vec![answer]).await;
        let performed = adapter.carry_out(&GroupMachine::calls(&delete())).await;
        assert!(matches!(performed.outcome, Outcome::Indeterminate { .. }), "{performed:?}");
        assert_eq!(calls.lock().expect("the list of calls").len(), DISCOVERY + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn call_to_silent_api_server_times_out() {
    let started = tokio::time::Instant::now();
    let message = "ServiceError: no answer within 30.0 s".to_owned();
    check(delete(), vec![Answer::Silence], Outcome::Indeterminate { message }).await;
    assert_eq!(started.elapsed().as_millis() as u64, limits::REQUEST_TIMEOUT.0);
}

#[tokio::test(start_paused = true)]
async fn claim_tries_second_patch_only_after_rejection() {
    let claim = || Effect::ClaimGroup { group: id("g"), old: None, new: 2 };
    let group = || {
        let metadata = json!({"namespace": "shop", "name": "g", "uid": "u1", "resourceVersion": "5"});
        Answer::Says(200, json!({"kind": "VolumeGroupSnapshot", "metadata": metadata}))
    };
    check(claim(), vec![group()], done("5")).await;
    check(claim(), vec![failure(422, "Invalid"), group()], done("5")).await;
    let conflict = Outcome::Determinate { code: 409, message: "Conflict: no".into() };
    check(claim(), vec![failure(409, "Conflict")], conflict).await;
}

#[tokio::test(start_paused = true)]
async fn content_is_not_deleted_if_marking_fails() {
    let write = [("being-deleted".to_owned(), "yes".to_owned())].into();
    let content = ObjectId { namespace: String::new(), ..id("c") };
    let effect =
        Effect::DeleteContent { content, resource_version: None, annotations: Entry { seen: None, write } };
    let refused = Outcome::Determinate { code: 422, message: "Invalid: no".into() };
    check(effect.clone(), vec![failure(422, "Invalid")], refused).await;
    check(effect, vec![failure(404, "NotFound"), failure(404, "NotFound")], done("")).await;
}

#[tokio::test(start_paused = true)]
async fn uses_best_served_version_of_group_api() {
    let (adapter, calls) = scripted(vec![failure(404, "NotFound")]).await;
    assert_eq!(adapter.served().group_version, Some(Version::V1beta2));
    assert!(!adapter.served().backup_status && adapter.served().group_snapshot_status);
    adapter
        .carry_out(&GroupMachine::calls(&Effect::DeleteGroup {
            group: id("g"),
            resource_version: "5".into(),
        }))
        .await;
    let calls = calls.lock().expect("the list of calls");
    let path = "/apis/groupsnapshot.storage.k8s.io/v1beta2/namespaces/shop/volumegroupsnapshots/g";
    assert_eq!((calls[DISCOVERY].0.as_str(), calls[DISCOVERY].1.as_str()), ("DELETE", path));
}
