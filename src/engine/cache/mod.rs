//! The world: what Stillpoint knows of the cluster, fed by watches and by the answers to its own calls.
//!
//! Promises:
//! - [`Cache::observe`] costs the members of the run, whatever else is in the cluster.
//! - What a call brought back is in the next observation; an older event never takes it out again.
//! - A [`Subscription`] wakes a run when something changed that can matter to it, and not for the rest.
//! - Everything is in ordered maps: the same events in the same order give the same answers.
//!
//! A cache is a hint. What must be certain is read with [`Cache::read_run`] first.
//!
//! | module | holds |
//! |---|---|
//! | `kind_cache` | one kind: order of looks, tombstones, relists |
//! | `key` | what an object is about: index keys and wake-ups |
//! | `store` | all caches; the observation of a run |
//! | `wake` | who waits for what |
//! | `follow` | one watch for one cache |
//! | `told` | what lists and watches tell, read from their text |
//! | `refresh` | fresh reads |
//!
//! Deliberately not here: `error_since` of an observation (the engine has the clock), and any decision.

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
use crate::machine::group::OperatorRequest;

use decode::Unreadable;
use index::{IndexKey, Indexed};
use kind_cache::KindCache;
use store::Store;
use watcher::Watch;

pub use fresh_read::{MinVersions, ReadError};
pub use subscriptions::Subscription;

/// What is known of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    store: Mutex<Store>,
    backups: Arc<Notify>,
    own_namespace: String,
    binding: Arc<Notify>,
    /// Watches that have not listed everything yet.
    missing: watch::Sender<usize>,
}

/// The watches; they end when this is dropped.
#[must_use]
pub struct Watches {
    tasks: JoinSet<()>,
    adapter: Adapter,
}

impl Cache {
    /// Starts to watch. Backups are watched in `own_namespace` only, everything else in the whole cluster. Where the
    /// group API is not served, its kinds are taken for empty. `epoch` is that of this life.
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

    /// Returns once every cache has seen a complete list.
    pub async fn synced(&self) {
        // The sender is ours, so that waiting cannot fail.
        let _ = self.inner.missing.subscribe().wait_for(|missing| *missing == 0).await;
    }

    /// What is known about one run. `fresh` is what the caller says of it: true right after [`Cache::read_run`].
    pub fn observe(&self, scope: &Scope, epoch: u64, fresh: bool) -> Observation {
        self.store().observe(scope, epoch, fresh)
    }

    /// Objects of a run that only its journal can have led to, by kind and name: members and contents that carry its
    /// label, contents of its group. Its VolumeGroupSnapshot alone is none: that is adopted.
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

    /// Takes what a call brought back.
    pub fn upsert(&self, changed: ObjectChange) {
        self.store().upsert(changed);
    }

    /// Takes classes that were read from the API server at that version, so that a run which was planned with one of them
    /// finds it although the watch has not reported it yet.
    pub fn upsert_classes(&self, classes: &[VolumeSnapshotClass], as_of: u64) {
        let mut store = self.store();
        for class in classes {
            let keys = store.classes.upsert(Arc::new(class.clone()), as_of);
            store.subscriptions.notify(&keys);
        }
    }

    /// Waits for what can matter to a run. Subscribe before you observe.
    pub fn subscribe(&self, scope: &Scope) -> Subscription {
        let mut store = self.store();
        let keys = store.keys(scope);
        let (id, notify) = store.subscriptions.subscribe(&keys);
        Subscription { id, notify, cache: self.clone(), interest: None }
    }

    /// Returns once a Backup has changed since it last returned. For one waiter: the queue.
    pub async fn backups_changed(&self) {
        self.inner.backups.notified().await;
    }

    /// Waits for changes of one Backup.
    pub fn subscribe_to_backup(&self, backup: &BackupRef) -> Subscription {
        let (id, notify) = self.store().subscriptions.subscribe(&[IndexKey::BackupOf(backup.uid.0.clone())]);
        Subscription { id, notify, cache: self.clone(), interest: None }
    }

    /// Whether a Backup was deleted, or is being deleted. One that cannot be read exists; of one in another namespace
    /// than ours, as an earlier daemon may have had, nothing is known.
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

    /// Returns once the binding has changed since it last returned. For one waiter: its guard.
    pub async fn binding_changed(&self) {
        self.inner.binding.notified().await;
    }

    /// The binding as the watch knows it.
    pub fn binding(&self) -> Option<Arc<ConfigMap>> {
        self.store().bindings.all().find(|object| binding::is_binding(object)).cloned()
    }

    /// The Backups of Stillpoint's namespace, in the order of their names.
    pub fn backups(&self) -> Vec<Arc<Backup>> {
        self.store().backups.all().cloned().collect()
    }

    /// Backups of Stillpoint's namespace that cannot be read, with the reason, in the order of their uids.
    pub fn malformed_backups(&self) -> Vec<(ObjectId, String)> {
        self.store().malformed.values().cloned().collect()
    }

    /// A Backup of Stillpoint's namespace.
    pub fn backup(&self, namespace: &str, name: &str) -> Option<Arc<Backup>> {
        self.store().backups.get(namespace, name).cloned()
    }

    /// What a person asks of a run, on the GroupSnapshot that shows it; an error is a sentence for the log.
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

    /// The claims of a namespace, in the order of their names.
    pub fn claims(&self, namespace: &str) -> Vec<Arc<PersistentVolumeClaim>> {
        self.store().claims.within(namespace).cloned().collect()
    }

    /// A volume.
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

    /// A holder of the lock that panicked has left whole objects behind: every change is one insert or remove.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.inner.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event of a watch.
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
    /// Takes an object that cannot be read. What was known of it before stays, until it is deleted.
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

    /// As `add`, of objects with these labels, and nobody waits for its first list: a daemon works also where it cannot be asked anything.
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
