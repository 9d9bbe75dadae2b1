//! Caches the state of the cluster that Stillpoint needs, from watches and from the answers to its own calls.
//!
//! Promises:
//! - [`Cache::observe`] costs time in proportion to the members of the run, whatever else is in the cluster.
//! - The next observation contains the result of a call; an older event never removes it.
//! - A [`Subscription`] wakes a run when a change can affect it, and not for other changes.
//! - All maps are ordered: the same events in the same order give the same results.
//!
//! A cache is a hint. State that must be certain is read with [`Cache::read_run`] first.
//!
//! | module | holds |
//! |---|---|
//! | `kind_cache` | one kind: order of versions, tombstones, relists |
//! | `index` | index keys of objects |
//! | `store` | all caches; the observation of a run |
//! | `subscriptions` | which run waits for which index keys |
//! | `watcher` | one watch for one cache |
//! | `decode` | list pages and watch events, decoded from their text |
//! | `fresh_read` | fresh reads |
//!
//! Not here: `error_since` of an observation (the engine has the clock), and any decision.

mod decode;
mod fresh_read;
mod index;
mod kind_cache;
mod store;
mod subscriptions;
mod watcher;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::cluster::ask::{self, Asking};
use crate::cluster::binding;
use crate::cluster::kinds::{Backup, VolumeGroupSnapshotClass, VolumeSnapshotClass};
use crate::cluster::{Adapter, ObjectChange};
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::labels;
use crate::domain::names;
use crate::domain::observed::{Observation, Scope};
use crate::domain::plan::{BackupRef, Plan};
use crate::machine::kit::OperatorRequest;

use decode::Unreadable;
pub use index::IndexKey;
use index::Indexed;
use kind_cache::KindCache;
use store::Store;
use watcher::Watch;

pub use fresh_read::{MinVersions, ReadError};
pub use subscriptions::Subscription;

/// The cached state of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    store: Mutex<Store>,
    backups: Arc<Notify>,
    own_namespace: String,
    binding: Arc<Notify>,
    /// Number of watches without a complete first list.
    missing: watch::Sender<usize>,
}

/// The watches; they end when this is dropped.
#[must_use]
pub struct Watches {
    tasks: JoinSet<()>,
    adapter: Adapter,
}

impl Cache {
    /// Starts the watches. Backups are watched in `own_namespace` only, everything else in the whole cluster.
    /// Where the group API is not served, the caches of its kinds stay empty and count as synced. `epoch` is
    /// that of this incarnation.
    pub fn start(adapter: &Adapter, own_namespace: &str, epoch: u64) -> (Self, Watches) {
        let cache = Self::empty(own_namespace);
        cache.store().groups.live_as(epoch);
        cache.store().backups.live_as(epoch);
        let client = || adapter.client();
        let mut watches = Watches { tasks: JoinSet::new(), adapter: adapter.clone() };
        if let Ok(version) = adapter.group_version() {
            watches.add(&cache, Api::all_with(client(), &version), |store| &mut store.groups);
            watches.add(&cache, Api::all_with(client(), &version), |store| &mut store.group_contents);
            watches.add(&cache, Api::all_with(client(), &version), |store| &mut store.group_classes);
        }
        watches.add(&cache, Api::all(client()), |store| &mut store.snapshots);
        watches.add(&cache, Api::all(client()), |store| &mut store.contents);
        watches.add(&cache, Api::all(client()), |store| &mut store.classes);
        watches.add(&cache, Api::all(client()), |store| &mut store.claims);
        watches.add(&cache, Api::all(client()), |store| &mut store.volumes);
        watches.add(&cache, Api::all(client()), |store| &mut store.namespaces);
        watches.add(&cache, Api::namespaced(client(), own_namespace), |store| &mut store.backups);
        watches.add_beside(&cache, Api::all(client()), labels::REQUEST, |store| &mut store.asking);
        let own = Api::namespaced(client(), own_namespace);
        watches.add_beside(&cache, own, labels::JOURNAL, |store| &mut store.bindings);
        (cache, watches)
    }

    fn empty(own_namespace: &str) -> Self {
        let mut store = Store::default();
        let (_, backups) = store.subscriptions.subscribe(&[IndexKey::Backup]);
        let (_, binding) = store.subscriptions.subscribe(&[IndexKey::Binding]);
        let (store, own_namespace) = (Mutex::new(store), own_namespace.to_owned());
        let missing = watch::Sender::new(0);
        Self { inner: Arc::new(Inner { store, backups, own_namespace, binding, missing }) }
    }

