//! Defines `view`: state × observation → the seen columns of the recovery table.
//!
//! `matching` finds the objects of the run. A view contains no objects, only the columns and one word of
//! flags per member, so that it fits into a record.

use crate::domain::labels;
use crate::domain::observed::{DeletionPolicy, GroupContentSeen, Observation};
use crate::machine::group::columns::{
    Acknowledged, Claims, Class, Column, Content, DriverError, Fresh, Group, GroupClass, Import, Labels,
    Loss, Marked, Names, Policies, Progress, Protection, Replaced, Retaining, Shells, Space, Stub, Taken,
    Ties,
};
use crate::machine::group::desired;
use crate::machine::group::matching::{
    Member, goes_along, is_being_deleted, is_blocked_if_deleted, is_blocked_terminating, is_spoilt,
    is_still_owned, members, own_content, own_contents, own_group, own_snapshots, replaced, snapshot_handle,
};
use crate::machine::group::state::{GroupRun, Stage};
use crate::machine::kit::View;

/// State of one member, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum MemberFlags {
    /// Its VolumeSnapshot exists with the recorded or rebuilt uid, and is not being deleted.
    Stands = 1,
    /// It is `readyToUse` and names its content.
    Ready = 1 << 1,
    /// Its content exists and has a snapshot handle.
    Content = 1 << 2,
    /// Its content has policy Retain and the receipt.
    Retained = 1 << 3,
    /// It has labels and receipt.
    Labelled = 1 << 4,
    /// Its status has a group name.
    Named = 1 << 5,
    /// An owner reference, the in-group finalizer or a missing class ties it to the group, or only the
    /// finalizer blocks its deletion.
    Tied = 1 << 6,
    /// It has the as-source finalizer.
    Acknowledged = 1 << 7,
    /// It was rebuilt.
    Rebuilt = 1 << 8,
    /// The driver has a snapshot of its volume.
    Cut = 1 << 9,
    /// It was rebuilt, and snapshot or content is being deleted. It can be rebuilt again only after that.
    Going = 1 << 10,
}

pub fn view(run: &GroupRun, observation: &Observation) -> View {
    let members = members(run, observation);
    let flags: Vec<u16> = members.iter().map(|member| flags(run, observation, *member)).collect();
    let mut view =
        View { members: flags.clone(), error_since: observation.error_since, ..View::blank::<Column>() };
    set_group(&mut view, run, observation);
    set_members(&mut view, &flags);
    view.set(match run.state.receipt {
        Some(_) if goes_along(run, observation) => {
            loss_of_storage(&flags, members.iter().any(|member| member.snapshot.is_some()))
        }
        Some(_) => loss(&flags),
        None if run.stage == Stage::Created && is_spoilt(run, observation) => Loss::Lost,
        None => Loss::None,
    });
    view.set(policies(run, observation, &flags));
    view.set(progress(run, observation, &flags));
    view.set(claims(run, observation));
    view.set(if observation.class_exists { Class::Exists } else { Class::Missing });
    view.set(if observation.group_class_missing { GroupClass::Missing } else { GroupClass::Exists });
    view.set(space(observation));
    view.set(if replaced(run, observation).is_empty() { Replaced::None } else { Replaced::Some });
    view.set(if observation.fresh { Fresh::Yes } else { Fresh::No });
    view.set(ties(run, observation, &flags));
    view.set(names(run, observation, &flags));
    view.set(shells(run, observation));
    view
}

fn space(observation: &Observation) -> Space {
    match &observation.namespace {
        None => Space::Gone,
        Some(namespace) if namespace.terminating => Space::Going,
        Some(_) => Space::Stands,
    }
}

/// Names of the existing members; during a rollback, of all remaining VolumeSnapshots.
fn names(run: &GroupRun, observation: &Observation, flags: &[u16]) -> Names {
    let has = |bits: &u16, flag: MemberFlags| bits & flag as u16 != 0;
    let named: Vec<bool> = match run.stage {
        Stage::Unwinding => own_snapshots(run, observation).map(|s| s.group_name.is_some()).collect(),
        _ => {
            let standing = flags.iter().filter(|bits| has(bits, MemberFlags::Stands));
            standing.map(|bits| has(bits, MemberFlags::Named)).collect()
        }
    };
    match (named.contains(&true), named.contains(&false)) {
        // If all members are deleted with their namespace, no member is left to be named.
        (false, false)
            if run.plan.keep_group_name && goes_along(run, observation) && observation.group.is_none() =>
        {
            Names::Set
        }
        (false, _) => Names::Clear,
        (true, true) => Names::Mixed,
        (true, false) => Names::Set,
    }
}

