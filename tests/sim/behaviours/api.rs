//! Behaviours 1 to 3 and 5: API versions, generations, resourceVersions, patches.

use serde_json::{Value, json};
use stillpoint::sim::Config;

use crate::lab::{GROUP_CONTENTS, GROUPS, Lab, NAMESPACE, SNAPSHOTS, is_deleting, name};

const GROUP_API: &str = "/apis/groupsnapshot.storage.k8s.io";
const MAPS: &str = "/api/v1/namespaces/t1/configmaps";

fn map(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}})
}

#[tokio::test(start_paused = true)]
async fn behaviour_01_every_version_serves_same_object() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create_ready_group(1).await;
    let content = lab.group_content().expect("exists");
    let read = |version: &'static str| {
        let path = format!("{GROUP_API}/{version}/{GROUP_CONTENTS}/{}", name(&content));
        let lab = &lab;
        async move { lab.http("GET", &path, None).await }
    };
    let (v1, v1beta2, v1beta1) = (read("v1").await, read("v1beta2").await, read("v1beta1").await);
    for (version, reply) in [("v1", &v1), ("v1beta2", &v1beta2), ("v1beta1", &v1beta1)] {
        assert_eq!(reply.body["apiVersion"], format!("groupsnapshot.storage.k8s.io/{version}"));
        assert_eq!(reply.body["metadata"], v1.body["metadata"]);
        assert_eq!(reply.body["status"]["volumeSnapshotInfoList"].is_array(), version != "v1beta1");
    }
    let warning = v1beta1.headers.get("warning").and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(warning.contains("v1beta1 VolumeGroupSnapshotContent is deprecated"), "{warning}");
    assert!(v1.headers.get("warning").is_none());

    // Writes of the status and of the main resource do not affect each other.
    lab.patch(GROUP_CONTENTS, &content, json!({"status": {"readyToUse": false}}));
    lab.patch_status(GROUP_CONTENTS, &content, json!({"spec": {"deletionPolicy": "Retain"}}));
    let after = lab.group_content().expect("exists");
    assert_eq!((&after["status"], &after["spec"]), (&content["status"], &content["spec"]));

    let refused = |patch: Value| {
        let merged = lab.user.merge_patch(GROUP_CONTENTS, None, name(&content), None, patch);
        let status = merged.expect_err("refused");
        (status.code, status.message)
    };
    for (patch, why) in [
        (
            json!({"spec": {"volumeGroupSnapshotRef": {"uid": "u"}}}),
            "volumeGroupSnapshotRef.uid is immutable once set",
        ),
        (json!({"spec": {"driver": "other"}}), "driver is immutable once set"),
        (json!({"spec": {"source": {"volumeHandles": ["v"]}}}), "volumeHandles is immutable"),
        (json!({"spec": {"deletionPolicy": "Perhaps"}}), "supported values: \"Delete\", \"Retain\""),
    ] {
        let (code, message) = refused(patch);
        assert!(code == 422 && message.contains(why), "{code} {message}");
    }
    let bad = lab.user.create(
        GROUPS,
        json!({"metadata": {"name": "Not_a_name", "namespace": NAMESPACE},
        "spec": {"source": {"selector": {}}}}),
    );
    assert!(bad.expect_err("refused").message.contains("RFC 1123"));
    let both = json!({"selector": {}, "volumeGroupSnapshotContentName": "c"});
    let bad = lab.user.create(
        GROUPS,
        json!({"metadata": {"name": "both", "namespace": NAMESPACE}, "spec": {"source": both}}),
    );
    let message = bad.expect_err("refused").message;
    assert!(
        message.contains("exactly one of selector and volumeGroupSnapshotContentName must be set"),
        "{message}"
    );
    let path = format!("{GROUP_API}/v1/{GROUP_CONTENTS}/{}", name(&content));
    let pruned = lab
        .http_as("application/merge-patch+json", "PATCH", &path, Some(json!({"spec": {"unheardOf": 1}})))
        .await;
    assert_eq!((pruned.status, pruned.body["spec"].get("unheardOf")), (200, None));
}

#[tokio::test(start_paused = true)]
async fn behaviour_02_generation_counts_spec_changes_and_deletion() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create_ready_group(1).await;
    lab.wait_until_idle().await;
    let generation = |lab: &Lab| lab.snapshots()[0]["metadata"]["generation"].as_u64().expect("counted");
    let member = lab.snapshots().remove(0);
    let first = generation(&lab);
    lab.patch(SNAPSHOTS, &member, json!({"metadata": {"labels": {"a": "b"}}}));
    lab.patch_status(SNAPSHOTS, &member, json!({"status": {"restoreSize": "11Mi"}}));
    assert_eq!(generation(&lab), first);
    lab.patch(SNAPSHOTS, &member, json!({"spec": {"volumeSnapshotClassName": "csi-hostpath-snapclass"}}));
    assert_eq!(generation(&lab), first + 1);
    lab.delete(SNAPSHOTS, &member);
    let pending = lab.snapshots().remove(0);
    assert_eq!((generation(&lab), is_deleting(&pending)), (first + 2, true));
    assert_eq!(pending["metadata"]["deletionGracePeriodSeconds"], 0);
}

