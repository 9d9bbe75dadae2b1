//! The ledger: the storage compared with the API objects.
//!
//! It is the ground truth of drills and of the demo, and is computed from nothing but the driver's storage and the
//! objects: what a program under test believes does not enter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::actors::driver::Storage;
use super::actors::object;
use super::actors::strings::plural;
use super::api_server::ApiServer;

/// The name under which its reads are tallied.
const AGENT: &str = "ledger";

/// VolumeSnapshotContents by name.
type Contents<'a> = BTreeMap<&'a str, &'a Value>;

/// Counts, and what is behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Physical snapshots in the storage.
    pub physical_snapshots: usize,
    /// Physical snapshots that nobody can find from the objects: no VolumeSnapshotContent bound to a living
    /// VolumeSnapshot names them, and no living VolumeGroupSnapshotContent has their group.
    pub leaked: usize,
    /// Living VolumeSnapshots that say readyToUse with nothing in the storage behind them.
    pub phantom: usize,
    /// The things counted above.
    pub handles: Handles,
}

/// What the counts of a [`Ledger`] are made of, in order.
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
    /// Compares the two now.
    pub fn take(api: &ApiServer, storage: &Storage) -> Self {
        let caller = api.caller(AGENT);
        let list = |plural: &str| caller.all(plural).unwrap_or_default();
        let contents = list(plural::CONTENTS);
        let contents: Contents<'_> =
            contents.iter().map(|content| (object::name(content), content.as_ref())).collect();
        let mut snapshots = list(plural::SNAPSHOTS);
        snapshots.retain(|snapshot| !object::is_deleting(snapshot));
        // Handles of the contents that point at a living snapshot which points back.
        let named: BTreeSet<String> =
            snapshots.iter().filter_map(|snapshot| handle_behind(snapshot, &contents)).collect();
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
                && !handle_behind(snapshot, &contents).is_some_and(|handle| stored.contains(handle.as_str()))
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

/// The handle of a content, given or reported.
fn handle_of(content: &Value) -> Option<&str> {
    object::text(content, "/status/snapshotHandle").or(object::text(content, "/spec/source/snapshotHandle"))
}

/// The handle of the content that a snapshot is bound to, both ways.
fn handle_behind(snapshot: &Value, contents: &Contents<'_>) -> Option<String> {
    let content = contents.get(object::text(snapshot, "/status/boundVolumeSnapshotContentName")?)?;
    let points_back = object::text(content, "/spec/volumeSnapshotRef/uid") == Some(object::uid(snapshot));
    handle_of(content).filter(|_| points_back).map(str::to_owned)
}

/// Handles of the groups that a living content knows.
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