fn ties(run: &GroupRun, observation: &Observation, flags: &[u16]) -> Ties {
    let tied = match run.stage {
        Stage::Unwinding => own_snapshots(run, observation).any(is_blocked_if_deleted),
        _ => flags.iter().any(|bits| bits & MemberFlags::Tied as u16 != 0),
    };
    if tied { Ties::Tied } else { Ties::Free }
}

/// Whether the flag is set for the member.
fn has(
    member: Member<'_>,
    run: &GroupRun,
    observation: &Observation,
    text: &desired::Text,
    flag: MemberFlags,
) -> bool {
    let snapshot = member.snapshot.filter(|s| !s.terminating);
    let content = member.content.filter(|c| !c.terminating);
    let journal = observation.journal.as_deref();
    match flag {
        MemberFlags::Stands => snapshot.is_some() && !member.ambiguous && !member.is_misbound(),
        MemberFlags::Ready => snapshot.is_some_and(|s| {
            s.ready && s.bound_content.as_deref() == member.content.map(|c| c.id.name.as_str())
        }),
        MemberFlags::Content => content.is_some_and(|c| c.snapshot_handle.is_some()),
        MemberFlags::Retained => member.content.is_some_and(|c| {
            let marked = || {
                run.state.receipt.is_none() || desired::is_content_marked(run, journal, member.index, c, text)
            };
            c.policy == DeletionPolicy::Retain && marked()
        }),
        MemberFlags::Labelled => {
            snapshot.is_some_and(|s| desired::is_labelled(run, journal, member.index, s, text))
        }
        MemberFlags::Named => member.snapshot.is_some_and(|s| s.group_name.is_some()),
        MemberFlags::Tied => {
            member.snapshot.is_some_and(|s| is_still_owned(run, s) || is_blocked_terminating(s))
        }
        MemberFlags::Acknowledged => {
            snapshot.is_some_and(|s| s.finalizers.iter().any(|f| f == labels::AS_SOURCE_PROTECTION))
        }
        MemberFlags::Rebuilt => member.rebuilt,
        MemberFlags::Cut => snapshot_handle(run, observation, member).is_some(),
        MemberFlags::Going => member.is_being_deleted(),
    }
}

fn flags(run: &GroupRun, observation: &Observation, member: Member<'_>) -> u16 {
    use MemberFlags as F;
    let text = desired::Text::default();
    [
        F::Stands,
        F::Ready,
        F::Content,
        F::Retained,
        F::Labelled,
        F::Named,
        F::Tied,
        F::Acknowledged,
        F::Rebuilt,
        F::Cut,
        F::Going,
    ]
    .into_iter()
    .filter(|flag| has(member, run, observation, &text, *flag))
    .fold(0, |bits, flag| bits | flag as u16)
}

