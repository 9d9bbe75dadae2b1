//! Resolves the class of an object: the class that it names, else the default class of its driver, which is
//! written into its spec.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Controller;
use crate::actors::informer::Cache;
use crate::actors::object;
use crate::actors::strings::annotation;

/// The reason why there is no class.
pub(super) enum NoClass {
    /// The named class does not exist. An object that is being deleted continues without it.
    Missing(String),
    /// Any other reason. The object is not processed until this is fixed; not even its deletion is.
    Undecided(String),
}

impl NoClass {
    pub(super) fn message(self) -> String {
        match self {
            NoClass::Missing(message) | NoClass::Undecided(message) => message,
        }
    }
}

/// The only class of the driver that is annotated as default.
fn default_class(classes: &Cache, mark: &str, driver: &str, what: &str) -> Result<String, String> {
    let defaults = classes.select(|class| {
        object::annotation(class, mark) == Some("true") && object::text(class, "/driver") == Some(driver)
    });
    match defaults.as_slice() {
        [] => Err(format!("cannot find default {what} class")),
        [one] => Ok(object::name(one).to_owned()),
        more => Err(format!("{} default snapshot classes were found", more.len())),
    }
}

impl Controller {
    /// Returns the snapshot with its class resolved. Group members and static snapshots need no class. A
    /// snapshot that has lost its owner reference is neither.
    pub(super) async fn with_class(&self, snapshot: Arc<Value>) -> Result<Arc<Value>, NoClass> {
        if let Some(class) = object::text(&snapshot, "/spec/volumeSnapshotClassName") {
            if self.classes.get(class).is_some() {
                return Ok(snapshot);
            }
            let missing = format!("volumesnapshotclass.snapshot.storage.k8s.io {class:?} not found");
            let message = format!("Failed to get snapshot class with error {missing}");
            self.write_error(&self.snapshots, &snapshot, false, "GetSnapshotClassFailed", message).await;
            return Err(NoClass::Missing(missing));
        }
        let is_static = object::text(&snapshot, "/spec/source/volumeSnapshotContentName").is_some();
        if is_static || self.is_member(&snapshot) {
            return Ok(snapshot);
        }
        match self.set_default_class(&snapshot).await {
            Ok(updated) => Ok(updated),
            Err(error) => {
                let message = format!("Failed to set default snapshot class with error {error}");
                self.write_error(&self.snapshots, &snapshot, false, "SetDefaultSnapshotClassFailed", message)
                    .await;
                Err(NoClass::Undecided(error))
            }
        }
    }

    async fn set_default_class(&self, snapshot: &Arc<Value>) -> Result<Arc<Value>, String> {
        let volume = self.volume_of_snapshot(snapshot).await?;
        let driver = object::text(&volume, "/spec/csi/driver").ok_or_else(|| {
            format!("snapshotting non-CSI volumes is not supported, snapshot:{}", object::key(snapshot))
        })?;
        let class = default_class(&self.classes, annotation::DEFAULT_CLASS, driver, "snapshot")?;
        let operations = json!([{"op": "replace", "path": "/spec/volumeSnapshotClassName", "value": class}]);
        self.patch(&self.snapshots, snapshot, operations).await
    }

    /// Returns the group snapshot with its class resolved. A static group snapshot needs no class.
    pub(super) async fn with_group_class(&self, group: Arc<Value>) -> Result<Arc<Value>, NoClass> {
        if let Some(class) = object::text(&group, "/spec/volumeGroupSnapshotClassName") {
            if self.group_classes.get(class).is_some() {
                return Ok(group);
            }
            let missing =
                format!("volumegroupsnapshotclass.groupsnapshot.storage.k8s.io {class:?} not found");
            let message = format!("failed to get group snapshot class with error {missing}");
            self.write_error(&self.groups, &group, false, "GetGroupSnapshotClassFailed", message).await;
            return Err(NoClass::Missing(missing));
        }
        if object::text(&group, "/spec/source/volumeGroupSnapshotContentName").is_some() {
            return Ok(group);
        }
        match self.set_default_group_class(&group).await {
            Ok(updated) => Ok(updated),
            Err(error) => {
                let message = format!("Failed to set default group snapshot class with error {error}");
                self.write_error(&self.groups, &group, false, "SetDefaultGroupSnapshotClassFailed", message)
                    .await;
                Err(NoClass::Undecided(error))
            }
        }
    }

    async fn set_default_group_class(&self, group: &Arc<Value>) -> Result<Arc<Value>, String> {
        let volumes = self.volumes_of_group(group).await?;
        let driver =
            volumes.first().and_then(|volume| object::text(volume, "/spec/csi/driver")).ok_or_else(|| {
                format!(
                    "snapshotting non-CSI volumes is not supported, group snapshot:{}",
                    object::key(group)
                )
            })?;
        let mark = annotation::DEFAULT_GROUP_CLASS;
        let class = default_class(&self.group_classes, mark, driver, "group snapshot")?;
        let mut wanted = Value::clone(group);
        object::set(&mut wanted, &["spec", "volumeGroupSnapshotClassName"], json!(class));
        self.update(&self.groups, wanted).await
    }
}
