//! Tests the behaviour that kubectl users see: warnings, refusals with their causes, reviews, fields to
//! explain.

use serde_json::{Value, json};
use stillpoint::sim::Config;

use crate::lab::{Lab, NAMESPACE, Reply};

const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1/namespaces/t1/volumesnapshots";

fn warnings(reply: &Reply) -> Vec<String> {
    let all = reply.headers.get_all("warning").iter();
    all.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn warns_about_each_unknown_field_unless_ignored() {
    let lab = Lab::new(1, Config::default()).await;
    let snapshot = |name: &str| {
        json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
            "metadata": {"name": name, "namespace": NAMESPACE}, "extra": 1,
            "spec": {"source": {"persistentVolumeClaimName": "data-0"}, "nonsense": {"a": 1}},
        })
    };
    let expected = ["299 - \"unknown field \\\"extra\\\"\"", "299 - \"unknown field \\\"spec.nonsense\\\"\""];
    for (name, query, count) in
        [("a", "", 2), ("b", "?fieldValidation=Warn", 2), ("c", "?fieldValidation=Ignore", 0)]
    {
        let reply = lab.http("POST", &format!("{SNAPSHOTS}{query}"), Some(snapshot(name))).await;
        assert_eq!(
            (reply.status, warnings(&reply)),
            (201, expected[..count].iter().map(|w| (*w).to_owned()).collect())
        );
        assert!(reply.body["spec"].get("nonsense").is_none(), "dropped");
    }
    let reply = lab.http("POST", &format!("{SNAPSHOTS}?fieldValidation=Strict"), Some(snapshot("d"))).await;
    assert_eq!((reply.status, warnings(&reply).len()), (400, 0));
    let patch = json!({"spec": {"nonsense": 2}});
    let reply =
        lab.http_as("application/merge-patch+json", "PATCH", &format!("{SNAPSHOTS}/a"), Some(patch)).await;
    assert_eq!((reply.status, warnings(&reply)), (200, vec![expected[1].to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn pvc_spec_is_immutable_with_stated_cause() {
    let lab = Lab::new(1, Config::default()).await;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/data-0");
    let patch = |spec: Value| {
        let (lab, path) = (&lab, &path);
        async move {
            lab.http_as("application/merge-patch+json", "PATCH", path, Some(json!({"spec": spec}))).await
        }
    };
    let reply = patch(json!({"storageClassName": "other"})).await;
    assert_eq!((reply.status, &reply.body["reason"]), (422, &json!("Invalid")));
    assert_eq!(
        reply.body["message"],
        "PersistentVolumeClaim \"data-0\" is invalid: spec: Forbidden: spec is immutable after creation except \
         resources.requests and volumeAttributesClassName for bound claims"
    );
    assert_eq!(
        (&reply.body["details"]["causes"][0]["reason"], &reply.body["details"]["causes"][0]["field"]),
        (&json!("FieldValueForbidden"), &json!("spec"))
    );
    let reply = patch(json!({"resources": {"requests": {"storage": "20Mi"}}})).await;
    assert_eq!(reply.status, 200, "the request may grow");
    let reply = patch(json!({"resources": {"requests": {"storage": "1Mi"}}})).await;
    assert_eq!(reply.body["details"]["causes"][0]["field"], "spec.resources.requests.storage");
}

#[tokio::test(start_paused = true)]
async fn access_reviews_name_user_and_allow_everything() {
    let lab = Lab::new(0, Config::default()).await;
    let review = |group: &'static str, kind: &'static str, plural: &'static str| {
        let lab = &lab;
        async move {
            let body = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {}, "spec": {}});
            lab.http("POST", &format!("/apis/{group}/v1/{plural}"), Some(body)).await.body["status"].take()
        }
    };
    let rules = review("authorization.k8s.io", "SelfSubjectRulesReview", "selfsubjectrulesreviews").await;
    assert_eq!((&rules["incomplete"], &rules["resourceRules"][0]["verbs"]), (&json!(false), &json!(["*"])));
    let user = review("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews").await;
    assert_eq!(user["userInfo"]["username"], "stillpoint-sim");
}

#[tokio::test(start_paused = true)]
async fn explains_fields_of_snapshot_kinds() {
    let lab = Lab::new(0, Config::default()).await;
    let reply = lab.http("GET", "/openapi/v3/apis/groupsnapshot.storage.k8s.io/v1", None).await.body;
    let schema =
        &reply["components"]["schemas"]["io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotContent"];
    let status = &schema["properties"]["status"]["properties"];
    assert_eq!(status["readyToUse"]["type"], "boolean");
    let listed = &status["volumeSnapshotInfoList"]["items"]["properties"]["restoreSize"];
    assert_eq!(listed, &json!({"type": "integer", "format": "int64"}));
}