#[tokio::test(start_paused = true)]
async fn behaviour_03_resource_versions_guard_writes_and_watches() {
    let lab = Lab::new(0, Config::default()).await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x")] {
        assert_eq!(lab.http("POST", MAPS, Some(map(name, &json!({"tier": tier})))).await.status, 201);
    }
    let mut stale = lab.http("GET", &format!("{MAPS}/a"), None).await.body;
    lab.http("PUT", &format!("{MAPS}/a"), Some(map("a", &json!({"tier": "z"})))).await;
    stale["data"] = json!({"k": "v"});
    assert_eq!(lab.http("PUT", &format!("{MAPS}/a"), Some(stale.clone())).await.status, 409);
    let test = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": stale["metadata"]["resourceVersion"]}]);
    let tested = lab.http_as("application/json-patch+json", "PATCH", &format!("{MAPS}/a"), Some(test)).await;
    assert_eq!(tested.status, 422);

    let page = lab.http("GET", &format!("{MAPS}?limit=2"), None).await.body;
    let token = page["metadata"]["continue"].as_str().expect("a continue token").to_owned();
    let rest = lab.http("GET", &format!("{MAPS}?limit=2&continue={token}"), None).await.body;
    assert_eq!(page["metadata"]["resourceVersion"], rest["metadata"]["resourceVersion"]);
    let names = |page: &Value| page["items"].as_array().map_or(0, Vec::len);
    assert_eq!((names(&page), names(&rest)), (2, 1));
    assert_eq!(names(&lab.http("GET", &format!("{MAPS}?labelSelector=tier%3Dx"), None).await.body), 1);
    assert_eq!(
        names(&lab.http("GET", &format!("{MAPS}?fieldSelector=metadata.name%3Db"), None).await.body),
        1
    );

    let from = rest["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    lab.http("DELETE", &format!("{MAPS}/b"), None).await;
    let watch = format!("{MAPS}?watch=1&resourceVersion={from}&timeoutSeconds=2&allowWatchBookmarks=true");
    let seen = lab.http("GET", &watch, None).await.text;
    let events: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"DELETED"), Some(&"BOOKMARK")), "{kinds:?}");
    assert_eq!(
        (name(&events[0]["object"]), &events[0]["object"]["metadata"]["labels"]["tier"]),
        ("b", &json!("y"))
    );
    let version =
        |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str()?.parse::<u64>().ok();
    assert!(version(&events[0]) > from.parse().ok(), "a deletion has its own version");

    lab.cluster.api().compact();
    let events =
        lab.http("GET", &format!("{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=2"), None).await.text;
    let event: Value = serde_json::from_str(events.lines().next().expect("an event")).expect("JSON");
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test(start_paused = true)]
async fn behaviour_05_accepts_patches_of_every_kind() {
    let lab = Lab::new(1, Config::default()).await;
    lab.create_ready_group(1).await;
    let member = lab.snapshots().remove(0);
    let path =
        format!("/apis/snapshot.storage.k8s.io/v1/namespaces/{NAMESPACE}/{SNAPSHOTS}/{}", name(&member));
    let patch = |media: &'static str, body: Value| {
        let (lab, path) = (&lab, path.clone());
        async move { lab.http_as(media, "PATCH", &path, Some(body)).await }
    };
    // `replace` of a missing field is accepted, `remove` of it fails.
    let replaced = json!([{"op": "replace", "path": "/spec/volumeSnapshotClassName", "value": "csi-hostpath-snapclass"}]);
    let reply = patch("application/json-patch+json", replaced).await;
    assert_eq!(
        (reply.status, reply.body["spec"]["volumeSnapshotClassName"].as_str()),
        (200, Some("csi-hostpath-snapclass"))
    );
    let removed = json!([{"op": "remove", "path": "/metadata/labels"}]);
    assert_eq!(patch("application/json-patch+json", removed).await.status, 422);
    let merged = json!({"metadata": {"labels": {"a": "b"}, "annotations": null}});
    let reply = patch("application/merge-patch+json", merged).await;
    assert_eq!((reply.status, &reply.body["metadata"]["labels"]["a"]), (200, &json!("b")));
    assert_eq!(
        patch("application/strategic-merge-patch+json", json!({})).await.status,
        415,
        "custom kinds have no strategic merge"
    );
    let pvc = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/data-0");
    let strategic = json!({"metadata": {"finalizers": ["example.com/mine"]}});
    let reply = lab.http_as("application/strategic-merge-patch+json", "PATCH", &pvc, Some(strategic)).await;
    assert_eq!(
        reply.body["metadata"]["finalizers"].as_array().map(Vec::len),
        Some(2),
        "lists of built-in kinds merge"
    );
    let applied = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
        "metadata": {"name": name(&member), "labels": {"applied": "yes"}}});
    let force = format!("{path}?fieldManager=me&force=true");
    let reply = lab.http_as("application/apply-patch+yaml", "PATCH", &force, Some(applied)).await;
    let labels = &reply.body["metadata"]["labels"];
    assert_eq!((&labels["a"], &labels["applied"]), (&json!("b"), &json!("yes")));
}
