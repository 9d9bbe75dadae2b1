//! Defines `effects`: the missing effects of a step, from state and observation.
//!
//! A value that is already set needs no effect. A step that is repeated after a crash therefore writes only
//! missing values, and a completed step has no effects at all.

use std::collections::BTreeMap;

use crate::domain::ids::ObjectId;
use crate::domain::labels;
use crate::domain::names;
use crate::domain::observed::{
    ContentSeen, DeletionPolicy, Entries, GroupContentSeen, Observation, SnapshotSeen,
};
use crate::domain::receipt::Receipt;
use crate::machine::group::desired;
use crate::machine::group::effect::{Effect, EffectRef, Unbound};
use crate::machine::group::event::Step;
use crate::machine::group::matching::{self, Member, own_content, own_contents, own_group, own_snapshots};
use crate::machine::group::state::{GroupRun, Stage};
use crate::machine::kit::Entry;

/// An effect with the index of its member; `None` for the group.
type PlannedEffect = (Option<usize>, Effect);

/// The missing effects of a step, in the order in which they begin.
pub fn effects(run: &GroupRun, observation: &Observation, step: Step) -> Vec<(EffectRef, Effect)> {
    let planned: Vec<PlannedEffect> = match step {
        Step::Create | Step::UndoCreate => vec![(None, create_group(run, observation))],
        Step::Claim => claim(run, observation),
        Step::Relabel => {
            standing(run, observation).filter_map(|member| relabel(run, observation, member)).collect()
        }
        Step::Retain => set_policies(run, observation, DeletionPolicy::Retain),
        Step::ClearNames if run.stage == Stage::Unwinding => own_snapshots(run, observation)
            .filter(|snapshot| snapshot.group_name.is_some())
            .map(|snapshot| (None, write_name(snapshot, None)))
            .collect(),
        Step::ClearNames => standing(run, observation).filter_map(|member| set_name(member, None)).collect(),
        Step::Detach if run.stage == Stage::Unwinding => own_snapshots(run, observation)
            .filter(|snapshot| matching::is_blocked_if_deleted(snapshot))
            .map(|snapshot| (None, free(run, snapshot)))
            .collect(),
        Step::Detach => {
            let members = matching::members(run, observation).into_iter();
            members.filter_map(|member| detach(run, member)).collect()
        }
        Step::DeleteGroup | Step::UndoDeleteGroup => delete_group(run, observation),
        Step::Rebuild => rebuild(run, observation),
        Step::MakeStub => make_stub(run, observation),
        Step::DropStub => drop_stub(observation),
        Step::UndoImport => import(run, observation),
        Step::UndoFreeImport => free_import(observation),
        Step::DeleteContent => delete_content(run, observation),
        Step::MarkContent => mark_content(run, observation),
        Step::RestoreNames => {
            let name = run.group_name();
            standing(run, observation).filter_map(|member| set_name(member, Some(name.clone()))).collect()
        }
        Step::DropReplaced => matching::replaced(run, observation)
            .into_iter()
            .map(|(index, content)| (Some(index), drop_replaced(content)))
            .collect(),
        Step::UndoFree => set_policies(run, observation, DeletionPolicy::Delete),
        Step::UndoDeleteContent => match mark_content(run, observation) {
            marks if marks.is_empty() => delete_content(run, observation),
            marks => marks,
        },
        Step::UndoDeleteSnapshots => own_snapshots(run, observation)
            .filter(|snapshot| !snapshot.terminating)
            .map(|snapshot| (None, Effect::DeleteSnapshot { snapshot: snapshot.id.clone() }))
            .collect(),
        Step::UndoDeleteContents => own_contents(run, observation)
            .filter(|content| !matching::is_being_deleted(content))
            .map(|content| (None, delete_shell(content)))
            .collect(),
    };
    planned
        .into_iter()
        .map(|(member, effect)| {
            (EffectRef { kind: effect.kind(), member: member.map(|index| index as u16) }, effect)
        })
        .collect()
}

