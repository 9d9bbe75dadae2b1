//! Puts the Backup machine on the kit.

use std::sync::Arc;

use crate::domain::ids::StreamId;
use crate::domain::plan::{BackupRef, Plan, RunPlan};
use crate::domain::problem::Code;
use crate::domain::time::Timestamp;
use crate::machine::backup::columns::{Column, Result as Ends};
use crate::machine::backup::earlier::Finished;
use crate::machine::backup::seen::{self, Seen, Start};
use crate::machine::backup::state::hash;
use crate::machine::backup::table::{RULES, TABLE, Waiting};
use crate::machine::backup::{
    AskedGroup, BackupPart, BackupPlan, BackupRun, BackupState, Milestone, Phase, Reached, RunEnd, Stage,
    Step,
};
use crate::machine::kit::{
    Calls, Columns, IllegalEvent, Machine, MissingEvidence, Outcome, Reason, Row, Stage as _, View,
};

/// The Backup machine: from a claimed Backup to the ends of all its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupMachine;

/// Names and ids that a Backup observes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub backup: BackupRef,
    /// Label key that groups the PVCs.
    pub label_key: String,
    /// Whether its groups have to be formed.
    pub forms: bool,
    /// The groups, in their order.
    pub groups: Vec<ScopedGroup>,
}

/// One group in the scope of its Backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopedGroup {
    pub run: StreamId,
    /// Plan of a run that has not begun.
    pub plan: Option<Arc<Plan>>,
    /// Whether its end is recorded.
    pub ended: bool,
}

impl Machine for BackupMachine {
    const NAME: &'static str = "backup";
    const RULES: u16 = RULES;
    const ASKED: bool = false;
    const FRESH: Column = Column::Fresh;

    type Plan = BackupPlan;
    type Stage = Stage;
    type Step = Step;
    type Milestone = Milestone;
    type Reached = Reached;
    type Part = BackupPart;
    /// The end of a Backup as an earlier release recorded it: without a decision.
    type Reconstructed = Finished;
    type Column = Column;
    type Wait = Waiting;
    type State = BackupState;
    type Scope = Scope;
    type Seen = Seen;
    type Effect = RunPlan;
    type EffectRef = Start;

