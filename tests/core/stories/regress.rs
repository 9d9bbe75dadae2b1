//! Tests that regress is bounded: reverted changes are made again, but not for ever, and never faster than
//! the pauses allow.

use stillpoint::domain::limits;
use stillpoint::domain::observed::{DeletionPolicy, SnapshotSeen};
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;

use super::cluster::Cluster;
use super::life::{Deed, Drill, Life, Trouble};
use super::told::{Story, stories};

/// Changes that another client may make at any time without touching the storage.
const MEDDLING: &[Deed] = &[
    |cluster| each_snapshot(cluster, |snapshot| snapshot.annotations = None),
    |cluster| {
        // A rebuilt member is identified by its label.
        let cut = |snapshot: &&mut SnapshotSeen| snapshot.id.name.starts_with("member-");
        cluster.seen.snapshots.iter_mut().filter(cut).for_each(|snapshot| snapshot.labels = None);
    },
    |cluster| each_snapshot(cluster, |snapshot| snapshot.class = None),
    |cluster| cluster.seen.contents.iter_mut().for_each(|content| content.policy = DeletionPolicy::Delete),
    |cluster| cluster.seen.contents.iter_mut().for_each(|content| content.annotations = None),
    |cluster| {
        if let Some(content) = &mut cluster.seen.content {
            content.policy = DeletionPolicy::Delete;
        }
    },
    |cluster| {
        if let Some(group) = &cluster.seen.group {
            let name = group.id.name.clone();
            each_snapshot(cluster, |snapshot| snapshot.group_name = Some(name.clone()));
        }
    },
    |cluster| {
        if let Some(group) = &mut cluster.seen.group {
            group.terminating = true;
        }
    },
    |cluster| {
        if let Some(snapshot) = cluster.seen.snapshots.first_mut() {
            snapshot.terminating = true;
        }
    },
    |cluster| cluster.seen.stub = None,
];

fn each_snapshot(cluster: &mut Cluster, change: impl FnMut(&mut stillpoint::domain::observed::SnapshotSeen)) {
    cluster.seen.snapshots.iter_mut().for_each(change);
}

/// Runs a story with a number of disruptions, each with a probability of 1/4 before a decision.
fn meddled(story: &Story, seed: u64, acts: usize) -> Result<Life, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut left = acts;
    let mut stages: Vec<(u32, Stage)> = Vec::new();
    let life = story.lived_with(None, &mut |cluster, run: &GroupRun| {
        if stages.last() != Some(&(run.attempt, run.stage)) {
            stages.push((run.attempt, run.stage));
        }
        if left > 0 && random.u8(..4) == 0 {
            left -= 1;
            MEDDLING[random.usize(..MEDDLING.len())](cluster);
            cluster.seen.fresh = false;
        }
    });
    let life = life.map_err(|reason| format!("seed {seed}: {reason}"))?;
    match stages.is_sorted() && stages.iter().all(|(attempt, _)| *attempt <= limits::MAX_ATTEMPTS) {
        true => Ok(life),
        false => Err(format!("seed {seed}, {}: stages went back: {stages:?}", story.name)),
    }
}

#[test]
fn stages_never_regress_and_steps_stay_bounded() {
    const ACTS: usize = 12;
    /// Intents that one disruption may cost: one to repair it, one to repeat the interrupted step.
    const EACH: usize = 2;
    let rounds: u64 = std::env::var("STILLPOINT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let (mut lives, mut most) = (0, 0);
    for story in stories() {
        let plain = story.lived(None).unwrap_or_else(|reason| panic!("{reason}"));
        for seed in 0..rounds {
            let life = meddled(&story, seed, ACTS).unwrap_or_else(|reason| panic!("{reason}"));
            let intents = life.steps.len();
            // A second attempt may repeat all steps of the first, rollback included.
            let bound = 2 * plain.steps.len() + 20 + EACH * ACTS;
            assert!(intents <= bound, "seed {seed}, {}: {intents} intents", story.name);
            (lives, most) = (lives + 1, most.max(intents));
        }
    }
    println!("{lives} lives with {ACTS} acts of others each: at most {most} intents");
}

/// Another client restores the state before a step, every time: for each step that exists.
#[test]
fn constantly_reverted_step_backs_off_then_ends() {
    for step in Step::ALL {
        let stories = stories();
        let does = |story: &&Story| {
            story.lived(None).is_ok_and(|life| life.steps.iter().any(|(done, _)| done == step))
        };
        let story = stories.iter().find(does).unwrap_or_else(|| panic!("no story does {}", step.name()));
        let drill = Drill { step: *step, nth: 0, trouble: Trouble::Reverted };
        let (mut times, mut last) = (Vec::new(), None);
        let lived = story.lived_with(Some(drill), &mut |cluster, run| {
            if run.tries.step == Some(*step) && run.tries.last != last {
                last = run.tries.last;
                times.push(u64::try_from(cluster.now.0 / 1_000_000).expect("after 1970"));
            }
        });
        let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let longest = pauses.iter().copied().max().unwrap_or(0);
        match &lived {
            // A run that can be rolled back ends with the rollback.
            Ok(life) => {
                let intents = life.steps.iter().filter(|(done, _)| done == step).count();
                println!("{}: {:?} after {intents} intents", step.name(), life.run.stage);
                assert!(intents <= limits::MAX_REPEATS as usize + 2, "{}: {intents} intents", step.name());
            }
            // A run that cannot be rolled back continues at the pace of the longest pause.
            Err(reason) => {
                println!("{}: for ever, pauses up to {longest} ms", step.name());
                assert!(reason.contains("turns for ever"), "{reason}");
                let settled = &pauses[pauses.len().saturating_sub(10)..];
                let paced = settled.iter().all(|pause| *pause >= limits::BACKOFF_MAX.0);
                assert!(paced, "{}: {settled:?}", step.name());
            }
        }
    }
}
