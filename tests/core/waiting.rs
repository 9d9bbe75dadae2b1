//! Tests wait reports: a report has the step, the cause, the objects and their finalizers, and is empty
//! during the usual time.

use crate::fixture::*;
use stillpoint::domain::ids::ObjectId;
use stillpoint::domain::observed::{NamespaceSeen, Observation, RestoreSeen};
use stillpoint::domain::time::Timestamp;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Reached;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::effect::EffectKind;
use stillpoint::machine::group::effect::EffectRef;
use stillpoint::machine::group::view;
use stillpoint::machine::group::waiting::count;
use stillpoint::machine::group::waiting::report;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::WaitReport;
use stillpoint::machine::kit::decide;
use stillpoint::machine::kit::fold;
use stillpoint::machine::kit::wait_report::Cause;

/// Decides and returns the wait report.
fn wait(run: &GroupRun, seen: &Observation, now: Timestamp) -> WaitReport {
    let decision = decide(run, &view(run, seen), now).expect("one row");
    report(run, seen, &decision, decision.not_before, now)
}

fn next(run: GroupRun, seconds: i64, event: Event) -> GroupRun {
    fold(Some(run), &Timed { at: at(seconds), event }).expect("a legal record")
}

fn grounds() -> DecisionRecord {
    DecisionRecord { row: "test".into(), rules: 1, view: view_with(|_| {}) }
}

/// A run whose cut is recorded, at second 10.
fn cut() -> GroupRun {
    let reached = Reached::Cut { group_handle: "group-handle".into() };
    next(created(), 10, Event::MilestoneReached { grounds: grounds(), reached })
}

/// A run behind the pivot whose release waits for the deletion of its group.
fn releasing() -> GroupRun {
    GroupRun { stage: Stage::Releasing, changed_at: at(10), ..with_receipt() }
}

/// All contents retain, nothing ties the members, and the group is being deleted.
fn going() -> Observation {
    let mut seen = bound();
    let group = seen.group.as_mut().expect("the group");
    (group.terminating, group.finalizers) = (true, vec!["example.com/keep".into()]);
    seen
}

/// A run with a step that was tried `times` times, last at second 20, each time with this outcome.
fn tried(run: GroupRun, step: Step, kind: EffectKind, times: u32, outcome: &Outcome) -> GroupRun {
    (0..times).fold(run, |run, index| {
        let marks = vec![EffectRef { kind, member: None }];
        let second = 20 - i64::from(times - 1 - index);
        let run = next(run, second, Event::Intended { grounds: grounds(), step, marks });
        next(run, second, Event::StepCompleted { step, outcomes: vec![outcome.clone()] })
    })
}

fn forbidden() -> Outcome {
    Outcome::Determinate { code: 403, message: "Forbidden: policy keep-groups denies it".into() }
}

#[test]
fn refused_step_names_call_object_and_reply() {
    let mut seen = bound();
    seen.group = None;
    seen.content = None;
    seen.snapshots.clear();
    seen.contents.clear();
    let answer = "403 Forbidden: policy keep-groups denies it";
    for (times, warns) in [(1, false), (3, true)] {
        // Two intents: a single create that is refused permanently ends the run.
        let lost = Outcome::Indeterminate { message: "timeout".into() };
        let run = tried(planned(), Step::Create, EffectKind::CreateGroup, 1, &lost);
        let run = tried(run, Step::Create, EffectKind::CreateGroup, times, &forbidden());
        let wait = wait(&run, &seen, at(20));
        let name = format!("shop/{}", run.group_name());
        assert_eq!(wait.text(), format!("retry: create VolumeGroupSnapshot {name}: {answer}"));
        assert_eq!((wait.row, wait.cause), ("planned/create", Some(Cause::Refused)));
        assert_eq!(wait.last_error.as_deref(), Some(answer));
        assert_eq!(wait.objects[0].about.to_string(), format!("VolumeGroupSnapshot {name}"));
        assert!(wait.next_try > Some(at(20)) && wait.since < at(21), "{wait:?}");
        assert_eq!(wait.warns, warns, "after {times} refusals");
    }
}

