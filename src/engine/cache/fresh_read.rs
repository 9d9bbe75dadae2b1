//! Reads the objects of one run from the API server and applies them to the caches.
//!
//! An object whose name is known is read by its name: a get without a resourceVersion is a quorum read of
//! etcd and takes about 1 ms. A consistent list is answered from the watch cache of the API server after the
//! next progress notification, 60 to 76 ms later. It is used only where a name is not known:
//!
//! | objects | read |
//! |---|---|
//! | VolumeGroupSnapshot, stub, import | by their computed names |
//! | VolumeGroupSnapshotContent | by the recorded or cached name, else by a list: it may be created late |
//! | Namespace and VolumeGroupSnapshotClass, until there is a receipt | by their names |
//! | members with the label of the run | by the names in the receipt; lost ones by their rebuilt names |
//! | members before that, and in a rollback | by a list of the VolumeSnapshots there, the rest by name |
//! | contents that others imported by its handles | by a list, where only an import could free the storage |
//!
//! The group is read first, then its contents, then all members concurrently (at most
//! [`limits::READS_IN_ALL`] reads of all runs).
//!
//! **Guarantees of a fresh read.** By contract such reads are never stale. Behind an etcd member that lagged,
//! or because of a bug, they were (kubernetes/kubernetes#59848). A list states which version of the store it
//! shows. A list older than the newest version known when the read began is rejected, and the read is
//! repeated until the API server has caught up. A get states only the version of its object. Its answer is
//! accepted if it agrees with the cache: an object that is not older than the cached one, an object that is
//! newer than every version that the watch has delivered, or 404 if the cache has no object either. Any other
//! answer is verified by a list of that one name, which can be compared with the known version. Versions of
//! one resource can be compared as numbers (KEP-5504). A version that is not a number is accepted without a
//! comparison.
//!
//! SUBTLE: a 404 removes only the object that the cache had under that name *before* the request. While the
//! answer is on its way, the watch may deliver a new object of that name.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;

use super::Cache;
use super::index::Indexed;
use super::kind_cache::KindCache;
use super::store::Store;
use crate::cluster::Adapter;
use crate::cluster::kinds::{
    VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotContent,
};
use crate::cluster::read::{Listed, Selected};
use crate::domain::ids::Uid;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::names;
use crate::domain::observed::{Scope, ScopeMember};
use crate::domain::problem::{Code, Problem};

/// The version of the group API that is used.
type GroupApi = <VolumeGroupSnapshot as Resource>::DynamicType;

/// How objects of one kind are read and cached.
struct KindReader<'a, K: Resource> {
    dynamic: &'a K::DynamicType,
    namespace: &'a str,
    kind_cache: fn(&mut Store) -> &mut KindCache<K>,
    /// Minimum version of a list.
    known: u64,
}

/// The readers of all kinds of a run.
struct KindReaders<'a> {
    groups: KindReader<'a, VolumeGroupSnapshot>,
    group_contents: KindReader<'a, VolumeGroupSnapshotContent>,
    snapshots: KindReader<'a, VolumeSnapshot>,
    contents: KindReader<'a, VolumeSnapshotContent>,
    namespaces: KindReader<'a, Namespace>,
    group_classes: KindReader<'a, VolumeGroupSnapshotClass>,
}

/// The cached object under a name before the request was sent.
struct Cached {
    object: Option<(Uid, Option<u64>)>,
    /// Newest version that the watch had delivered.
    delivered: u64,
}

/// The newest known version of each kind: the minimum for a read that begins now.
#[derive(Debug, Clone, Copy, Default)]
pub struct MinVersions {
    groups: u64,
    group_contents: u64,
    snapshots: u64,
    contents: u64,
}

/// Why a read failed. The caller must conclude nothing from the caches then.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A read failed.
    #[error(transparent)]
    Failed(#[from] Problem),
    /// A read showed a state older than the known one.
    #[error("{kind} were read as of version {read}, and version {known} was known before")]
    Behind {
        kind: String,
        /// Version of the answer.
        read: u64,
        /// Version that was known before.
        known: u64,
    },
    /// The journal cannot be read: the daemon ends.
    #[error("{0}")]
    Journal(Problem),
}

