//! Tests views: objects are matched by uids and volume handles, never by names that other clients may choose.

use std::collections::BTreeMap;

use crate::fixture::*;
use stillpoint::domain::ids::Uid;
use stillpoint::domain::labels;
use stillpoint::domain::names;
use stillpoint::domain::observed::{ContentSeen, DeletionPolicy, NamespaceSeen, Observation, SnapshotSeen};
use stillpoint::machine::group::columns::*;
use stillpoint::machine::group::effect::{Effect, EffectKind};
use stillpoint::machine::group::event::Step;
use stillpoint::machine::group::{GroupRun, Stage, effects};

/// Adds one fault to the cluster and checks the resulting value of a column.
fn check<V: ColumnValue>(run: &GroupRun, breaking: impl FnOnce(&mut Observation), expected: V) {
    let mut observation = bound();
    breaking(&mut observation);
    assert_eq!(seen(run, &observation, V::COLUMN), name(expected), "{}", V::COLUMN.name());
}

#[test]
fn the_group_is_ours_by_label_before_its_uid_is_known_and_by_uid_afterwards() {
    check(&planned(), |_| {}, Group::Ours);
    check(&planned(), |o| o.group.as_mut().unwrap().run = Some("another".into()), Group::Foreign);
    check(&created(), |o| o.group.as_mut().unwrap().run = None, Group::Ours);
    check(&created(), |o| o.group.as_mut().unwrap().id.uid = Uid("other".into()), Group::Foreign);
    check(&created(), |o| o.group = None, Group::Absent);
    check(&created(), |o| o.group.as_mut().unwrap().terminating = true, Group::Terminating);
}

#[test]
fn a_content_is_that_of_our_group_by_uid_and_never_without_one() {
    let names = |uid: Option<&str>| {
        let uid = uid.map(|uid| Uid(uid.into()));
        move |o: &mut Observation| o.content.as_mut().unwrap().group_uid = uid
    };
    check(&created(), |_| {}, Content::Delete);
    check(&created(), names(Some("other")), Content::Absent);
    check(&created(), names(None), Content::Absent);
    check(&planned(), names(Some("not-known-yet")), Content::Delete);
    check(&planned(), names(None), Content::Absent);
}

fn mark() -> BTreeMap<String, String> {
    [(labels::CONTENT_BEING_DELETED.to_owned(), "yes".to_owned())].into()
}

#[test]
fn a_content_that_was_deleted_by_hand_goes_only_once_it_is_marked() {
    let deleted = |marked: bool| {
        move |o: &mut Observation| {
            o.snapshots.clear();
            for content in &mut o.contents {
                content.terminating = true;
                content.annotations = marked.then(mark);
            }
        }
    };
    check(&created(), deleted(false), Shells::Contents);
    check(&created(), deleted(true), Shells::Leaving);
    let mut observation = bound();
    deleted(false)(&mut observation);
    let planned = effects::effects(&created(), &observation, Step::UndoDeleteContents);
    let marks = |(_, effect): &(_, Effect)| matches!(effect, Effect::DeleteContent { annotations, .. } if !annotations.write.is_empty());
    assert_eq!(planned.iter().filter(|one| marks(one)).count(), observation.contents.len());
    assert!(!observation.contents.is_empty());
}

#[test]
fn an_epoch_is_older_newer_or_ours() {
    check(&created(), |o| o.epoch = 2, Group::Older);
    check(&created(), |o| o.group.as_mut().unwrap().epoch = None, Group::Older);
    check(&created(), |o| o.group.as_mut().unwrap().epoch = Some(7), Group::Newer);
    let going = |epoch: u64| {
        move |o: &mut Observation| {
            let group = o.group.as_mut().unwrap();
            (group.terminating, group.epoch) = (true, Some(epoch));
        }
    };
    check(&created(), going(7), Group::Newer);
    check(&created(), going(1), Group::Terminating);
}

