//! Defines the index keys of cached objects. The caches index by them, and runs subscribe to them.

use crate::cluster::ask::Asking;
use crate::cluster::kinds::{
    Backup, VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotClass, VolumeSnapshotContent,
};
use crate::cluster::observe;
use crate::domain::ids::StreamId;
use crate::domain::labels;
use crate::domain::observed::Scope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;

/// Something that a run or the Backup queue may depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IndexKey {
    /// The VolumeGroupSnapshot under this namespace and name, and objects that refer to it by name.
    Group(String, String),
    /// Objects that the VolumeGroupSnapshot with this uid owns.
    Owned(String),
    GroupContent(String),
    /// The VolumeSnapshot under this namespace and name.
    Snapshot(String, String),
    Content(String),
    /// Snapshots of the volume with this CSI handle.
    Volume(String),
    /// Objects imported by this CSI handle, of a snapshot or of a group snapshot.
    Handle(String),
    Class(String),
    GroupClass(String),
    Namespace(String),
    /// The PersistentVolumeClaim under this namespace and name.
    Claim(String, String),
    /// PersistentVolumeClaims that are created from the VolumeSnapshot under this namespace and name.
    Restore(String, String),
    /// The PersistentVolume with this CSI handle.
    Disk(String),
    /// An operator's request to the run with this id.
    Asked(String),
    /// The binding of the journal.
    Binding,
    /// The end of the run with this id.
    Run(StreamId),
    /// Any Backup.
    Backup,
    /// The Backup with this uid.
    BackupOf(String),
}

/// An object that is cached.
pub trait Indexed {
    /// The index keys of the object.
    fn keys(&self) -> Vec<IndexKey>;

    /// The id that is claimed (a run, or a Backup by its uid) and the claiming epoch; for kinds that can be
    /// claimed.
    fn claim(&self) -> Option<(&str, u64)> {
        None
    }
}

fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl Indexed for VolumeGroupSnapshot {
    fn keys(&self) -> Vec<IndexKey> {
        let (namespace, name) = key(&self.metadata);
        vec![IndexKey::Group(namespace, name)]
    }

    fn claim(&self) -> Option<(&str, u64)> {
        Some((self.metadata.labels.as_ref()?.get(labels::RUN)?, observe::epoch(&self.metadata)?))
    }
}

impl Indexed for VolumeGroupSnapshotContent {
    fn keys(&self) -> Vec<IndexKey> {
        let group = &self.spec.volume_group_snapshot_ref;
        let mut keys = vec![
            IndexKey::GroupContent(key(&self.metadata).1),
            IndexKey::Group(group.namespace.clone(), group.name.clone()),
        ];
        let imported = self.spec.source.group_snapshot_handles.as_ref();
        keys.extend(imported.map(|handles| IndexKey::Handle(handles.volume_group_snapshot_handle.clone())));
        keys
    }
}

impl Indexed for VolumeSnapshot {
    /// A member refers to its group in three ways: by the owner's uid, by the owner's name, and by the name
    /// in its status. The release removes them one after the other.
    fn keys(&self) -> Vec<IndexKey> {
        let (namespace, name) = key(&self.metadata);
        let mut keys = Vec::new();
        if let Some(group) =
            self.status.as_ref().and_then(|status| status.volume_group_snapshot_name.as_ref())
        {
            keys.push(IndexKey::Group(namespace.clone(), group.clone()));
        }
        for owner in self.metadata.owner_references.iter().flatten() {
            let group = owner.api_version.split('/').next().unwrap_or_default();
            if group == labels::GROUP_SNAPSHOT_API && owner.kind == "VolumeGroupSnapshot" {
                keys.push(IndexKey::Owned(owner.uid.clone()));
                keys.push(IndexKey::Group(namespace.clone(), owner.name.clone()));
            }
        }
        keys.push(IndexKey::Snapshot(namespace, name));
        keys
    }
}

