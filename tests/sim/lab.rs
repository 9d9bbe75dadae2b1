//! A cluster with the PVCs of one group, and its user.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use stillpoint::sim::api_server::{Caller, Preconditions};
use stillpoint::sim::{Cluster, Config};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

pub const NAMESPACE: &str = "t1";
pub const GROUP: &str = "g1";
pub const DRIVER: &str = "hostpath.csi.k8s.io";
pub const CLASS: &str = "csi-hostpath-snapclass";
pub const GROUP_CLASS: &str = "csi-hostpath-groupsnapclass";

pub const PVCS: &str = "persistentvolumeclaims";
pub const SNAPSHOTS: &str = "volumesnapshots";
pub const CONTENTS: &str = "volumesnapshotcontents";
pub const CLASSES: &str = "volumesnapshotclasses";
pub const GROUPS: &str = "volumegroupsnapshots";
pub const GROUP_CONTENTS: &str = "volumegroupsnapshotcontents";
pub const GROUP_CLASSES: &str = "volumegroupsnapshotclasses";

pub const AS_SOURCE: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
pub const IN_GROUP: &str = "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";
pub const GROUP_BOUND: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
pub const GROUP_CONTENT_BOUND: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";
pub const GROUP_BEING_DELETED: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
pub const GROUP_BEING_CREATED: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-created";

pub struct Lab {
    pub cluster: Cluster,
    pub user: Caller,
}

/// The reply to a call over HTTP.
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null if the text is not one JSON value.
    pub body: Value,
    pub text: String,
}

impl Lab {
    /// Creates a cluster with `members` bound PVCs of the group.
    pub async fn new(members: usize, config: Config) -> Self {
        let cluster = Cluster::start(config);
        let user = cluster.api().caller("user");
        let lab = Self { cluster, user };
        lab.create_namespace(NAMESPACE);
        for index in 0..members {
            lab.create_pvc(&format!("data-{index}"));
        }
        lab.wait_until("the PVCs are bound", |lab| {
            lab.list(PVCS).iter().all(|pvc| pvc["status"]["phase"] == "Bound")
        })
        .await;
        lab
    }

    pub fn create_namespace(&self, name: &str) {
        self.create(
            "namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        );
    }

    pub fn create_pvc(&self, name: &str) -> Value {
        self.create(PVCS, pvc(name, &json!({"group": GROUP}), "csi-hostpath-sc"))
    }

    pub fn create(&self, plural: &str, object: Value) -> Value {
        self.user.create(plural, object).expect("accepted")
    }

    pub fn create_group(&self) -> Value {
        self.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some(GROUP_CLASS))
    }

