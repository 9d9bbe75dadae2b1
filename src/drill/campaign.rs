//! Generates the drills of a campaign from the points that runs pass, and runs them.
//!
//! Drills are generated, never listed. A rehearsal is a run without kills. It gives the points that the run
//! passes. The singles come from these points: one kill, at each point. The pairs come from the points that
//! the incarnation after each single passes. Disruptions act at each point. Reply faults affect each step with
//! effects. A new step, point or effect therefore generates its own drills.

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::disruption::Disruption;
use crate::drill::invariants::{Broken, Invariant};
use crate::drill::pool;
use crate::drill::runner::CaseResult;
use crate::drill::scenario::{Case, Profile, ReplyFault, Target};
use crate::machine::group::GroupMachine;
use crate::machine::group::Step;
use crate::machine::kit::Moment;
use crate::machine::kit::Place;
use crate::machine::kit::Point;

/// Kinds of drills with disruptions, reply faults or expired deadlines.
pub(super) const DISTURBED: [fn(&CaseResult) -> Vec<Case>; 4] = [disruptions, reply_faults, downs, nights];

/// Number of writes that a recovery may make in addition to the missing ones.
const RECOVERY: u64 = 3;

/// Selection of drills.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Group sizes, in members.
    pub members: Vec<usize>,
    /// Runs this profile only. `None` selects the plain profile, and all profiles for some targets that run to
    /// their end.
    pub profile: Option<Profile>,
    /// Seed of all randomness, including the shares.
    pub seed: u64,
    /// Largest number of members for which pairs are generated.
    pub pairs: usize,
    /// Group sizes, in members, for disruptions, reply faults and downtimes.
    pub disturbed: Vec<usize>,
    /// Runs one of this many drills with disruptions, reply faults or downtimes.
    pub share: usize,
    /// Runs one of this many pairs.
    pub pair_share: usize,
    /// Runs only cases whose name contains this text.
    pub filter: Option<String>,
}

impl Wanted {
    /// Selects the drills of `cargo test`: all singles for 2 members with the plain profile, and a small share
    /// of the rest.
    pub fn quick(seed: u64) -> Self {
        let (members, profile) = (vec![2], Some(Profile::Plain));
        Self { members, profile, share: 200, pair_share: 500, ..Self::usual(seed) }
    }

    /// Selects all singles for 1, 2, 3 and 5 members, pairs for 1 and 2 members, and a share of the rest.
    pub fn usual(seed: u64) -> Self {
        let (members, disturbed) = (vec![1, 2, 3, 5], vec![2]);
        Self { members, profile: None, seed, pairs: 2, disturbed, share: 60, pair_share: 100, filter: None }
    }

    /// Selects all drills.
    pub fn all(seed: u64) -> Self {
        Self { pairs: 3, disturbed: vec![1, 2, 3, 5], share: 1, pair_share: 1, ..Self::usual(seed) }
    }

    /// Returns the runs without kills.
    pub fn rehearsals(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for members in &self.members {
            for target in Target::ALL {
                for retain in [false, true] {
                    // Restored names, a class that retains, and a skew have no effect that depends on the
                    // size.
                    let variant = matches!(target, Target::Keep | Target::UndoApart) || retain;
                    if variant && self.members.len() > 1 && *members != 2 {
                        continue;
                    }
                    let profiles = self.profiles(*target, *members, retain);
                    let case = |profile| Case::plain(*target, *members, retain, profile, self.seed);
                    cases.extend(profiles.into_iter().map(case));
                }
            }
        }
        cases
    }

    fn profiles(&self, target: Target, members: usize, retain: bool) -> Vec<Profile> {
        let in_all = match target {
            Target::Complete => matches!(members, 2 | 3),
            Target::Keep => members == 2,
            Target::UndoRetained => members == 3,
            _ => false,
        };
        match self.profile {
            Some(profile) => vec![profile],
            None if in_all && !retain => Profile::ALL.to_vec(),
            None => vec![Profile::Plain],
        }
    }
}

/// Results of one campaign.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Every case that was run and that the selection contains.
    pub played: Vec<CaseResult>,
}

impl Campaign {
    /// Runs the selected drills. Calls `told` as each case ends.
    pub fn play(wanted: &Wanted, told: &(dyn Fn(&CaseResult) + Sync)) -> Self {
        let mut campaign = Self::default();
        let rehearsed = pool::play_all(&wanted.rehearsals(), told);
        let singles: Vec<Case> =
            rehearsed.iter().flat_map(singles).filter(|case| wanted.leads_to(case)).collect();
        let singles = pool::play_all(&singles, told);
        let mut random = fastrand::Rng::with_seed(wanted.seed);
        let pairs = singles.iter().filter(|single| {
            single.case.members <= wanted.pairs && single.case.profile == Profile::Plain && single.held()
        });
        let pairs: Vec<Case> =
            pairs.flat_map(next_kills).filter(|_| taken(&mut random, wanted.pair_share)).collect();
        let rest = rehearsed.iter().filter(|one| one.held());
        let rest = rest.filter(|one| wanted.disturbed.contains(&one.case.members));
        let rest: Vec<Case> = rest.flat_map(|one| DISTURBED.iter().flat_map(|kind| kind(one))).collect();
        let rest = rest.into_iter().filter(|_| taken(&mut random, wanted.share));
        let more: Vec<Case> = pairs.into_iter().chain(rest).filter(|case| wanted.takes(case)).collect();
        let more = pool::play_all(&more, told);
        campaign.played = [rehearsed, singles, more].into_iter().flatten().collect();
        count_writes(&mut campaign.played);
        campaign.played.retain(|played| wanted.takes(&played.case));
        campaign
    }

