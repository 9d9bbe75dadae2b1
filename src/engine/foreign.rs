//! Finds journals that have left objects in a cluster. A daemon whose binding is missing needs them.

use std::collections::BTreeSet;

use kube::core::metadata::PartialObjectMeta;

use crate::cluster::kinds::{
    Backup, GroupSnapshot, VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotContent,
};
use crate::cluster::{Adapter, observe};
use crate::domain::labels;
use crate::domain::problem::Problem;

/// Ids of the journals whose objects may belong to `namespace`. A journal whose GroupSnapshots all name
/// Backups of other namespaces belongs to another daemon, and is left out.
///
/// # Errors
/// `Unreachable` or `Refused`.
pub async fn journals(adapter: &Adapter, namespace: &str) -> Result<BTreeSet<String>, Problem> {
    // A Backup that cannot be decoded must not prevent the start of the daemon.
    let backups = adapter.list::<PartialObjectMeta<Backup>>(&(), namespace, "").await?;
    let mut here: BTreeSet<String> =
        backups.iter().filter_map(|backup| observe::journal(&backup.metadata)).collect();
    let mut found = BTreeSet::new();
    if let Ok(version) = adapter.group_version() {
        let groups = adapter.list::<VolumeGroupSnapshot>(&version, "", labels::JOURNAL).await?;
        found.extend(groups.iter().filter_map(|object| observe::journal(&object.metadata)));
        let contents = adapter.list::<VolumeGroupSnapshotContent>(&version, "", labels::JOURNAL).await?;
        found.extend(contents.iter().filter_map(|object| observe::journal(&object.metadata)));
    }
    let snapshots = adapter.list::<VolumeSnapshot>(&(), "", labels::JOURNAL).await?;
    found.extend(snapshots.iter().filter_map(|object| observe::journal(&object.metadata)));
    let contents = adapter.list::<VolumeSnapshotContent>(&(), "", labels::JOURNAL).await?;
    found.extend(contents.iter().filter_map(|object| observe::journal(&object.metadata)));
    let shown = adapter.list::<GroupSnapshot>(&(), "", labels::JOURNAL).await?;
    here.extend(found.into_iter().filter(|journal| !is_elsewhere(&shown, journal, namespace)));
    Ok(here)
}

fn is_elsewhere(shown: &[GroupSnapshot], journal: &str, namespace: &str) -> bool {
    let of_journal =
        shown.iter().filter(|shown| observe::journal(&shown.metadata).as_deref() == Some(journal));
    let namespaces: BTreeSet<&str> = of_journal
        .filter_map(|shown| shown.spec.backup_ref.as_ref())
        .map(|backup| backup.namespace.as_str())
        .collect();
    !namespaces.is_empty() && !namespaces.contains(namespace)
}
