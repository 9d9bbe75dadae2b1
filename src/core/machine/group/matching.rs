//! Finds the objects of a run in an observation.
//!
//! The group is matched by its uid in the journal. Members are matched by volume handle until the receipt has
//! their uids. Rebuilt members are matched by a name that only Stillpoint computes. No object is matched by a
//! name that other clients may choose. Not here: conclusions from the objects (`view`, `effects`).

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::labels;
use crate::domain::names;
use crate::domain::observed::{
    ContentSeen, DeletionPolicy, Entries, GroupContentSeen, GroupSnapshotSeen, Observation, Owner,
    SnapshotSeen,
};
use crate::machine::group::state::{GroupRun, Stage};

/// One member with its objects.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Index in the plan.
    pub index: usize,
    /// Its VolumeSnapshot: the recorded one, else the rebuilt one.
    pub snapshot: Option<&'a SnapshotSeen>,
    /// Its VolumeSnapshotContent.
    pub content: Option<&'a ContentSeen>,
    /// Whether these objects are the rebuilt ones.
    pub rebuilt: bool,
    /// Whether more than one object matches this member.
    pub ambiguous: bool,
}

impl Member<'_> {
    /// Whether the member has to be rebuilt: no usable object with its recorded or rebuilt identity exists.
    /// Stillpoint creates both objects of a rebuilt member: without its content the member never becomes
    /// ready.
    pub fn is_lost(&self) -> bool {
        self.ambiguous
            || self.snapshot.is_none_or(|s| s.terminating)
            || (self.rebuilt && self.content.is_none_or(|c| c.terminating))
            || self.is_misbound()
    }

    /// Whether a rebuilt content is bound to another snapshot than the existing one.
    ///
    /// SUBTLE: the content has to be created again too.
    /// 1. A member is rebuilt, and the controller writes the snapshot's uid into the content.
    /// 2. The rebuilt snapshot is deleted, for example by a controller whose cache still has the group that
    ///    the new member names.
    /// 3. A second snapshot of the same name never binds: "bound to a different snapshot".
    pub fn is_misbound(&self) -> bool {
        let bound = self.content.filter(|_| self.rebuilt).and_then(|content| content.snapshot_uid.as_ref());
        bound.is_some_and(|uid| self.snapshot.is_none_or(|snapshot| snapshot.id.uid != *uid))
    }

    /// Whether snapshot or content of a rebuilt member is being deleted. It can be created again only after
    /// that. A content whose snapshot is gone, and that a client deletes by hand, is not deleted without
    /// further action.
    pub fn is_being_deleted(&self) -> bool {
        let goes =
            |content: &ContentSeen| content.terminating && (!self.is_misbound() || is_being_deleted(content));
        self.rebuilt && (self.snapshot.is_some_and(|s| s.terminating) || self.content.is_some_and(goes))
    }
}

/// Whether the members are deleted with their namespace behind the pivot. Only their storage can then be
/// kept: each by a VolumeSnapshotContent, which has no namespace.
pub fn goes_along(run: &GroupRun, observation: &Observation) -> bool {
    let stays = observation.namespace.as_ref().is_some_and(|namespace| !namespace.terminating);
    run.stage == Stage::Releasing && !stays
}

/// Whether a snapshot that stays still has an owner that the release removes, the in-group finalizer, or
/// another class than the planned one.
pub fn is_still_owned(run: &GroupRun, snapshot: &SnapshotSeen) -> bool {
    let owned = || snapshot.owners.iter().any(|owner| is_tie(run, owner));
    let other_class = || snapshot.class.as_deref() != Some(run.plan.snapshot_class.as_str());
    !snapshot.terminating && (owned() || is_in_group(snapshot) || other_class())
}

/// Whether the release removes this owner. Behind the pivot it removes any VolumeGroupSnapshot: a controller
/// also makes a foreign group with the name of the run's group an owner of the members, and they would be
/// deleted with it.
pub fn is_tie(run: &GroupRun, owner: &Owner) -> bool {
    run.state.group_uid.as_ref().is_some_and(|uid| owner.is_group(uid))
        || (run.stage == Stage::Releasing && owner.is_any_group())
}