    fn table() -> &'static [Row<Self>] {
        &TABLE
    }

    fn begin(plan: &BackupPlan, at: Timestamp) -> (Stage, BackupState) {
        let stage = if plan.accepted.is_some() { Stage::InProgress } else { Stage::New };
        (stage, BackupState::new(plan.accepted.as_ref(), at))
    }

    fn allows(run: &BackupRun, milestone: Milestone) -> bool {
        match milestone {
            Milestone::Formed => run.stage == Stage::New,
            Milestone::FormedAgain
            | Milestone::GroupsEnded
            | Milestone::Completed
            | Milestone::PartiallyFailed
            | Milestone::Failed => run.stage == Stage::InProgress,
            Milestone::Unwinding => false,
            Milestone::Stuck => matches!(run.stage, Stage::New | Stage::InProgress),
        }
    }

    /// A group whose run began needs no plan any more: it is in the records of the run.
    fn completed(run: &mut BackupRun, _: Step, outcomes: &[Outcome], _: Timestamp) {
        for (mark, outcome) in run.marks.clone().iter().zip(outcomes) {
            if let (Outcome::Done { .. }, Some(plan)) =
                (outcome, run.state.plans.get_mut(usize::from(mark.index)))
            {
                *plan = None;
            }
        }
    }

    fn part(run: &mut BackupRun, part: &BackupPart) -> Result<(), IllegalEvent> {
        if run.stage.is_final() {
            return Err(IllegalEvent::out_of_place(run, Self::part_name(part)));
        }
        if part.part == 0 {
            run.state.parts.clear();
        }
        run.state.parts.push(part.clone());
        Ok(())
    }

    fn reconstructed(run: &mut BackupRun, found: &Finished, at: Timestamp) -> Result<(), IllegalEvent> {
        let stage = match found.phase {
            Phase::Completed => Stage::Completed,
            Phase::PartiallyFailed => Stage::PartiallyFailed,
            Phase::Failed => Stage::Failed,
            Phase::InProgress | Phase::FailedValidation => {
                return Err(IllegalEvent::out_of_place(run, Self::reconstructed_name(found)));
            }
        };
        if run.stage != Stage::InProgress {
            return Err(IllegalEvent::out_of_place(run, Self::reconstructed_name(found)));
        }
        run.state.failed.extend(found.failed.iter().cloned());
        run.state.warnings.extend(found.warnings.iter().cloned());
        run.state.finished = Some((found.phase, at));
        run.stage = stage;
        Ok(())
    }

    fn reached(run: &mut BackupRun, reached: &Reached, _: &View, at: Timestamp) -> Result<(), IllegalEvent> {
        record_ends(run, reached.ends())?;
        match reached {
            Reached::Formed(formed) => {
                let parts = closed(run, formed.groups, formed.hash)?;
                let state = &mut run.state;
                state.groups = parts.iter().map(|part| AskedGroup::from(&*part.plan)).collect();
                state.ends = vec![None; parts.len()];
                state.plans = parts.into_iter().map(|part| Some(part.plan)).collect();
                (state.failed, state.warnings) = (formed.refused.clone(), formed.warnings.clone());
                state.accepted_at = Some(at);
                run.stage = Stage::InProgress;
            }
            Reached::FormedAgain(formed) => {
                for part in closed(run, formed.groups, formed.hash)? {
                    let Some(plan) = run.state.plans.get_mut(usize::from(part.index)) else {
                        return Err(incomplete(format!("group {} does not exist", part.index)));
                    };
                    *plan = Some(part.plan);
                }
            }
            Reached::GroupsEnded(_) => {}
            Reached::Completed(_) => ended(run, Stage::Completed, at)?,
            Reached::PartiallyFailed(_) => ended(run, Stage::PartiallyFailed, at)?,
            Reached::Failed(_) => ended(run, Stage::Failed, at)?,
            Reached::Unwinding(reason) | Reached::Stuck(reason) => run.reason = Some(reason.clone()),
        }
        Ok(())
    }

    fn state_name(run: &BackupRun) -> &'static str {
        match run.stage {
            Stage::New => "New",
            stage => stage.phase().name(),
        }
    }

    fn part_name(part: &BackupPart) -> String {
        format!("plan of group {}", part.index)
    }

    fn reconstructed_name(found: &Finished) -> String {
        format!("finished as {}", found.phase.name())
    }

    fn scope(run: &BackupRun, _: Option<&Scope>) -> Scope {
        let state = &run.state;
        let groups = state.groups.iter().zip(&state.plans).zip(&state.ends);
        Scope {
            backup: run.plan.backup.clone(),
            label_key: run.plan.label_key.clone(),
            forms: run.stage == Stage::New,
            groups: groups
                .map(|((group, plan), end)| ScopedGroup {
                    run: group.run,
                    plan: plan.clone(),
                    ended: end.is_some(),
                })
                .collect(),
        }
    }

    fn view(run: &BackupRun, seen: &Seen) -> View {
        seen::view(run, seen)
    }

    fn compute(columns: &mut Columns<Column>, run: &BackupRun, view: &View, _: Timestamp) {
        let (completed, failed) = seen::counts(run, view);
        columns.set(match Phase::of_ends(completed, failed) {
            Phase::Completed => Ends::Completed,
            Phase::Failed => Ends::Failed,
            _ => Ends::PartiallyFailed,
        });
    }

    fn deadlines(_: &BackupRun, _: &View) -> Vec<Timestamp> {
        Vec::new()
    }

    fn effects(run: &BackupRun, seen: &Seen, step: Step) -> Vec<(Start, RunPlan)> {
        seen::effects(run, seen, step)
    }

    fn calls(effect: &RunPlan) -> Calls {
        Calls::StartRun(effect.clone())
    }

    fn evidence(
        run: &BackupRun,
        seen: &Seen,
        milestone: Milestone,
    ) -> Result<(Vec<BackupPart>, Reached), MissingEvidence> {
        seen::evidence(run, seen, milestone)
    }

    /// No row gives a Backup up.
    fn reason(_: &BackupRun, _: &Seen, row: &Row<Self>) -> Reason {
        Reason { code: Code::Internal, message: row.why.to_owned(), transient: false }
    }
}

fn record_ends(run: &mut BackupRun, ends: &[RunEnd]) -> Result<(), IllegalEvent> {
    for end in ends {
        match run.state.ends.get_mut(usize::from(end.index)) {
            Some(slot @ None) => *slot = Some(end.clone()),
            Some(Some(_)) => return Err(incomplete(format!("group {} ended twice", end.index))),
            None => return Err(incomplete(format!("group {} does not exist", end.index))),
        }
    }
    Ok(())
}

fn ended(run: &mut BackupRun, stage: Stage, at: Timestamp) -> Result<(), IllegalEvent> {
    if let Some(open) = run.state.ends.iter().position(Option::is_none) {
        return Err(incomplete(format!("group {open} has not ended")));
    }
    run.state.finish(stage.phase(), at);
    run.stage = stage;
    Ok(())
}

/// The parts that a milestone closes.
fn closed(run: &mut BackupRun, count: u16, expected: [u8; 32]) -> Result<Vec<BackupPart>, IllegalEvent> {
    let parts = std::mem::take(&mut run.state.parts);
    match () {
        () if parts.len() != usize::from(count) => {
            Err(incomplete(format!("{} plans, and the record that closes them names {count}", parts.len())))
        }
        () if hash(&parts) != expected => Err(incomplete("the plans have another hash".to_owned())),
        () => Ok(parts),
    }
}

fn incomplete(what: String) -> IllegalEvent {
    IllegalEvent::Parts(what)
}