/// The members whose VolumeSnapshot exists.
fn standing<'a>(run: &GroupRun, observation: &'a Observation) -> impl Iterator<Item = Member<'a>> + use<'a> {
    matching::members(run, observation).into_iter().filter(|member| !member.is_lost())
}

fn create_group(run: &GroupRun, observation: &Observation) -> Effect {
    Effect::CreateGroup {
        namespace: run.plan.namespace.clone(),
        name: run.group_name(),
        labels: desired::group_labels(run, observation.journal.as_deref()),
        annotations: [(labels::EPOCH.to_owned(), observation.epoch.to_string())].into(),
        class: run.plan.group_class.clone(),
        selector: run.plan.selector.clone(),
    }
}

fn claim(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let group = own_group(run, observation).filter(|group| group.epoch.unwrap_or(0) < observation.epoch);
    let claim = |group: &crate::domain::observed::GroupSnapshotSeen| Effect::ClaimGroup {
        group: group.id.clone(),
        old: group.epoch.map(|epoch| epoch.to_string()),
        new: observation.epoch,
    };
    group.map(|group| (None, claim(group))).into_iter().collect()
}

fn relabel(run: &GroupRun, observation: &Observation, member: Member<'_>) -> Option<PlannedEffect> {
    let (snapshot, receipt) = (member.snapshot?, run.state.receipt.as_ref()?);
    let journal = observation.journal.as_deref();
    if desired::is_labelled(run, journal, member.index, snapshot, &desired::Text::default()) {
        return None;
    }
    let effect = Effect::LabelMember {
        snapshot: snapshot.id.clone(),
        labels: Entry::missing(&snapshot.labels, desired::member_labels(run, journal, member.index)),
        annotations: Entry::missing(
            &snapshot.annotations,
            desired::member_annotations(run, receipt, member.index),
        ),
    };
    Some((Some(member.index), effect))
}

/// Effects that set the policies of the group's content and of the members' contents to `new`. Under Retain
/// the same patch sets run label and receipt.
fn set_policies(run: &GroupRun, observation: &Observation, new: DeletionPolicy) -> Vec<PlannedEffect> {
    let receipt = run.state.receipt.as_deref().filter(|_| new == DeletionPolicy::Retain);
    let journal = observation.journal.as_deref();
    let group = own_content(run, observation)
        .and_then(|content| set_group_policy(run, journal, receipt, content, new));
    let indexed = matching::members(run, observation);
    let index_of = |content: &ContentSeen| {
        indexed.iter().find(|m| m.content.is_some_and(|c| c.id.uid == content.id.uid)).map(|m| m.index)
    };
    let members = own_contents(run, observation)
        .filter_map(|content| set_member_policy(run, journal, receipt, content, index_of(content), new));
    // An abandoned run also retains the import that a rollback created to free the storage.
    let import = observation.import.iter().filter(|_| run.stage == Stage::Abandoned);
    let import = import.filter_map(|content| set_group_policy(run, journal, None, content, new));
    group.into_iter().chain(members).chain(import).collect()
}

fn set_group_policy(
    run: &GroupRun,
    journal: desired::Journal<'_>,
    receipt: Option<&Receipt>,
    content: &GroupContentSeen,
    new: DeletionPolicy,
) -> Option<PlannedEffect> {
    let wanted = receipt.map(|receipt| desired::group_content_annotations(run, receipt));
    let (labels, annotations) = content_entries(run, journal, wanted, &content.labels, &content.annotations);
    let holds = content.policy == new && labels.write.is_empty() && annotations.write.is_empty();
    let (content, resource_version, old) =
        (content.id.clone(), content.resource_version.clone(), content.policy);
    let effect = Effect::SetGroupContentPolicy { content, resource_version, old, new, labels, annotations };
    (!holds).then_some((None, effect))
}

