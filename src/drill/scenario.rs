//! Describes one drill as data: target, disruptions, reply fault, and the points at which the daemon is
//! killed.
//!
//! The name of a [`Case`] is one line that [`str::parse`] reads back, so that a failed case can be repeated by
//! its name. The names of steps and points are those of the machine, so that a new one needs no change here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::time::Millis;
use crate::drill::disruption::Disruption;
use crate::drill::disruptions;
use crate::machine::group::Step;
use crate::machine::kit::Point;
use crate::sim::Config;
use crate::sim::actors::driver::DriverConfig;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $value:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vdoc])* $value),+ }

        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$value),+];

            /// Returns the name of the value within the name of a case.
            pub fn name(self) -> &'static str {
                match self { $($type::$value => $name),+ }
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::drill::scenario::Unreadable;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|one| one.name() == text);
                found.copied().ok_or_else(|| $crate::drill::scenario::Unreadable(text.to_owned()))
            }
        }
    };
}
pub(in crate::drill) use named;

/// Time of an append under [`Profile::Slow`].
const APPEND_LATENCY: Duration = Duration::from_millis(20);

named! {
    /// Intended end of the run when the daemon is not killed.
    Target {
        /// The run completes.
        Complete = "complete",
        /// The run completes, with the group names restored.
        Keep = "keep-names",
        /// Rolled back from Created: the driver fails, and nothing is cut.
        UndoUncut = "undo-uncut",
        /// Rolled back from Created: the driver cannot cut groups.
        UndoUnsupported = "undo-unsupported",
        /// Rolled back from Created: a transient error delays the cut until its deadline.
        UndoTooLate = "undo-too-late",
        /// Rolled back from Created: the group is cut, and the members never become ready.
        UndoCreated = "undo-created",
        /// Rolled back from VSBound: the driver cut the members one after the other, and the plan requires one
        /// instant.
        UndoApart = "undo-apart",
        /// Rolled back from VSBound: the API server refuses the labels.
        UndoBound = "undo-vsbound",
        /// Rolled back from Relabelled: the API server refuses the policies.
        UndoRelabelled = "undo-relabelled",
        /// Rolled back from Relabelled, after group and content were deleted with their finalizers removed:
        /// only the handles of the storage to free are left.
        UndoTorn = "undo-torn",
        /// Rolled back from Retained: the VolumeSnapshotClass is missing at the last fresh read.
        UndoRetained = "undo-retained",
    }
}

impl Target {
    /// Whether the run is to be rolled back.
    pub fn is_undo(self) -> bool {
        !matches!(self, Self::Complete | Self::Keep)
    }

    /// Whether a deadline rolls the run back. Changes that other components began before, as early as the
    /// create, may then still be in progress when the rollback begins.
    pub fn is_undone_by_deadline(self) -> bool {
        matches!(self, Self::UndoTooLate | Self::UndoCreated)
    }
}

named! {
    /// How slow the controllers are, and the disk.
    Profile {
        /// No delay.
        Plain = "plain",
        /// Five calls per second, the default of real controllers, and 20 ms for each append to the journal.
        Slow = "slow",
        /// Caches that are up to 400 ms old.
        Stale = "stale",
    }
}

named! {
    /// Fault in the replies to the effects of a step, at the first execution of the step.
    ReplyFault {
        /// The effects are not applied, and there is no reply.
        DidNot = "did-not",
        /// The effects are applied, and the reply is lost.
        ReplyLost = "reply-lost",
        /// The effects are applied, and the reply is 504.
        Answered504 = "answered-504",
        /// The effects are not applied, and the reply is 504.
        DidNot504 = "did-not-504",
    }
}

/// Longest wait for controllers and driver: five minutes of back-off, and one minute for waits of the run
/// itself.
pub const LONGEST_WAIT: Millis = Millis::from_secs(6 * 60);