impl Indexed for VolumeSnapshotContent {
    fn keys(&self) -> Vec<IndexKey> {
        let snapshot = &self.spec.volume_snapshot_ref;
        let mut keys = vec![
            IndexKey::Content(key(&self.metadata).1),
            IndexKey::Snapshot(snapshot.namespace.clone(), snapshot.name.clone()),
        ];
        keys.extend(self.spec.source.volume_handle.clone().map(IndexKey::Volume));
        keys.extend(self.spec.source.snapshot_handle.clone().map(IndexKey::Handle));
        keys
    }
}

impl Indexed for VolumeSnapshotClass {
    fn keys(&self) -> Vec<IndexKey> {
        vec![IndexKey::Class(key(&self.metadata).1)]
    }
}

impl Indexed for VolumeGroupSnapshotClass {
    fn keys(&self) -> Vec<IndexKey> {
        vec![IndexKey::GroupClass(key(&self.metadata).1)]
    }
}

impl Indexed for Namespace {
    fn keys(&self) -> Vec<IndexKey> {
        vec![IndexKey::Namespace(key(&self.metadata).1)]
    }
}

impl Indexed for PersistentVolumeClaim {
    fn keys(&self) -> Vec<IndexKey> {
        let (namespace, name) = key(&self.metadata);
        let restored = observe::restored_from(self).map(str::to_owned);
        let restored = restored.map(|snapshot| IndexKey::Restore(namespace.clone(), snapshot));
        [IndexKey::Claim(namespace, name)].into_iter().chain(restored).collect()
    }
}

impl Indexed for Asking {
    fn keys(&self) -> Vec<IndexKey> {
        let run = self.metadata.labels.as_ref().and_then(|labels| labels.get(labels::RUN));
        run.cloned().map(IndexKey::Asked).into_iter().collect()
    }
}

impl Indexed for ConfigMap {
    fn keys(&self) -> Vec<IndexKey> {
        vec![IndexKey::Binding]
    }
}

impl Indexed for Backup {
    fn keys(&self) -> Vec<IndexKey> {
        let uid = self.metadata.uid.clone().map(IndexKey::BackupOf);
        [IndexKey::Backup].into_iter().chain(uid).collect()
    }

    fn claim(&self) -> Option<(&str, u64)> {
        Some((self.metadata.uid.as_deref()?, observe::epoch(&self.metadata)?))
    }
}

/// A run whose group froze more volumes than its plan looks up their PersistentVolumeClaims here.
impl Indexed for PersistentVolume {
    fn keys(&self) -> Vec<IndexKey> {
        let csi = self.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        csi.map(|csi| IndexKey::Disk(csi.volume_handle.clone())).into_iter().collect()
    }
}

/// The index keys that can affect a run.
pub fn of_scope(scope: &Scope) -> Vec<IndexKey> {
    let namespaced = |name: &String| (scope.namespace.clone(), name.clone());
    let mut keys = vec![
        IndexKey::Group(scope.namespace.clone(), scope.group_name.clone()),
        IndexKey::GroupContent(scope.stub.clone()),
        IndexKey::GroupClass(scope.group_class.clone()),
        IndexKey::Class(scope.snapshot_class.clone()),
        IndexKey::Namespace(scope.namespace.clone()),
        IndexKey::Asked(scope.run.clone()),
        IndexKey::BackupOf(scope.backup.0.clone()),
    ];
    keys.extend(scope.group_content.clone().map(IndexKey::GroupContent));
    keys.extend(scope.import.clone().map(IndexKey::GroupContent));
    keys.extend(scope.handles.iter().cloned().map(IndexKey::Handle));
    keys.extend(scope.group_uid.as_ref().map(|uid| IndexKey::Owned(uid.0.clone())));
    for member in &scope.members {
        keys.extend(member.snapshot.clone().map(|name| IndexKey::Restore(scope.namespace.clone(), name)));
        let (namespace, claim) = namespaced(&member.claim);
        keys.push(IndexKey::Claim(namespace, claim));
        keys.push(IndexKey::Volume(member.volume_handle.clone()));
        for name in member.snapshot.iter().chain([&member.rebuilt]) {
            let (namespace, name) = namespaced(name);
            keys.push(IndexKey::Snapshot(namespace, name));
        }
        keys.extend(member.content.iter().chain([&member.rebuilt]).cloned().map(IndexKey::Content));
    }
    keys
}
