//! Topics: what an object is about. They are index keys of the caches and the bells of the runs.

use crate::cluster::ask::Asking;
use crate::cluster::kinds::{
    Backup, VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotClass, VolumeSnapshotContent,
};
use crate::cluster::observe;
use crate::domain::labels;
use crate::domain::observed::Scope;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;

/// Something that a run or the Backup queue may care about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The VolumeGroupSnapshot under this namespace and name, and what refers to it by name.
    Group(String, String),
    /// What is owned by the VolumeGroupSnapshot with this uid.
    Owned(String),
    /// The VolumeGroupSnapshotContent of this name.
    GroupContent(String),
    /// The VolumeSnapshot under this namespace and name.
    Snapshot(String, String),
    /// The VolumeSnapshotContent of this name.
    Content(String),
    /// Snapshots of the volume with this CSI handle.
    Volume(String),
    /// What is imported by this CSI handle, of a snapshot or of a group of them.
    Handle(String),
    /// The VolumeSnapshotClass of this name.
    Class(String),
    /// The VolumeGroupSnapshotClass of this name.
    GroupClass(String),
    /// The Namespace of this name.
    Namespace(String),
    /// The PersistentVolumeClaim under this namespace and name.
    Claim(String, String),
    /// PersistentVolumeClaims that are made from the VolumeSnapshot under this namespace and name.
    Restore(String, String),
    /// The PersistentVolume with this CSI handle.
    Disk(String),
    /// What is asked of the run with this id.
    Asked(String),
    /// The binding of the journal.
    Binding,
    /// Any Backup.
    Backup,
    /// The Backup with this uid.
    BackupOf(String),
}

/// An object that is cached.
pub trait About {
    /// What it is about.
    fn topics(&self) -> Vec<Topic>;

    /// What is claimed, a run or a Backup by its uid, and the epoch that claims it; for kinds that are claimed.
    fn claim(&self) -> Option<(&str, u64)> {
        None
    }
}

fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

impl About for VolumeGroupSnapshot {
    fn topics(&self) -> Vec<Topic> {
        let (namespace, name) = key(&self.metadata);
        vec![Topic::Group(namespace, name)]
    }

    fn claim(&self) -> Option<(&str, u64)> {
        Some((self.metadata.labels.as_ref()?.get(labels::RUN)?, observe::epoch(&self.metadata)?))
    }
}

impl About for VolumeGroupSnapshotContent {
    fn topics(&self) -> Vec<Topic> {
        let group = &self.spec.volume_group_snapshot_ref;
        let mut topics = vec![
            Topic::GroupContent(key(&self.metadata).1),
            Topic::Group(group.namespace.clone(), group.name.clone()),
        ];
        let imported = self.spec.source.group_snapshot_handles.as_ref();
        topics.extend(imported.map(|handles| Topic::Handle(handles.volume_group_snapshot_handle.clone())));
        topics
    }
}

impl About for VolumeSnapshot {
    /// A member is about its group in three ways: by the owner's uid, by the owner's name, and by the name in its
    /// status. The release takes them away one after the other.
    fn topics(&self) -> Vec<Topic> {
        let (namespace, name) = key(&self.metadata);
        let mut topics = Vec::new();
        if let Some(group) =
            self.status.as_ref().and_then(|status| status.volume_group_snapshot_name.as_ref())
        {
            topics.push(Topic::Group(namespace.clone(), group.clone()));
        }
        for owner in self.metadata.owner_references.iter().flatten() {
            let group = owner.api_version.split('/').next().unwrap_or_default();
            if group == labels::GROUP_SNAPSHOT_API && owner.kind == "VolumeGroupSnapshot" {
                topics.push(Topic::Owned(owner.uid.clone()));
                topics.push(Topic::Group(namespace.clone(), owner.name.clone()));
            }
        }
        topics.push(Topic::Snapshot(namespace, name));
        topics
    }
}

