//! Defines the observation of a Backup, and what follows from it: view, effects and evidence.

use std::sync::Arc;

use crate::domain::plan::{Plan, RunPlan};
use crate::machine::backup::columns::{Column, Fresh, Groups, Owner};
use crate::machine::backup::event::{Ended, FormedAgain};
use crate::machine::backup::state::hash;
use crate::machine::backup::{
    BackupPart, BackupRun, FailedGroup, GroupResult, Milestone, Reached, RunEnd, Step, fixed,
};
use crate::machine::kit::{EffectReference, MissingEvidence, View};

/// The run of one group, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupSeen {
    /// It is in progress.
    Running,
    /// Its end; the position is that of the group.
    Ended(RunEnd),
    /// There is none: the stream has no record.
    Absent,
    /// It is not in progress, and its records were not read.
    Unread,
    /// Its records are missing: they are in an archive that is not there, or in a lost journal.
    Unknown,
}

/// The groups of a request: those that can run, and those that cannot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FormedGroups {
    pub plans: Vec<Arc<Plan>>,
    pub refused: Vec<FailedGroup>,
    pub warnings: Vec<String>,
}

/// The observation of a Backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Whether a newer daemon has claimed the Backup.
    pub claimed: bool,
    pub fresh: bool,
    /// The groups of the Backup, formed just now, where they are needed.
    pub formed: Option<Arc<FormedGroups>>,
    /// The runs of the groups, in their order.
    pub groups: Vec<GroupSeen>,
}

/// The effect on one group: its run is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Start {
    /// Position among the groups of the Backup.
    pub index: u16,
}

/// Name of the effect in records and metrics.
pub const START: &str = "startRun";

impl EffectReference for Start {
    fn kind(self) -> &'static str {
        START
    }

    fn member(self) -> Option<u16> {
        Some(self.index)
    }
}

/// The run of the group is in progress or over.
const BEGUN: u16 = 1;
/// The run of the group is over.
const ENDED: u16 = 2;
/// The group completed.
const COMPLETED: u16 = 4;
/// The records of its run are missing.
const UNKNOWN: u16 = 8;

pub(super) fn view(run: &BackupRun, seen: &Seen) -> View {
    let mut view = View::blank::<Column>();
    view.members = seen.groups.iter().map(flags).collect();
    view.set(if seen.claimed { Owner::Newer } else { Owner::Ours });
    view.set(groups(run, seen));
    view.set(if seen.fresh { Fresh::Yes } else { Fresh::No });
    view
}

fn flags(group: &GroupSeen) -> u16 {
    match group {
        GroupSeen::Running => BEGUN,
        GroupSeen::Ended(end) if end.result.is_completed() => BEGUN | ENDED | COMPLETED,
        GroupSeen::Ended(_) => BEGUN | ENDED,
        GroupSeen::Absent | GroupSeen::Unread => 0,
        GroupSeen::Unknown => UNKNOWN,
    }
}

fn groups(run: &BackupRun, seen: &Seen) -> Groups {
    let open = || open(run, seen);
    let any = |is: fn(&GroupSeen) -> bool| open().any(|(_, group)| is(group));
    let absent = |group: &GroupSeen| matches!(group, GroupSeen::Absent);
    match () {
        () if any(|group| matches!(group, GroupSeen::Unread)) => Groups::Unread,
        () if open().any(|(index, group)| absent(group) && run.state.plans[index].is_none()) => {
            Groups::Unplanned
        }
        () if any(absent) => Groups::Absent,
        () if open().all(|(_, group)| matches!(group, GroupSeen::Ended(_))) => Groups::AllEnded,
        () if any(|group| matches!(group, GroupSeen::Ended(_))) => Groups::SomeEnded,
        () if any(|group| matches!(group, GroupSeen::Running)) => Groups::Running,
        () => Groups::Unknown,
    }
}