#[test]
fn reports_step_that_is_repeatedly_reverted() {
    let mut seen = bound();
    (seen.group, seen.content) = (None, None);
    seen.snapshots.clear();
    seen.contents.clear();
    let done = Outcome::Done { uid: String::new(), resource_version: String::new() };
    let run = tried(planned(), Step::Create, EffectKind::CreateGroup, 5, &done);
    let wait = wait(&run, &seen, at(20));
    assert_eq!((wait.cause, wait.warns), (Some(Cause::Undone), true));
    assert!(wait.text().contains("create was done 5 times"), "{}", wait.text());
}

#[test]
fn counts_members_that_were_never_created() {
    let run = cut();
    for (made, says) in [(0, "0 of 2 VolumeSnapshots of the group exist"), (1, "1 of 2 VolumeSnapshots")] {
        let mut seen = bound();
        seen.group.as_mut().expect("a group").ready = false;
        seen.snapshots.truncate(made);
        seen.contents.truncate(made);
        seen.progress_since = Some(at(15));
        let early = wait(&run, &seen, at(44));
        assert_eq!((early.text().as_str(), early.cause), ("the members to become ready", None));
        assert_eq!((early.recheck, early.warns), (Some(at(45)), false), "it is looked at again then");
        let late = wait(&run, &seen, at(45));
        assert!(late.text().contains(says), "{}", late.text());
        assert!(late.text().ends_with("wal: see its log, quotas and webhooks"), "{}", late.text());
        assert_eq!((late.cause, late.warns, late.recheck), (Some(Cause::NotMade), true, None));
        assert_eq!(late.deadline, Some(run.attempt_at.after(run.plan.ready_timeout)));
        assert_eq!(wait(&run, &seen, at(3000)).text(), late.text(), "a text has no age");
        assert_eq!(count(&view(&run, &seen)), (made, made));
    }
}

#[test]
fn counts_members_that_are_not_ready() {
    let (run, mut seen) = (cut(), bound());
    seen.snapshots[1].ready = false;
    assert_eq!(count(&view(&run, &seen)), (2, 1));
    let wait = wait(&run, &seen, at(200));
    assert!(wait.text().contains("1 of 2 members are ready"), "{}", wait.text());
    assert!(wait.text().contains("PersistentVolumeClaim wal (VolumeSnapshot vs-wal)"), "{}", wait.text());
}

#[test]
fn reports_error_in_any_status() {
    let text = || Some("quota exceeded".to_owned());
    type Spoil = fn(&mut Observation, Option<String>);
    let cases: [(Spoil, &str); 4] = [
        (|seen, error| seen.group.as_mut().expect("there").error = error, "VolumeGroupSnapshot shop/sp-db"),
        (
            |seen, error| seen.content.as_mut().expect("there").error = error,
            "VolumeGroupSnapshotContent group",
        ),
        (|seen, error| seen.snapshots[1].error = error, "VolumeSnapshot shop/vs-wal"),
        (|seen, error| seen.contents[0].error = error, "VolumeSnapshotContent vsc-data"),
    ];
    for (spoil, names) in cases {
        let (run, mut seen) = (cut(), bound());
        seen.snapshots[0].ready = false;
        spoil(&mut seen, text());
        assert_eq!(wait(&run, &seen, at(19)).cause, None, "{names}: it may pass");
        let wait = wait(&run, &seen, at(20));
        assert_eq!((wait.cause, wait.warns), (Some(Cause::ErrorReported), true), "{names}");
        assert!(wait.text().contains(names) && wait.text().ends_with("reports: quota exceeded"), "{wait:?}");
        assert_eq!(wait.last_error, text());
        assert_eq!(wait.objects[0].error, text(), "{names}");
    }
}

#[test]
fn names_foreign_finalizer_with_its_object() {
    let run = releasing();
    let mut seen = going();
    retained(&run, &mut seen);
    let early = wait(&run, &seen, at(19));
    assert_eq!((early.row, early.cause), ("release/5-group-going", None));
    let late = wait(&run, &seen, at(20));
    assert_eq!(late.cause, Some(Cause::Finalizer));
    assert!(late.text().contains("finalizer example.com/keep holds it"), "{}", late.text());
    assert_eq!(late.objects[0].finalizers, ["example.com/keep"]);
    assert_eq!(late.deadline, None, "nothing ends that wait but the finalizer's component");
    seen.namespace = Some(NamespaceSeen { terminating: true, finalizers: vec!["example.com/space".into()] });
    let late = wait(&run, &seen, at(20));
    assert!(late.text().ends_with("; namespace shop is being deleted"), "{}", late.text());
    assert_eq!(late.objects[0].finalizers, ["example.com/space"]);
}

