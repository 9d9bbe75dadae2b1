//! A cluster with the PVCs of one group, and the operations of the scenarios.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::actors::object;
use crate::actors::strings::plural;
use crate::api_server::{Caller, Preconditions, Watch, WatchEvent};
use crate::{Cluster, Config};

pub(super) const NAMESPACE: &str = "t1";
pub(super) const GROUP: &str = "g1";

pub(super) struct Lab {
    pub(super) cluster: Cluster,
    pub(super) user: Caller,
}

impl Lab {
    /// Creates a cluster with `members` bound PVCs of the group.
    pub(super) async fn new(members: usize, config: Config) -> Self {
        let cluster = Cluster::start(config);
        let user = cluster.api().caller("user");
        let lab = Self { cluster, user };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        lab.create(plural::NAMESPACES, namespace);
        for index in 0..members {
            lab.create_pvc(&format!("data-{index}"));
        }
        lab.wait_until("the PVCs are bound", |lab| {
            lab.list(plural::PVCS).iter().all(|pvc| pvc["status"]["phase"] == "Bound")
        })
        .await;
        lab
    }

    pub(super) fn create_pvc(&self, name: &str) {
        self.create(
            plural::PVCS,
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"group": GROUP}},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "10Mi"}},
                    "storageClassName": "csi-hostpath-sc",
                },
            }),
        );
    }

    pub(super) fn create(&self, plural: &str, object: Value) -> Value {
        self.user.create(plural, object).expect("accepted")
    }

    pub(super) fn create_group(&self) -> Value {
        self.create(
            plural::GROUPS,
            json!({
                "apiVersion": "groupsnapshot.storage.k8s.io/v1",
                "kind": "VolumeGroupSnapshot",
                "metadata": {"name": GROUP, "namespace": NAMESPACE},
                "spec": {
                    "volumeGroupSnapshotClassName": "csi-hostpath-groupsnapclass",
                    "source": {"selector": {"matchLabels": {"group": GROUP}}},
                },
            }),
        )
    }

    /// Creates the group and waits until it and all members are ready.
    pub(super) async fn create_ready_group(&self, members: usize) -> Value {
        self.create_group();
        self.wait_until("the group is ready", |lab| lab.is_ready(members)).await;
        self.group().expect("it is ready")
    }

    pub(super) fn is_ready(&self, members: usize) -> bool {
        let snapshots = self.snapshots();
        self.group().is_some_and(|group| group["status"]["readyToUse"] == true)
            && snapshots.len() == members
            && snapshots.iter().all(|snapshot| {
                snapshot["status"]["readyToUse"] == true
                    && snapshot["status"]["volumeGroupSnapshotName"] == GROUP
            })
    }

    pub(super) fn list(&self, plural: &str) -> Vec<Value> {
        self.user.list(plural, None, &BTreeMap::new()).expect("served")
    }

    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.list(plural).into_iter().find(|object| object::name(object) == name)
    }

    pub(super) fn group(&self) -> Option<Value> {
        self.get(plural::GROUPS, GROUP)
    }

    pub(super) fn snapshots(&self) -> Vec<Value> {
        self.list(plural::SNAPSHOTS)
    }

    pub(super) fn contents(&self) -> Vec<Value> {
        self.list(plural::CONTENTS)
    }

    pub(super) fn group_contents(&self) -> Vec<Value> {
        self.list(plural::GROUP_CONTENTS)
    }

    pub(super) fn patch(&self, plural: &str, object: &Value, patch: Value) {
        let (namespace, name) = (object::namespace(object), object::name(object));
        self.user.merge_patch(plural, namespace, name, None, patch).expect("accepted");
    }

    pub(super) fn patch_status(&self, plural: &str, object: &Value, patch: Value) {
        let (namespace, name) = (object::namespace(object), object::name(object));
        self.user.merge_patch(plural, namespace, name, Some("status"), patch).expect("accepted");
    }

    pub(super) fn delete(&self, plural: &str, object: &Value) {
        let (namespace, name) = (object::namespace(object), object::name(object));
        self.user.delete(plural, namespace, name, Preconditions::default()).expect("accepted");
    }

    /// Sets the policy of the content of the group and of the contents of all members.
    pub(super) fn set_policies(&self, policy: &str) {
        let patch = json!({"spec": {"deletionPolicy": policy}});
        for content in self.group_contents() {
            self.patch(plural::GROUP_CONTENTS, &content, patch.clone());
        }
        for content in self.contents() {
            self.patch(plural::CONTENTS, &content, patch.clone());
        }
    }

    /// Waits in virtual time until the condition is true.
    pub(super) async fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            assert!(start.elapsed() < Duration::from_secs(900), "never: {what}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the controllers are idle.
    pub(super) async fn wait_until_idle(&self) {
        sleep(Duration::from_secs(30)).await;
    }
}

/// The changes of one resource since the start of the watch, one line each, by object name.
pub(super) fn changes(watch: &mut Watch) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    while let Some(event) = watch.try_next() {
        let (object, verb) = match event {
            WatchEvent::Added(object) => (Arc::unwrap_or_clone(object), "ADDED"),
            WatchEvent::Modified(object) => (Arc::unwrap_or_clone(object), "MODIFIED"),
            WatchEvent::Deleted(object) => (Arc::unwrap_or_clone(object), "DELETED"),
        };
        let name = object::name(&object).to_owned();
        let before = known.insert(name.clone(), object.clone());
        let line = match (verb, before) {
            ("MODIFIED", Some(before)) => difference(&before, &object),
            _ => verb.to_owned(),
        };
        lines.entry(name).or_default().push(line);
    }
    lines
}

/// The difference of two versions, as `+path` and `-path` of leaves, without the counters of the server.
fn difference(before: &Value, after: &Value) -> String {
    let (before, after) = (leaves(before), leaves(after));
    let mut parts: Vec<String> = Vec::new();
    for (path, value) in &after {
        match before.get(path) {
            Some(old) if old == value => {}
            Some(_) => parts.push(format!("~{path}={value}")),
            None => parts.push(format!("+{path}={value}")),
        }
    }
    parts.extend(before.keys().filter(|path| !after.contains_key(*path)).map(|path| format!("-{path}")));
    parts.join(" ")
}

fn leaves(object: &Value) -> BTreeMap<String, String> {
    const OF_THE_SERVER: [&str; 4] =
        ["resourceVersion", "generation", "managedFields", "deletionGracePeriodSeconds"];
    fn walk(value: &Value, path: &str, found: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members.iter().filter(|(key, _)| !OF_THE_SERVER.contains(&key.as_str())) {
                    let key = key.rsplit('/').next().unwrap_or(key);
                    let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                    walk(value, &path, found);
                }
            }
            Value::Array(items) if path.ends_with("finalizers") => {
                let names = items.iter().filter_map(Value::as_str);
                let short: Vec<&str> = names.map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
                found.insert(path.to_owned(), short.join(","));
            }
            Value::Array(items) => {
                found.insert(path.to_owned(), format!("[{}]", items.len()));
            }
            other => {
                found
                    .insert(path.to_owned(), other.as_str().map_or_else(|| other.to_string(), str::to_owned));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(object, "", &mut found);
    found
}