fn set_group(view: &mut View, run: &GroupRun, observation: &Observation) {
    let group = own_group(run, observation);
    let content = own_content(run, observation);
    view.set(match (group, &observation.group) {
        _ if observation.overtaken => Group::Newer,
        (None, None) => Group::Absent,
        (None, Some(_)) => Group::Foreign,
        // Also for a group that is being deleted: an overtaken daemon must not write to its members either.
        (Some(group), _) if group.epoch.unwrap_or(0) > observation.epoch => Group::Newer,
        (Some(group), _) if group.terminating => Group::Terminating,
        (Some(group), _) if group.epoch.unwrap_or(0) == observation.epoch => Group::Ours,
        (Some(_), _) => Group::Older,
    });
    view.set(match content.map(|content| (content.policy, content.terminating)) {
        None => Content::Absent,
        Some((DeletionPolicy::Delete, false)) => Content::Delete,
        Some((DeletionPolicy::Retain, false)) => Content::Retain,
        Some((DeletionPolicy::Delete, true)) => Content::DeleteTerminating,
        Some((DeletionPolicy::Retain, true)) => Content::RetainTerminating,
    });
    view.set(if content.is_none_or(|content| content.marked_deleted) { Marked::Yes } else { Marked::No });
    // Without its class the controller ignores a group that is not being deleted, and never sets its
    // finalizer.
    let classless = observation.group_class_missing && run.stage == Stage::Unwinding;
    let protected = group.is_none_or(|g| g.protected || classless) && content.is_none_or(|c| c.protected);
    view.set(if protected { Protection::Complete } else { Protection::Pending });
    view.set(driver_error(content));
    view.set(if observation.stub.is_some() { Stub::Exists } else { Stub::Absent });
    view.set(import(observation.import.as_ref()));
    view.set(if observation.taken { Taken::Yes } else { Taken::No });
    let retains = |policy: DeletionPolicy| policy == DeletionPolicy::Retain;
    let some = content.is_some_and(|c| retains(c.policy))
        || own_contents(run, observation).any(|c| retains(c.policy) && !c.terminating);
    view.set(if some { Retaining::Some } else { Retaining::None });
}

fn set_members(view: &mut View, flags: &[u16]) {
    use MemberFlags as F;
    let has = |bits: &u16, flag: F| bits & flag as u16 != 0;
    // A lost member needs no labels, release or acknowledgement.
    let standing: Vec<u16> = flags.iter().copied().filter(|bits| has(bits, F::Stands)).collect();
    let all = |flag: F| standing.iter().all(|bits| has(bits, flag));
    view.set(if all(F::Labelled) { Labels::Complete } else { Labels::Missing });
    view.set(if all(F::Acknowledged) { Acknowledged::Yes } else { Acknowledged::No });
}

/// Whether every member's content has policy Retain and the receipt. The recorded content of a lost member
/// counts: it keeps the storage as long as it is under Retain. The group's content needs the receipt only
/// until the pivot, because it is deleted afterwards.
fn policies(run: &GroupRun, observation: &Observation, flags: &[u16]) -> Policies {
    use MemberFlags as F;
    let has = |bits: &u16, flag: F| bits & flag as u16 != 0;
    let members = flags.iter().all(|bits| has(bits, F::Retained) || !has(bits, F::Content));
    let group = own_content(run, observation).is_none_or(|content| {
        run.stage >= Stage::Releasing
            || content.policy == DeletionPolicy::Delete
            || desired::is_group_content_marked(run, observation.journal.as_deref(), content)
    });
    let retains = |policy: DeletionPolicy| policy == DeletionPolicy::Retain;
    // An abandoned run also checks contents without a member, and the import that a rollback created to free
    // the storage.
    let others = run.stage != Stage::Abandoned
        || own_contents(run, observation).all(|content| retains(content.policy))
            && observation.import.as_ref().is_none_or(|import| retains(import.policy));
    if members && group && others { Policies::Retain } else { Policies::Delete }
}

fn loss(flags: &[u16]) -> Loss {
    use MemberFlags as F;
    let has = |bits: &u16, flag: F| bits & flag as u16 != 0;
    let lost = |bits: &u16| !has(bits, F::Stands) || (has(bits, F::Rebuilt) && !has(bits, F::Content));
    if flags.iter().any(|bits| lost(bits) && !has(bits, F::Going)) {
        return Loss::Lost;
    }
    if flags.iter().any(|bits| has(bits, F::Rebuilt) && (lost(bits) || !has(bits, F::Ready))) {
        return Loss::Rebuilding;
    }
    if flags.iter().any(|bits| !has(bits, F::Content) || !has(bits, F::Ready)) {
        return Loss::Hollow;
    }
    Loss::None
}