/// One drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub target: Target,
    /// Number of members of the group.
    pub members: usize,
    /// Whether the deletionPolicy of the VolumeGroupSnapshotClass is Retain.
    pub retain: bool,
    pub profile: Profile,
    /// Seed of all randomness in the cluster.
    pub seed: u64,
    /// Disruptions, each with the point at whose first pass it acts.
    pub disruptions: Vec<(Disruption, Point)>,
    /// Fault in the replies to the effects of a step, at its first execution.
    pub reply_fault: Option<(ReplyFault, Step)>,
    /// Points at which successive incarnations of the daemon are killed.
    pub kills: Vec<Point>,
    /// Time before the daemon is started again, in seconds.
    pub down: u64,
}

impl Case {
    /// Creates a case without kills, disruptions and reply faults.
    pub fn plain(target: Target, members: usize, retain: bool, profile: Profile, seed: u64) -> Self {
        let (disruptions, kills) = (Vec::new(), Vec::new());
        Self { target, members, retain, profile, seed, disruptions, reply_fault: None, kills, down: 0 }
    }

    /// Returns the same case with one more kill.
    pub fn killed_at(&self, point: Point) -> Self {
        let kills = self.kills.iter().copied().chain([point]).collect();
        Self { kills, ..self.clone() }
    }

    /// Returns the same case with one more disruption.
    pub fn disturbed_by(&self, disruption: Disruption, at: Point) -> Self {
        let disruptions = self.disruptions.iter().copied().chain([(disruption, at)]).collect();
        Self { disruptions, ..self.clone() }
    }

    /// Whether the case has one of these disruptions.
    pub fn has(&self, disruptions: &[Disruption]) -> bool {
        self.disruptions.iter().any(|(disruption, _)| disruptions.contains(disruption))
    }

    /// Returns the same case without kills, for comparison.
    pub fn unkilled(&self) -> Self {
        Self { kills: Vec::new(), down: 0, ..self.clone() }
    }

    /// Returns the longest time that a run may go without a record. The condition that the run waits for
    /// becomes true, or it cannot become true and the run does not wait for it.
    ///
    /// The snapshot-controller retries a failed deletion by back-off only, up to five minutes later (Event
    /// `SnapshotDeletePending`). The run itself waits for at most one minute. Controllers that the drill
    /// stops, a driver that it lets fail, and a daemon that is not started extend the limit by their duration.
    pub fn longest_wait(&self) -> Millis {
        /// In seconds. A driver that fails is called by back-off as well, and no object is released before it
        /// has replied.
        const DRIVER_FAILS: u64 = 2 * 3600;
        /// A controller that judged by an old cache handles the object again at its next resync
        /// (`--resync-period`, 15 minutes by default).
        const RESYNC: u64 = 15 * 60;
        let stopped = match self.has(&[Disruption::FreezeController, Disruption::StallController]) {
            true => disruptions::FROZEN_SECONDS,
            false => 0,
        };
        let failing = if self.target == Target::UndoTooLate { DRIVER_FAILS } else { 0 };
        let resync = if self.profile == Profile::Stale { RESYNC } else { 0 };
        Millis(LONGEST_WAIT.0 + (stopped + failing + resync + self.down) * 1_000)
    }

    /// Time that each append to the journal takes. Elsewhere it takes none, and nothing happens during it.
    pub fn latency(&self) -> Duration {
        match self.profile {
            Profile::Slow => APPEND_LATENCY,
            Profile::Plain | Profile::Stale => Duration::ZERO,
        }
    }

