//! What of an observation belongs to a run.
//!
//! The group by the uid in the journal, members by volume handle until the receipt names their uids, rebuilt ones by
//! the name that nobody else computes: never by a name that others may choose. Not here: what follows from it
//! (`view`, `effects`).

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::labels;
use crate::domain::names;
use crate::domain::observed::{
    ContentSeen, DeletionPolicy, Entries, GroupContentSeen, GroupSnapshotSeen, Observation, Owner,
    SnapshotSeen,
};
use crate::domain::planted;
use crate::machine::group::state::{GroupRun, Stage};

/// One member with the objects that are its own.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Index in the plan.
    pub index: usize,
    /// Its VolumeSnapshot: the recorded one, else the rebuilt one.
    pub snapshot: Option<&'a SnapshotSeen>,
    /// Its VolumeSnapshotContent.
    pub content: Option<&'a ContentSeen>,
    /// Whether these are the rebuilt ones.
    pub rebuilt: bool,
    /// More than one object claims to be this member.
    pub ambiguous: bool,
}

impl Member<'_> {
    /// Whether the member has to be rebuilt: nothing usable stands under its recorded or rebuilt identity. Of a rebuilt
    /// one both halves are ours to make: without its content it never becomes ready.
    pub fn is_lost(&self) -> bool {
        self.ambiguous
            || self.snapshot.is_none_or(|s| s.terminating)
            || (self.rebuilt && self.content.is_none_or(|c| c.terminating))
            || self.is_misbound()
    }

    /// A rebuilt content that is bound to another snapshot than the one that stands.
    ///
    /// SUBTLE: 1. A member is rebuilt, and the controller writes the snapshot's uid into the content; 2. the rebuilt
    /// snapshot is deleted, e.g. by a controller that still sees the group whose name the new member got; 3. a second
    /// snapshot of the same name never binds: "bound to a different snapshot". The content has to be made again too.
    pub fn is_misbound(&self) -> bool {
        let bound = self.content.filter(|_| self.rebuilt).and_then(|content| content.snapshot_uid.as_ref());
        bound.is_some_and(|uid| self.snapshot.is_none_or(|snapshot| snapshot.id.uid != *uid))
    }

    /// Whether a half of a rebuilt member is being deleted: only once it is gone can it be made again. One whose
    /// snapshot is gone, and that somebody deletes by hand, does not go by itself.
    pub fn is_being_deleted(&self) -> bool {
        let goes =
            |content: &ContentSeen| content.terminating && (!self.is_misbound() || is_being_deleted(content));
        self.rebuilt && (self.snapshot.is_some_and(|s| s.terminating) || self.content.is_some_and(goes))
    }
}

/// Whether the members go with their namespace behind the pivot, where nobody can keep them. What is kept then is their
/// storage: each by a VolumeSnapshotContent, which has no namespace.
pub fn goes_along(run: &GroupRun, observation: &Observation) -> bool {
    let stays = observation.namespace.as_ref().is_some_and(|namespace| !namespace.terminating);
    run.stage == Stage::Releasing && !stays
}

/// A snapshot that stays with an owner that the release takes off, the in-group finalizer, or a class that is not the
/// planned one.
pub fn is_still_owned(run: &GroupRun, snapshot: &SnapshotSeen) -> bool {
    let owned = || snapshot.owners.iter().any(|owner| is_tie(run, owner));
    let other_class = || snapshot.class.as_deref() != Some(run.plan.snapshot_class.as_str());
    !snapshot.terminating && (owned() || is_in_group(snapshot) || other_class())
}

/// An owner that the release takes off. Behind the pivot that is any VolumeGroupSnapshot: a controller makes one that
/// has the name of ours an owner of the members, too, and they would go with it.
pub fn is_tie(run: &GroupRun, owner: &Owner) -> bool {
    run.group_uid.as_ref().is_some_and(|uid| owner.is_group(uid))
        || (run.stage == Stage::Releasing && owner.is_any_group())
}

