//! Tests the semantics of writes through the client of an actor.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn server() -> ApiServer {
    ApiServer::new(ApiServerConfig {
        seed: 1,
        clock: SimClock::new(1_795_000_000_000_000_000),
        groupsnapshot_versions: ["v1", "v1beta2", "v1beta1"].map(str::to_owned).to_vec(),
    })
}

fn caller() -> Caller {
    server().caller("test")
}

fn snapshot(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"source": {"persistentVolumeClaimName": "p"}}})
}

fn create_with_finalizers(caller: &Caller, finalizers: Value) -> Value {
    let mut object = snapshot("a");
    object["metadata"]["finalizers"] = finalizers;
    caller.create("volumesnapshots", object).expect("created")
}

fn get(caller: &Caller) -> Result<Value, Status> {
    caller.get("volumesnapshots", Some("default"), "a")
}

fn patch(caller: &Caller, subresource: Option<&str>, patch: Value) -> Result<Value, Status> {
    caller.merge_patch("volumesnapshots", Some("default"), "a", subresource, patch)
}

fn delete(caller: &Caller) -> Result<Option<Value>, Status> {
    caller.delete("volumesnapshots", Some("default"), "a", Preconditions::default())
}

#[tokio::test]
async fn new_object_gets_fields_set_by_server() {
    let mut object = snapshot("a");
    object["status"] = json!({"readyToUse": true});
    let caller = caller();
    let made = caller.create("volumesnapshots", object).expect("created");
    assert_eq!(made["apiVersion"], "snapshot.storage.k8s.io/v1");
    assert_eq!(made["kind"], "VolumeSnapshot");
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["metadata"]["creationTimestamp"], "2026-11-18T11:06:40Z");
    assert_eq!(made["metadata"]["uid"].as_str().map(str::len), Some(36));
    assert!(made.get("status").is_none(), "create ignores the status");
    let again = caller.create("volumesnapshots", snapshot("a")).expect_err("the name exists");
    assert!(again.is_already_exists());
}

#[tokio::test]
async fn generate_name_appends_five_letters() {
    let caller = caller();
    let object = json!({"metadata": {"generateName": "x-", "namespace": "default"}});
    let made = caller.create("configmaps", object).expect("created");
    let name = made["metadata"]["name"].as_str().expect("named");
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
}

#[tokio::test]
async fn stale_update_conflicts_and_no_op_preserves_version() {
    let caller = caller();
    let first = create_with_finalizers(&caller, json!([]));
    let same = caller.update("volumesnapshots", first.clone()).expect("no-op");
    assert_eq!(same, first);
    let second = patch(&caller, None, json!({"metadata": {"labels": {"a": "b"}}})).expect("patched");
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(caller.update("volumesnapshots", first).is_err_and(|status| status.is_conflict()));
    let unversioned =
        caller.update("volumesnapshots", snapshot("a")).expect_err("a custom resource requires it");
    assert_eq!(unversioned.code, 422);
}

#[tokio::test]
async fn generation_counts_spec_changes_and_deletion() {
    let caller = caller();
    create_with_finalizers(&caller, json!(["example.com/hold"]));
    patch(&caller, None, json!({"metadata": {"labels": {"a": "b"}}})).expect("labels");
    let status = patch(&caller, Some("status"), json!({"status": {"readyToUse": true}})).expect("status");
    assert_eq!(status["metadata"]["generation"], 1);
    let spec = patch(&caller, None, json!({"spec": {"volumeSnapshotClassName": "c"}})).expect("spec");
    assert_eq!(spec["metadata"]["generation"], 2);
    let pending = delete(&caller).expect("deleted").expect("pending");
    assert_eq!(pending["metadata"]["generation"], 3);
    assert_eq!(pending["metadata"]["deletionGracePeriodSeconds"], 0);
}

#[tokio::test]
async fn main_resource_and_status_are_independent() {
    let caller = caller();
    create_with_finalizers(&caller, json!([]));
    let both = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumeSnapshotClassName": "c"}, "status": {"readyToUse": true}});
    let main = patch(&caller, None, both.clone()).expect("main");
    assert!(main.get("status").is_none());
    assert_eq!(main["metadata"]["labels"]["a"], "b");
    let other = json!({"metadata": {"labels": {"z": "z"}}, "spec": {"volumeSnapshotClassName": "d"}, "status": {"readyToUse": true}});
    let status = patch(&caller, Some("status"), other).expect("status");
    assert_eq!(status["status"]["readyToUse"], true);
    assert_eq!(status["spec"]["volumeSnapshotClassName"], "c");
    assert_eq!(status["metadata"]["labels"], json!({"a": "b"}));
}