fn set_member_policy(
    run: &GroupRun,
    journal: desired::Journal<'_>,
    receipt: Option<&Receipt>,
    content: &ContentSeen,
    index: Option<usize>,
    new: DeletionPolicy,
) -> Option<PlannedEffect> {
    let wanted = receipt.zip(index).map(|(receipt, index)| desired::content_annotations(run, receipt, index));
    let (labels, annotations) = content_entries(run, journal, wanted, &content.labels, &content.annotations);
    let holds = content.policy == new && labels.write.is_empty() && annotations.write.is_empty();
    let (content, resource_version, old) =
        (content.id.clone(), content.resource_version.clone(), content.policy);
    let effect = Effect::SetContentPolicy { content, resource_version, old, new, labels, annotations };
    (!holds).then_some((index, effect))
}

/// Run label and receipt, if a receipt is wanted.
fn content_entries(
    run: &GroupRun,
    journal: desired::Journal<'_>,
    receipt: Option<BTreeMap<String, String>>,
    labels: &Entries,
    annotations: &Entries,
) -> (Entry, Entry) {
    let label = receipt.as_ref().map(|_| desired::run_label(run, journal)).unwrap_or_default();
    (Entry::missing(labels, label), Entry::missing(annotations, receipt.unwrap_or_default()))
}

fn set_name(member: Member<'_>, new: Option<String>) -> Option<PlannedEffect> {
    let snapshot = member.snapshot.filter(|snapshot| snapshot.group_name != new)?;
    Some((Some(member.index), write_name(snapshot, new)))
}

fn write_name(snapshot: &SnapshotSeen, new: Option<String>) -> Effect {
    Effect::SetGroupName { snapshot: snapshot.id.clone(), old: snapshot.group_name.clone(), new }
}

fn detach(run: &GroupRun, member: Member<'_>) -> Option<PlannedEffect> {
    let stays = !member.is_lost();
    let snapshot = member.snapshot.filter(|snapshot| {
        if stays {
            matching::is_still_owned(run, snapshot)
        } else {
            matching::is_blocked_terminating(snapshot)
        }
    })?;
    // SUBTLE: the patch removes as-source together with the rest, although the controller restores it at
    // once.
    // 1. Stillpoint's patch leaves as-source in place.
    // 2. The controller works from an old cache and has not read the patch.
    // 3. Release step 3 finds as-source and concludes that the controller has read the patch.
    // 4. The group is deleted. The controller still has owned members in its cache and deletes them.
    //
    // Measured on real controllers: 16 of 16 members lost, with every check passing. A member that is being
    // deleted keeps as-source: a restore from it may be running, and the controller tracks that.
    let kept = |finalizer: &&String| match finalizer.as_str() {
        labels::IN_GROUP_PROTECTION => false,
        labels::AS_SOURCE_PROTECTION => !stays,
        _ => true,
    };
    let effect = Effect::DetachMember {
        snapshot: snapshot.id.clone(),
        ready: stays,
        group_name: snapshot.group_name.clone(),
        old_owners: snapshot.owners.clone(),
        new_owners: snapshot.owners.iter().filter(|owner| !matching::is_tie(run, owner)).cloned().collect(),
        old_finalizers: snapshot.finalizers.clone(),
        new_finalizers: snapshot.finalizers.iter().filter(kept).cloned().collect(),
        old_class: snapshot.class.clone(),
        new_class: Some(run.plan.snapshot_class.clone()),
    };
    Some((Some(member.index), effect))
}