/// A snapshot that goes, and that nobody but us lets go.
///
/// SUBTLE: the snapshot-controller takes the in-group finalizer off a deleted member only while the member's status
/// names its group (external-snapshotter, common-controller). 1. Somebody deletes a member, or the whole group;
/// 2. we clear the name; 3. the controller takes off as-source and leaves in-group; 4. the snapshot is Terminating for
/// ever, and its namespace with it.
pub fn is_blocked_terminating(snapshot: &SnapshotSeen) -> bool {
    snapshot.terminating && is_blocked_if_deleted(snapshot)
}

/// A snapshot that would be stranded were it deleted. While its group lives, the controller may still write the name:
/// a member that is not ready has none yet.
pub fn is_blocked_if_deleted(snapshot: &SnapshotSeen) -> bool {
    snapshot.group_name.is_none() && is_in_group(snapshot)
}

fn is_in_group(snapshot: &SnapshotSeen) -> bool {
    snapshot.finalizers.iter().any(|finalizer| finalizer == labels::IN_GROUP_PROTECTION)
}

/// Whether a member with retained storage was released while its group stands, and not by this run, which is being undone.
pub fn has_foreign_release(run: &GroupRun, observation: &Observation) -> bool {
    own_content(run, observation).is_some()
        && members(run, observation).iter().any(|member| {
            let retains = member.content.is_some_and(|content| content.policy == DeletionPolicy::Retain);
            retains && member.snapshot.is_some_and(is_released)
        })
}

/// A member that stands by itself. Of a group it has owner and finalizer from its creation on, and the name once it is
/// ready.
fn is_released(snapshot: &SnapshotSeen) -> bool {
    let is_owned = snapshot.owners.iter().any(Owner::is_any_group);
    let is_free = snapshot.group_name.is_none() && !is_in_group(snapshot) && !is_owned;
    snapshot.ready && !snapshot.terminating && is_free
}

/// Ids of the journals that the objects of the run carry.
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

/// The VolumeGroupSnapshot, if it is ours.
pub fn own_group<'a>(run: &GroupRun, observation: &'a Observation) -> Option<&'a GroupSnapshotSeen> {
    observation.group.as_ref().filter(|group| match &run.group_uid {
        Some(uid) => group.id.uid == *uid,
        None => group.run.as_deref() == Some(run.plan.run.to_string().as_str()),
    })
}

/// The VolumeGroupSnapshotContent, if it is that of our group. As long as we do not know the uid of our group, every uid
/// is taken for it, because its name is used by no other run. A reference without uid is never that of our group: the
/// snapshot-controller writes the uid when it makes a content, and people who import one leave it out.
pub fn own_content<'a>(run: &GroupRun, observation: &'a Observation) -> Option<&'a GroupContentSeen> {
    observation.content.as_ref().filter(|content| match (&run.group_uid, &content.group_uid) {
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
        .map(|index| match &run.receipt {
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

/// A rebuilt member is known by its computed name, which nobody else makes, and by the label of the run.
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

/// Before the receipt: the content of the planned volume that carries the group's handle, and the snapshot it names.
fn member_by_handle<'a>(run: &GroupRun, index: usize, observation: &'a Observation) -> Member<'a> {
    let handle = &run.plan.members[index].volume_handle;
    let group_handle = group_handle(run, observation);
    let mut contents = observation.contents.iter().filter(|content| {
        content.volume_handle.as_ref() == Some(handle)
            && content.group_handle.is_some()
            && content.group_handle.as_deref() == group_handle
    });
    let content = contents.next().or_else(|| counted(run, group_handle, observation));
    let snapshot = content.and_then(|content| {
        observation.snapshots.iter().find(|snapshot| {
            snapshot.id.name == content.snapshot_name
                && snapshot.id.namespace == content.snapshot_namespace
                && content.snapshot_uid.as_ref().is_none_or(|uid| *uid == snapshot.id.uid)
        })
    });
    Member { index, snapshot, content, rebuilt: false, ambiguous: contents.next().is_some() }
}

/// Whether a member was lost before the receipt, so that the cut can never be bound: what is being deleted gets no new
/// finalizer and never becomes ready, what was released names its group no more, and the snapshot-controller makes members only until their group is ready. A member
/// that it has not made yet is not lost: nothing names it.
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

/// With the planted defect `counts`: whatever the group holds beside the planned volumes, so that the number is right.
fn counted<'a>(
    run: &GroupRun,
    group_handle: Option<&str>,
    observation: &'a Observation,
) -> Option<&'a ContentSeen> {
    let planned = |content: &ContentSeen| {
        run.plan.members.iter().any(|member| Some(&member.volume_handle) == content.volume_handle.as_ref())
    };
    let of_group = |content: &&ContentSeen| {
        content.group_handle.is_some() && content.group_handle.as_deref() == group_handle && !planned(content)
    };
    observation.contents.iter().find(|content| planted::is("counts") && of_group(content))
}

