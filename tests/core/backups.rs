//! What a Backup does next, from the records and the runs of its groups.

use std::sync::Arc;

use stillpoint::domain::plan::{BackupRef, Plan};
use stillpoint::domain::time::Timestamp;
use stillpoint::machine::backup::{
    BackupMachine, BackupPlan, BackupRun, Event, FormedGroups, GroupResult, GroupSeen, Milestone, RunEnd,
    Seen, Timed,
};
use stillpoint::machine::kit::{IllegalEvent, Logic, Next, Outcome, fold, step};

use crate::fixture;

const AT: Timestamp = Timestamp(1);

fn apply(run: Option<BackupRun>, event: Event) -> Result<BackupRun, IllegalEvent> {
    fold(run, &Timed { at: AT, event })
}

fn new() -> BackupRun {
    let backup = BackupRef { namespace: "stillpoint".into(), name: "nightly".into(), uid: "u".into() };
    let plan = BackupPlan { backup, label_key: "app".into(), accepted: None };
    apply(None, Event::Planned(Box::new(plan))).expect("the first record")
}

fn plan(group: &str) -> Arc<Plan> {
    let plan = fixture::plan();
    let run = stillpoint::domain::ids::StreamId::of_group("u", &plan.namespace, "app", group);
    Arc::new(Plan { run, group: group.into(), ..plan })
}

fn seen(groups: Vec<GroupSeen>) -> Seen {
    Seen { fresh: true, groups, ..Seen::default() }
}

fn end(index: u16) -> GroupSeen {
    let result = GroupResult::Completed { warnings: vec![] };
    GroupSeen::Ended(RunEnd { index, records: 20, hash: [1; 32], result })
}

fn decide(run: &BackupRun, seen: &Seen) -> (&'static str, Next<BackupMachine>) {
    let considered = step(&Logic::<BackupMachine>::default(), run, seen, AT).expect("a decision");
    (considered.decision.row.id, considered.next)
}

/// Decides, and folds the records that follow.
fn record(run: BackupRun, seen: &Seen) -> (BackupRun, Milestone) {
    let (row, Next::Record { milestone, events }) = decide(&run, seen) else { panic!("no record") };
    let run = events.into_iter().try_fold(run, |run, event| apply(Some(run), event));
    (run.unwrap_or_else(|error| panic!("{row}: {error}")), milestone)
}

/// A Backup of two groups that have begun.
fn begun() -> BackupRun {
    let formed = FormedGroups { plans: vec![plan("one"), plan("two")], ..FormedGroups::default() };
    let (run, milestone) = record(new(), &Seen { formed: Some(Arc::new(formed)), ..seen(vec![]) });
    assert_eq!(milestone, Milestone::Formed);
    let both = seen(vec![GroupSeen::Absent, GroupSeen::Absent]);
    let considered = step(&Logic::<BackupMachine>::default(), &run, &both, AT).expect("a decision");
    let Next::Act { step, ref effects } = considered.next else { panic!("no start") };
    assert_eq!(effects.len(), 2);
    let marks = effects.iter().map(|(mark, _)| *mark).collect();
    let run = apply(Some(run), Event::Intended { grounds: considered.grounds(), step, marks });
    let done = || Outcome::Done { uid: String::new(), resource_version: String::new() };
    let outcomes = vec![done(), done()];
    let run = apply(run.ok(), Event::StepCompleted { step, outcomes }).expect("an outcome");
    assert_eq!(run.state.plans, [None, None], "a run that has begun has its plan in its own records");
    run
}

/// While the end of a group is recorded, another group may end. Its records were not read then, whatever was
/// read before.
#[test]
fn run_that_ends_meanwhile_is_read_before_anything_is_decided() {
    let (run, milestone) = record(begun(), &seen(vec![end(0), GroupSeen::Running]));
    assert_eq!(milestone, Milestone::GroupsEnded);
    let (row, next) = decide(&run, &seen(vec![end(0), GroupSeen::Unread]));
    assert!(row == "backup/read" && matches!(next, Next::Refresh), "{row}");
    let (run, milestone) = record(run, &seen(vec![end(0), end(1)]));
    assert_eq!(milestone, Milestone::Completed);
    assert_eq!(run.state.counts(), (2, 0));
}

#[test]
fn waits_for_groups_and_never_ends_without_their_ends() {
    let run = begun();
    assert_eq!(decide(&run, &seen(vec![GroupSeen::Running; 2])).0, "backup/running");
    assert_eq!(decide(&run, &seen(vec![GroupSeen::Unknown, GroupSeen::Running])).0, "backup/running");
    let (run, _) = record(run, &seen(vec![GroupSeen::Unknown, end(1)]));
    assert_eq!(decide(&run, &seen(vec![GroupSeen::Unknown, end(1)])).0, "backup/unknown");
    let claimed = Seen { claimed: true, ..seen(vec![end(0), end(1)]) };
    assert!(matches!(decide(&run, &claimed).1, Next::StepDown));
}

/// A daemon that is killed between two parts forms the groups again, perhaps other ones.
#[test]
fn parts_without_their_milestone_are_ignored() {
    let formed = |names: &[&str]| {
        let plans = names.iter().map(|name| plan(name)).collect();
        Seen { formed: Some(Arc::new(FormedGroups { plans, ..FormedGroups::default() })), ..seen(vec![]) }
    };
    let (_, Next::Record { events, .. }) = decide(&new(), &formed(&["a", "b", "c"])) else {
        panic!("formed")
    };
    let parts = events.iter().take(2).cloned();
    let run = parts.fold(new(), |run, part| apply(Some(run), part).expect("a part"));
    let (run, _) = record(run, &formed(&["d"]));
    let groups: Vec<&str> = run.state.groups.iter().map(|group| group.group.as_str()).collect();
    assert_eq!(groups, ["d"]);
    let closing = events.last().expect("a milestone").clone();
    let part = events[0].clone();
    let run = apply(Some(new()), part).expect("a part");
    assert!(matches!(apply(Some(run), closing), Err(IllegalEvent::Parts(_))), "two plans are missing");
}