#[tokio::test]
async fn backup_has_no_status_subresource() {
    let caller = caller();
    let object =
        json!({"metadata": {"name": "b", "namespace": "default"}, "spec": {}, "status": {"phase": "New"}});
    let made = caller.create("backups", object).expect("created");
    assert_eq!(made["status"]["phase"], "New");
    let missing = caller.merge_patch("backups", Some("default"), "b", Some("status"), json!({}));
    assert!(missing.is_err_and(|status| status.is_not_found()));
    let next =
        caller.merge_patch("backups", Some("default"), "b", None, json!({"status": {"phase": "InProgress"}}));
    assert_eq!(next.expect("patched")["metadata"]["generation"], 2, "without it the status counts as spec");
}

#[tokio::test]
async fn finalizer_blocks_deletion_until_removed() {
    let caller = caller();
    create_with_finalizers(&caller, json!(["example.com/one", "example.com/two"]));
    let pending = delete(&caller).expect("deleted").expect("pending");
    assert_eq!(delete(&caller).expect("again").as_ref(), Some(&pending), "a second delete changes nothing");
    let added =
        patch(&caller, None, json!({"metadata": {"finalizers": ["example.com/one", "example.com/new"]}}));
    let refused = added.expect_err("no new finalizers");
    assert_eq!(refused.code, 422);
    assert!(refused.message.contains("found new finalizers []string{\"example.com/new\"}"), "{refused}");
    patch(&caller, None, json!({"metadata": {"finalizers": ["example.com/two"]}}))
        .expect("one finalizer remains");
    assert!(get(&caller).is_ok());
    patch(&caller, None, json!({"metadata": {"finalizers": null}})).expect("no finalizer remains");
    assert!(get(&caller).is_err_and(|status| status.is_not_found()));
}

#[tokio::test]
async fn delete_checks_uid_and_version() {
    let caller = caller();
    let made = create_with_finalizers(&caller, json!([]));
    let attempt = |uid: Option<&str>, version: Option<&str>| {
        let preconditions =
            Preconditions { uid: uid.map(str::to_owned), resource_version: version.map(str::to_owned) };
        caller.delete("volumesnapshots", Some("default"), "a", preconditions)
    };
    assert!(attempt(Some("other"), None).is_err_and(|status| status.is_conflict()));
    assert!(attempt(None, Some("1")).is_err_and(|status| status.is_conflict()));
    assert_eq!(
        attempt(made["metadata"]["uid"].as_str(), made["metadata"]["resourceVersion"].as_str()),
        Ok(None)
    );
    assert!(attempt(None, None).is_err_and(|status| status.is_not_found()));
    let next = create_with_finalizers(&caller, json!([]));
    assert_ne!(next["metadata"]["uid"], made["metadata"]["uid"], "a reused name has a new uid");
}

#[tokio::test]
async fn other_uid_conflicts_and_creation_time_is_immutable() {
    let caller = caller();
    create_with_finalizers(&caller, json!([]));
    let uid = patch(&caller, None, json!({"metadata": {"uid": "other"}}));
    assert!(uid.is_err_and(|status| status.is_conflict()));
    let time = patch(&caller, None, json!({"metadata": {"creationTimestamp": "2020-01-01T00:00:00Z"}}));
    assert_eq!(time.err().map(|status| status.code), Some(422));
}

#[tokio::test]
async fn failed_json_patch_test_changes_nothing() {
    let caller = caller();
    let made = create_with_finalizers(&caller, json!([]));
    let ops = json!([
        {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},
        {"op": "test", "path": "/metadata/uid", "value": "other"},
    ]);
    let refused =
        caller.json_patch("volumesnapshots", Some("default"), "a", None, ops).expect_err("test fails");
    assert_eq!((refused.code, refused.reason.as_str()), (422, "Invalid"));
    assert_eq!(refused.message, "the server rejected our request due to an error in our request");
    assert_eq!(get(&caller), Ok(made));
}

#[tokio::test]
async fn create_requires_existing_active_namespace() {
    let caller = caller();
    let into =
        |ns: &str| json!({"metadata": {"name": "c", "namespace": ns, "finalizers": ["example.com/hold"]}});
    let missing = caller.create("configmaps", into("nowhere")).expect_err("no namespace");
    assert_eq!(missing.message, "namespaces \"nowhere\" not found");
    caller.create("namespaces", json!({"metadata": {"name": "ends"}})).expect("created");
    caller.create("configmaps", into("ends")).expect("created");
    let pending = caller.delete("namespaces", None, "ends", Preconditions::default()).expect("deleted");
    assert_eq!(pending.expect("its contents delay the deletion")["status"]["phase"], "Terminating");
    let refused = caller.create("pods", into("ends")).expect_err("terminating");
    assert_eq!((refused.code, refused.details.causes[0].reason.as_str()), (403, "NamespaceTerminating"));
    let free = json!({"metadata": {"finalizers": null}});
    caller.merge_patch("configmaps", Some("ends"), "c", None, free).expect("freed");
    assert!(caller.get("namespaces", None, "ends").is_err_and(|status| status.is_not_found()));
}