/// The handle of the group, from its content, else from the journal.
fn group_handle<'a>(run: &'a GroupRun, observation: &'a Observation) -> Option<&'a str> {
    let seen = own_content(run, observation).and_then(|content| content.group_handle.as_deref());
    seen.or(run.cut.as_ref().map(|(handle, _)| handle.as_str()))
}

/// Contents of members of this run: labelled, cut with its group, bound to one of its snapshots, or under the name that the
/// snapshot-controller computes. By that one is known what is left of a cut of which nobody heard before all else was gone.
pub fn own_contents<'a>(
    run: &'a GroupRun,
    observation: &'a Observation,
) -> impl Iterator<Item = &'a ContentSeen> {
    let group_handle = group_handle(run, observation);
    let names: Vec<&str> = own_snapshots(run, observation).map(|s| s.id.name.as_str()).collect();
    let label = run.plan.run.to_string();
    let computed = |content: &ContentSeen| {
        let (Some(group), Some(volume)) = (&run.group_uid, &content.volume_handle) else { return false };
        content.id.name == names::member_content(&group.0, volume)
    };
    observation.contents.iter().filter(move |content| {
        content.labels.as_ref().and_then(|l| l.get(labels::RUN)).is_some_and(|value| *value == label)
            || (content.group_handle.is_some() && content.group_handle.as_deref() == group_handle)
            || names.contains(&content.snapshot_name.as_str())
            || computed(content)
    })
}

/// Contents of which rebuilt members have taken the place, each with the index of its member: recorded ones beside a member
/// that stands, is bound and ready under new objects, and whose own VolumeSnapshot is gone. Nobody else takes them away.
pub fn replaced<'a>(run: &GroupRun, observation: &'a Observation) -> Vec<(usize, &'a ContentSeen)> {
    let Some(receipt) = run.receipt.as_ref().filter(|_| run.stage == Stage::Releasing) else {
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

/// Whether a VolumeSnapshotContent goes by itself: it is being deleted, and carries the mark that the snapshot-controller
/// makes when it deletes the VolumeSnapshot. Without it the csi-snapshotter never lets go of a content that somebody
/// deletes by hand (external-snapshotter, `shouldDelete` of the sidecar).
pub fn is_being_deleted(content: &ContentSeen) -> bool {
    let marked =
        content.annotations.as_ref().is_some_and(|all| all.contains_key(labels::CONTENT_BEING_DELETED));
    content.terminating && marked
}

/// VolumeSnapshots of members of this run: labelled, owned by our group, naming it, or bound to a content of its cut.
pub fn own_snapshots<'a>(
    run: &'a GroupRun,
    observation: &'a Observation,
) -> impl Iterator<Item = &'a SnapshotSeen> {
    let (label, name) = (run.plan.run.to_string(), run.group_name());
    let recorded = |snapshot: &SnapshotSeen| {
        run.receipt.as_ref().is_some_and(|r| r.members.iter().any(|m| m.snapshot.uid == snapshot.id.uid))
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
                .group_uid
                .as_ref()
                .is_some_and(|uid| snapshot.owners.iter().any(|owner| owner.is_group(uid)))
            || snapshot.group_name.as_ref() == Some(&name)
            || recorded(snapshot)
            || bound(snapshot)
    })
}