/// Removes the in-group finalizer from a member of a deleted group. The controller never finalizes a snapshot
/// without owner and class if no class is the default. With the name of a class it does, even if that class
/// does not exist.
fn free(run: &GroupRun, snapshot: &SnapshotSeen) -> Effect {
    let kept = |finalizer: &&String| finalizer.as_str() != labels::IN_GROUP_PROTECTION;
    Effect::DetachMember {
        snapshot: snapshot.id.clone(),
        ready: false,
        group_name: None,
        old_owners: snapshot.owners.clone(),
        new_owners: snapshot.owners.clone(),
        old_finalizers: snapshot.finalizers.clone(),
        new_finalizers: snapshot.finalizers.iter().filter(kept).cloned().collect(),
        old_class: snapshot.class.clone(),
        new_class: Some(snapshot.class.clone().unwrap_or_else(|| run.plan.snapshot_class.clone())),
    }
}

fn delete_group(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let group = own_group(run, observation).filter(|group| !group.terminating);
    let delete = |group: &crate::domain::observed::GroupSnapshotSeen| Effect::DeleteGroup {
        group: group.id.clone(),
        resource_version: group.resource_version.clone(),
    };
    group.map(|group| (None, delete(group))).into_iter().collect()
}

fn delete_content(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let content = own_content(run, observation).filter(|content| !content.terminating);
    let delete = |id: &ObjectId, version: &str| Effect::DeleteGroupContent {
        content: id.clone(),
        resource_version: Some(version.to_owned()),
    };
    content.map(|content| (None, delete(&content.id, &content.resource_version))).into_iter().collect()
}

/// Sets the annotation without which the sidecar never frees the storage. A rollback sets it in a separate
/// step, because the delete that follows tests the version. Without that test, a client that sets the content
/// to Retain between observation and delete would leak the storage.
fn mark_content(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let content = own_content(run, observation).filter(|content| !content.marked_deleted);
    let wanted = || [(labels::GROUP_BEING_DELETED.to_owned(), "yes".to_owned())].into();
    content
        .map(|content| {
            let annotations = Entry::missing(&content.annotations, wanted());
            (None, Effect::MarkGroupContent { content: content.id.clone(), annotations })
        })
        .into_iter()
        .collect()
}

fn delete_shell(content: &ContentSeen) -> Effect {
    let wanted = [(labels::CONTENT_BEING_DELETED.to_owned(), "yes".to_owned())].into();
    Effect::DeleteContent {
        content: content.id.clone(),
        resource_version: None,
        annotations: Entry::missing(&content.annotations, wanted),
    }
}

/// Deletes a content whose storage belongs to a member. First it is annotated in a separate step, which also
/// sets it to Retain. The delete that follows tests the version. Without that test, a client that sets it to
/// Delete in between would free the storage.
fn drop_replaced(content: &ContentSeen) -> Effect {
    let wanted = [(labels::CONTENT_BEING_DELETED.to_owned(), "yes".to_owned())].into();
    let annotations = Entry::missing(&content.annotations, wanted);
    let (id, resource_version) = (content.id.clone(), content.resource_version.clone());
    if content.policy == DeletionPolicy::Retain && annotations.write.is_empty() {
        let resource_version = Some(resource_version);
        return Effect::DeleteContent { content: id, resource_version, annotations };
    }
    Effect::SetContentPolicy {
        content: id,
        resource_version,
        old: content.policy,
        new: DeletionPolicy::Retain,
        labels: Entry::missing(&content.labels, BTreeMap::new()),
        annotations,
    }
}

/// Creates, for each lost member, the content from the handle and the snapshot from the content. Existing
/// objects are skipped. A content that is bound to a deleted snapshot is deleted first: it is under Retain
/// and is created again from its handle. If the namespace is being deleted, only the content is created. It
/// keeps the handle for later use of the storage.
fn rebuild(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let Some(receipt) = &run.state.receipt else { return Vec::new() };
    let members = matching::members(run, observation);
    if matching::goes_along(run, observation) {
        let lost =
            members.into_iter().filter(|member| member.content.is_none_or(|content| content.terminating));
        return lost.flat_map(|member| make_content(run, receipt, observation, member.index)).collect();
    }
    let lost = members.into_iter().filter(Member::is_lost);
    lost.flat_map(|member| match member.content.filter(|_| member.is_misbound()) {
        Some(content) if matching::is_being_deleted(content) => Vec::new(),
        Some(content) => vec![(Some(member.index), delete_shell(content))],
        None => make_member(run, receipt, observation, member.index),
    })
    .collect()
}