/// Whether a snapshot is being deleted, and only Stillpoint will remove its last finalizer.
///
/// SUBTLE: the snapshot-controller removes the in-group finalizer of a deleted member only while the member's
/// status names its group (external-snapshotter, common-controller).
/// 1. Another client deletes a member, or the whole group.
/// 2. Stillpoint clears the name.
/// 3. The controller removes as-source and leaves in-group.
/// 4. The snapshot is Terminating for ever, and its namespace with it.
pub fn is_blocked_terminating(snapshot: &SnapshotSeen) -> bool {
    snapshot.terminating && is_blocked_if_deleted(snapshot)
}

/// Whether a deletion of the snapshot would never finish. While its group exists, the controller may still
/// write the name: a member that is not ready has none yet.
pub fn is_blocked_if_deleted(snapshot: &SnapshotSeen) -> bool {
    snapshot.group_name.is_none() && is_in_group(snapshot)
}

fn is_in_group(snapshot: &SnapshotSeen) -> bool {
    snapshot.finalizers.iter().any(|finalizer| finalizer == labels::IN_GROUP_PROTECTION)
}

/// Whether a member with retained storage was released while its group exists. This run, which is being
/// rolled back, has not released it.
pub fn has_foreign_release(run: &GroupRun, observation: &Observation) -> bool {
    own_content(run, observation).is_some()
        && members(run, observation).iter().any(|member| {
            let retains = member.content.is_some_and(|content| content.policy == DeletionPolicy::Retain);
            retains && member.snapshot.is_some_and(is_released)
        })
}

/// Whether the member is independent of its group. A member has owner and finalizer from its creation on, and
/// the group name once it is ready.
fn is_released(snapshot: &SnapshotSeen) -> bool {
    let is_owned = snapshot.owners.iter().any(Owner::is_any_group);
    let is_free = snapshot.group_name.is_none() && !is_in_group(snapshot) && !is_owned;
    snapshot.ready && !snapshot.terminating && is_free
}

/// Ids of the journals in the labels of the run's objects.
pub fn journals<'a>(run: &'a GroupRun, observation: &'a Observation) -> impl Iterator<Item = &'a str> {
    fn of(labels: &Entries) -> Option<&str> {
        labels.as_ref()?.get(labels::JOURNAL).map(String::as_str)
    }
    let group = own_group(run, observation).and_then(|group| group.journal.as_deref());
    let content = own_content(run, observation).and_then(|content| of(&content.labels));
    let snapshots = own_snapshots(run, observation).filter_map(|snapshot| of(&snapshot.labels));
    let contents = own_contents(run, observation).filter_map(|content| of(&content.labels));
    group.into_iter().chain(content).chain(snapshots).chain(contents)
}

/// The VolumeGroupSnapshot, if it belongs to the run.
pub fn own_group<'a>(run: &GroupRun, observation: &'a Observation) -> Option<&'a GroupSnapshotSeen> {
    observation.group.as_ref().filter(|group| match &run.state.group_uid {
        Some(uid) => group.id.uid == *uid,
        None => group.run.as_deref() == Some(run.plan.run.to_string().as_str()),
    })
}

/// The VolumeGroupSnapshotContent, if it belongs to the run's group. While the uid of the group is unknown,
/// any uid matches, because no other run uses its name. A reference without uid never matches: the
/// snapshot-controller writes the uid when it creates a content, and users who import one omit it.
pub fn own_content<'a>(run: &GroupRun, observation: &'a Observation) -> Option<&'a GroupContentSeen> {
    observation.content.as_ref().filter(|content| match (&run.state.group_uid, &content.group_uid) {
        (Some(ours), Some(theirs)) => ours == theirs,
        (None, Some(_)) => true,
        (_, None) => false,
    })
}

/// The CSI snapshot handle of a member: from the group's content, else from its own.
pub fn snapshot_handle<'a>(
    run: &GroupRun,
    observation: &'a Observation,
    member: Member<'a>,
) -> Option<&'a str> {
    let handle = run.plan.members[member.index].volume_handle.as_str();
    let cut = own_content(run, observation)
        .and_then(|content| content.cuts.iter().find(|cut| cut.volume_handle == handle))
        .map(|cut| cut.snapshot_handle.as_str());
    cut.or_else(|| member.content.and_then(|content| content.snapshot_handle.as_deref()))
}

