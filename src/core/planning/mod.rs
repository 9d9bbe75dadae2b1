//! Builds the plans of group runs from the request of a Backup and an inventory of the cluster.
//!
//! The same request and the same inventory give the same plans in the same order. A group that cannot be
//! planned is refused here, before any effect and long before the pivot, with the reason, the considered
//! objects and the fix. A refused group never stops the others. Planning never falls back to single
//! snapshots.
//!
//! | module | contents |
//! |---|---|
//! | [`inventory`] | the request, and the inventory of PVCs, volumes, classes and namespaces |
//! | [`requested_features`] | fields of a Backup that this release refuses or ignores |
//! | `selection` | the PVCs of a request, and the report on excluded ones |
//! | [`groups`] | builds groups from PVCs, and plans from groups |
//! | `members` | which PVCs can be cut together |
//! | `class` | which VolumeGroupSnapshotClass and VolumeSnapshotClass a group gets |
//!
//! Not here: reading the inventory (`cluster`), reading it again (`engine`), selection by label selector,
//! wildcard or volume policy, and item blocks. This release refuses Backups that need such selection or item
//! blocks.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod class;
#[cfg(test)]
mod fixture;
pub mod groups;
pub mod inventory;
mod members;
pub mod requested_features;
mod selection;

pub use groups::{Formed, RefusedGroup, form_groups};
pub use inventory::{
    ClaimRef, ClassInfo, CsiVolume, GroupClassInfo, Inventory, NamespaceInfo, PvInfo, PvcInfo, Request,
    SnapshotClassInfo, label_key,
};
pub use requested_features::{RequestedFeatures, ResourceList, ignored, validate};

/// Number of names in one message. The message has the number of the others.
const NAMES_IN_A_SENTENCE: usize = 6;
/// Bytes of these names, except the first. A text of
/// [`MAX_TEXT_BYTES`](crate::domain::limits::MAX_TEXT_BYTES) then has space for the rest of the message.
const BYTES_OF_NAMES: usize = 160;

/// Names in a message: `"a", "b" and 3 more`; `none` for an empty list.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let (mut text, mut shown, mut more) = (String::new(), 0, 0);
    for name in names {
        let fits = shown == 0 || text.len() + name.len() + 4 <= BYTES_OF_NAMES;
        if more > 0 || shown == NAMES_IN_A_SENTENCE || !fits {
            more += 1;
            continue;
        }
        let comma = if shown == 0 { "" } else { ", " };
        text.push_str(&format!("{comma}\"{name}\""));
        shown += 1;
    }
    match (shown, more) {
        (0, _) => "none".to_owned(),
        (_, 0) => text,
        _ => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_never_lists_a_hundred_names() {
        assert_eq!(listed([]), "none");
        assert_eq!(listed(["a", "b"]), r#""a", "b""#);
        assert!(listed(["x"; 100]).ends_with(" and 94 more"));
        let long = "n".repeat(253);
        assert!(listed([long.as_str(); 9]).ends_with("n\" and 8 more"));
    }
}