    /// Returns the configuration of the embedded cluster.
    pub fn config(&self) -> Config {
        let config = Config { seed: self.seed, ..Config::default() };
        let config = match self.profile {
            Profile::Plain => config,
            Profile::Slow => Config { controller_qps: Some(5.0), ..config },
            Profile::Stale => Config { cache_lag_ms: 400, ..config },
        };
        let failure = ("Internal".to_owned(), "the array is on fire".to_owned());
        let driver = match self.target {
            Target::UndoUncut => DriverConfig { fail_with: Some(failure), ..DriverConfig::default() },
            Target::UndoCreated => DriverConfig { not_ready_ms: 1 << 40, ..DriverConfig::default() },
            Target::UndoApart => DriverConfig { skew_ms: 2_000, ..DriverConfig::default() },
            Target::UndoUnsupported => DriverConfig { unimplemented: true, ..DriverConfig::default() },
            Target::UndoTooLate => {
                let passing = ("Unavailable".to_owned(), "the array is busy".to_owned());
                DriverConfig { fail_with: Some(passing), fail_times: 30, ..DriverConfig::default() }
            }
            _ => DriverConfig::default(),
        };
        Config { driver, ..config }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},n={}", self.target.name(), self.members)?;
        if self.retain {
            write!(f, ",class=retain")?;
        }
        if !self.disruptions.is_empty() {
            let disruptions =
                self.disruptions.iter().map(|(disruption, point)| format!("{}@{point}", disruption.name()));
            write!(f, ",rival={}", disruptions.collect::<Vec<_>>().join("+"))?;
        }
        if let Some((reply_fault, step)) = &self.reply_fault {
            write!(f, ",truth={}@{}", reply_fault.name(), step.name())?;
        }
        if !self.kills.is_empty() {
            let kills: Vec<String> = self.kills.iter().map(Point::to_string).collect();
            write!(f, ",kill={}", kills.join("+"))?;
        }
        if self.down > 0 {
            write!(f, ",down={}", self.down)?;
        }
        if self.profile != Profile::Plain {
            write!(f, ",profile={}", self.profile.name())?;
        }
        write!(f, ",seed={}", self.seed)
    }
}

/// Text that is not the name of a case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a part of a drill; see `stillpoint drill list`")]
pub struct Unreadable(pub String);

impl FromStr for Case {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unreadable = |part: &str| Unreadable(part.to_owned());
        let mut parts = text.trim().split(',');
        let target = parts.next().unwrap_or_default().parse()?;
        let mut case = Self::plain(target, 2, false, Profile::Plain, 1);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| unreadable(part))?;
            match key {
                "n" => case.members = value.parse().map_err(|_| unreadable(part))?,
                "class" if value == "retain" => case.retain = true,
                "profile" => case.profile = value.parse()?,
                "down" => case.down = value.parse().map_err(|_| unreadable(part))?,
                "seed" => case.seed = value.parse().map_err(|_| unreadable(part))?,
                "rival" => case.disruptions = value.split('+').map(disruption).collect::<Result<_, _>>()?,
                "truth" => case.reply_fault = Some(reply_fault(value)?),
                "kill" => case.kills = value.split('+').map(point).collect::<Result<_, _>>()?,
                _ => return Err(unreadable(part)),
            }
        }
        Ok(case)
    }
}

fn parted(text: &str) -> Result<(&str, &str), Unreadable> {
    text.split_once('@').ok_or_else(|| Unreadable(text.to_owned()))
}

fn point(text: &str) -> Result<Point, Unreadable> {
    text.parse().map_err(|_| Unreadable(text.to_owned()))
}

fn disruption(text: &str) -> Result<(Disruption, Point), Unreadable> {
    let (who, at) = parted(text)?;
    Ok((who.parse()?, point(at)?))
}

fn reply_fault(text: &str) -> Result<(ReplyFault, Step), Unreadable> {
    let (reply_fault, at) = parted(text)?;
    Ok((reply_fault.parse()?, step(at)?))
}

fn step(text: &str) -> Result<Step, Unreadable> {
    let found = Step::ALL.iter().find(|step| step.name() == text);
    found.copied().ok_or_else(|| Unreadable(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_round_trips_through_its_name() {
        for name in [
            "complete,n=1,seed=1",
            "undo-retained,n=3,class=retain,kill=undo-free/mid-effects+claim/after-intent,seed=7",
            "keep-names,n=2,rival=delete-vs@detach/after-intent,profile=stale,seed=1",
            "complete,n=2,truth=reply-lost@retain,kill=retain/after-effects,profile=slow,seed=3",
            "complete,n=2,kill=cut/before-record,down=3600,seed=1",
            "complete,n=2,rival=delete-vgs@cut/after-record+remove-labels@claim/after-intent,seed=1",
        ] {
            let case: Case = name.parse().expect(name);
            assert_eq!(case.to_string(), name);
        }
        for name in ["", "complete,n=x", "complete,kill=nowhere", "complete,rival=nobody@claim/after-intent"]
        {
            assert!(name.parse::<Case>().is_err(), "{name}");
        }
    }
}