/// Finds the objects of each member.
pub fn members<'a>(run: &GroupRun, observation: &'a Observation) -> Vec<Member<'a>> {
    (0..run.plan.members.len())
        .map(|index| match &run.state.receipt {
            Some(receipt) => {
                let recorded = &receipt.members[index];
                let found = recorded_member(index, observation, &recorded.snapshot, &recorded.content);
                if !found.is_lost() {
                    return found;
                }
                let name = names::rebuilt_member(run.plan.run, &run.plan.members[index].volume_handle);
                let rebuilt = rebuilt_member(index, &run.plan.run.to_string(), &name, observation);
                if rebuilt.snapshot.is_some() || rebuilt.content.is_some() { rebuilt } else { found }
            }
            None => member_by_handle(run, index, observation),
        })
        .collect()
}

fn recorded_member<'a>(
    index: usize,
    observation: &'a Observation,
    snapshot: &ObjectId,
    content: &ObjectId,
) -> Member<'a> {
    Member {
        index,
        snapshot: find_uid(&observation.snapshots, &snapshot.uid, |s| &s.id.uid),
        content: find_uid(&observation.contents, &content.uid, |c| &c.id.uid),
        rebuilt: false,
        ambiguous: false,
    }
}

fn find_uid<'a, T>(all: &'a [T], uid: &Uid, of: impl Fn(&T) -> &Uid) -> Option<&'a T> {
    all.iter().find(|one| of(one) == uid)
}

/// Finds a rebuilt member by its computed name, which only Stillpoint uses, and by the label of the run.
fn rebuilt_member<'a>(index: usize, run: &str, name: &str, observation: &'a Observation) -> Member<'a> {
    let ours = |labels: &Option<std::collections::BTreeMap<String, String>>| {
        labels.as_ref().and_then(|l| l.get(labels::RUN)).is_some_and(|value| value == run)
    };
    Member {
        index,
        snapshot: observation.snapshots.iter().find(|s| s.id.name == name && ours(&s.labels)),
        content: observation.contents.iter().find(|c| c.id.name == name && ours(&c.labels)),
        rebuilt: true,
        ambiguous: false,
    }
}

/// Before the receipt exists: finds the content of the planned volume with the group's handle, and the
/// snapshot that the content names.
fn member_by_handle<'a>(run: &GroupRun, index: usize, observation: &'a Observation) -> Member<'a> {
    let handle = &run.plan.members[index].volume_handle;
    let group_handle = group_handle(run, observation);
    let mut contents = observation.contents.iter().filter(|content| {
        content.volume_handle.as_ref() == Some(handle)
            && content.group_handle.is_some()
            && content.group_handle.as_deref() == group_handle
    });
    let content = contents.next();
    let snapshot = content.and_then(|content| {
        observation.snapshots.iter().find(|snapshot| {
            snapshot.id.name == content.snapshot_name
                && snapshot.id.namespace == content.snapshot_namespace
                && content.snapshot_uid.as_ref().is_none_or(|uid| *uid == snapshot.id.uid)
        })
    });
    Member { index, snapshot, content, rebuilt: false, ambiguous: contents.next().is_some() }
}

/// Whether a member was lost before the receipt, so that the cut can never be bound. An object that is being
/// deleted gets no new finalizer and never becomes ready. A released member no longer names its group. The
/// snapshot-controller creates members only until their group is ready. A member that it has not created yet
/// is not lost: no object names it.
pub fn is_spoilt(run: &GroupRun, observation: &Observation) -> bool {
    let stands = |uid: &Uid| observation.snapshots.iter().any(|snapshot| snapshot.id.uid == *uid);
    let lost = |content: &ContentSeen| {
        content.terminating || content.snapshot_uid.as_ref().is_some_and(|uid| !stands(uid))
    };
    let all_were_made = own_group(run, observation).is_some_and(|group| group.ready);
    let is_missing = |member: &Member<'_>| member.snapshot.is_none() || member.content.is_none();
    own_snapshots(run, observation).any(|snapshot| snapshot.terminating || is_released(snapshot))
        || own_contents(run, observation).any(lost)
        || all_were_made && members(run, observation).iter().any(is_missing)
}

/// Handle of the group: from its content, else from the journal.
fn group_handle<'a>(run: &'a GroupRun, observation: &'a Observation) -> Option<&'a str> {
    let seen = own_content(run, observation).and_then(|content| content.group_handle.as_deref());
    seen.or(run.state.cut.as_ref().map(|(handle, _)| handle.as_str()))
}

