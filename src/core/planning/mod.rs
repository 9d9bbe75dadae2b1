//! Planning: from the request of a Backup and plain facts about the cluster to the plans of its group runs.
//!
//! Promises: the same request and the same facts give the same plans, in the same order. What cannot be planned is
//! refused here, before any effect and long before the pivot, with the reason, what was considered and the way out.
//! One refused group never stops the others. Nothing is planned as a single snapshot because the group did not work.
//!
//! | module | holds |
//! |---|---|
//! | [`inventory`] | the request, and what is known of claims, volumes, classes and namespaces |
//! | [`requested_features`] | fields of a Backup that this release refuses or ignores |
//! | `selection` | the PVCs of a request, and what is said of those that are left out |
//! | [`groups`] | claims to groups to plans |
//! | `members` | which claims can be cut together |
//! | `class` | which VolumeGroupSnapshotClass and VolumeSnapshotClass a group gets |
//!
//! Not here: how the facts are read (`cluster`), when they are read again (`engine`), selection by label selector,
//! wildcard or volume policy, and item blocks: this release refuses the Backups that need them.
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

/// Names that one sentence spells out before it says how many more there are.
const NAMES_IN_A_SENTENCE: usize = 6;
/// Bytes of them, but for the first: a text of [`MAX_TEXT_BYTES`](crate::domain::limits::MAX_TEXT_BYTES) has room for
/// what follows.
const BYTES_OF_NAMES: usize = 160;

/// Names in a sentence: `"a", "b" and 3 more`; `none` for no name.
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
    fn a_sentence_never_spells_out_a_hundred_names() {
        assert_eq!(listed([]), "none");
        assert_eq!(listed(["a", "b"]), r#""a", "b""#);
        assert!(listed(["x"; 100]).ends_with(" and 94 more"));
        let long = "n".repeat(253);
        assert!(listed([long.as_str(); 9]).ends_with("n\" and 8 more"));
    }
}