#[test]
fn foreign_finalizer_can_block_every_kind() {
    type Hold = fn(&mut Observation) -> (&mut bool, &mut Vec<String>);
    let kinds: [(Hold, &str); 4] = [
        (
            |seen| seen.group.as_mut().map(|o| (&mut o.terminating, &mut o.finalizers)).expect("there"),
            "VolumeGroupSnapshot shop/sp-db",
        ),
        (
            |seen| seen.content.as_mut().map(|o| (&mut o.terminating, &mut o.finalizers)).expect("there"),
            "VolumeGroupSnapshotContent group-content",
        ),
        (
            |seen| {
                seen.snapshots.first_mut().map(|o| (&mut o.terminating, &mut o.finalizers)).expect("there")
            },
            "VolumeSnapshot shop/vs-data",
        ),
        (
            |seen| seen.contents.last_mut().map(|o| (&mut o.terminating, &mut o.finalizers)).expect("there"),
            "VolumeSnapshotContent vsc-wal",
        ),
    ];
    for (hold, names) in kinds {
        let run = releasing();
        let mut seen = going();
        retained(&run, &mut seen);
        seen.group.as_mut().expect("the group").finalizers.clear();
        let (terminating, finalizers) = hold(&mut seen);
        (*terminating, *finalizers) = (true, vec!["example.com/keep".into()]);
        let wait = wait(&run, &seen, at(20));
        assert_eq!(wait.cause, Some(Cause::Finalizer), "{names}");
        assert!(
            wait.text().contains(names) && wait.text().contains("finalizer example.com/keep"),
            "{wait:?}"
        );
        assert!(wait.objects[0].about.to_string().starts_with(names), "{wait:?}");
    }
}

#[test]
fn names_pvc_restored_from_a_member() {
    let run = releasing();
    let mut seen = going();
    retained(&run, &mut seen);
    let own = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
    seen.group.as_mut().expect("there").finalizers = vec![own.into()];
    let claim = ObjectId { namespace: "shop".into(), name: "copy".into(), uid: "uid-copy".into() };
    seen.restores = vec![RestoreSeen { claim, snapshot: "vs-data".into() }];
    let held = wait(&run, &seen, at(20));
    assert_eq!(held.cause, Some(Cause::Restore));
    assert!(held.text().contains("PersistentVolumeClaim shop/copy is made from VolumeSnapshot vs-data"));
    seen.restores.clear();
    let slow = wait(&run, &seen, at(40));
    assert_eq!(slow.cause, Some(Cause::NoProgress), "the controller's own finalizer is no foreign one");
    assert_eq!(slow.objects[0].finalizers, [own]);
}

/// Sets every content to Retain, with the receipt: the first requirement of the release.
pub fn retained(run: &GroupRun, seen: &mut Observation) {
    use stillpoint::domain::observed::DeletionPolicy;
    use stillpoint::machine::group::desired;
    let receipt = run.state.receipt.as_deref().expect("a receipt");
    let content = seen.content.as_mut().expect("the content");
    content.policy = DeletionPolicy::Retain;
    for (index, content) in seen.contents.iter_mut().enumerate() {
        content.policy = DeletionPolicy::Retain;
        content.labels = Some(desired::run_label(run, None));
        content.annotations = Some(desired::content_annotations(run, receipt, index));
    }
}

#[test]
fn timed_wait_names_no_blocking_object() {
    let mut run = GroupRun { stage: Stage::Unwinding, changed_at: at(10), ..created() };
    run.state.undone_at = at(10);
    let mut seen = bound();
    (seen.group, seen.content) = (None, None);
    seen.snapshots.clear();
    seen.contents.clear();
    let wait = wait(&run, &seen, at(60));
    assert_eq!((wait.row, wait.cause, wait.recheck), ("undo/f-late", None, None));
    assert_eq!(wait.deadline, Some(at(70)));
}