fn make_member(
    run: &GroupRun,
    receipt: &Receipt,
    observation: &Observation,
    index: usize,
) -> Vec<PlannedEffect> {
    let mut planned = make_content(run, receipt, observation, index);
    let name = names::rebuilt_member(run.plan.run, &receipt.members[index].volume_handle);
    if !observation.snapshots.iter().any(|snapshot| snapshot.id.name == name) {
        let effect = Effect::CreateSnapshot {
            namespace: run.plan.namespace.clone(),
            name: name.clone(),
            content: name,
            class: run.plan.snapshot_class.clone(),
            labels: desired::member_labels(run, observation.journal.as_deref(), index),
            annotations: desired::member_annotations(run, receipt, index),
        };
        planned.push((Some(index), effect));
    }
    planned
}

fn make_content(
    run: &GroupRun,
    receipt: &Receipt,
    observation: &Observation,
    index: usize,
) -> Vec<PlannedEffect> {
    let kept = &receipt.members[index];
    let name = names::rebuilt_member(run.plan.run, &kept.volume_handle);
    if observation.contents.iter().any(|content| content.id.name == name) {
        return Vec::new();
    }
    let effect = Effect::CreateContent {
        name: name.clone(),
        driver: receipt.driver.clone(),
        snapshot_handle: kept.snapshot_handle.clone(),
        class: run.plan.snapshot_class.clone(),
        volume_mode: kept.volume_mode.clone(),
        snapshot_namespace: run.plan.namespace.clone(),
        snapshot_name: name,
        labels: desired::run_label(run, observation.journal.as_deref()),
        annotations: desired::content_annotations(run, receipt, index),
    };
    vec![(Some(index), effect)]
}

fn make_stub(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let journal = observation.journal.as_deref();
    let stub =
        |receipt| Effect::CreateStub(unbound(run, journal, receipt, names::stub_content(run.plan.run)));
    run.state.receipt.iter().map(|receipt| (None, stub(receipt))).collect()
}

fn import(run: &GroupRun, observation: &Observation) -> Vec<PlannedEffect> {
    let journal = observation.journal.as_deref();
    let import = |receipt: &Receipt| Effect::CreateImport {
        content: unbound(run, journal, receipt, names::import_content(run.plan.run)),
        secret: receipt.secret.clone(),
    };
    run.state.receipt.iter().map(|receipt| (None, import(receipt))).collect()
}

fn unbound(run: &GroupRun, journal: desired::Journal<'_>, receipt: &Receipt, name: String) -> Unbound {
    Unbound {
        name,
        driver: receipt.driver.clone(),
        class: receipt.group_class.clone(),
        group_handle: receipt.group_handle.clone(),
        snapshot_handles: receipt.members.iter().map(|member| member.snapshot_handle.clone()).collect(),
        group_namespace: run.plan.namespace.clone(),
        group_name: run.group_name(),
        labels: desired::run_label(run, journal),
    }
}

/// Deletes the import. The delete tests the version: only after the driver's answer was observed does a
/// delete free storage.
fn free_import(observation: &Observation) -> Vec<PlannedEffect> {
    let import = observation.import.iter().filter(|import| !import.terminating);
    let delete = |import: &GroupContentSeen| Effect::DeleteGroupContent {
        content: import.id.clone(),
        resource_version: Some(import.resource_version.clone()),
    };
    import.map(|import| (None, delete(import))).collect()
}

fn drop_stub(observation: &Observation) -> Vec<PlannedEffect> {
    let delete =
        |stub: &ObjectId| Effect::DeleteGroupContent { content: stub.clone(), resource_version: None };
    observation.stub.iter().map(|stub| (None, delete(stub))).collect()
}