    /// Returns for each decided row the first case that decided it and passed.
    pub fn rows(&self) -> BTreeMap<&'static str, &Case> {
        let mut rows = BTreeMap::new();
        for played in self.played.iter().filter(|played| played.held()) {
            for row in &played.rows {
                rows.entry(*row).or_insert(&played.case);
            }
        }
        rows
    }

    /// Returns every point that was passed or at which the daemon was killed.
    pub fn points(&self) -> BTreeSet<Point> {
        self.played
            .iter()
            .flat_map(|played| played.passed.iter().chain(&played.case.kills))
            .copied()
            .collect()
    }
}

impl Wanted {
    /// Whether a single is selected, or a pair that comes from it may be selected.
    fn leads_to(&self, single: &Case) -> bool {
        self.takes(single) || self.filter.as_ref().is_some_and(|text| text.contains('+'))
    }

    fn takes(&self, case: &Case) -> bool {
        self.filter.as_ref().is_none_or(|text| case.to_string().contains(text))
    }
}

fn taken(random: &mut fastrand::Rng, share: usize) -> bool {
    share <= 1 || random.usize(..share) == 0
}

/// Returns the points of a rehearsal that belong to its target. For a rollback, these are the points of the
/// rollback.
fn own_points(rehearsal: &CaseResult) -> &[Point] {
    let begins = |point: &Point| point.to_string() == "unwinding/before-record";
    let from = match rehearsal.case.target.is_undo() {
        true => rehearsal.passed.iter().position(begins).unwrap_or(0),
        false => 0,
    };
    &rehearsal.passed[from..]
}

/// One kill, at each point.
pub(super) fn singles(rehearsal: &CaseResult) -> Vec<Case> {
    own_points(rehearsal).iter().map(|point| rehearsal.case.killed_at(*point)).collect()
}

/// One more kill, at each point that the incarnation after the first kill passed.
fn next_kills(single: &CaseResult) -> Vec<Case> {
    single.passed.iter().map(|point| single.case.killed_at(*point)).collect()
}

/// Every disruption, at every point until the run is over.
pub(super) fn disruptions(rehearsal: &CaseResult) -> Vec<Case> {
    let over = |point: &&Point| {
        !matches!(point.to_string().as_str(), "cleaned/before-record" | "failed/before-record")
    };
    let points = match rehearsal.case.target.is_undone_by_deadline() {
        true => &rehearsal.passed,
        false => own_points(rehearsal),
    };
    let of_point = |point: &Point| {
        let at = *point;
        Disruption::ALL.iter().map(move |disruption| rehearsal.case.disturbed_by(*disruption, at))
    };
    points.iter().take_while(over).flat_map(of_point).collect()
}

/// Every reply fault for the effects of every step, with a kill during the effects, with a kill afterwards,
/// and without a kill.
pub(super) fn reply_faults(rehearsal: &CaseResult) -> Vec<Case> {
    let steps: BTreeSet<Step> =
        own_points(rehearsal).iter().filter_map(|point| point.step_of::<GroupMachine>()).collect();
    let mut cases = Vec::new();
    for (step, reply_fault) in
        steps.iter().flat_map(|step| ReplyFault::ALL.iter().map(move |reply_fault| (*step, *reply_fault)))
    {
        let case = Case { reply_fault: Some((reply_fault, step)), ..rehearsal.case.clone() };
        let killed = [Moment::MidEffects, Moment::AfterEffects, Moment::AfterOutcome]
            .map(|moment| case.killed_at(Point::new(Place::step::<GroupMachine>(step), moment)));
        cases.push(case);
        cases.extend(killed);
    }
    cases
}

/// One kill at each point, and a restart after the deadline of the cut has passed.
pub(super) fn downs(rehearsal: &CaseResult) -> Vec<Case> {
    const LONG: u64 = 1200;
    singles(rehearsal).into_iter().map(|case| Case { down: LONG, ..case }).collect()
}

/// One kill at each point at which a disruption acts, and a restart after the cluster has come to rest. Covers
/// up to two members: more members do not change the state that the restarted daemon finds.
pub(super) fn nights(rehearsal: &CaseResult) -> Vec<Case> {
    const SHORT: u64 = 60;
    let night =
        |case: Case| case.disruptions.first().map(|(_, at)| Case { down: SHORT, ..case.killed_at(*at) });
    let meddles = |case: &Case| !case.has(&[Disruption::OlderEpoch]);
    let disruptions = if rehearsal.case.members <= 2 { disruptions(rehearsal) } else { Vec::new() };
    disruptions.into_iter().filter(meddles).filter_map(night).collect()
}

/// Checks that a recovery makes the missing writes and few more, compared with the same run without kills.
fn count_writes(played: &mut [CaseResult]) {
    let unkilled = |one: &CaseResult| one.case.kills.is_empty().then(|| (one.case.to_string(), one.writes));
    let writes: BTreeMap<String, u64> = played.iter().filter_map(unkilled).collect();
    for one in
        played.iter_mut().filter(|one| one.case.disruptions.is_empty() && one.case.reply_fault.is_none())
    {
        let Some(needed) = writes.get(&one.case.unkilled().to_string()) else { continue };
        let most = needed + RECOVERY * one.case.kills.len() as u64;
        if one.writes > most {
            let shown = format!("{} writes, at most {most} were to be made", one.writes);
            one.broken.push(Broken { invariant: Invariant::FewWrites, shown });
        }
    }
}
