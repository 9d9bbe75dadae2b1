//! Runs the loop of a run without an engine: observe, decide, record, apply, record. A run that does not end
//! returns an error.

use stillpoint::domain::plan::Plan;
use stillpoint::domain::time::Millis;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Milestone;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::effect::Effect;
use stillpoint::machine::group::effect::EffectRef;
use stillpoint::machine::kit::Action;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::fold;
use stillpoint::machine::kit::fold_all;
use stillpoint::machine::kit::{Logic, Next, Reached as _, step};

use super::cluster::Cluster;
use crate::fixture::at;

/// Time of a disruption: once, at the first occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The milestone is recorded.
    Reached(Milestone),
    /// The effects of the step were applied.
    Done(Step),
    /// The step is intended, and none of its effects was applied.
    Intended(Step),
    /// The run is stuck. The disruption is the fix of an operator.
    Stuck,
}

/// A change to the cluster.
pub type Deed = fn(&mut Cluster);

/// Fault of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The process is killed before, amid or after the effects, without an outcome.
    Dies(Share),
    /// Every call arrives a second time.
    Twice,
    /// The calls are refused with this status and not applied.
    Refused(u16),
    /// The results of the calls are unknown. The value says whether they were applied.
    Unknown(bool),
    /// Another client restores the previous state, every time.
    Reverted,
}

/// Share of the effects of a step that was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    None,
    Half,
    All,
}

/// A fault of the n-th execution of a step.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    pub step: Step,
    pub nth: usize,
    pub trouble: Trouble,
}

pub struct Life {
    pub run: GroupRun,
    pub cluster: Cluster,
    pub records: Vec<Timed>,
    /// Steps in the order of their intents, each with its time.
    pub steps: Vec<(Step, i64)>,
}

impl Life {
    /// Milestones in the order of their records.
    pub fn milestones(&self) -> Vec<Milestone> {
        let reached = |timed: &Timed| match timed.event {
            Event::MilestoneReached { ref reached, .. } => Some(reached.milestone()),
            _ => None,
        };
        self.records.iter().filter_map(reached).collect()
    }
}

struct Living<'a> {
    life: Life,
    deeds: Vec<(When, Deed)>,
    drill: Option<Drill>,
    done: usize,
    meddle: &'a mut dyn FnMut(&mut Cluster, &GroupRun),
}

/// Maximum number of decisions of one run.
const TURNS: usize = 1_000;

/// Runs to the end. The error names the state of a run that does not end.
pub fn live(
    plan: &Plan,
    cluster: Cluster,
    deeds: &[(When, Deed)],
    drill: Option<Drill>,
    meddle: &mut dyn FnMut(&mut Cluster, &GroupRun),
) -> Result<Life, String> {
    let first = Timed { at: at(0), event: Event::Planned(Box::new(plan.clone())) };
    let run = fold(None, &first).map_err(|error| error.to_string())?;
    let life = Life { run, cluster, records: vec![first], steps: vec![] };
    let mut living = Living { life, deeds: deeds.to_vec(), drill, done: 0, meddle };
    for _ in 0..TURNS {
        if living.turn()? {
            return Ok(living.life);
        }
    }
    let Life { run, steps, .. } = &living.life;
    let last: Vec<&str> = steps.iter().rev().take(6).map(|(step, _)| step.name()).collect();
    Err(format!("turns for ever in {:?}, stuck {:?}: ... {last:?}", run.stage, run.stuck))
}