#[test]
fn the_cut_is_exactly_the_plan_in_whatever_order() {
    check(&created(), |_| {}, Progress::Bound);
    check(&created(), |o| o.content = None, Progress::Nothing);
    check(
        &created(),
        |o| {
            o.content.as_mut().unwrap().volume_handles.pop();
        },
        Progress::Differs,
    );
    check(
        &created(),
        |o| o.content.as_mut().unwrap().volume_handles.push("vol-alien".into()),
        Progress::Differs,
    );
    check(&created(), |o| o.content.as_mut().unwrap().group_handle = None, Progress::Frozen);
    check(&created(), |o| o.content.as_mut().unwrap().cuts.clear(), Progress::Bound);
    check(
        &created(),
        |o| {
            o.content.as_mut().unwrap().cuts.clear();
            o.contents.pop();
        },
        Progress::Frozen,
    );
}

#[test]
fn a_ready_group_does_not_mean_ready_members() {
    check(&created(), |o| o.snapshots[1].ready = false, Progress::Cut);
    check(&created(), |o| o.snapshots[1].group_name = None, Progress::Cut);
    check(&created(), |o| o.snapshots[1].terminating = true, Progress::Cut);
    check(&created(), |o| o.snapshots[1].bound_content = None, Progress::Cut);
    check(&created(), |o| o.contents[1].snapshot_uid = Some(Uid("other".into())), Progress::Cut);
    check(&created(), |o| o.group.as_mut().unwrap().ready = false, Progress::Cut);
}

#[test]
fn a_member_is_found_by_its_volume_handle_never_by_the_name_of_its_claim() {
    check(&created(), |o| o.snapshots[0].claim = Some(String::new()), Progress::Bound);
    check(&created(), |o| o.snapshots[0].claim = Some("wal".into()), Progress::Bound);
    check(&created(), |o| o.contents[0].group_handle = Some("another group".into()), Progress::Cut);
}

#[test]
fn two_contents_for_one_volume_are_no_member() {
    let twice = |o: &mut Observation| {
        let mut twin = content("data");
        twin.id = object("", "twin");
        o.contents.push(twin);
    };
    check(&created(), twice, Progress::Cut);
}

#[test]
fn the_error_of_the_driver_is_told_by_its_code() {
    let with = |message: &str| {
        let message = message.to_owned();
        move |o: &mut Observation| o.content.as_mut().unwrap().error = Some(message)
    };
    let rpc = |code: &str| format!("failed to take: \"rpc error: code = {code} desc = it is so\"");
    check(&created(), |_| {}, DriverError::None);
    for code in ["Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted"] {
        check(&created(), with(&rpc(code)), DriverError::Passing);
    }
    for code in ["Internal", "FailedPrecondition", "InvalidArgument", "Unknown"] {
        check(&created(), with(&rpc(code)), DriverError::Final);
    }
    check(&created(), with(&rpc("Unimplemented")), DriverError::Unsupported);
    check(&created(), with("no code at all"), DriverError::Final);
}

#[test]
fn a_claim_counts_by_uid_and_volume() {
    check(&planned(), |_| {}, Claims::Intact);
    check(
        &planned(),
        |o| {
            o.claims.pop();
        },
        Claims::Changed,
    );
    check(&planned(), |o| o.claims[0].terminating = true, Claims::Changed);
    check(&planned(), |o| o.claims[0].id.uid = Uid("recreated".into()), Claims::Changed);
    check(&planned(), |o| o.claims[0].volume = Some("another".into()), Claims::Changed);
}

#[test]
fn an_owner_is_told_by_group_and_uid_never_by_version() {
    for version in ["v1", "v1beta2", "v1beta1", "v9"] {
        let with = |o: &mut Observation| {
            for snapshot in &mut o.snapshots {
                snapshot.finalizers.clear();
                snapshot.class = Some("class".into());
                snapshot.owners[0].api_version = format!("groupsnapshot.storage.k8s.io/{version}");
            }
        };
        check(&created(), with, Ties::Tied);
    }
    let alien = |o: &mut Observation| {
        for snapshot in &mut o.snapshots {
            snapshot.finalizers.clear();
            snapshot.class = Some("class".into());
            snapshot.owners[0].uid = Uid("another".into());
        }
    };
    check(&created(), alien, Ties::Free);
}

#[test]
fn what_retains_is_seen_in_the_group_and_in_its_members() {
    check(&created(), |_| {}, Retaining::None);
    check(&created(), |o| o.content.as_mut().unwrap().policy = DeletionPolicy::Retain, Retaining::Some);
    check(&created(), |o| o.contents[1].policy = DeletionPolicy::Retain, Retaining::Some);
}