impl<'a> KindReaders<'a> {
    fn new(version: &'a GroupApi, scope: &'a Scope, known: &MinVersions) -> Self {
        Self {
            groups: KindReader {
                dynamic: version,
                namespace: &scope.namespace,
                kind_cache: |store| &mut store.groups,
                known: known.groups,
            },
            group_contents: KindReader {
                dynamic: version,
                namespace: "",
                kind_cache: |store| &mut store.group_contents,
                known: known.group_contents,
            },
            snapshots: KindReader {
                dynamic: &(),
                namespace: &scope.namespace,
                kind_cache: |store| &mut store.snapshots,
                known: known.snapshots,
            },
            contents: KindReader {
                dynamic: &(),
                namespace: "",
                kind_cache: |store| &mut store.contents,
                known: known.contents,
            },
            namespaces: KindReader {
                dynamic: &(),
                namespace: "",
                kind_cache: |store| &mut store.namespaces,
                known: 0,
            },
            group_classes: KindReader {
                dynamic: version,
                namespace: "",
                kind_cache: |store| &mut store.group_classes,
                known: 0,
            },
        }
    }
}

impl Cached {
    /// Whether the answer of the API server is consistent with the cached object.
    fn agrees(&self, read: Option<&ObjectMeta>) -> bool {
        match (read, &self.object) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(read), Some((_, cached))) => match (version(read), cached) {
                (Some(read), Some(cached)) => read >= *cached,
                _ => true,
            },
            (Some(read), None) => version(read).is_none_or(|read| read > self.delivered),
        }
    }
}

impl Cache {
    /// The versions that are known now. The caller takes them when a read begins and keeps them until it
    /// succeeds. With new ones for each attempt, an API server that lags behind busy controllers would never
    /// be recent enough.
    pub fn min_versions(&self) -> MinVersions {
        let store = self.store();
        MinVersions {
            groups: store.groups.newest(),
            group_contents: store.group_contents.newest(),
            snapshots: store.snapshots.newest(),
            contents: store.contents.newest(),
        }
    }

    /// Reads all objects of a run from a state that is not older than `known`. Objects that return 404 are
    /// removed from the cache.
    ///
    /// # Errors
    /// The first read that failed or was stale. The caller must conclude nothing from the caches then.
    pub async fn read_run(
        &self,
        adapter: &Adapter,
        scope: &Scope,
        known: &MinVersions,
    ) -> Result<(), ReadError> {
        let version = adapter.group_version()?;
        let readers = KindReaders::new(&version, scope, known);
        let unbound: BTreeSet<_> = scope.import.iter().chain([&scope.stub]).cloned().collect();
        let unbound = self.read_all(adapter, &readers.group_contents, unbound);
        // The group first and the members last: a conclusion from a missing group must hold for members that
        // were read after it. The content is found by the uid of the group, and members by the volumes that
        // it froze.
        self.read(adapter, &readers.groups, &scope.group_name).await?;
        let content = self.refresh_group_content(adapter, &readers, scope);
        if are_recorded(scope) {
            futures::try_join!(unbound, content)?;
            return self.refresh_recorded(adapter, &readers, scope).await;
        }
        let listed = self.list_all(adapter, &readers.snapshots);
        let ground = self.refresh_ground(adapter, &readers, scope);
        let ((), (), (), listed) = futures::try_join!(unbound, content, ground, listed)?;
        self.refresh_found(adapter, &readers, scope, &listed).await
    }