/// Contents of members of this run: labelled, cut with its group, bound to one of its snapshots, or with the
/// name that the snapshot-controller computes. The computed name identifies the remains of a cut that was not
/// observed before all other objects were gone.
pub fn own_contents<'a>(
    run: &'a GroupRun,
    observation: &'a Observation,
) -> impl Iterator<Item = &'a ContentSeen> {
    let group_handle = group_handle(run, observation);
    let names: Vec<&str> = own_snapshots(run, observation).map(|s| s.id.name.as_str()).collect();
    let label = run.plan.run.to_string();
    let computed = |content: &ContentSeen| {
        let (Some(group), Some(volume)) = (&run.state.group_uid, &content.volume_handle) else {
            return false;
        };
        content.id.name == names::member_content(&group.0, volume)
    };
    observation.contents.iter().filter(move |content| {
        content.labels.as_ref().and_then(|l| l.get(labels::RUN)).is_some_and(|value| *value == label)
            || (content.group_handle.is_some() && content.group_handle.as_deref() == group_handle)
            || names.contains(&content.snapshot_name.as_str())
            || computed(content)
    })
}

/// Contents that rebuilt members have replaced, each with the index of its member. The member exists, bound
/// and ready, with new objects, and the VolumeSnapshot of the old content is gone. No other component deletes
/// these contents.
pub fn replaced<'a>(run: &GroupRun, observation: &'a Observation) -> Vec<(usize, &'a ContentSeen)> {
    let Some(receipt) = run.state.receipt.as_ref().filter(|_| run.stage == Stage::Releasing) else {
        return Vec::new();
    };
    let lives = |uid: &Uid| observation.snapshots.iter().any(|s| s.id.uid == *uid && !s.terminating);
    let stands = |member: &Member<'_>| {
        let bound = member.snapshot.filter(|s| s.ready).and_then(|s| s.bound_content.as_deref());
        member.rebuilt && !member.is_lost() && bound == member.content.map(|c| c.id.name.as_str())
    };
    let members = members(run, observation).into_iter().filter(stands);
    members
        .filter_map(|member| {
            let old = &receipt.members[member.index].content.uid;
            let content = find_uid(&observation.contents, old, |content| &content.id.uid)?;
            let is_own = member.content.is_some_and(|own| own.id.uid == *old);
            let in_use = content.snapshot_uid.as_ref().is_some_and(lives);
            (!is_own && !in_use && !is_being_deleted(content)).then_some((member.index, content))
        })
        .collect()
}

/// Whether the deletion of a VolumeSnapshotContent finishes without further action: it is being deleted and
/// has the annotation that the snapshot-controller sets when it deletes the VolumeSnapshot. Without it the
/// csi-snapshotter never removes its finalizer from a content that a client deletes by hand
/// (external-snapshotter, `shouldDelete` of the sidecar).
pub fn is_being_deleted(content: &ContentSeen) -> bool {
    let marked =
        content.annotations.as_ref().is_some_and(|all| all.contains_key(labels::CONTENT_BEING_DELETED));
    content.terminating && marked
}

/// VolumeSnapshots of members of this run: labelled, owned by the run's group, naming it, or bound to a
/// content of its cut.
pub fn own_snapshots<'a>(
    run: &'a GroupRun,
    observation: &'a Observation,
) -> impl Iterator<Item = &'a SnapshotSeen> {
    let (label, name) = (run.plan.run.to_string(), run.group_name());
    let recorded = |snapshot: &SnapshotSeen| {
        run.state
            .receipt
            .as_ref()
            .is_some_and(|r| r.members.iter().any(|m| m.snapshot.uid == snapshot.id.uid))
    };
    let group_handle = group_handle(run, observation);
    let bound = move |snapshot: &SnapshotSeen| {
        let mut contents = observation.contents.iter();
        contents.any(|content| {
            content.group_handle.is_some()
                && content.group_handle.as_deref() == group_handle
                && content.snapshot_uid.as_ref() == Some(&snapshot.id.uid)
        })
    };
    observation.snapshots.iter().filter(move |snapshot| {
        snapshot.labels.as_ref().and_then(|l| l.get(labels::RUN)).is_some_and(|value| *value == label)
            || run
                .state
                .group_uid
                .as_ref()
                .is_some_and(|uid| snapshot.owners.iter().any(|owner| owner.is_group(uid)))
            || snapshot.group_name.as_ref() == Some(&name)
            || recorded(snapshot)
            || bound(snapshot)
    })
}