    pub fn create_group_with(&self, name: &str, selector: Value, class: Option<&str>) -> Value {
        let mut spec = json!({"source": {"selector": selector}});
        if let Some(class) = class {
            spec["volumeGroupSnapshotClassName"] = json!(class);
        }
        self.create(GROUPS, json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}))
    }

    /// Creates the group and waits until it and all members are ready.
    pub async fn create_ready_group(&self, members: usize) -> Value {
        self.create_group();
        self.wait_until("the group is ready", |lab| lab.is_ready(members)).await;
        self.group().expect("it is ready")
    }

    pub fn is_ready(&self, members: usize) -> bool {
        let ready = |object: &Value| object["status"]["readyToUse"] == true;
        let snapshots = self.snapshots();
        self.group().is_some_and(|group| ready(&group))
            && snapshots.len() == members
            && snapshots.iter().all(|one| ready(one) && one["status"]["volumeGroupSnapshotName"] == GROUP)
    }

    pub fn list(&self, plural: &str) -> Vec<Value> {
        self.user.list(plural, None, &BTreeMap::new()).expect("served")
    }

    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.list(plural).into_iter().find(|object| self::name(object) == name)
    }

    pub fn group(&self) -> Option<Value> {
        self.get(GROUPS, GROUP)
    }

    pub fn group_content(&self) -> Option<Value> {
        self.list(GROUP_CONTENTS).into_iter().next()
    }

    pub fn snapshots(&self) -> Vec<Value> {
        self.list(SNAPSHOTS)
    }

    pub fn contents(&self) -> Vec<Value> {
        self.list(CONTENTS)
    }

    pub fn patch(&self, plural: &str, object: &Value, patch: Value) {
        let merged = self.user.merge_patch(plural, namespace(object), name(object), None, patch);
        merged.expect("accepted");
    }

    pub fn patch_status(&self, plural: &str, object: &Value, patch: Value) {
        let merged = self.user.merge_patch(plural, namespace(object), name(object), Some("status"), patch);
        merged.expect("accepted");
    }

    /// Deletes the object if it still exists.
    pub fn delete(&self, plural: &str, object: &Value) {
        match self.user.delete(plural, namespace(object), name(object), Preconditions::default()) {
            Ok(_) => {}
            Err(status) => assert_eq!(status.code, 404, "{}", status.message),
        }
    }

    /// Counts of physical snapshots, leaked ones, phantoms.
    pub fn ledger(&self) -> (usize, usize, usize) {
        let ledger = self.cluster.ledger();
        (ledger.physical_snapshots, ledger.leaked, ledger.phantom)
    }

    /// Number of calls of the driver's method.
    pub fn driver_calls(&self, method: &str) -> u64 {
        self.cluster.storage().calls().get(method).copied().unwrap_or(0)
    }

    pub fn events(&self, reason: &str) -> Vec<Value> {
        let mut events = self.list("events");
        events.retain(|event| event["reason"] == reason);
        events
    }

    /// Sends one call over HTTP with a JSON body, if any.
    pub async fn http(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.http_as("application/json", method, path, body).await
    }

    /// Sends one call over HTTP whose body has the media type.
    pub async fn http_as(&self, media: &str, method: &str, path: &str, body: Option<Value>) -> Reply {
        let request = Request::builder().method(method).uri(path).header("content-type", media);
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.cluster.router().oneshot(request.body(body).expect("a request")).await;
        let (parts, body) = response.expect("answered").into_parts();
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: parts.status.as_u16(), headers: parts.headers, body, text }
    }

    /// Returns whether a PVC that is restored from the snapshot is bound soon.
    pub async fn restores_from(&self, snapshot: &str) -> bool {
        let restored = format!("restored-{snapshot}");
        let restored = &restored[..restored.len().min(60)];
        let mut body = pvc(restored, &json!({}), "csi-hostpath-sc");
        let source =
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot});
        body["spec"]["dataSource"] = source;
        let created = self.create(PVCS, body);
        self.wait_until_idle().await;
        let bound = self.get(PVCS, restored).is_some_and(|pvc| pvc["status"]["phase"] == "Bound");
        self.delete(PVCS, &created);
        bound
    }

    /// Waits in simulated time until the condition is true.
    pub async fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        assert!(self.becomes_true(900, condition).await, "never: {what}");
    }

    /// Returns whether the condition becomes true within `seconds` simulated seconds.
    pub async fn becomes_true(&self, seconds: u64, condition: impl Fn(&Self) -> bool) -> bool {
        let start = Instant::now();
        while !condition(self) {
            if start.elapsed() > Duration::from_secs(seconds) {
                return false;
            }
            // Short intervals at first, while the controllers act; long ones later, when only their back-off
            // remains.
            let fine = start.elapsed() < Duration::from_secs(20);
            sleep(Duration::from_millis(if fine { 5 } else { 250 })).await;
        }
        true
    }

    /// Waits until the controllers are idle.
    pub async fn wait_until_idle(&self) {
        sleep(Duration::from_secs(30)).await;
    }
}

/// A PVC of 10 MiB.
pub fn pvc(name: &str, labels: &Value, storage_class: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Mi"}},
            "storageClassName": storage_class,
        },
    })
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub fn namespace(object: &Value) -> Option<&str> {
    object["metadata"]["namespace"].as_str()
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

pub fn owners(object: &Value) -> usize {
    object["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len)
}

pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|one| one == finalizer))
}

pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}
