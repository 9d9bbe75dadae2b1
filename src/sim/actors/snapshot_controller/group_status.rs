//! Copies the status of a VolumeGroupSnapshot from its content. Events are recorded before the write.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Controller, update_failure};
use crate::actors::object;
use crate::actors::recorder::Severity;
use crate::actors::strings::plural;
use crate::pointer::At;

impl Controller {
    /// Updates the group's status from its content.
    pub(super) async fn copy_group_status(&self, group: &Arc<Value>, content: &Value) -> Result<(), String> {
        match self.write_group_status(group, content).await {
            Ok(written) => {
                self.groups.newest.update(&written);
                Ok(())
            }
            Err(error) => {
                let message = format!("GroupSnapshot status update failed, {error}");
                self.write_error(&self.groups, group, false, "GroupSnapshotStatusUpdateFailed", message)
                    .await;
                Err(error)
            }
        }
    }

    async fn write_group_status(&self, group: &Value, content: &Value) -> Result<Arc<Value>, String> {
        let key = object::key(group);
        let live = self.client.get(plural::GROUPS, object::namespace(group), object::name(group)).await;
        let mut live = live.map_err(|status| {
            format!("error get group snapshot {key} from api server: {}", status.message)
        })?;
        let before = live.get("status").cloned().unwrap_or(Value::Null);
        let after = merged(&before, content);
        if after == before {
            return Ok(Arc::new(live));
        }
        if object::text(&before, "/creationTime").is_none() && object::text(&after, "/creationTime").is_some()
        {
            let message = format!("GroupSnapshot {key} was successfully created by the CSI driver.");
            self.recorder.event(group, Severity::Normal, "GroupSnapshotCreated", message);
        }
        let ready = |status: &Value| object::flag(status, "/readyToUse") == Some(true);
        if !ready(&before) && ready(&after) {
            let message = format!("GroupSnapshot {key} is ready to use.");
            self.recorder.event(group, Severity::Normal, "GroupSnapshotReady", message);
        }
        object::set(&mut live, &["status"], after);
        let written = self.client.update_status(plural::GROUPS, live).await;
        written.map_err(|status| update_failure(group, &status.message))
    }
}

fn merged(before: &Value, content: &Value) -> Value {
    let mut after = if before.is_object() { before.clone() } else { json!({}) };
    if object::text(&after, "/boundVolumeGroupSnapshotContentName").is_none() {
        object::set(&mut after, &["boundVolumeGroupSnapshotContentName"], json!(object::name(content)));
    }
    if let Some(time) = object::text(content, "/status/creationTime")
        && object::text(&after, "/creationTime").is_none()
    {
        object::set(&mut after, &["creationTime"], json!(time));
    }
    let ready = object::flag(content, "/status/readyToUse").unwrap_or(false);
    if object::flag(&after, "/readyToUse") != Some(ready) {
        object::set(&mut after, &["readyToUse"], json!(ready));
    }
    match content.at("/status/error").filter(|error| error.is_object()) {
        Some(error) => object::set(&mut after, &["error"], error.clone()),
        None => object::unset(&mut after, &["error"]),
    }
    after
}
