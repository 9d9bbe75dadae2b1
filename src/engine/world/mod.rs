//! The world: what Stillpoint knows of the cluster, fed by watches and by the answers to its own calls.
//!
//! Promises:
//! - [`World::observe`] costs the members of the run, whatever else is in the cluster.
//! - What a call brought back is in the next observation; an older event never takes it out again.
//! - A [`Subscription`] wakes a run when something changed that can matter to it, and not for the rest.
//! - Everything is in ordered maps: the same events in the same order give the same answers.
//!
//! A cache is a hint. What must be certain is read with [`World::refresh`] first.
//!
//! | module | holds |
//! |---|---|
//! | `cache` | one kind: order of looks, tombstones, relists |
//! | `topic` | what an object is about: index keys and wake-ups |
//! | `store` | all caches; the observation of a run |
//! | `wake` | who waits for what |
//! | `follow` | one watch for one cache |
//! | `told` | what lists and watches tell, read from their text |
//! | `refresh` | fresh reads |
//!
//! Deliberately not here: `error_since` of an observation (the engine has the clock), and any decision.

mod cache;
mod follow;
mod refresh;
mod store;
mod told;
mod topic;
mod wake;

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
use crate::cluster::{Adapter, Changed};
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::labels;
use crate::domain::names;
use crate::domain::observed::{Observation, Scope};
use crate::domain::plan::{BackupRef, Plan};
use crate::machine::group::Asked;

use cache::Cache;
use follow::Watch;
use store::Store;
use told::Unreadable;
use topic::{About, Topic};

pub use refresh::{Known, Unread};
pub use wake::Subscription;

/// What is known of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct World {
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

impl World {
    /// Starts to watch. Backups are watched in `own_namespace` only, everything else in the whole cluster. Where the
    /// group API is not served, its kinds are taken for empty. `epoch` is that of this life.
    pub fn start(adapter: &Adapter, own_namespace: &str, epoch: u64) -> (Self, Watches) {
        let world = Self::empty(own_namespace);
        world.store().groups.live_as(epoch);
        world.store().backups.live_as(epoch);
        let client = || adapter.client();
        let mut watches = Watches { tasks: JoinSet::new(), adapter: adapter.clone() };
        if let Ok(version) = adapter.group_version() {
            watches.add(&world, Api::all_with(client(), &version), |store| &mut store.groups);
            watches.add(&world, Api::all_with(client(), &version), |store| &mut store.group_contents);
            watches.add(&world, Api::all_with(client(), &version), |store| &mut store.group_classes);
        }
        watches.add(&world, Api::all(client()), |store| &mut store.snapshots);
        watches.add(&world, Api::all(client()), |store| &mut store.contents);
        watches.add(&world, Api::all(client()), |store| &mut store.classes);
        watches.add(&world, Api::all(client()), |store| &mut store.claims);
        watches.add(&world, Api::all(client()), |store| &mut store.volumes);
        watches.add(&world, Api::all(client()), |store| &mut store.namespaces);
        watches.add(&world, Api::namespaced(client(), own_namespace), |store| &mut store.backups);
        watches.add_beside(&world, Api::all(client()), labels::REQUEST, |store| &mut store.asking);
        let own = Api::namespaced(client(), own_namespace);
        watches.add_beside(&world, own, labels::JOURNAL, |store| &mut store.bindings);
        (world, watches)
    }

    fn empty(own_namespace: &str) -> Self {
        let mut store = Store::default();
        let (_, backups) = store.bells.hang(&[Topic::Backup]);
        let (_, binding) = store.bells.hang(&[Topic::Binding]);
        let (store, own_namespace) = (Mutex::new(store), own_namespace.to_owned());
        let missing = watch::Sender::new(0);
        Self { inner: Arc::new(Inner { store, backups, own_namespace, binding, missing }) }
    }

    /// Returns once every cache has seen a complete list.
    pub async fn synced(&self) {
        // The sender is ours, so that waiting cannot fail.
        let _ = self.inner.missing.subscribe().wait_for(|missing| *missing == 0).await;
    }

