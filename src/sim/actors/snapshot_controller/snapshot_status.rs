//! Copies the status of a VolumeSnapshot from its content. Events are recorded before the write.
//!
//! A content with a group handle needs a VolumeGroupSnapshotContent with that handle in its status, which
//! provides the name of the group. Without one the status is not written at all.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Controller, update_failure};
use crate::actors::object;
use crate::actors::quantity::{binary, rfc3339};
use crate::actors::recorder::Severity;
use crate::actors::strings::plural;
use crate::pointer::At;

impl Controller {
    /// Updates the snapshot's status from its content.
    pub(super) async fn copy_status(&self, snapshot: &Arc<Value>, content: &Value) -> Result<(), String> {
        match self.write_status(snapshot, content).await {
            Ok(written) => {
                // The real controller stores only the results of `bindandUpdate`; it receives its other
                // writes a moment later as events. The difference cannot be observed from outside.
                self.snapshots.newest.update(&written);
                Ok(())
            }
            Err(error) => {
                let message = format!("Snapshot status update failed, {error}");
                self.write_error(&self.snapshots, snapshot, false, "SnapshotStatusUpdateFailed", message)
                    .await;
                Err(error)
            }
        }
    }

    async fn write_status(&self, snapshot: &Value, content: &Value) -> Result<Arc<Value>, String> {
        let key = object::key(snapshot);
        let group = self.group_name(&key, content)?;
        let live =
            self.client.get(plural::SNAPSHOTS, object::namespace(snapshot), object::name(snapshot)).await;
        let mut live =
            live.map_err(|status| format!("error get snapshot {key} from api server: {}", status.message))?;
        let before = live.get("status").cloned().unwrap_or(Value::Null);
        let after = merged(&before, content, group.as_deref());
        if after == before {
            return Ok(Arc::new(live));
        }
        if object::text(&before, "/creationTime").is_none() && object::text(&after, "/creationTime").is_some()
        {
            let message = format!("Snapshot {key} was successfully created by the CSI driver.");
            self.recorder.event(snapshot, Severity::Normal, "SnapshotCreated", message);
        }
        let ready = |status: &Value| object::flag(status, "/readyToUse") == Some(true);
        if !ready(&before) && ready(&after) {
            let message = format!("Snapshot {key} is ready to use.");
            self.recorder.event(snapshot, Severity::Normal, "SnapshotReady", message);
        }
        object::set(&mut live, &["status"], after);
        let written = self.client.update_status(plural::SNAPSHOTS, live).await;
        written.map_err(|status| update_failure(snapshot, &status.message))
    }

    /// The name of the group whose content has the group handle of this content.
    fn group_name(&self, snapshot_key: &str, content: &Value) -> Result<Option<String>, String> {
        let pointer = "/status/volumeGroupSnapshotHandle";
        let Some(handle) = object::text(content, pointer) else { return Ok(None) };
        let found =
            self.group_contents.cache.select(|content| object::text(content, pointer) == Some(handle));
        let name = found.first().and_then(|found| object::text(found, "/spec/volumeGroupSnapshotRef/name"));
        name.map(|name| Some(name.to_owned())).ok_or_else(|| {
            format!(
                "updateSnapshotStatus: cannot find the group snapshot for VolumeSnapshot [{snapshot_key}], will not \
                 update snapshot status"
            )
        })
    }
}

fn merged(before: &Value, content: &Value, group: Option<&str>) -> Value {
    let mut after = if before.is_object() { before.clone() } else { json!({}) };
    if object::text(&after, "/boundVolumeSnapshotContentName").is_none() {
        object::set(&mut after, &["boundVolumeSnapshotContentName"], json!(object::name(content)));
    }
    if let Some(time) = object::number(content, "/status/creationTime")
        && object::text(&after, "/creationTime").is_none()
    {
        object::set(&mut after, &["creationTime"], json!(rfc3339(time)));
    }
    let ready = object::flag(content, "/status/readyToUse").unwrap_or(false);
    if object::flag(&after, "/readyToUse") != Some(ready) {
        object::set(&mut after, &["readyToUse"], json!(ready));
    }
    if let Some(size) = object::number(content, "/status/restoreSize")
        && (object::text(&after, "/restoreSize").is_none_or(|known| known == "0" && size > 0))
    {
        object::set(&mut after, &["restoreSize"], json!(binary(size)));
    }
    match content.at("/status/error").filter(|error| error.is_object()) {
        Some(error) => object::set(&mut after, &["error"], error.clone()),
        None => object::unset(&mut after, &["error"]),
    }
    if let Some(group) = group
        && object::text(&after, "/volumeGroupSnapshotName").is_none()
    {
        object::set(&mut after, &["volumeGroupSnapshotName"], json!(group));
    }
    after
}
