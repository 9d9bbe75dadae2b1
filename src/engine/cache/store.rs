//! Holds all caches and computes the observation of one run through indexes, never by a scan. (The traces of
//! a run that the journal does not know need one scan, when the run begins.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;

use super::index::{self, IndexKey};
use super::kind_cache::KindCache;
use super::subscriptions::Subscriptions;
use crate::cluster::ask::Asking;
use crate::cluster::kinds::{
    Backup, VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotClass, VolumeSnapshotContent,
};
use crate::cluster::{ObjectChange, observe};
use crate::domain::ids::ObjectId;
use crate::domain::labels;
use crate::domain::observed::{Observation, RestoreSeen, Scope, UnplannedVolume};
use crate::domain::plan::Plan;
use crate::machine::kit::Kind;

/// Contents of a run, by name.
pub type Contents<'a> = BTreeMap<String, &'a Arc<VolumeSnapshotContent>>;

#[derive(Debug, Default)]
pub struct Store {
    pub groups: KindCache<VolumeGroupSnapshot>,
    pub group_contents: KindCache<VolumeGroupSnapshotContent>,
    pub group_classes: KindCache<VolumeGroupSnapshotClass>,
    pub snapshots: KindCache<VolumeSnapshot>,
    pub contents: KindCache<VolumeSnapshotContent>,
    pub classes: KindCache<VolumeSnapshotClass>,
    pub claims: KindCache<PersistentVolumeClaim>,
    pub volumes: KindCache<PersistentVolume>,
    pub namespaces: KindCache<Namespace>,
    pub backups: KindCache<Backup>,
    /// ConfigMaps of Stillpoint's namespace that carry a journal id: the binding.
    pub bindings: KindCache<ConfigMap>,
    /// Only the GroupSnapshots that carry an operator's request.
    pub asking: KindCache<Asking>,
    /// Backups that cannot be decoded, by uid.
    pub malformed: BTreeMap<String, (ObjectId, String)>,
    pub subscriptions: Subscriptions,
}

impl Store {
    /// Applies the result of a call, and notifies the subscriptions of its index keys.
    pub fn upsert(&mut self, changed: ObjectChange) {
        let keys = match changed {
            ObjectChange::Group(object) => self.groups.upsert(object, 0),
            ObjectChange::GroupContent(object) => self.group_contents.upsert(object, 0),
            ObjectChange::Snapshot(object) => self.snapshots.upsert(object, 0),
            ObjectChange::Content(object) => self.contents.upsert(object, 0),
            ObjectChange::Backup(object) => self.backups.upsert(object, 0),
            ObjectChange::Uncached => return,
            ObjectChange::Gone(kind, ObjectId { namespace, name, uid }) => match kind {
                Kind::VolumeGroupSnapshot => self.groups.remove(&namespace, &name, &uid.0),
                Kind::VolumeGroupSnapshotContent => self.group_contents.remove(&namespace, &name, &uid.0),
                Kind::VolumeSnapshot => self.snapshots.remove(&namespace, &name, &uid.0),
                Kind::VolumeSnapshotContent => self.contents.remove(&namespace, &name, &uid.0),
                Kind::ConfigMap => return,
            },
        };
        self.subscriptions.notify(&keys);
    }

    /// Counters of which one differs whenever [`Self::keys`] can differ for the same scope.
    pub fn shape(&self) -> [u64; 3] {
        [self.groups.changes(), self.group_contents.changes(), self.contents.shapes()]
    }

    /// The index keys that can affect a run: its scope, and the snapshots that contents of its volumes name.
    pub fn keys(&self, scope: &Scope) -> Vec<IndexKey> {
        let mut keys = index::of_scope(scope);
        keys.extend(self.unplanned_volumes(scope).into_iter().cloned().map(IndexKey::Volume));
        keys.extend(self.contents_of(scope).values().map(|content| {
            let snapshot = &content.spec.volume_snapshot_ref;
            IndexKey::Snapshot(snapshot.namespace.clone(), snapshot.name.clone())
        }));
        keys.sort();
        keys.dedup();
        keys
    }

