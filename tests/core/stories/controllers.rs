//! Simulates the controllers of the minimal cluster, one phase at a time: freeze, cut, tie, acknowledge and
//! delete.

use stillpoint::domain::ids::ObjectId;
use stillpoint::domain::labels;
use stillpoint::domain::observed::*;

use super::cluster::Cluster;

impl Cluster {
    /// Runs one phase of all controllers. Returns whether anything changed.
    pub fn controllers(&mut self) -> bool {
        let before = (self.seen.clone(), self.storage.len());
        self.seen.fresh = false;
        let phases = [
            Self::freeze,
            Self::cut,
            Self::protect,
            Self::ready,
            Self::tie,
            Self::acknowledge,
            Self::let_import_go,
            Self::answer_import,
            Self::let_go,
        ];
        for phase in phases {
            phase(self);
        }
        let fresh = before.0.fresh;
        before != (Observation { fresh, ..self.seen.clone() }, self.storage.len())
    }

    fn living(&self) -> Option<&GroupSnapshotSeen> {
        self.seen.group.as_ref().filter(|group| !group.terminating)
    }

    fn freeze(&mut self) {
        let Some(group) = self.living().filter(|group| group.bound_content.is_none()) else { return };
        let (uid, name) = (group.id.uid.clone(), format!("content-of-{}", group.id.name));
        let volumes = self.plan.members.iter().map(|member| member.volume_handle.clone());
        let more = self.freezes_more.then(|| "vol-alien".to_owned());
        let volume_handles = volumes.chain(more).collect();
        let content = self.new_group_content(&name);
        self.seen.content = Some(GroupContentSeen { group_uid: Some(uid), volume_handles, ..content });
        if let Some(group) = &mut self.seen.group {
            (group.bound_content, group.protected) = (Some(name), true);
        }
    }

    fn cut(&mut self) {
        let Some(group) = self.living().cloned() else { return };
        let now = self.now;
        let Some(content) = self.seen.content.as_mut().filter(|content| content.group_handle.is_none())
        else {
            return;
        };
        content.error = self.driver_says.map(str::to_owned);
        if content.error.is_some() {
            return;
        }
        let group_handle = format!("handle-of-{}", group.id.uid.0);
        let cut = |volume_handle: &String| CutSeen {
            volume_handle: volume_handle.clone(),
            snapshot_handle: format!("{volume_handle}-of-{}", group.id.uid.0),
            created_at: Some(now),
            restore_size: Some(1 << 30),
        };
        content.group_handle = Some(group_handle.clone());
        content.cuts = content.volume_handles.iter().map(cut).collect();
        for CutSeen { volume_handle, snapshot_handle, .. } in content.cuts.clone() {
            self.storage.insert(snapshot_handle.clone());
            let name = format!("member-{snapshot_handle}");
            let mut snapshot = self.new_snapshot(&name, &format!("content-{snapshot_handle}"));
            snapshot.group_name = Some(group.id.name.clone());
            let mut content = self.new_content(&format!("content-{snapshot_handle}"));
            (content.volume_handle, content.snapshot_handle) = (Some(volume_handle), Some(snapshot_handle));
            (content.group_handle, content.snapshot_name) = (Some(group_handle.clone()), name);
            content.snapshot_uid = Some(snapshot.id.uid.clone());
            self.seen.snapshots.push(snapshot);
            self.seen.contents.push(content);
        }
    }

    fn protect(&mut self) {
        if let Some(content) = self.seen.content.as_mut().filter(|content| !content.terminating) {
            content.protected = true;
        }
    }

    /// A member becomes ready with its content; a rebuilt member only while a content has the handle of the
    /// group.
    fn ready(&mut self) {
        let carried = self.seen.content.is_some() || self.seen.stub.is_some();
        let stands = |name: &Option<String>| {
            let content = self.seen.contents.iter().find(|content| Some(&content.id.name) == name.as_ref());
            content.map(|content| content.snapshot_uid.is_some())
        };
        for snapshot in self.seen.snapshots.iter_mut().filter(|snapshot| !snapshot.terminating) {
            snapshot.ready = match stands(&snapshot.bound_content) {
                Some(cut_with_its_group) => snapshot.ready || cut_with_its_group || carried,
                None => false,
            };
        }
        let cut = self.seen.content.as_ref().is_some_and(|content| content.group_handle.is_some());
        if let Some(group) = &mut self.seen.group {
            group.ready |= cut;
        }
    }