    /// What is known about one run. `fresh` is what the caller says of it: true right after [`World::refresh`].
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
    pub fn absorb(&self, changed: Changed) {
        self.store().absorb(changed);
    }

    /// Takes classes that were read from the API server at that version, so that a run which was planned with one of them
    /// finds it although the watch has not reported it yet.
    pub fn absorb_classes(&self, classes: &[VolumeSnapshotClass], as_of: u64) {
        let mut store = self.store();
        for class in classes {
            let topics = store.classes.absorb(Arc::new(class.clone()), as_of);
            store.bells.ring(&topics);
        }
    }

    /// Waits for what can matter to a run. Subscribe before you observe.
    pub fn subscribe(&self, scope: &Scope) -> Subscription {
        let mut store = self.store();
        let topics = store.topics(scope);
        let (id, bell) = store.bells.hang(&topics);
        Subscription { id, bell, world: self.clone(), hung: None }
    }

    /// Returns once a Backup has changed since it last returned. For one waiter: the queue.
    pub async fn backups_changed(&self) {
        self.inner.backups.notified().await;
    }

    /// Waits for changes of one Backup.
    pub fn subscribe_to_backup(&self, backup: &BackupRef) -> Subscription {
        let (id, bell) = self.store().bells.hang(&[Topic::BackupOf(backup.uid.0.clone())]);
        Subscription { id, bell, world: self.clone(), hung: None }
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
    pub fn asked(&self, plan: &Plan) -> Option<Result<Asked, String>> {
        let name = names::group_snapshot_projection(&plan.group, plan.run);
        let store = self.store();
        let shows = |object: &&Arc<Asking>| {
            let meta = &object.metadata;
            meta.namespace.as_ref() == Some(&plan.namespace) && meta.name.as_ref() == Some(&name)
        };
        let object = store.asking.about(&Topic::Asked(plan.run.to_string())).find(shows)?;
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
    fn feed<K: Resource + About>(&self, event: Event<K>, cache: fn(&mut Store) -> &mut Cache<K>) {
        let mut store = self.store();
        let before = cache(&mut store).is_synced();
        let topics = cache(&mut store).feed(event);
        store.bells.ring(&topics);
        if !before && cache(&mut store).is_synced() {
            self.inner.missing.send_modify(|missing| *missing = missing.saturating_sub(1));
        }
    }
}

impl World {
    /// Takes an object that cannot be read. What was known of it before stays, until it is deleted.
    fn feed_unreadable<K: Resource + About + 'static>(
        &self,
        unreadable: Unreadable,
        deleted: bool,
        cache: fn(&mut Store) -> &mut Cache<K>,
    ) {
        let mut store = self.store();
        let ObjectId { namespace, name, uid } = unreadable.id.clone();
        if deleted {
            let topics = cache(&mut store).bury(&namespace, &name, &uid.0);
            store.bells.ring(&topics);
            store.malformed.remove(&uid.0);
        } else if std::any::TypeId::of::<K>() == std::any::TypeId::of::<Backup>() {
            store.malformed.insert(uid.0, (unreadable.id, unreadable.error));
            store.bells.ring(&[Topic::Backup]);
        }
    }
}

impl Watches {
    fn add<K>(&mut self, world: &World, api: Api<K>, cache: fn(&mut Store) -> &mut Cache<K>)
    where
        K: Resource + About + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        world.inner.missing.send_modify(|missing| *missing += 1);
        self.tasks.spawn(Watch::new(self.adapter.clone(), api, world.clone(), cache, None).follow());
    }

    /// As `add`, of objects with these labels, and nobody waits for its first list: a daemon works also where it cannot be asked anything.
    fn add_beside<K>(
        &mut self,
        world: &World,
        api: Api<K>,
        labels: &'static str,
        cache: fn(&mut Store) -> &mut Cache<K>,
    ) where
        K: Resource + About + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        cache(&mut world.store()).take_for_synced();
        self.tasks.spawn(Watch::new(self.adapter.clone(), api, world.clone(), cache, Some(labels)).follow());
    }
}

#[cfg(test)]
mod reading;
#[cfg(test)]
mod tests;