impl Living<'_> {
    /// Executes one decision. Returns whether it was the last.
    fn turn(&mut self) -> Result<bool, String> {
        let Life { run, cluster, .. } = &mut self.life;
        cluster.now = cluster.now.after(Millis(10));
        (self.meddle)(cluster, run);
        let failing = cluster.seen.content.as_ref().is_some_and(|content| content.error.is_some());
        cluster.seen.error_since = failing.then(|| cluster.seen.error_since.unwrap_or(cluster.now));
        let considered =
            step(&Logic::default(), run, &cluster.seen, cluster.now).map_err(|error| error.to_string())?;
        let decision = considered.decision;
        let grounds = considered.grounds();
        match considered.next {
            Next::Wait { .. } if decision.not_before.is_some() => {
                cluster.now = decision.not_before.unwrap_or(cluster.now);
                cluster.seen.fresh = false;
                cluster.controllers();
            }
            Next::Act { step, effects: planned } => {
                let marks = planned.iter().map(|(mark, _)| *mark).collect();
                self.life.steps.push((step, self.life.cluster.now.0));
                self.record(Event::Intended { grounds, step, marks })?;
                self.act(step, &planned)?;
            }
            Next::Record { milestone, events } => {
                for event in events {
                    self.record(event)?;
                }
                self.deed(When::Reached(milestone));
                // Without a disruption the run stays stuck.
                return Ok(matches!(decision.then, Action::Stick { .. }) && !self.deed(When::Stuck));
            }
            Next::Refresh => cluster.seen.fresh = true,
            Next::Wait { .. } => {
                if !cluster.controllers() {
                    let later = cluster.now.after(Millis::from_secs(5));
                    cluster.now = decision.wake_at.unwrap_or(later);
                }
            }
            Next::StepDown => return Err("overtaken, and there is no other daemon".to_owned()),
            Next::Done => return Ok(true),
        }
        Ok(false)
    }

    fn record(&mut self, event: Event) -> Result<(), String> {
        let timed = Timed { at: self.life.cluster.now, event };
        let before = self.life.run.stage;
        self.life.run = fold(Some(self.life.run.clone()), &timed).map_err(|error| error.to_string())?;
        if before == Stage::Releasing && self.life.run.stage == Stage::Unwinding {
            return Err("there is an undo after the pivot".to_owned());
        }
        self.life.records.push(timed);
        Ok(())
    }

    /// Applies the disruption if this is its time.
    fn deed(&mut self, when: When) -> bool {
        let Some(index) = self.deeds.iter().position(|(of, _)| *of == when) else { return false };
        let (_, deed) = self.deeds.remove(index);
        deed(&mut self.life.cluster);
        self.life.cluster.seen.fresh = false;
        true
    }

    fn act(&mut self, step: Step, planned: &[(EffectRef, Effect)]) -> Result<(), String> {
        if self.deed(When::Intended(step)) {
            return self.die();
        }
        match self.trouble(step) {
            Some(Trouble::Dies(share)) => {
                let count = match share {
                    Share::None => 0,
                    Share::Half => planned.len() / 2,
                    Share::All => planned.len(),
                };
                self.perform(&planned[..count]);
                self.deed(When::Done(step));
                self.die()
            }
            Some(Trouble::Refused(code)) => {
                let refused = Outcome::Determinate { code, message: "not now".to_owned() };
                self.end(step, vec![refused; planned.len()])
            }
            Some(Trouble::Unknown(happens)) => {
                if happens {
                    self.perform(planned);
                    self.deed(When::Done(step));
                }
                let unknown = Outcome::Indeterminate { message: "the reply was lost".to_owned() };
                self.end(step, vec![unknown; planned.len()])
            }
            Some(Trouble::Reverted) => {
                let before = self.life.cluster.clone();
                let outcomes = self.perform(planned);
                self.life.cluster.put_back(before);
                self.end(step, outcomes)
            }
            Some(Trouble::Twice) => {
                let outcomes = self.perform(planned);
                self.perform(planned);
                self.deed(When::Done(step));
                self.end(step, outcomes)
            }
            None => {
                let outcomes = self.perform(planned);
                self.deed(When::Done(step));
                self.end(step, outcomes)
            }
        }
    }

    fn trouble(&mut self, step: Step) -> Option<Trouble> {
        let Drill { nth, trouble, .. } = self.drill.filter(|drill| drill.step == step)?;
        self.done += 1;
        (trouble == Trouble::Reverted || self.done == nth + 1).then_some(trouble)
    }

    fn perform(&mut self, planned: &[(EffectRef, Effect)]) -> Vec<Outcome> {
        planned.iter().map(|(_, effect)| self.life.cluster.perform(effect)).collect()
    }

    fn end(&mut self, step: Step, outcomes: Vec<Outcome>) -> Result<(), String> {
        self.record(Event::StepCompleted { step, outcomes })
    }

    /// Restarts the daemon with the next epoch.
    fn die(&mut self) -> Result<(), String> {
        let cluster = &mut self.life.cluster;
        cluster.seen.epoch += 1;
        cluster.seen.fresh = false;
        cluster.seen.error_since = None;
        cluster.now = cluster.now.after(Millis::from_secs(3));
        // Only the records survive.
        let folded = fold_all(&self.life.records);
        self.life.run = folded.map_err(|error| error.to_string())?.ok_or("no records")?;
        Ok(())
    }
}