#[tokio::test]
async fn watch_sends_existing_objects_and_later_changes() {
    let server = server();
    let caller = server.caller("test");
    create_with_finalizers(&caller, json!([]));
    let mut watch = caller.watch("volumesnapshots");
    patch(&caller, None, json!({"metadata": {"labels": {"a": "b"}}})).expect("patched");
    delete(&caller).expect("deleted");
    assert!(
        matches!(watch.next().await, WatchEvent::Added(object) if object["metadata"]["labels"].is_null())
    );
    assert!(
        matches!(watch.next().await, WatchEvent::Modified(object) if object["metadata"]["labels"]["a"] == "b")
    );
    let Some(WatchEvent::Deleted(last)) = watch.try_next() else { panic!("not a delete") };
    assert_eq!(last["metadata"]["resourceVersion"], "8", "the version of the delete");
    assert_eq!(watch.try_next(), None);
    server.drop_watches();
    create_with_finalizers(&caller, json!([]));
    assert!(watch.try_next().is_some(), "watches of actors are never dropped");
}

#[tokio::test]
async fn calls_are_counted_by_agent_verb_and_resource() {
    let server = server();
    let caller = server.caller("sidecar");
    create_with_finalizers(&caller, json!([]));
    patch(&caller, Some("status"), json!({"status": {"readyToUse": false}})).expect("patched");
    assert!(caller.get("pods", Some("default"), "none").is_err());
    let tally = serde_json::to_value(server.tally()).expect("serializes");
    assert_eq!(
        tally,
        json!({"sidecar": {
            "create": {"volumesnapshots": 1}, "get": {"pods": 1}, "patch": {"volumesnapshots/status": 1}}})
    );
    assert_eq!(server.tally().writes("sidecar"), 2);
    server.reset_tally();
    assert_eq!(server.tally(), Tally::default());
}

#[tokio::test]
async fn list_selects_by_namespace_and_labels() {
    let caller = caller();
    for (name, ns, group) in
        [("b", "default", "g"), ("a", "default", "g"), ("c", "default", "h"), ("d", "kube-system", "g")]
    {
        let object = json!({"metadata": {"name": name, "namespace": ns, "labels": {"group": group}}});
        caller.create("configmaps", object).expect("created");
    }
    let labels = BTreeMap::from([("group".to_owned(), "g".to_owned())]);
    let names = |ns: Option<&str>| -> Vec<String> {
        let objects = caller.list("configmaps", ns, &labels).expect("listed");
        objects
            .iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(names(Some("default")), ["a", "b"]);
    assert_eq!(names(None), ["a", "b", "d"]);
}

#[tokio::test]
async fn preferred_version_is_first_served_one() {
    let config = ApiServerConfig {
        seed: 1,
        clock: SimClock::new(0),
        groupsnapshot_versions: vec!["v1beta1".to_owned(), "v1beta2".to_owned()],
    };
    let class = json!({"metadata": {"name": "c"}, "driver": "d", "deletionPolicy": "Delete"});
    let made =
        ApiServer::new(config).caller("test").create("volumegroupsnapshotclasses", class).expect("created");
    assert_eq!(made["apiVersion"], "groupsnapshot.storage.k8s.io/v1beta2");
    let none = ApiServerConfig { seed: 1, clock: SimClock::new(0), groupsnapshot_versions: Vec::new() };
    let unserved = ApiServer::new(none).caller("test").list("volumegroupsnapshots", None, &BTreeMap::new());
    assert!(unserved.is_err_and(|status| status.is_not_found()));
}

#[tokio::test]
async fn crd_of_served_resource_is_established() {
    let caller = caller();
    let object = json!({"metadata": {"name": "groupsnapshots.stillpoint.dev"},
        "spec": {"names": {"plural": "groupsnapshots"}, "versions": [{"name": "v1alpha1", "storage": true}]}});
    let made = caller.create("customresourcedefinitions", object).expect("created");
    assert_eq!(made["status"]["conditions"][1]["type"], "Established");
    assert_eq!(made["status"]["storedVersions"], json!(["v1alpha1"]));
}