    /// Objects that only the journal of a run can have created.
    pub fn traces(&self, plan: &Plan) -> Vec<String> {
        let run = plan.run.to_string();
        let own =
            |meta: &ObjectMeta| meta.labels.as_ref().and_then(|labels| labels.get(labels::RUN)) == Some(&run);
        let named =
            |kind: &str, meta: &ObjectMeta| format!("{kind} {}", meta.name.clone().unwrap_or_default());
        let snapshots = self.snapshots.within(&plan.namespace).filter(|object| own(&object.metadata));
        let contents = self.contents.all().filter(|object| own(&object.metadata));
        let group_contents = self.group_contents.all().filter(|object| own(&object.metadata));
        (snapshots.map(|object| named("VolumeSnapshot", &object.metadata)))
            .chain(contents.map(|object| named("VolumeSnapshotContent", &object.metadata)))
            .chain(group_contents.map(|object| named("VolumeGroupSnapshotContent", &object.metadata)))
            .collect()
    }

    /// The cached state of one run.
    pub fn observe(&self, scope: &Scope, epoch: u64, fresh: bool) -> Observation {
        let claims =
            scope.members.iter().filter_map(|member| self.claims.get(&scope.namespace, &member.claim));
        let contents = self.contents_of(scope);
        let snapshots = self.snapshots_of(scope, &contents);
        let import = scope.import.as_ref().and_then(|name| self.group_contents.get("", name));
        Observation {
            epoch,
            journal: None,
            cluster: None,
            overtaken: self.groups.is_overtaken(&scope.run) || self.backups.is_overtaken(&scope.backup.0),
            fresh,
            group: self.groups.get(&scope.namespace, &scope.group_name).map(|group| observe::group(group)),
            content: self.group_content_of(scope).map(|content| observe::group_content(content)),
            stub: self.group_contents.get("", &scope.stub).map(|stub| observe::id(&stub.metadata)),
            import: import.map(|import| observe::group_content(import)),
            taken: self.is_taken(scope),
            snapshots: snapshots.values().map(|snapshot| observe::snapshot(snapshot)).collect(),
            contents: contents.values().map(|content| observe::content(content)).collect(),
            claims: claims.map(|claim| observe::claim(claim)).collect(),
            class_exists: self.classes.get("", &scope.snapshot_class).is_some(),
            group_class_missing: self.group_classes.get("", &scope.group_class).is_none(),
            error_since: None,
            namespace: self.namespaces.get("", &scope.namespace).map(|object| observe::namespace(object)),
            restores: self.restores_of(scope, snapshots.keys()),
            unplanned: self.unplanned_of(scope),
            progress_since: None,
        }
    }

