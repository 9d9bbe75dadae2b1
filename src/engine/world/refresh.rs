//! Fresh reads of one run: from the API server itself, absorbed into the caches.
//!
//! Every read is a list, of one name where one object is meant, because only a list says which state of the store it
//! shows. One that shows an older state than this daemon knew of when it began to look is no answer: the look is made
//! again until the API server has caught up. By contract reads without a resourceVersion are never old; behind an etcd
//! member that lagged, or with a bug, they were (kubernetes/kubernetes#59848). Versions of one resource can be
//! compared as numbers (KEP-5504); one that is no number is taken as it is.
//!
//! SUBTLE: that nothing has a name ends only the object that the cache had under it *before* the question: while the
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
use crate::cluster::read::{Listed, Selected};
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
    /// What an answer must not be older than.
    known: u64,
}

/// The newest version of each kind that is known of: what a look that begins now must not be older than.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    groups: u64,
    group_contents: u64,
    snapshots: u64,
    contents: u64,
}

/// Why a look is no look: nothing may be concluded from the caches.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// A read failed.
    #[error(transparent)]
    Failed(#[from] Problem),
    /// A read showed an older state than was known of.
    #[error("{kind} were read as of version {read}, and version {known} was known before")]
    Behind {
        /// Kind of the objects.
        kind: String,
        /// Version of the answer.
        read: u64,
        /// Version that was known of.
        known: u64,
    },
}

impl World {
    /// What is known of now. To be taken when a look begins, and kept until it succeeds: were it taken anew for each
    /// try, an API server that lags behind busy controllers would never be new enough.
    pub fn known(&self) -> Known {
        let store = self.store();
        Known {
            groups: store.groups.newest(),
            group_contents: store.group_contents.newest(),
            snapshots: store.snapshots.newest(),
            contents: store.contents.newest(),
        }
    }

    /// Reads everything about a run anew, from a state that is not older than `known`. What does not answer is gone from the caches afterwards.
    ///
    /// Members are listed by the run label once they carry it; those that are known and not in the list are read one
    /// by one, because a label that vanished must not look like an object that did. Before that the snapshots of the
    /// namespace are listed: one of which the watch lost every word is known by no name.
    ///
    /// # Errors
    /// The first read that failed or was old; nothing may be concluded from the caches then.
    pub async fn refresh(&self, adapter: &Adapter, scope: &Scope, known: &Known) -> Result<(), Unread> {
        let version = adapter.group_version()?;
        let groups = Shelf {
            kind: Kind::Group,
            dynamic: &version,
            namespace: &scope.namespace,
            cache: |store| &store.groups,
            wrap: Changed::Group,
            known: known.groups,
        };
        self.look(adapter, &groups, &scope.group_name).await?;
        let group_contents = Shelf {
            kind: Kind::GroupContent,
            dynamic: &version,
            namespace: "",
            cache: |store| &store.group_contents,
            wrap: Changed::GroupContent,
            known: known.group_contents,
        };
        self.refresh_group_content(adapter, &group_contents, scope).await?;
        for unbound in [Some(&scope.stub), scope.import.as_ref()].into_iter().flatten() {
            self.look(adapter, &group_contents, unbound).await?;
        }
        self.refresh_members(adapter, scope, known).await
    }

    async fn refresh_group_content(
        &self,
        adapter: &Adapter,
        shelf: &Shelf<'_, VolumeGroupSnapshotContent>,
        scope: &Scope,
    ) -> Result<(), Unread> {
        let cached = self.store().group_content_of(scope).and_then(|content| content.metadata.name.clone());
        let known: BTreeSet<_> = scope.group_content.iter().cloned().chain(cached).collect();
        if !known.is_empty() {
            return self.look_all(adapter, shelf, known).await;
        }
        for content in read(adapter, shelf, Selected::All).await? {
            let group = &content.spec.volume_group_snapshot_ref;
            if (&group.namespace, &group.name) == (&scope.namespace, &scope.group_name) {
                self.absorb(Changed::GroupContent(Arc::new(content)));
            }
        }
        Ok(())
    }

    async fn refresh_members(&self, adapter: &Adapter, scope: &Scope, known: &Known) -> Result<(), Unread> {
        let snapshots = Shelf {
            kind: Kind::Snapshot,
            dynamic: &(),
            namespace: &scope.namespace,
            cache: |store| &store.snapshots,
            wrap: Changed::Snapshot,
            known: known.snapshots,
        };
        let contents = Shelf {
            kind: Kind::Content,
            dynamic: &(),
            namespace: "",
            cache: |store| &store.contents,
            wrap: Changed::Content,
            known: known.contents,
        };
        let labelled = format!("{}={}", labels::RUN, scope.run);
        let selected = if scope.labelled { Selected::Labelled(&labelled) } else { Selected::All };
        let seen_snapshots = self.list_members(adapter, &snapshots, selected).await?;
        let seen_contents = match scope.labelled {
            true => self.list_members(adapter, &contents, selected).await?,
            false => BTreeSet::new(),
        };
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
        store.snapshots_of(scope, &contents).into_keys().chain(recorded).chain(bound).collect()
    }

    fn known_contents(&self, scope: &Scope) -> BTreeSet<String> {
        let store = self.store();
        let recorded = scope.members.iter().filter_map(|member| member.content.clone());
        let contents = store.contents_of(scope);
        let snapshots = store.snapshots_of(scope, &contents);
        let bound = snapshots.values().filter_map(|snapshot: &&Arc<VolumeSnapshot>| snapshot.status.as_ref());
        let bound = bound.filter_map(|status| status.bound_volume_snapshot_content_name.clone());
        contents.into_keys().chain(recorded).chain(bound).collect()
    }

    async fn list_members<K>(
        &self,
        adapter: &Adapter,
        shelf: &Shelf<'_, K>,
        selected: Selected<'_>,
    ) -> Result<BTreeSet<String>, Unread>
    where
        K: Resource + DeserializeOwned + Clone,
    {
        let listed = read(adapter, shelf, selected).await?.into_iter();
        Ok(listed
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
    ) -> Result<(), Unread>
    where
        K: Resource + About + DeserializeOwned + Clone,
    {
        stream::iter(names)
            .map(|name| async move { self.look(adapter, shelf, &name).await })
            .buffered(limits::EFFECTS_PER_RUN)
            .try_collect()
            .await
    }

    async fn look<K>(&self, adapter: &Adapter, shelf: &Shelf<'_, K>, name: &str) -> Result<(), Unread>
    where
        K: Resource + About + DeserializeOwned + Clone,
    {
        let namespace = shelf.namespace;
        let known =
            (shelf.cache)(&self.store()).get(namespace, name).and_then(|object| object.meta().uid.clone());
        match (read(adapter, shelf, Selected::Named(name)).await?.pop(), known) {
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

/// Objects as they are now: a list that shows an older state than was known of is none.
async fn read<K>(adapter: &Adapter, shelf: &Shelf<'_, K>, selected: Selected<'_>) -> Result<Vec<K>, Unread>
where
    K: Resource + DeserializeOwned + Clone,
{
    let listed = adapter.list_as_of::<K>(shelf.dynamic, shelf.namespace, selected).await?;
    let Listed { objects, version } = listed;
    match version {
        Some(read) if read < shelf.known => {
            Err(Unread::Behind { kind: K::plural(shelf.dynamic).into_owned(), read, known: shelf.known })
        }
        _ => Ok(objects),
    }
}
