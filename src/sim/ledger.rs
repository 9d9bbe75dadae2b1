//! The ledger: compares the storage with the API objects.
//!
//! It is the ground truth of drills and of the demo. It is computed only from the driver's storage and the
//! objects, and never from the state of a program under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::actors::driver::Storage;
use super::actors::object;
use super::actors::strings::plural;
use super::api_server::ApiServer;

/// The agent name under which its reads are counted.
const AGENT: &str = "ledger";

/// VolumeSnapshotContents by name.
type Contents<'a> = BTreeMap<&'a str, &'a Value>;

/// Counts, and the items that they count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Physical snapshots in the storage.
    pub physical_snapshots: usize,
    /// Physical snapshots that cannot be found from the objects: no VolumeSnapshotContent that is bound to a
    /// non-terminating VolumeSnapshot names them, and no non-terminating VolumeGroupSnapshotContent has their
    /// group.
    pub leaked: usize,
    /// Non-terminating VolumeSnapshots with readyToUse but without a physical snapshot in the storage.
    pub phantom: usize,
    /// The counted items.
    pub handles: Handles,
}

/// The items that a [`Ledger`] counts, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Handles {
    /// Snapshot handles.
    pub physical_snapshots: Vec<String>,
    /// Snapshot handles.
    pub leaked: Vec<String>,
    /// VolumeSnapshots as `namespace/name`.
    pub phantom: Vec<String>,
}

impl Ledger {
    /// Compares the current storage with the current objects.
    pub fn take(api: &ApiServer, storage: &Storage) -> Self {
        let caller = api.caller(AGENT);
        let list = |plural: &str| caller.all(plural).unwrap_or_default();
        let contents = list(plural::CONTENTS);
        let contents: Contents<'_> =
            contents.iter().map(|content| (object::name(content), content.as_ref())).collect();
        let mut snapshots = list(plural::SNAPSHOTS);
        snapshots.retain(|snapshot| !object::is_deleting(snapshot));
        // Handles of contents that refer to a non-terminating snapshot which refers back.
        let named: BTreeSet<String> =
            snapshots.iter().filter_map(|snapshot| handle_of_snapshot(snapshot, &contents)).collect();
        let groups = group_handles(&list(plural::GROUP_CONTENTS));
        let physical = storage.physical_snapshots();

        let mut handles = Handles::default();
        for snapshot in &physical {
            let handle = &snapshot.snapshot_handle;
            handles.physical_snapshots.push(handle.clone());
            let in_group = snapshot.group_handle.as_ref().is_some_and(|group| groups.contains(group));
            if !in_group && !named.contains(handle) {
                handles.leaked.push(handle.clone());
            }
        }
        let stored: BTreeSet<&str> = handles.physical_snapshots.iter().map(String::as_str).collect();
        let is_phantom = |snapshot: &&Arc<Value>| {
            object::flag(snapshot, "/status/readyToUse") == Some(true)
                && !handle_of_snapshot(snapshot, &contents)
                    .is_some_and(|handle| stored.contains(handle.as_str()))
        };
        let phantom = snapshots.iter().filter(is_phantom).map(|snapshot| object::key(snapshot)).collect();
        handles.phantom = phantom;
        Self {
            physical_snapshots: handles.physical_snapshots.len(),
            leaked: handles.leaked.len(),
            phantom: handles.phantom.len(),
            handles,
        }
    }
}

/// The handle of a content, from its spec or its status.
fn handle_of(content: &Value) -> Option<&str> {
    object::text(content, "/status/snapshotHandle").or(object::text(content, "/spec/source/snapshotHandle"))
}

/// The handle of the content of a snapshot, if both refer to each other.
fn handle_of_snapshot(snapshot: &Value, contents: &Contents<'_>) -> Option<String> {
    let content = contents.get(object::text(snapshot, "/status/boundVolumeSnapshotContentName")?)?;
    let points_back = object::text(content, "/spec/volumeSnapshotRef/uid") == Some(object::uid(snapshot));
    handle_of(content).filter(|_| points_back).map(str::to_owned)
}

/// Handles of the groups of non-terminating contents.
fn group_handles(contents: &[Arc<Value>]) -> BTreeSet<String> {
    let given = "/spec/source/groupSnapshotHandles/volumeGroupSnapshotHandle";
    contents
        .iter()
        .filter(|content| !object::is_deleting(content))
        .filter_map(|content| {
            object::text(content, "/status/volumeGroupSnapshotHandle").or(object::text(content, given))
        })
        .map(str::to_owned)
        .collect()
}