impl About for VolumeSnapshotContent {
    fn topics(&self) -> Vec<Topic> {
        let snapshot = &self.spec.volume_snapshot_ref;
        let mut topics = vec![
            Topic::Content(key(&self.metadata).1),
            Topic::Snapshot(snapshot.namespace.clone(), snapshot.name.clone()),
        ];
        topics.extend(self.spec.source.volume_handle.clone().map(Topic::Volume));
        topics.extend(self.spec.source.snapshot_handle.clone().map(Topic::Handle));
        topics
    }
}

impl About for VolumeSnapshotClass {
    fn topics(&self) -> Vec<Topic> {
        vec![Topic::Class(key(&self.metadata).1)]
    }
}

impl About for VolumeGroupSnapshotClass {
    fn topics(&self) -> Vec<Topic> {
        vec![Topic::GroupClass(key(&self.metadata).1)]
    }
}

impl About for Namespace {
    fn topics(&self) -> Vec<Topic> {
        vec![Topic::Namespace(key(&self.metadata).1)]
    }
}

impl About for PersistentVolumeClaim {
    fn topics(&self) -> Vec<Topic> {
        let (namespace, name) = key(&self.metadata);
        let restored = observe::restored_from(self).map(str::to_owned);
        let restored = restored.map(|snapshot| Topic::Restore(namespace.clone(), snapshot));
        [Topic::Claim(namespace, name)].into_iter().chain(restored).collect()
    }
}

impl About for Asking {
    fn topics(&self) -> Vec<Topic> {
        let run = self.metadata.labels.as_ref().and_then(|labels| labels.get(labels::RUN));
        run.cloned().map(Topic::Asked).into_iter().collect()
    }
}

impl About for ConfigMap {
    fn topics(&self) -> Vec<Topic> {
        vec![Topic::Binding]
    }
}

impl About for Backup {
    fn topics(&self) -> Vec<Topic> {
        let uid = self.metadata.uid.clone().map(Topic::BackupOf);
        [Topic::Backup].into_iter().chain(uid).collect()
    }

    fn claim(&self) -> Option<(&str, u64)> {
        Some((self.metadata.uid.as_deref()?, observe::epoch(&self.metadata)?))
    }
}

/// A run whose group froze more than its plan asks whose it is.
impl About for PersistentVolume {
    fn topics(&self) -> Vec<Topic> {
        let csi = self.spec.as_ref().and_then(|spec| spec.csi.as_ref());
        csi.map(|csi| Topic::Disk(csi.volume_handle.clone())).into_iter().collect()
    }
}

/// What can matter to a run.
pub fn of_scope(scope: &Scope) -> Vec<Topic> {
    let namespaced = |name: &String| (scope.namespace.clone(), name.clone());
    let mut topics = vec![
        Topic::Group(scope.namespace.clone(), scope.group_name.clone()),
        Topic::GroupContent(scope.stub.clone()),
        Topic::GroupClass(scope.group_class.clone()),
        Topic::Class(scope.snapshot_class.clone()),
        Topic::Namespace(scope.namespace.clone()),
        Topic::Asked(scope.run.clone()),
        Topic::BackupOf(scope.backup.0.clone()),
    ];
    topics.extend(scope.group_content.clone().map(Topic::GroupContent));
    topics.extend(scope.import.clone().map(Topic::GroupContent));
    topics.extend(scope.handles.iter().cloned().map(Topic::Handle));
    topics.extend(scope.group_uid.as_ref().map(|uid| Topic::Owned(uid.0.clone())));
    for member in &scope.members {
        topics.extend(member.snapshot.clone().map(|name| Topic::Restore(scope.namespace.clone(), name)));
        let (namespace, claim) = namespaced(&member.claim);
        topics.push(Topic::Claim(namespace, claim));
        topics.push(Topic::Volume(member.volume_handle.clone()));
        for name in member.snapshot.iter().chain([&member.rebuilt]) {
            let (namespace, name) = namespaced(name);
            topics.push(Topic::Snapshot(namespace, name));
        }
        topics.extend(member.content.iter().chain([&member.rebuilt]).cloned().map(Topic::Content));
    }
    topics
}
