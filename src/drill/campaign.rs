//! Which drills there are: generated from what runs pass, and never listed.
//!
//! A rehearsal plays a run without kills and says which points it passes. From them come the singles (killed once, at
//! each point), and from what the life after each single passes come the pairs. Rivals act at each point, truths lie
//! about each step with effects. So a new step, point or effect brings its own drills.

use std::collections::{BTreeMap, BTreeSet};

use crate::drill::disruption::Disruption;
use crate::drill::invariants::{Broken, Invariant};
use crate::drill::pool;
use crate::drill::runner::CaseResult;
use crate::drill::scenario::{Case, Profile, ReplyFault, Target};
use crate::machine::group::Step;
use crate::machine::point::{Moment, Place, Point};

/// Kinds of drills in which others take part, or the deadlines.
pub(super) const DISTURBED: [fn(&CaseResult) -> Vec<Case>; 4] = [disruptions, reply_faults, downs, nights];

/// Writes that a recovery may make beside what was missing.
const RECOVERY: u64 = 3;

/// Which drills are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Sizes of the group.
    pub members: Vec<usize>,
    /// One profile only; without it plain ones, and the others where a run goes to its end.
    pub profile: Option<Profile>,
    /// Source of everything random, the shares included.
    pub seed: u64,
    /// Pairs up to this many members.
    pub pairs: usize,
    /// Sizes of the group under rivals, lies and long nights.
    pub disturbed: Vec<usize>,
    /// Of how many rivals and truths one is taken.
    pub share: usize,
    /// Of how many pairs one is taken.
    pub pair_share: usize,
    /// Only cases whose name has this text in it.
    pub filter: Option<String>,
}

impl Wanted {
    /// What `cargo test` plays: all singles for 2 members with controllers as they should be, and a small share of the
    /// rest.
    pub fn quick(seed: u64) -> Self {
        let (members, profile) = (vec![2], Some(Profile::Plain));
        Self { members, profile, share: 200, pair_share: 500, ..Self::usual(seed) }
    }

    /// All singles for 1, 2, 3 and 5 members, pairs for 1 and 2, and a share of the rest.
    pub fn usual(seed: u64) -> Self {
        let (members, disturbed) = (vec![1, 2, 3, 5], vec![2]);
        Self { members, profile: None, seed, pairs: 2, disturbed, share: 60, pair_share: 100, filter: None }
    }

    /// Everything there is.
    pub fn all(seed: u64) -> Self {
        Self { pairs: 3, disturbed: vec![1, 2, 3, 5], share: 1, pair_share: 1, ..Self::usual(seed) }
    }

    /// The runs that nobody kills.
    pub fn rehearsals(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for members in &self.members {
            for target in Target::ALL {
                for retain in [false, true] {
                    // Names put back, a class that retains and a skew change nothing that depends on the size.
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

/// All drills of one campaign, played.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Every case that was played and is asked for.
    pub played: Vec<CaseResult>,
}

impl Campaign {
    /// Plays what is wanted; `told` hears of each case as it ends.
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

    /// For each row that was decided the first case that did so and held.
    pub fn rows(&self) -> BTreeMap<&'static str, &Case> {
        let mut rows = BTreeMap::new();
        for played in self.played.iter().filter(|played| played.held()) {
            for row in &played.rows {
                rows.entry(*row).or_insert(&played.case);
            }
        }
        rows
    }

    /// Every point that was passed or killed at.
    pub fn points(&self) -> BTreeSet<Point> {
        self.played
            .iter()
            .flat_map(|played| played.passed.iter().chain(&played.case.kills))
            .copied()
            .collect()
    }
}

impl Wanted {
    /// Whether a single is asked for, or a pair may be that comes from it.
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

/// The points of a rehearsal that belong to its target: of an undo, those of the undo.
fn own_points(rehearsal: &CaseResult) -> &[Point] {
    let begins = |point: &Point| point.to_string() == "unwinding/before-record";
    let from = match rehearsal.case.target.is_undo() {
        true => rehearsal.passed.iter().position(begins).unwrap_or(0),
        false => 0,
    };
    &rehearsal.passed[from..]
}

/// Killed once, at each point.
pub(super) fn singles(rehearsal: &CaseResult) -> Vec<Case> {
    own_points(rehearsal).iter().map(|point| rehearsal.case.killed_at(*point)).collect()
}

/// Killed again, at each point that the life after the kill passed.
fn next_kills(single: &CaseResult) -> Vec<Case> {
    single.passed.iter().map(|point| single.case.killed_at(*point)).collect()
}

/// Every rival, at every point until the run is over.
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

/// Every truth about the effects of every step; killed while they are in flight, afterwards, or not at all.
pub(super) fn reply_faults(rehearsal: &CaseResult) -> Vec<Case> {
    let steps: BTreeSet<Step> = own_points(rehearsal).iter().filter_map(step_of).collect();
    let mut cases = Vec::new();
    for (step, reply_fault) in
        steps.iter().flat_map(|step| ReplyFault::ALL.iter().map(move |reply_fault| (*step, *reply_fault)))
    {
        let case = Case { reply_fault: Some((reply_fault, step)), ..rehearsal.case.clone() };
        let killed = [Moment::MidEffects, Moment::AfterEffects, Moment::AfterOutcome]
            .map(|moment| case.killed_at(Point::step(step, moment)));
        cases.push(case);
        cases.extend(killed);
    }
    cases
}

/// Killed at each point, and started again when the deadline of the cut has passed.
pub(super) fn downs(rehearsal: &CaseResult) -> Vec<Case> {
    const LONG: u64 = 1200;
    singles(rehearsal).into_iter().map(|case| Case { down: LONG, ..case }).collect()
}

/// Killed at each point at which somebody interferes, and started again when the cluster has come to rest. With up to two
/// members: more of them change nothing in what an empty house comes to.
pub(super) fn nights(rehearsal: &CaseResult) -> Vec<Case> {
    const SHORT: u64 = 60;
    let night =
        |case: Case| case.disruptions.first().map(|(_, at)| Case { down: SHORT, ..case.killed_at(*at) });
    let meddles = |case: &Case| !case.has(&[Disruption::OlderEpoch]);
    let disruptions = if rehearsal.case.members <= 2 { disruptions(rehearsal) } else { Vec::new() };
    disruptions.into_iter().filter(meddles).filter_map(night).collect()
}

fn step_of(point: &Point) -> Option<Step> {
    match point.place {
        Place::Step(step) => Some(step),
        _ => None,
    }
}

/// A recovery writes what was missing and little more: compared with the same run without kills.
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