    /// Before the receipt, a change of its namespace or class can end a run.
    async fn refresh_ground(
        &self,
        adapter: &Adapter,
        readers: &KindReaders<'_>,
        scope: &Scope,
    ) -> Result<(), ReadError> {
        if scope.members.iter().any(|member| member.content.is_some()) {
            return Ok(());
        }
        let namespace = self.read(adapter, &readers.namespaces, &scope.namespace);
        // A class may be newer than the cache of classes.
        let class = self.read(adapter, &readers.group_classes, &scope.group_class);
        futures::try_join!(namespace, class).map(drop)
    }

    async fn refresh_group_content(
        &self,
        adapter: &Adapter,
        readers: &KindReaders<'_>,
        scope: &Scope,
    ) -> Result<(), ReadError> {
        let cached = self.store().group_content_of(scope).and_then(|content| content.metadata.name.clone());
        let known: BTreeSet<_> = scope.group_content.iter().cloned().chain(cached).collect();
        if known.is_empty() {
            return self.list_all(adapter, &readers.group_contents).await.map(drop);
        }
        self.read_all(adapter, &readers.group_contents, known).await
    }

    /// Members whose names are in the receipt. For lost members, the rebuilt ones.
    async fn refresh_recorded(
        &self,
        adapter: &Adapter,
        readers: &KindReaders<'_>,
        scope: &Scope,
    ) -> Result<(), ReadError> {
        let snapshots = scope.members.iter().filter_map(|member| member.snapshot.clone()).collect();
        let contents = scope.members.iter().filter_map(|member| member.content.clone()).collect();
        self.read_members(adapter, readers, snapshots, contents).await?;
        let rebuilt = self.rebuilt(scope);
        self.read_members(adapter, readers, rebuilt.clone(), rebuilt).await
    }

    /// Names of members that were rebuilt, or may have been.
    fn rebuilt(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let stands = |member: &ScopeMember| {
            let snapshot =
                member.snapshot.as_ref().and_then(|name| store.snapshots.get(&scope.namespace, name));
            snapshot.map(|snapshot| &snapshot.metadata).is_some_and(|meta| {
                meta.deletion_timestamp.is_none()
                    && member.snapshot_uid.as_ref().is_none_or(|uid| meta.uid.as_ref() == Some(&uid.0))
            })
        };
        let is_there = |name: &String| {
            store.snapshots.get(&scope.namespace, name).is_some() || store.contents.get("", name).is_some()
        };
        let members = scope.members.iter().filter(|member| !stands(member) || is_there(&member.rebuilt));
        members.map(|member| member.rebuilt.clone()).collect()
    }

    /// Members before they carry the label of the run, and in a rollback. `listed` are the VolumeSnapshots
    /// that were just listed.
    async fn refresh_found(
        &self,
        adapter: &Adapter,
        readers: &KindReaders<'_>,
        scope: &Scope,
        listed: &BTreeSet<String>,
    ) -> Result<(), ReadError> {
        let snapshots = self.known_snapshots(scope).difference(listed).cloned().collect();
        self.read_all(adapter, &readers.snapshots, snapshots).await?;
        let listed = match self.may_be_taken(scope) {
            true => {
                let contents = self.list_all(adapter, &readers.contents);
                let group_contents = self.list_all(adapter, &readers.group_contents);
                futures::try_join!(contents, group_contents)?.0
            }
            false => BTreeSet::new(),
        };
        let contents = self.known_contents(scope).difference(&listed).cloned().collect();
        self.read_all(adapter, &readers.contents, contents).await?;
        self.read_all(adapter, &readers.snapshots, self.unseen_snapshots(scope)).await
    }

    /// Whether only the storage of a cut is left. Before the storage is freed by its handles, every object
    /// that may have imported it must be known.
    fn may_be_taken(&self, scope: &Scope) -> bool {
        let store = self.store();
        let group = store.groups.get(&scope.namespace, &scope.group_name);
        !scope.handles.is_empty() && group.is_none() && store.group_content_of(scope).is_none()
    }

