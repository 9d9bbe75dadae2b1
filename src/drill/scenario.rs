//! One drill as data: what is aimed at, who interferes, what becomes of effects in flight, where the daemon is killed.
//!
//! A [`Case`] has one line as its name, which is read back ([`str::parse`]): whoever sees a case fail repeats it by its
//! name. The names of steps and points are those of the machine, so that a new one needs nothing here.

use std::fmt;
use std::str::FromStr;

use crate::domain::time::Millis;
use crate::drill::disruption::Disruption;
use crate::drill::disruptions;
use crate::machine::group::Step;
use crate::machine::point::Point;
use crate::sim::Config;
use crate::sim::actors::driver::DriverConfig;

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $value:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type { $($(#[$vdoc])* $value),+ }

        impl $type {
            /// All of them.
            pub const ALL: &'static [$type] = &[$($type::$value),+];

            /// Its name in the name of a case.
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

named! {
    /// Where the run goes when nobody kills it.
    Target {
        /// To its end.
        Complete = "complete",
        /// To its end, with the names put back.
        Keep = "keep-names",
        /// Undone from Created: the driver fails, nothing is cut.
        UndoUncut = "undo-uncut",
        /// Undone from Created: the driver cannot cut groups.
        UndoUnsupported = "undo-unsupported",
        /// Undone from Created: an error that may pass holds the cut until its deadline.
        UndoTooLate = "undo-too-late",
        /// Undone from Created: cut, and the members never become ready.
        UndoCreated = "undo-created",
        /// Undone from VSBound: the driver cut the members one after the other, and the plan requires one moment.
        UndoApart = "undo-apart",
        /// Undone from VSBound: the labels are refused.
        UndoBound = "undo-vsbound",
        /// Undone from Relabelled: the policies are refused.
        UndoRelabelled = "undo-relabelled",
        /// Undone from Relabelled, after group and content were torn out: what is to be freed has its handles only.
        UndoTorn = "undo-torn",
        /// Undone from Retained: the VolumeSnapshotClass is gone at the last look.
        UndoRetained = "undo-retained",
    }
}

impl Target {
    /// Whether the run is to be undone.
    pub fn is_undo(self) -> bool {
        !matches!(self, Self::Complete | Self::Keep)
    }

    /// Whether a deadline undoes the run: then whatever others began before, as early as with the create, may still
    /// be under way when the undo begins.
    pub fn is_undone_by_deadline(self) -> bool {
        matches!(self, Self::UndoTooLate | Self::UndoCreated)
    }
}

named! {
    /// In which way the controllers are slow.
    Profile {
        /// Not at all.
        Plain = "plain",
        /// Five calls a second, as real ones by default.
        Slow = "slow",
        /// They work from caches that are up to 400 ms old.
        Stale = "stale",
    }
}

named! {
    /// What becomes of the effects in flight, of the first time that a step is done.
    ReplyFault {
        /// They do not happen, and nobody is told.
        DidNot = "did-not",
        /// They happen, and the reply is lost.
        ReplyLost = "reply-lost",
        /// They happen, and the answer is 504.
        Answered504 = "answered-504",
        /// They do not happen, and the answer is 504.
        DidNot504 = "did-not-504",
    }
}

/// Longest wait for controllers and driver: five minutes of back-off, and one for what the run waits out itself.
pub const LONGEST_WAIT: Millis = Millis::from_secs(6 * 60);

/// One drill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Where the run goes.
    pub target: Target,
    /// Members of the group.
    pub members: usize,
    /// The VolumeGroupSnapshotClass says Retain.
    pub retain: bool,
    /// In which way the controllers are slow.
    pub profile: Profile,
    /// Source of everything random in the cluster.
    pub seed: u64,
    /// Who interferes, and at the first pass of which point.
    pub disruptions: Vec<(Disruption, Point)>,
    /// What becomes of the effects of the first time of a step.
    pub reply_fault: Option<(ReplyFault, Step)>,
    /// Where the daemon is killed, one life after the other.
    pub kills: Vec<Point>,
    /// How long nobody starts it again, seconds.
    pub down: u64,
}

impl Case {
    /// A case without kills, rivals and lies.
    pub fn plain(target: Target, members: usize, retain: bool, profile: Profile, seed: u64) -> Self {
        let (disruptions, kills) = (Vec::new(), Vec::new());
        Self { target, members, retain, profile, seed, disruptions, reply_fault: None, kills, down: 0 }
    }

    /// The same, and killed here as well.
    pub fn killed_at(&self, point: Point) -> Self {
        let kills = self.kills.iter().copied().chain([point]).collect();
        Self { kills, ..self.clone() }
    }

    /// The same, and somebody interferes here as well.
    pub fn disturbed_by(&self, disruption: Disruption, at: Point) -> Self {
        let disruptions = self.disruptions.iter().copied().chain([(disruption, at)]).collect();
        Self { disruptions, ..self.clone() }
    }

    /// Whether one of those interferes.
    pub fn has(&self, disruptions: &[Disruption]) -> bool {
        self.disruptions.iter().any(|(disruption, _)| disruptions.contains(disruption))
    }

    /// The same without kills: with what it is compared.
    pub fn unkilled(&self) -> Self {
        Self { kills: Vec::new(), down: 0, ..self.clone() }
    }

    /// How long a run may go without a record: what it waits for comes, or cannot come and is not waited for.
    ///
    /// The snapshot-controller looks at a deletion that it could not do by back-off only, up to five minutes later
    /// (Event `SnapshotDeletePending`), and what the run itself waits out is at most a minute. Controllers that the drill
    /// stops, a driver that it lets fail, and a daemon that nobody starts, are waited for as long as that lasts.
    pub fn longest_wait(&self) -> Millis {
        /// A driver that fails is asked by back-off as well, and before it has answered nothing is let go.
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

    /// What the cluster is made of.
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

/// A name that is the name of no case.
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
    fn a_case_is_read_back_from_its_name() {
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