    fn tie(&mut self) {
        let Some(group) = self.living().cloned() else { return };
        let owner = Owner {
            api_version: format!("{}/v1", labels::GROUP_SNAPSHOT_API),
            kind: "VolumeGroupSnapshot".into(),
            name: group.id.name.clone(),
            uid: group.id.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        };
        let ours = |snapshot: &&mut SnapshotSeen| snapshot.group_name.as_ref() == Some(&group.id.name);
        for snapshot in self.seen.snapshots.iter_mut().filter(ours) {
            if snapshot.owners.is_empty() {
                snapshot.owners.push(owner.clone());
            }
            add(&mut snapshot.finalizers, labels::IN_GROUP_PROTECTION);
        }
    }

    fn acknowledge(&mut self) {
        let exists = self.seen.class_exists;
        let standing = |snapshot: &&mut SnapshotSeen| {
            !snapshot.terminating && snapshot.ready && (exists || snapshot.class.is_none())
        };
        for snapshot in self.seen.snapshots.iter_mut().filter(standing) {
            add(&mut snapshot.finalizers, labels::AS_SOURCE_PROTECTION);
        }
    }

    fn let_go(&mut self) {
        if let Some(group) = self.seen.group.clone().filter(|group| group.terminating) {
            let takes = self.seen.content.as_ref().is_some_and(|c| c.policy == DeletionPolicy::Delete);
            if takes && !self.leaves_content {
                self.free_group();
            }
            // The garbage collector deletes the objects that the group owned.
            let owned: Vec<ObjectId> =
                self.seen.snapshots.iter().filter(|s| !s.owners.is_empty()).map(|s| s.id.clone()).collect();
            owned.iter().for_each(|id| self.remove_member(id));
            self.seen.group = None;
            let _ = group;
            return;
        }
        if self.seen.content.as_ref().is_some_and(|content| content.terminating && content.marked_deleted) {
            let frees = self.seen.content.as_ref().is_some_and(|c| c.policy == DeletionPolicy::Delete);
            if frees { self.free_group() } else { self.seen.content = None }
        }
        let stranded = |snapshot: &SnapshotSeen| {
            snapshot.group_name.is_none()
                && snapshot.finalizers.iter().any(|finalizer| finalizer == labels::IN_GROUP_PROTECTION)
        };
        let going: Vec<ObjectId> = self
            .seen
            .snapshots
            .iter()
            .filter(|s| s.terminating && !stranded(s))
            .map(|s| s.id.clone())
            .collect();
        going.iter().for_each(|id| self.remove_member(id));
        let going: Vec<ContentSeen> = self.seen.contents.iter().filter(|c| c.terminating).cloned().collect();
        going.iter().for_each(|content| self.remove_content(content));
    }

    /// The sidecar deletes the group snapshot with all of its snapshots.
    fn free_group(&mut self) {
        let Some(content) = self.seen.content.take() else { return };
        content.cuts.iter().for_each(|cut| {
            self.storage.remove(&cut.snapshot_handle);
        });
    }

    fn remove_member(&mut self, id: &ObjectId) {
        let Some(at) = self.seen.snapshots.iter().position(|snapshot| snapshot.id == *id) else { return };
        let snapshot = self.seen.snapshots.remove(at);
        let bound = self.seen.contents.iter().find(|c| Some(&c.id.name) == snapshot.bound_content.as_ref());
        if let Some(content) = bound.filter(|content| content.policy == DeletionPolicy::Delete).cloned() {
            self.remove_content(&content);
        }
    }

    fn remove_content(&mut self, content: &ContentSeen) {
        self.seen.contents.retain(|seen| seen.id != content.id);
        if content.policy == DeletionPolicy::Delete
            && let Some(handle) = &content.snapshot_handle
        {
            self.storage.remove(handle);
        }
    }
}

fn add(finalizers: &mut Vec<String>, finalizer: &str) {
    if !finalizers.iter().any(|known| known == finalizer) {
        finalizers.push(finalizer.to_owned());
    }
}