    /// Snapshots that contents name by a uid that is not in the cache: created after the snapshots were read,
    /// or deleted.
    fn unseen_snapshots(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let named = store.contents_of(scope);
        let named = named.values().map(|content| &content.spec.volume_snapshot_ref);
        let is_unseen = |uid: &str, name: &str| {
            let seen = store.snapshots.get(&scope.namespace, name);
            seen.is_none_or(|snapshot| snapshot.metadata.uid.as_deref() != Some(uid))
        };
        named
            .filter(|snapshot| snapshot.namespace == scope.namespace)
            .filter(|snapshot| snapshot.uid.as_deref().is_some_and(|uid| is_unseen(uid, &snapshot.name)))
            .map(|snapshot| snapshot.name.clone())
            .collect()
    }

    fn known_snapshots(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let recorded = scope.members.iter().filter_map(|member| member.snapshot.clone());
        let contents = store.contents_of(scope);
        let own = contents.values().filter(|content| !is_of_another_run(&content.metadata, scope));
        let bound = own.map(|content| &content.spec.volume_snapshot_ref);
        let bound = bound.filter(|snapshot| snapshot.namespace == scope.namespace);
        let bound = bound.map(|snapshot| snapshot.name.clone());
        let snapshots = store.snapshots_of(scope, &contents).into_iter();
        let found = snapshots.filter(|(_, snapshot)| !is_of_another_run(&snapshot.metadata, scope));
        found.map(|(name, _)| name).chain(recorded).chain(bound).collect()
    }

    fn known_contents(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let recorded = scope.members.iter().filter_map(|member| member.content.clone());
        let contents = store.contents_of(scope);
        let snapshots = store.snapshots_of(scope, &contents);
        let own = snapshots.values().filter(|snapshot| !is_of_another_run(&snapshot.metadata, scope));
        let bound = own.filter_map(|snapshot| snapshot.status.as_ref());
        let bound = bound.filter_map(|status| status.bound_volume_snapshot_content_name.clone());
        let found = contents.into_iter().filter(|(_, content)| !is_of_another_run(&content.metadata, scope));
        let found = found.map(|(name, _)| name);
        found.chain(recorded).chain(bound).chain(computed_contents(scope)).collect()
    }

    async fn read_members(
        &self,
        adapter: &Adapter,
        readers: &KindReaders<'_>,
        snapshots: BTreeSet<String>,
        contents: BTreeSet<String>,
    ) -> Result<(), ReadError> {
        let snapshots = self.read_all(adapter, &readers.snapshots, snapshots);
        let contents = self.read_all(adapter, &readers.contents, contents);
        futures::try_join!(snapshots, contents).map(drop)
    }

    /// Lists a kind, in its namespace if it has one. Returns the names.
    async fn list_all<K>(
        &self,
        adapter: &Adapter,
        reader: &KindReader<'_, K>,
    ) -> Result<BTreeSet<String>, ReadError>
    where
        K: Resource + Indexed + DeserializeOwned + Clone,
    {
        let (objects, as_of) = list(adapter, reader, Selected::All).await?;
        let mut names = BTreeSet::new();
        for object in objects {
            names.extend(object.meta().name.clone());
            self.take(reader, object, as_of);
        }
        Ok(names)
    }

    async fn read_all<K>(
        &self,
        adapter: &Adapter,
        reader: &KindReader<'_, K>,
        names: BTreeSet<String>,
    ) -> Result<(), ReadError>
    where
        K: Resource + Indexed + DeserializeOwned + Clone,
    {
        stream::iter(names)
            .map(|name| async move { self.read(adapter, reader, &name).await })
            .buffered(limits::EFFECTS_PER_RUN)
            .try_collect()
            .await
    }

