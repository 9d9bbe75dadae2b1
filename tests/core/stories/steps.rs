//! Tests every step of every story, at each of its executions, with every fault. The steps come from the
//! stories, and the stories are checked against the machine.

use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;

use super::life::{Drill, Life, Share, Trouble};
use super::told::{Story, sound, stories};

/// The executions of steps in a story: each step with its number among those of its kind.
fn doings(story: &Story) -> Vec<(Step, usize)> {
    let life = story.lived(None).unwrap_or_else(|reason| panic!("{reason}"));
    let steps: Vec<Step> = life.steps.iter().map(|(step, _)| *step).collect();
    let nth = |at: usize| steps[..at].iter().filter(|step| **step == steps[at]).count();
    (0..steps.len()).map(|at| (steps[at], nth(at))).collect()
}

/// Runs each fault with each step of each story. `wrong` checks the end.
fn each(troubles: &[Trouble], wrong: impl Fn(&Story, &Drill, &Life) -> Result<(), String>) {
    let (mut lives, mut broken) = (0, Vec::new());
    for story in stories() {
        for (step, nth) in doings(&story) {
            for trouble in troubles {
                let drill = Drill { step, nth, trouble: *trouble };
                let ended = story.lived(Some(drill)).and_then(|life| {
                    let told = |reason| format!("{}, {drill:?}: {reason}", story.name);
                    wrong(&story, &drill, &life).and_then(|()| sound(&life)).map_err(told)
                });
                lives += 1;
                broken.extend(ended.err());
            }
        }
    }
    println!("{lives} lives, {} ended wrong", broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn as_told(story: &Story, _: &Drill, life: &Life) -> Result<(), String> {
    match life.run.stage == story.end {
        true => Ok(()),
        false => Err(format!("ended as {:?}: {:?}", life.run.stage, life.run.reason)),
    }
}

/// A killed process executes the step again, after none, half or all of its effects were applied.
#[test]
fn every_step_may_run_twice() {
    let dies = [Share::None, Share::Half, Share::All].map(Trouble::Dies);
    each(&dies, as_told);
}

/// A repeated call finds another old value than it tests, or finds its change already applied.
#[test]
fn every_call_may_arrive_twice() {
    each(&[Trouble::Twice], as_told);
}

/// A write that fails once is retried, independent of what is known about it. The one exception is a
/// permanent refusal of a first create, which ends the run differently.
#[test]
fn every_step_may_fail_once() {
    let refused = [403, 409, 422, 503].map(Trouble::Refused);
    let unknown = [true, false].map(Trouble::Unknown);
    each(&[refused.as_slice(), &unknown].concat(), |story, drill, life| {
        let for_good = matches!(drill.trouble, Trouble::Refused(403 | 422));
        match drill.step == Step::Create && for_good && life.run.stage == Stage::Failed {
            true => Ok(()),
            false => as_told(story, drill, life),
        }
    });
}

/// Repeated steps read the objects first: each fault of a step costs at most one more step of its kind.
#[test]
fn each_fault_costs_one_more_intent() {
    let troubles = [Trouble::Dies(Share::None), Trouble::Dies(Share::All), Trouble::Unknown(false)];
    each(&troubles, |story, drill, life| {
        let plain = story.lived(None)?;
        let of = |life: &Life| life.steps.iter().filter(|(step, _)| *step == drill.step).count();
        let (before, after) = (of(&plain), of(life));
        match after <= before + 1 {
            true => Ok(()),
            false => Err(format!("{before} intents became {after}")),
        }
    });
}
