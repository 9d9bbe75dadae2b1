//! Injects planted defects: deliberate errors that the drills must detect.
//!
//! Planted defects exist only in a build with the feature `planted`, which does not build as a release. In
//! every other build `is` is a constant `false`, and the compiler removes the code. The caller of the drills
//! enables a defect. The drills themselves do not know that planted defects exist.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("the feature `planted` makes the service lose data on purpose: it is not for a release");

/// Name and description of each defect.
#[cfg(feature = "planted")]
pub const DEFECTS: &[(&str, &str)] = &[
    ("owners-first", "owners are stripped before the group's name is cleared"),
    ("as-source", "the as-source finalizer is left in place"),
    ("policies-unseen", "policies are not looked at before the delete"),
    ("undo-keeps-vgsc", "an undo leaves the VolumeGroupSnapshotContent"),
    ("content-first", "the VolumeGroupSnapshotContent is deleted before the VolumeGroupSnapshot"),
    ("early-delete", "the VolumeGroupSnapshot is deleted before its finalizers are there"),
    ("generated-names", "the VolumeGroupSnapshot has a name that the next life does not know"),
    ("counts", "frozen volumes are counted instead of compared"),
    ("unsynced", "effects begin before their intent is on the disk"),
    ("refused-504", "a create that was answered with 504 counts as refused"),
    ("undo-after-pivot", "a run is undone behind the pivot"),
    ("retain-forgotten", "an undo forgets what retains the storage"),
    ("deadline-first", "the deadline is looked at before the evidence"),
];

/// Whether this defect is enabled.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: &str) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use live::{choose, is};

#[cfg(feature = "planted")]
mod live {
    use std::sync::{PoisonError, RwLock};

    static CHOSEN: RwLock<Option<String>> = RwLock::new(None);

    /// Enables one defect or none, for the whole process.
    pub fn choose(defect: Option<&str>) {
        *CHOSEN.write().unwrap_or_else(PoisonError::into_inner) = defect.map(str::to_owned);
    }

    /// Whether this defect is enabled.
    pub fn is(defect: &str) -> bool {
        debug_assert!(super::DEFECTS.iter().any(|(name, _)| *name == defect), "{defect} is not in the list");
        CHOSEN.read().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(defect)
    }
}