    /// PVCs that are created from these snapshots and are not bound.
    fn restores_of<'a>(
        &self,
        scope: &Scope,
        snapshots: impl Iterator<Item = &'a String>,
    ) -> Vec<RestoreSeen> {
        let of = |name: &String| IndexKey::Restore(scope.namespace.clone(), name.clone());
        let claims = snapshots.map(of).flat_map(|key| self.claims.about(&key).collect::<Vec<_>>());
        claims.filter_map(|claim| observe::restore(claim)).collect()
    }

    /// Volumes that the group froze and that are not in the plan, with their PVCs.
    fn unplanned_of(&self, scope: &Scope) -> Vec<UnplannedVolume> {
        let claim_of = |handle: &String| {
            let mut volumes = self.volumes.about(&IndexKey::Disk(handle.clone()));
            let claim = volumes.find_map(|volume| volume.spec.as_ref()?.claim_ref.clone())?;
            claim.name.filter(|_| claim.namespace.as_ref() == Some(&scope.namespace))
        };
        let unplanned = self.unplanned_volumes(scope).into_iter();
        unplanned
            .map(|handle| UnplannedVolume { volume_handle: handle.clone(), claim: claim_of(handle) })
            .collect()
    }

    /// The content of the group: the one that names its uid, else the recorded one, else one that names the
    /// group and any uid. A content without a uid was imported, and does not bind to a group that the
    /// snapshot-controller cuts.
    pub fn group_content_of(&self, scope: &Scope) -> Option<&Arc<VolumeGroupSnapshotContent>> {
        let group = IndexKey::Group(scope.namespace.clone(), scope.group_name.clone());
        let present = self.groups.get(&scope.namespace, &scope.group_name);
        let recorded = scope.group_uid.as_ref().map(|uid| uid.0.as_str());
        let uid = recorded.or_else(|| present.and_then(|group| group.metadata.uid.as_deref()));
        let named: Vec<_> = self
            .group_contents
            .about(&group)
            .filter(|content| content.metadata.name.as_deref() != Some(scope.stub.as_str()))
            .filter(|content| content.spec.volume_group_snapshot_ref.uid.is_some())
            .collect();
        let by_uid = |content: &&&Arc<VolumeGroupSnapshotContent>| {
            uid.is_some() && content.spec.volume_group_snapshot_ref.uid.as_deref() == uid
        };
        let recorded = || scope.group_content.as_ref().and_then(|name| self.group_contents.get("", name));
        named.iter().find(by_uid).copied().or_else(recorded).or_else(|| named.first().copied())
    }

    /// Volumes that the group froze and that are not in the plan: their snapshots must be rolled back, too.
    fn unplanned_volumes(&self, scope: &Scope) -> Vec<&String> {
        let frozen =
            self.group_content_of(scope).and_then(|content| content.spec.source.volume_handles.as_ref());
        let Some(frozen) = frozen else { return Vec::new() };
        let planned: BTreeSet<&String> = scope.members.iter().map(|member| &member.volume_handle).collect();
        frozen.iter().filter(|handle| !planned.contains(handle)).collect()
    }

    /// Whether a content without the label of the run is imported by one of its handles.
    fn is_taken(&self, scope: &Scope) -> bool {
        let others =
            |meta: &ObjectMeta| meta.labels.as_ref().and_then(|all| all.get(labels::RUN)) != Some(&scope.run);
        scope.handles.iter().cloned().map(IndexKey::Handle).any(|handle| {
            self.contents.about(&handle).any(|content| others(&content.metadata))
                || self.group_contents.about(&handle).any(|content| others(&content.metadata))
        })
    }

    /// Contents of planned or frozen volumes whose snapshot is in the namespace, and those under recorded or
    /// computed names.
    pub fn contents_of(&self, scope: &Scope) -> Contents<'_> {
        let planned = scope.members.iter().map(|member| &member.volume_handle);
        let cut = planned
            .chain(self.unplanned_volumes(scope))
            .flat_map(|volume| self.contents.about(&IndexKey::Volume(volume.clone())))
            .filter(|content| content.spec.volume_snapshot_ref.namespace == scope.namespace);
        let names = scope.members.iter().flat_map(|member| member.content.iter().chain([&member.rebuilt]));
        let named = names.filter_map(|name| self.contents.get("", name));
        cut.chain(named).map(|content| (name_of(&content.metadata), content)).collect()
    }

    /// Snapshots that those contents name, that the group owns, that name the group, and those under recorded
    /// or computed names. `contents` are [those of the run](Self::contents_of).
    pub fn snapshots_of(
        &self,
        scope: &Scope,
        contents: &Contents<'_>,
    ) -> BTreeMap<String, &Arc<VolumeSnapshot>> {
        let present = self.groups.get(&scope.namespace, &scope.group_name);
        let uids = scope.group_uid.iter().map(|uid| uid.0.clone());
        let uids = uids.chain(present.and_then(|group| group.metadata.uid.clone()));
        let group = IndexKey::Group(scope.namespace.clone(), scope.group_name.clone());
        let about = uids.map(IndexKey::Owned).chain([group]);
        let mut found: BTreeMap<_, _> = about
            .flat_map(|key| self.snapshots.about(&key))
            .filter(|snapshot| snapshot.metadata.namespace.as_ref() == Some(&scope.namespace))
            .map(|snapshot| (name_of(&snapshot.metadata), snapshot))
            .collect();
        let bound = contents.values().map(|content| &content.spec.volume_snapshot_ref);
        let bound =
            bound.filter(|snapshot| snapshot.namespace == scope.namespace).map(|snapshot| &snapshot.name);
        let names = scope.members.iter().flat_map(|member| member.snapshot.iter().chain([&member.rebuilt]));
        for name in bound.chain(names) {
            found.extend(self.snapshots.get(&scope.namespace, name).map(|snapshot| (name.clone(), snapshot)));
        }
        found
    }
}

fn name_of(meta: &kube::core::ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}