#[test]
fn finalizers_are_asked_of_what_exists() {
    check(&created(), |_| {}, Protection::Complete);
    check(&created(), |o| o.group.as_mut().unwrap().protected = false, Protection::Pending);
    check(&created(), |o| o.content.as_mut().unwrap().protected = false, Protection::Pending);
    check(&created(), |o| o.content = None, Protection::Complete);
}

/// A change of the content to Retain between observation and delete is detected.
#[test]
fn an_undo_marks_a_content_first_and_then_deletes_it_by_its_version() {
    let run = GroupRun { stage: Stage::Unwinding, ..created() };
    let mut observation = bound();
    let next = |observation: &Observation| -> Vec<Effect> {
        effects(&run, observation, Step::UndoDeleteContent).into_iter().map(|(_, effect)| effect).collect()
    };
    assert!(matches!(next(&observation)[..], [Effect::MarkGroupContent { .. }]));
    let content = observation.content.as_mut().expect("a content");
    content.marked_deleted = true;
    let version = content.resource_version.clone();
    let deletes = next(&observation);
    assert!(
        matches!(&deletes[..], [Effect::DeleteGroupContent { resource_version: Some(tested), .. }] if *tested == version),
        "{deletes:?}"
    );
}

/// A run behind the pivot, with the receipt of the bound members.
fn releasing() -> GroupRun {
    GroupRun { stage: Stage::Releasing, ..with_receipt() }
}

/// The first member was deleted and rebuilt. Its content is bound to the snapshot with this uid, if any.
fn rebuilt(run: &GroupRun, bound_to: Option<&str>) -> Observation {
    let mut observation = bound();
    (observation.group, observation.snapshots) = (None, vec![snapshot("wal")]);
    let name = names::rebuilt_member(run.plan.run, &run.plan.members[0].volume_handle);
    let ours = Some([(labels::RUN.to_owned(), run.plan.run.to_string())].into());
    let (of_snapshot, of_content) = (snapshot("data"), content("data"));
    observation.snapshots.push(SnapshotSeen {
        id: object("shop", &name),
        bound_content: Some(name.clone()),
        labels: ours.clone(),
        ..of_snapshot
    });
    observation.contents.push(ContentSeen {
        id: object("", &name),
        snapshot_name: name,
        snapshot_uid: bound_to.map(|uid| Uid(uid.into())),
        labels: ours,
        ..of_content
    });
    observation
}

fn loss(run: &GroupRun, observation: &Observation) -> (&'static str, Vec<EffectKind>) {
    let kinds = effects(run, observation, Step::Rebuild).iter().map(|(mark, _)| mark.kind).collect();
    (seen(run, observation, Loss::COLUMN), kinds)
}

#[test]
fn a_rebuilt_content_that_is_bound_to_a_snapshot_which_is_gone_goes_before_both_are_made_again() {
    let run = releasing();
    let own = object("shop", &names::rebuilt_member(run.plan.run, &run.plan.members[0].volume_handle)).uid.0;
    assert_eq!(loss(&run, &rebuilt(&run, Some(&own))), (name(Loss::None), vec![]));
    let is_rebuilt = |snapshot: &SnapshotSeen| snapshot.id.uid.0 == own;
    let mut misbound = rebuilt(&run, Some("the first one"));
    assert_eq!(loss(&run, &misbound), (name(Loss::Lost), vec![EffectKind::DeleteContent]));
    misbound.snapshots.retain(|snapshot| !is_rebuilt(snapshot));
    assert_eq!(loss(&run, &misbound), (name(Loss::Lost), vec![EffectKind::DeleteContent]));
    misbound.contents.last_mut().unwrap().terminating = true;
    let by_hand = (name(Loss::Lost), vec![EffectKind::DeleteContent]);
    assert_eq!(loss(&run, &misbound), by_hand, "it never goes without its mark");
    misbound.contents.last_mut().unwrap().annotations = Some(mark());
    assert_eq!(loss(&run, &misbound), (name(Loss::Rebuilding), vec![]), "it is waited for");
    misbound.contents.pop();
    let both = vec![EffectKind::CreateContent, EffectKind::CreateSnapshot];
    assert_eq!(loss(&run, &misbound), (name(Loss::Lost), both));
    let mut unbound = rebuilt(&run, None);
    unbound.snapshots.retain(|snapshot| !is_rebuilt(snapshot));
    assert_eq!(loss(&run, &unbound), (name(Loss::Lost), vec![EffectKind::CreateSnapshot]));
}

