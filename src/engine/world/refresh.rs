//! Fresh reads of one run: from the API server itself, absorbed into the caches.
//!
//! SUBTLE: that a name answers 404 ends only the object that the cache had under it *before* the question: while the
//! answer is on its way, the watch may bring a new object of that name.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kube::Resource;
use serde::de::DeserializeOwned;

use super::World;
use super::cache::Cache;
use super::store::Store;
use super::topic::About;
use crate::cluster::kinds::{VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent};
use crate::cluster::{Adapter, Changed, Kind};
use crate::domain::ids::{ObjectId, Uid};
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::observed::Scope;
use crate::domain::problem::Problem;

/// How objects of one kind are read and cached.
struct Shelf<'a, K: Resource> {
    kind: Kind,
    dynamic: &'a K::DynamicType,
    namespace: &'a str,
    cache: fn(&Store) -> &Cache<K>,
    wrap: fn(Arc<K>) -> Changed,
}

impl World {
    /// Reads everything about a run anew. What does not answer is gone from the caches afterwards.
    ///
    /// Members are listed by the run label once they carry it; those that are known and not in the list are read one
    /// by one, because a label that vanished must not look like an object that did.
    ///
    /// # Errors
    /// The first read that failed; nothing may be concluded from the caches then.
    pub async fn refresh(&self, adapter: &Adapter, scope: &Scope) -> Result<(), Problem> {
        let version = adapter.group_version()?;
        let groups = Shelf {
            kind: Kind::Group,
            dynamic: &version,
            namespace: &scope.namespace,
            cache: |store| &store.groups,
            wrap: Changed::Group,
        };
        self.look(adapter, &groups, &scope.group_name).await?;
        let group_contents = Shelf {
            kind: Kind::GroupContent,
            dynamic: &version,
            namespace: "",
            cache: |store| &store.group_contents,
            wrap: Changed::GroupContent,
        };
        self.refresh_group_content(adapter, &group_contents, scope).await?;
        self.look(adapter, &group_contents, &scope.stub).await?;
        self.refresh_members(adapter, scope).await
    }

    async fn refresh_group_content(
        &self,
        adapter: &Adapter,
        shelf: &Shelf<'_, VolumeGroupSnapshotContent>,
        scope: &Scope,
    ) -> Result<(), Problem> {
        let cached = self.store().group_content_of(scope).and_then(|content| content.metadata.name.clone());
        let known: BTreeSet<_> = scope.group_content.iter().cloned().chain(cached).collect();
        if !known.is_empty() {
            return self.look_all(adapter, shelf, known).await;
        }
        let all = adapter.list::<VolumeGroupSnapshotContent>(shelf.dynamic, "", "").await?;
        for content in all {
            let group = &content.spec.volume_group_snapshot_ref;
            if (&group.namespace, &group.name) == (&scope.namespace, &scope.group_name) {
                self.absorb(Changed::GroupContent(Arc::new(content)));
            }
        }
        Ok(())
    }

    async fn refresh_members(&self, adapter: &Adapter, scope: &Scope) -> Result<(), Problem> {
        let snapshots = Shelf {
            kind: Kind::Snapshot,
            dynamic: &(),
            namespace: &scope.namespace,
            cache: |store| &store.snapshots,
            wrap: Changed::Snapshot,
        };
        let contents = Shelf {
            kind: Kind::Content,
            dynamic: &(),
            namespace: "",
            cache: |store| &store.contents,
            wrap: Changed::Content,
        };
        let mut seen_snapshots = BTreeSet::new();
        let mut seen_contents = BTreeSet::new();
        if scope.labelled {
            seen_snapshots = self.list_run(adapter, &snapshots, &scope.run).await?;
            seen_contents = self.list_run(adapter, &contents, &scope.run).await?;
        }
        let known = self.known_snapshots(scope).difference(&seen_snapshots).cloned().collect();
        self.look_all(adapter, &snapshots, known).await?;
        let known = self.known_contents(scope).difference(&seen_contents).cloned().collect();
        self.look_all(adapter, &contents, known).await
    }

    fn known_snapshots(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let recorded = scope.members.iter().filter_map(|member| member.snapshot.clone());
        let contents = store.contents_of(scope);
        let bound =
            contents.values().map(|content: &&Arc<VolumeSnapshotContent>| &content.spec.volume_snapshot_ref);
        let bound = bound.filter(|snapshot| snapshot.namespace == scope.namespace);
        let bound = bound.map(|snapshot| snapshot.name.clone());
        store.snapshots_of(scope).into_keys().chain(recorded).chain(bound).collect()
    }

    fn known_contents(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let recorded = scope.members.iter().filter_map(|member| member.content.clone());
        let snapshots = store.snapshots_of(scope);
        let bound = snapshots.values().filter_map(|snapshot: &&Arc<VolumeSnapshot>| snapshot.status.as_ref());
        let bound = bound.filter_map(|status| status.bound_volume_snapshot_content_name.clone());
        store.contents_of(scope).into_keys().chain(recorded).chain(bound).collect()
    }

    async fn list_run<K>(
        &self,
        adapter: &Adapter,
        shelf: &Shelf<'_, K>,
        run: &str,
    ) -> Result<BTreeSet<String>, Problem>
    where
        K: Resource + DeserializeOwned + Clone,
    {
        let selector = format!("{}={run}", labels::RUN);
        let listed = adapter.list::<K>(shelf.dynamic, shelf.namespace, &selector).await?;
        Ok(listed
            .into_iter()
            .map(|object| {
                let name = object.meta().name.clone().unwrap_or_default();
                self.absorb((shelf.wrap)(Arc::new(object)));
                name
            })
            .collect())
    }

    async fn look_all<K>(
        &self,
        adapter: &Adapter,
        shelf: &Shelf<'_, K>,
        names: BTreeSet<String>,
    ) -> Result<(), Problem>
    where
        K: Resource + About + DeserializeOwned,
    {
        stream::iter(names)
            .map(|name| async move { self.look(adapter, shelf, &name).await })
            .buffered(limits::EFFECTS_PER_RUN)
            .try_collect()
            .await
    }

    async fn look<K>(&self, adapter: &Adapter, shelf: &Shelf<'_, K>, name: &str) -> Result<(), Problem>
    where
        K: Resource + About + DeserializeOwned,
    {
        let namespace = shelf.namespace;
        let known =
            (shelf.cache)(&self.store()).get(namespace, name).and_then(|object| object.meta().uid.clone());
        match (adapter.get::<K>(shelf.dynamic, namespace, name).await?, known) {
            (Some(object), _) => self.absorb((shelf.wrap)(Arc::new(object))),
            (None, Some(uid)) => {
                let id = ObjectId { namespace: namespace.to_owned(), name: name.to_owned(), uid: Uid(uid) };
                self.absorb(Changed::Gone(shelf.kind, id));
            }
            (None, None) => {}
        }
        Ok(())
    }
}
