//! Tests views: objects are matched by uids and volume handles, never by names that other clients may choose.

use std::collections::BTreeMap;

use crate::fixture::*;
use stillpoint::domain::ids::Uid;
use stillpoint::domain::labels;
use stillpoint::domain::names;
use stillpoint::domain::observed::{ContentSeen, DeletionPolicy, NamespaceSeen, Observation, SnapshotSeen};
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::columns::*;
use stillpoint::machine::group::effect::Effect;
use stillpoint::machine::group::effect::EffectKind;
use stillpoint::machine::group::effects;
use stillpoint::machine::kit::{ColumnId as _, ColumnValue};

/// Adds one fault to the cluster and checks the resulting value of a column.
fn check<V: ColumnValue<Id = Column>>(run: &GroupRun, breaking: impl FnOnce(&mut Observation), expected: V) {
    let mut observation = bound();
    breaking(&mut observation);
    assert_eq!(seen(run, &observation, V::COLUMN), name(expected), "{}", V::COLUMN.name());
}

#[test]
fn matches_group_by_label_then_by_uid() {
    check(&planned(), |_| {}, Group::Ours);
    check(&planned(), |o| o.group.as_mut().unwrap().run = Some("another".into()), Group::Foreign);
    check(&created(), |o| o.group.as_mut().unwrap().run = None, Group::Ours);
    check(&created(), |o| o.group.as_mut().unwrap().id.uid = Uid("other".into()), Group::Foreign);
    check(&created(), |o| o.group = None, Group::Absent);
    check(&created(), |o| o.group.as_mut().unwrap().terminating = true, Group::Terminating);
}

#[test]
fn matches_content_by_group_uid_only() {
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
fn manually_deleted_content_goes_once_marked() {
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
    let planned = effects(&created(), &observation, Step::UndoDeleteContents);
    let marks = |(_, effect): &(_, Effect)| matches!(effect, Effect::DeleteContent { annotations, .. } if !annotations.write.is_empty());
    assert_eq!(planned.iter().filter(|one| marks(one)).count(), observation.contents.len());
    assert!(!observation.contents.is_empty());
}

#[test]
fn classifies_epoch_as_older_newer_or_own() {
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
fn cut_matches_plan_in_any_order() {
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
fn ready_group_does_not_imply_ready_members() {
    check(&created(), |o| o.snapshots[1].ready = false, Progress::Cut);
    check(&created(), |o| o.snapshots[1].group_name = None, Progress::Cut);
    check(&created(), |o| o.snapshots[1].terminating = true, Progress::Cut);
    check(&created(), |o| o.snapshots[1].bound_content = None, Progress::Cut);
    check(&created(), |o| o.contents[1].snapshot_uid = Some(Uid("other".into())), Progress::Cut);
    check(&created(), |o| o.group.as_mut().unwrap().ready = false, Progress::Cut);
}

#[test]
fn finds_member_by_volume_handle_not_pvc() {
    check(&created(), |o| o.snapshots[0].claim = Some(String::new()), Progress::Bound);
    check(&created(), |o| o.snapshots[0].claim = Some("wal".into()), Progress::Bound);
    check(&created(), |o| o.contents[0].group_handle = Some("another group".into()), Progress::Cut);
}

#[test]
fn two_contents_for_volume_match_no_member() {
    let twice = |o: &mut Observation| {
        let mut twin = content("data");
        twin.id = object("", "twin");
        o.contents.push(twin);
    };
    check(&created(), twice, Progress::Cut);
}

#[test]
fn classifies_driver_error_by_its_code() {
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
fn matches_pvc_by_uid_and_volume() {
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
fn matches_owner_by_group_and_uid() {
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
fn detects_retain_policy_in_group_and_members() {
    check(&created(), |_| {}, Retaining::None);
    check(&created(), |o| o.content.as_mut().unwrap().policy = DeletionPolicy::Retain, Retaining::Some);
    check(&created(), |o| o.contents[1].policy = DeletionPolicy::Retain, Retaining::Some);
}

#[test]
fn checks_finalizers_only_on_existing_objects() {
    check(&created(), |_| {}, Protection::Complete);
    check(&created(), |o| o.group.as_mut().unwrap().protected = false, Protection::Pending);
    check(&created(), |o| o.content.as_mut().unwrap().protected = false, Protection::Pending);
    check(&created(), |o| o.content = None, Protection::Complete);
}

/// A change of the content to Retain between observation and delete is detected.
#[test]
fn rollback_marks_content_then_deletes_by_version() {
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
fn deletes_rebuilt_content_bound_to_missing_snapshot() {
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
fn only_unready_members_are_lost_before_receipt() {
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
fn members_deleted_with_namespace_are_not_lost() {
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
fn marks_replaced_content_then_deletes_by_version() {
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
fn expects_no_group_finalizer_without_class() {
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