#[test]
fn before_the_receipt_only_what_cannot_become_ready_is_lost() {
    check(&created(), |_| {}, Loss::None);
    let unready = |o: &mut Observation| o.group.as_mut().unwrap().ready = false;
    let not_made_yet = |o: &mut Observation| {
        unready(o);
        (o.snapshots, o.contents) = (vec![], vec![]);
    };
    check(&created(), not_made_yet, Loss::None);
    let not_bound_yet = |o: &mut Observation| {
        unready(o);
        o.contents[0].snapshot_uid = None;
        o.snapshots.remove(0);
    };
    check(&created(), not_bound_yet, Loss::None);
    check(&created(), |o| o.snapshots[0].terminating = true, Loss::Lost);
    check(&created(), |o| o.contents[0].terminating = true, Loss::Lost);
    let torn_out = |o: &mut Observation| {
        unready(o);
        o.snapshots.remove(0);
    };
    check(&created(), torn_out, Loss::Lost);
    check(&created(), |o| o.contents.clear(), Loss::Lost);
    check(&planned(), |o| o.snapshots[0].terminating = true, Loss::None);
}

#[test]
fn members_that_go_with_their_namespace_are_not_lost_behind_the_pivot() {
    let going = |o: &mut Observation| {
        o.namespace = Some(NamespaceSeen { terminating: true, finalizers: vec![] });
        o.snapshots.clear();
    };
    let releasing = GroupRun { stage: Stage::Releasing, ..with_receipt() };
    check(&releasing, |o| o.snapshots.clear(), Loss::Lost);
    check(&releasing, going, Loss::None);
    check(&GroupRun { stage: Stage::Retained, ..with_receipt() }, going, Loss::Lost);
}

#[test]
fn a_replaced_content_is_marked_first_and_deleted_only_as_it_was_seen() {
    let run = releasing();
    let mut observation = rebuilt(&run, None);
    assert_eq!(seen(&run, &observation, Replaced::COLUMN), "Some");
    let planned = |o: &Observation| effects(&run, o, Step::DropReplaced);
    let marks = |o: &Observation, from: DeletionPolicy| {
        matches!(&planned(o)[..], [(_, Effect::SetContentPolicy { old, new: DeletionPolicy::Retain, annotations, .. })]
            if *old == from && annotations.write.contains_key(labels::CONTENT_BEING_DELETED))
    };
    observation.contents[0].policy = DeletionPolicy::Retain;
    assert!(marks(&observation, DeletionPolicy::Retain), "{:?}", planned(&observation));
    observation.contents[0].annotations = Some(mark());
    let by_version = |o: &Observation| matches!(&planned(o)[..], [(_, Effect::DeleteContent { resource_version: Some(version), .. })] if version == "13");
    assert!(by_version(&observation), "{:?}", planned(&observation));
    observation.contents[0].policy = DeletionPolicy::Delete;
    assert!(!by_version(&observation), "its storage would go with it");
    observation.snapshots.push(snapshot("data"));
    assert_eq!(seen(&run, &observation, Replaced::COLUMN), "None", "its own snapshot lives");
}

#[test]
fn without_its_class_a_group_is_not_awaited_to_be_protected() {
    let undoing = GroupRun { stage: Stage::Unwinding, ..created() };
    let bare = |classless: bool| {
        move |o: &mut Observation| {
            o.group.as_mut().unwrap().protected = false;
            o.group_class_missing = classless;
        }
    };
    check(&undoing, bare(false), Protection::Pending);
    check(&undoing, bare(true), Protection::Complete);
    let content_too = |o: &mut Observation| {
        bare(true)(o);
        o.content.as_mut().unwrap().protected = false;
    };
    check(&undoing, content_too, Protection::Pending);
}