/// The groups without a recorded end, with their positions.
fn open<'a>(run: &'a BackupRun, seen: &'a Seen) -> impl Iterator<Item = (usize, &'a GroupSeen)> {
    seen.groups
        .iter()
        .enumerate()
        .filter(|(index, _)| run.state.ends.get(*index).is_some_and(Option::is_none))
}

/// Numbers of groups that completed and that did not, recorded and in the view.
pub(super) fn counts(run: &BackupRun, view: &View) -> (usize, usize) {
    let (mut completed, mut failed) = run.state.counts();
    for (end, flags) in run.state.ends.iter().zip(&view.members) {
        if end.is_none() && flags & ENDED != 0 {
            *(if flags & COMPLETED != 0 { &mut completed } else { &mut failed }) += 1;
        }
    }
    (completed, failed)
}

pub(super) fn effects(run: &BackupRun, seen: &Seen, step: Step) -> Vec<(Start, RunPlan)> {
    let Step::StartGroups = step;
    let absent = open(run, seen).filter(|(_, group)| matches!(group, GroupSeen::Absent));
    let start = |(index, _): (usize, _)| {
        let plan = run.state.plans[index].clone()?;
        Some((Start { index: u16::try_from(index).ok()? }, RunPlan::Group(plan)))
    };
    absent.filter_map(start).collect()
}

pub(super) fn evidence(
    run: &BackupRun,
    seen: &Seen,
    milestone: Milestone,
) -> Result<(Vec<BackupPart>, Reached), MissingEvidence> {
    let lacks = |missing| MissingEvidence { milestone: milestone.name(), missing };
    let ended = || Ended { ends: new_ends(run, seen) };
    let reached = match milestone {
        Milestone::Formed => {
            let formed = seen.formed.as_deref().ok_or(lacks("groups"))?;
            let (parts, formed) = fixed(&formed.plans, formed.refused.clone(), formed.warnings.clone());
            return Ok((parts, Reached::Formed(formed)));
        }
        Milestone::FormedAgain => {
            return Ok(formed_again(run, seen, seen.formed.as_deref().ok_or(lacks("groups"))?));
        }
        Milestone::GroupsEnded => Reached::GroupsEnded(ended()),
        Milestone::Completed => Reached::Completed(ended()),
        Milestone::PartiallyFailed => Reached::PartiallyFailed(ended()),
        Milestone::Failed => Reached::Failed(ended()),
        Milestone::Unwinding | Milestone::Stuck => return Err(lacks("a reason")),
    };
    Ok((Vec::new(), reached))
}

/// The observed ends that are not recorded.
fn new_ends(run: &BackupRun, seen: &Seen) -> Vec<RunEnd> {
    let end = |(_, group): (usize, &GroupSeen)| match group {
        GroupSeen::Ended(end) => Some(end.clone()),
        _ => None,
    };
    open(run, seen).filter_map(end).collect()
}

/// Plans for the groups without a run and without a plan, and the ends of those that cannot be planned now.
fn formed_again(run: &BackupRun, seen: &Seen, formed: &FormedGroups) -> (Vec<BackupPart>, Reached) {
    let (mut parts, mut ends) = (Vec::new(), Vec::new());
    for (index, group) in open(run, seen) {
        if !matches!(group, GroupSeen::Absent) || run.state.plans[index].is_some() {
            continue;
        }
        let plan = formed.plans.iter().find(|plan| plan.run == run.state.groups[index].run);
        let index = u16::try_from(index).expect("a Backup has at most 256 groups");
        match plan {
            Some(plan) => {
                let part = u16::try_from(parts.len()).expect("a Backup has at most 256 groups");
                parts.push(BackupPart { part, index, plan: plan.clone() });
            }
            None => {
                let result = GroupResult::never_planned();
                ends.push(RunEnd { index, records: 0, hash: [0; 32], result });
            }
        }
    }
    let groups = u16::try_from(parts.len()).expect("a Backup has at most 256 groups");
    let formed = FormedAgain { groups, hash: hash(&parts), ends };
    (parts, Reached::FormedAgain(formed))
}