    async fn read<K>(
        &self,
        adapter: &Adapter,
        reader: &KindReader<'_, K>,
        name: &str,
    ) -> Result<(), ReadError>
    where
        K: Resource + Indexed + DeserializeOwned + Clone,
    {
        let cached = self.cached(reader, name);
        match adapter.get::<K>(reader.dynamic, reader.namespace, name).await {
            Ok(read) if cached.agrees(read.as_ref().map(|object| object.meta())) => {
                read.into_iter().for_each(|object| self.take(reader, object, 0));
                Ok(())
            }
            Ok(_) => self.read_by_list(adapter, reader, name, cached).await,
            // The permissions of an older release allow list but not get; such a daemon must be able to
            // finish its runs.
            Err(problem) if problem.code == Code::Refused => {
                self.read_by_list(adapter, reader, name, cached).await
            }
            Err(problem) => Err(problem.into()),
        }
    }

    /// Reads one object by a list of its name. The answer states the version of the store.
    async fn read_by_list<K>(
        &self,
        adapter: &Adapter,
        reader: &KindReader<'_, K>,
        name: &str,
        cached: Cached,
    ) -> Result<(), ReadError>
    where
        K: Resource + Indexed + DeserializeOwned + Clone,
    {
        let (mut objects, as_of) = list(adapter, reader, Selected::Named(name)).await?;
        match (objects.pop(), cached.object) {
            (Some(object), _) => self.take(reader, object, as_of),
            (None, Some((uid, _))) => {
                let mut store = self.store();
                let keys = (reader.kind_cache)(&mut store).remove(reader.namespace, name, &uid.0);
                store.subscriptions.notify(&keys);
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// Applies an object as of a version of the store; 0 where that is not known.
    fn take<K: Resource + Indexed>(&self, reader: &KindReader<'_, K>, object: K, as_of: u64) {
        let mut store = self.store();
        let keys = (reader.kind_cache)(&mut store).upsert(Arc::new(object), as_of);
        store.subscriptions.notify(&keys);
    }

    fn cached<K: Resource + Indexed>(&self, reader: &KindReader<'_, K>, name: &str) -> Cached {
        let mut store = self.store();
        let kind_cache = (reader.kind_cache)(&mut store);
        let object = kind_cache.get(reader.namespace, name).and_then(|object| {
            let meta = object.meta();
            Some((Uid(meta.uid.clone()?), version(meta)))
        });
        Cached { object, delivered: kind_cache.delivered() }
    }
}

/// The current objects and the version of the list. A list older than the known version is an error.
async fn list<K>(
    adapter: &Adapter,
    reader: &KindReader<'_, K>,
    selected: Selected<'_>,
) -> Result<(Vec<K>, u64), ReadError>
where
    K: Resource + DeserializeOwned + Clone,
{
    let listed = adapter.list_as_of::<K>(reader.dynamic, reader.namespace, selected).await?;
    let Listed { objects, version } = listed;
    match version {
        Some(read) if read < reader.known => {
            Err(ReadError::Behind { kind: K::plural(reader.dynamic).into_owned(), read, known: reader.known })
        }
        version => Ok((objects, version.unwrap_or(0))),
    }
}

/// Whether all objects of the run are known by their names, which do not change any more.
fn are_recorded(scope: &Scope) -> bool {
    let recorded = |member: &ScopeMember| member.snapshot.is_some() && member.content.is_some();
    scope.labelled && scope.members.iter().all(recorded)
}

/// Names of the contents that the snapshot-controller creates for the members of a group that is rolled back
/// before its receipt. Without them, a content whose watch events were all lost would be left behind.
fn computed_contents(scope: &Scope) -> Vec<String> {
    let group = scope.group_uid.as_ref().filter(|_| scope.import.is_some());
    let unrecorded = scope.members.iter().filter(|member| member.content.is_none());
    let computed =
        |uid: &Uid| unrecorded.map(|member| names::member_content(&uid.0, &member.volume_handle)).collect();
    group.map(computed).unwrap_or_default()
}

/// Snapshots of the same volumes that earlier Backups retain are not read in every run.
fn is_of_another_run(meta: &ObjectMeta, scope: &Scope) -> bool {
    let run = meta.labels.as_ref().and_then(|labels| labels.get(labels::RUN));
    run.is_some_and(|run| *run != scope.run)
}

fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_ref().and_then(|version| version.parse().ok())
}