    /// Returns once every cache has received a complete list.
    pub async fn synced(&self) {
        // `self` holds the sender, so the wait cannot fail.
        let _ = self.inner.missing.subscribe().wait_for(|missing| *missing == 0).await;
    }

    /// The cached state of one run. The caller states whether it is `fresh`: true right after
    /// [`Cache::read_run`].
    pub fn observe(&self, scope: &Scope, epoch: u64, fresh: bool) -> Observation {
        self.store().observe(scope, epoch, fresh)
    }

    /// Objects that only the journal of a run can have created, by kind and name: members and contents that
    /// carry its label, contents of its group. Its VolumeGroupSnapshot alone does not count: the run adopts
    /// it.
    pub fn traces(&self, plan: &Plan) -> Vec<String> {
        self.store().traces(plan)
    }

    /// Runs whose VolumeGroupSnapshot, or its content, is in the cluster, by their labels.
    pub fn runs_with_group(&self) -> BTreeSet<StreamId> {
        let store = self.store();
        let groups = store.groups.all().map(|object| &object.metadata);
        let contents = store.group_contents.all().map(|object| &object.metadata);
        let run = |meta: &ObjectMeta| meta.labels.as_ref()?.get(labels::RUN)?.parse().ok();
        groups.chain(contents).filter_map(run).collect()
    }

    /// Applies the result of a call.
    pub fn upsert(&self, changed: ObjectChange) {
        self.store().upsert(changed);
    }

    /// Applies classes that were read from the API server at that version. A run that was planned with one of
    /// them then finds it although the watch has not delivered it yet.
    pub fn upsert_classes(&self, classes: &[VolumeSnapshotClass], as_of: u64) {
        let mut store = self.store();
        for class in classes {
            let keys = store.classes.upsert(Arc::new(class.clone()), as_of);
            store.subscriptions.notify(&keys);
        }
    }

    /// Subscribes to changes that can affect a run. Subscribe before you observe.
    pub fn subscribe(&self, scope: &Scope) -> Subscription {
        let mut store = self.store();
        let keys = store.keys(scope);
        let (id, notify) = store.subscriptions.subscribe(&keys);
        Subscription { id, notify, cache: self.clone(), interest: None }
    }

    /// Returns once a Backup has changed since the last return. Supports one waiter: the queue.
    pub async fn backups_changed(&self) {
        self.inner.backups.notified().await;
    }

    /// Subscribes to changes of these index keys.
    pub fn subscribe_to_keys(&self, keys: &[IndexKey]) -> Subscription {
        let (id, notify) = self.store().subscriptions.subscribe(keys);
        Subscription { id, notify, cache: self.clone(), interest: None }
    }

    /// Notifies the subscriptions to the end of a run.
    pub fn run_ended(&self, run: StreamId) {
        self.store().subscriptions.notify(&[IndexKey::Run(run)]);
    }

    /// Whether a Backup was deleted, or is being deleted. A Backup that cannot be decoded exists. The state
    /// of a Backup in another namespace, as an earlier daemon may have had, is unknown.
    pub fn backup_is_deleted(&self, backup: &BackupRef) -> bool {
        if backup.namespace != self.inner.own_namespace {
            return false;
        }
        let store = self.store();
        let known = store.backups.get(&backup.namespace, &backup.name);
        let known = known.filter(|known| known.metadata.uid.as_deref() == Some(&backup.uid.0));
        match known {
            Some(known) => known.metadata.deletion_timestamp.is_some(),
            None => !store.malformed.contains_key(&backup.uid.0),
        }
    }

    /// Returns once the binding has changed since the last return. Supports one waiter: the guard of the
    /// binding.
    pub async fn binding_changed(&self) {
        self.inner.binding.notified().await;
    }

    /// The cached binding.
    pub fn binding(&self) -> Option<Arc<ConfigMap>> {
        self.store().bindings.all().find(|object| binding::is_binding(object)).cloned()
    }

    /// The Backups of Stillpoint's namespace, in the order of their names.
    pub fn backups(&self) -> Vec<Arc<Backup>> {
        self.store().backups.all().cloned().collect()
    }