/// Computes the loss for members that are deleted with their namespace. Only their contents are kept.
///
/// SUBTLE: a content can be lost although it is under Retain. Such a member gets another content.
/// 1. A content is set to Retain.
/// 2. The namespace is deleted.
/// 3. A snapshot-controller whose cache still has Delete deletes the content with its VolumeSnapshot.
/// 4. The csi-snapshotter reads Retain and frees nothing: no object names the storage any more.
///
/// The controller deletes the content before the VolumeSnapshot goes: only then is the loss certain.
fn loss_of_storage(flags: &[u16], has_snapshots: bool) -> Loss {
    use MemberFlags as F;
    let has = |bits: &u16, flag: F| bits & flag as u16 != 0;
    if flags.iter().any(|bits| !has(bits, F::Content) && !has(bits, F::Going)) {
        return Loss::Lost;
    }
    let is_complete = flags.iter().all(|bits| has(bits, F::Content)) && !has_snapshots;
    if is_complete { Loss::None } else { Loss::Rebuilding }
}

fn progress(run: &GroupRun, observation: &Observation, flags: &[u16]) -> Progress {
    use MemberFlags as F;
    let Some(content) = own_content(run, observation) else { return Progress::Nothing };
    let mut frozen: Vec<&str> = content.volume_handles.iter().map(String::as_str).collect();
    let mut planned: Vec<&str> = run.plan.members.iter().map(|m| m.volume_handle.as_str()).collect();
    frozen.sort_unstable();
    planned.sort_unstable();
    if frozen != planned {
        return Progress::Differs;
    }
    let all = |wanted: &[F]| flags.iter().all(|bits| wanted.iter().all(|flag| bits & *flag as u16 != 0));
    // After the cut is recorded, a member that is being deleted does not revert it: with v1beta1 the members
    // alone report the cut.
    if content.group_handle.is_none() || (run.state.cut.is_none() && !all(&[F::Cut])) {
        return Progress::Frozen;
    }
    let group_ready = own_group(run, observation).is_some_and(|group| group.ready);
    let name = run.group_name();
    let names_us = members(run, observation)
        .iter()
        .all(|m| m.snapshot.is_some_and(|s| s.group_name.as_ref() == Some(&name)));
    if group_ready && names_us && all(&[F::Stands, F::Ready, F::Content]) {
        return Progress::Bound;
    }
    Progress::Cut
}

/// The driver's error, by its gRPC code. The content has the error first; the group copies it later.
fn driver_error(content: Option<&GroupContentSeen>) -> DriverError {
    const PASSING: [&str; 5] =
        ["Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted"];
    let Some(message) = content.and_then(|content| content.error.as_deref()) else {
        return DriverError::None;
    };
    let code = grpc_code(message);
    match code {
        Some("Unimplemented") => DriverError::Unsupported,
        Some(code) if PASSING.contains(&code) => DriverError::Passing,
        _ => DriverError::Final,
    }
}

/// The driver's answer about the imported group. After any other answer the csi-snapshotter queries the
/// driver again.
fn import(import: Option<&GroupContentSeen>) -> Import {
    let Some(import) = import else { return Import::Absent };
    match import.error.as_deref().and_then(grpc_code) {
        _ if import.terminating => Import::Going,
        _ if import.group_handle.is_some() => Import::Held,
        Some("NotFound" | "Unimplemented") => Import::Unknown,
        _ => Import::Asked,
    }
}

/// The code in `rpc error: code = CODE desc = ...`, the format of Go's gRPC.
fn grpc_code(message: &str) -> Option<&str> {
    let rest = message.split("code = ").nth(1)?;
    rest.split_whitespace().next()
}

fn claims(run: &GroupRun, observation: &Observation) -> Claims {
    let intact = run.plan.members.iter().all(|member| {
        observation.claims.iter().any(|claim| {
            claim.id.uid == member.claim_uid
                && claim.volume.as_deref() == Some(member.volume.as_str())
                && !claim.terminating
        })
    });
    if intact { Claims::Intact } else { Claims::Changed }
}

fn shells(run: &GroupRun, observation: &Observation) -> Shells {
    let snapshots: Vec<bool> = own_snapshots(run, observation).map(|s| s.terminating).collect();
    let contents: Vec<bool> = own_contents(run, observation).map(is_being_deleted).collect();
    if snapshots.iter().any(|terminating| !terminating) {
        Shells::Snapshots
    } else if snapshots.is_empty() && contents.iter().any(|going| !going) {
        Shells::Contents
    } else if snapshots.is_empty() && contents.is_empty() {
        Shells::None
    } else {
        Shells::Leaving
    }
}
