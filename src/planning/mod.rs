//! Planning: from the request of a Backup and plain facts about the cluster to the plans of its group runs.
//!
//! Promises: the same request and the same facts give the same plans, in the same order. What cannot be planned is
//! refused here, before any effect and long before the pivot, with the reason, what was considered and the way out.
//! One refused group never stops the others. Nothing is planned as a single snapshot because the group did not work.
//!
//! | module | holds |
//! |---|---|
//! | [`facts`] | the request, and what is known of claims, volumes, classes and namespaces |
//! | [`asked`] | what this release refuses of a Backup as a whole |
//! | [`groups`] | claims to groups to plans |
//! | `members` | which claims can be cut together |
//! | `class` | which VolumeGroupSnapshotClass and VolumeSnapshotClass a group gets |
//!
//! Not here: how the facts are read (`cluster`), when they are read again (`engine`), selection by label selector,
//! wildcard or volume policy, and item blocks: this release refuses the Backups that need them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod asked;
mod class;
pub mod facts;
#[cfg(test)]
mod fixture;
pub mod groups;
mod members;

pub use asked::{Asked, validate};
pub use facts::{
    ClaimFact, ClaimRef, ClassFact, CsiVolume, Facts, GroupClassFact, NamespaceFact, Request,
    SnapshotClassFact, VolumeFact, label_key,
};
pub use groups::{Formed, RefusedGroup, form_groups};

/// Names that one sentence spells out before it says how many more there are.
const NAMES_IN_A_SENTENCE: usize = 6;

/// Names in a sentence: `"a", "b" and 3 more`; `none` for no name.
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.len() {
        0 => "none".to_owned(),
        n if n <= NAMES_IN_A_SENTENCE => quoted.join(", "),
        n => format!("{} and {} more", quoted[..NAMES_IN_A_SENTENCE].join(", "), n - NAMES_IN_A_SENTENCE),
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
    }
}