    /// Backups of Stillpoint's namespace that cannot be decoded, with the reason, in the order of their uids.
    pub fn malformed_backups(&self) -> Vec<(ObjectId, String)> {
        self.store().malformed.values().cloned().collect()
    }

    /// A Backup of Stillpoint's namespace.
    pub fn backup(&self, namespace: &str, name: &str) -> Option<Arc<Backup>> {
        self.store().backups.get(namespace, name).cloned()
    }

    /// The operator's request on the GroupSnapshot of a run. An error is a sentence for the log.
    pub fn asked(&self, plan: &Plan) -> Option<Result<OperatorRequest, String>> {
        let name = names::group_snapshot_projection(&plan.group, plan.run);
        let store = self.store();
        let shows = |object: &&Arc<Asking>| {
            let meta = &object.metadata;
            meta.namespace.as_ref() == Some(&plan.namespace) && meta.name.as_ref() == Some(&name)
        };
        let object = store.asking.about(&IndexKey::Asked(plan.run.to_string())).find(shows)?;
        ask::read(&object.metadata)
    }

    /// The PVCs of a namespace, in the order of their names.
    pub fn claims(&self, namespace: &str) -> Vec<Arc<PersistentVolumeClaim>> {
        self.store().claims.within(namespace).cloned().collect()
    }

    pub fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.store().volumes.get("", name).cloned()
    }

    /// All VolumeGroupSnapshotClasses, in the order of their names.
    pub fn group_classes(&self) -> Vec<Arc<VolumeGroupSnapshotClass>> {
        self.store().group_classes.all().cloned().collect()
    }

    /// All VolumeSnapshotClasses, in the order of their names.
    pub fn snapshot_classes(&self) -> Vec<Arc<VolumeSnapshotClass>> {
        self.store().classes.all().cloned().collect()
    }

    /// All namespaces, in the order of their names.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.store().namespaces.all().cloned().collect()
    }

    /// Ignores poisoning: every change is one insert or remove, so a thread that panicked left whole objects
    /// behind.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.inner.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a watch event.
    fn apply<K: Resource + Indexed>(&self, event: Event<K>, kind_cache: fn(&mut Store) -> &mut KindCache<K>) {
        let mut store = self.store();
        let before = kind_cache(&mut store).is_synced();
        let keys = kind_cache(&mut store).apply(event);
        store.subscriptions.notify(&keys);
        if !before && kind_cache(&mut store).is_synced() {
            self.inner.missing.send_modify(|missing| *missing = missing.saturating_sub(1));
        }
    }
}

impl Cache {
    /// Applies an object that cannot be decoded. Its last good version stays until it is deleted.
    fn apply_unreadable<K: Resource + Indexed + 'static>(
        &self,
        unreadable: Unreadable,
        deleted: bool,
        kind_cache: fn(&mut Store) -> &mut KindCache<K>,
    ) {
        let mut store = self.store();
        let ObjectId { namespace, name, uid } = unreadable.id.clone();
        if deleted {
            let keys = kind_cache(&mut store).remove(&namespace, &name, &uid.0);
            store.subscriptions.notify(&keys);
            store.malformed.remove(&uid.0);
        } else if std::any::TypeId::of::<K>() == std::any::TypeId::of::<Backup>() {
            store.malformed.insert(uid.0, (unreadable.id, unreadable.error));
            store.subscriptions.notify(&[IndexKey::Backup]);
        }
    }
}

impl Watches {
    fn add<K>(&mut self, cache: &Cache, api: Api<K>, kind_cache: fn(&mut Store) -> &mut KindCache<K>)
    where
        K: Resource + Indexed + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        cache.inner.missing.send_modify(|missing| *missing += 1);
        self.tasks.spawn(Watch::new(self.adapter.clone(), api, cache.clone(), kind_cache, None).follow());
    }

    /// As `add`, for objects with these labels, and without a wait for the first list: the daemon also works
    /// where it cannot receive operator requests.
    fn add_beside<K>(
        &mut self,
        cache: &Cache,
        api: Api<K>,
        labels: &'static str,
        kind_cache: fn(&mut Store) -> &mut KindCache<K>,
    ) where
        K: Resource + Indexed + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        kind_cache(&mut cache.store()).take_for_synced();
        self.tasks
            .spawn(Watch::new(self.adapter.clone(), api, cache.clone(), kind_cache, Some(labels)).follow());
    }
}

#[cfg(test)]
mod reading_tests;
#[cfg(test)]
mod tests;
