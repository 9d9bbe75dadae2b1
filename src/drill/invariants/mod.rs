//! What has to hold after every run, by name (DESIGN: drills).
//!
//! [`completed`] and [`undone`] hold all of them that speak of such an end. `cluster` looks at objects and storage,
//! `order` at what happened when, from the journal and the calls.
//!
//! Two need more than one stage and are held by whoever drills so: "few writes" (a run without trouble to compare
//! with) and "one writer" (two daemons).

mod cluster;
mod kept;
mod namespace;
pub(super) mod order;

use std::fmt;

pub use self::kept::{after_abandon, kept};
pub use self::namespace::after_the_namespace;

use crate::domain::time::Millis;
use crate::drill::testbed::Testbed;

macro_rules! invariants {
    ($($(#[$doc:meta])* $value:ident = $name:literal,)+) => {
        /// The invariants.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant { $($(#[$doc])* $value),+ }

        impl Invariant {
            /// All of them.
            pub const ALL: &'static [Invariant] = &[$(Invariant::$value),+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Invariant::$value => $name),+ }
            }
        }
    };
}

invariants! {
    /// The run comes to the end that it has to come to.
    Ends = "the run ends as it has to",
    /// The GroupSnapshot says how the run ended.
    Shown = "people are told what is true",
    /// No more group cuts than attempts; no more physical snapshots than members.
    OneCut = "one cut per run",
    /// Exactly the planned volumes, each under its recorded or rebuilt uid.
    MembersAsPlanned = "member uids equal the plan",
    /// No VolumeGroupSnapshot or VolumeGroupSnapshotContent of a finished run.
    GroupGone = "no group object of a finished run",
    /// Where nobody destroys anything, no member is rebuilt and nothing is cut again.
    NoneLost = "no member is lost unless a client destroys it",
    /// Ready, bound, not terminating, not owned, retained.
    MembersFree = "every member bound, not terminating, not owned",
    /// Labels and receipt on every member and its content.
    MembersMarked = "every member carries run and receipt",
    /// Every VolumeSnapshotContent is that of a member.
    NoneStray = "no content without a member",
    /// The receipt is durable before anything is deleted, unless the run is being undone.
    ReceiptFirst = "receipt durable before any delete",
    /// Every member was read after the group was gone and before the run called itself clean.
    SeenAfterwards = "members seen after the group was gone",
    /// The content is deleted after the group, while going forward.
    ContentOutlivesGroup = "the content outlives its group",
    /// Every write of a daemon follows from an intent that is on its disk.
    IntentFirst = "no write without a durable intent",
    /// Nothing is undone behind the pivot.
    PivotHolds = "no undo after the pivot",
    /// The chain is valid, and a replay decides the same.
    JournalProves = "journal chain valid and replay identical",
    /// Every handle that was ever cut is owned, retained or reclaimed.
    NothingLeaked = "every storage handle is owned, retained or reclaimed",
    /// Every member's handle exists in the storage.
    NoPhantom = "every member's handle exists in the storage",
    /// After an undo no object of the run is left.
    Undone = "no object of an undone run is left",
    /// After an undo no storage of the run is left.
    StorageFate = "the storage of an undone run is freed",
    /// After a run was abandoned behind its pivot, what was cut stands and is in the receipt.
    Kept = "what was cut is kept and written down",
    /// What cannot come is not waited for; controllers and driver are waited for no longer than they can take.
    NothingAwaited = "no wait for what cannot come",
    /// A daemon that was overtaken writes nothing any more.
    OneWriter = "two live daemons never both write",
    /// A recovery writes what was missing, and three calls more at most.
    FewWrites = "recovery needs few writes",
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// What was seen instead.
    pub shown: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.name(), self.shown)
    }
}

/// Collects what does not hold.
#[derive(Debug, Default)]
pub(super) struct Verdict(Vec<Broken>);

impl Verdict {
    fn hold(&mut self, invariant: Invariant, holds: bool, shown: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Broken { invariant, shown: shown() });
        }
    }
}

/// What does not hold once the Backup is `Completed`, with `count` members in `namespace`.
pub async fn after_completion(testbed: &Testbed, namespace: &str, count: usize) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict(of_cluster(testbed, namespace, count));
    order::hold(&story, testbed, &mut verdict);
    verdict.0
}

/// What does not hold of the cluster once the Backup is `Completed`, wherever its journal is.
pub fn of_cluster(testbed: &Testbed, namespace: &str, count: usize) -> Vec<Broken> {
    let mut verdict = Verdict::default();
    cluster::members(testbed, namespace, count, &mut verdict);
    cluster::nothing_leaked(testbed, &mut verdict);
    cluster::shown(testbed, namespace, "Completed", &mut verdict);
    verdict.0
}

/// What does not hold of the storage while a run is stuck.
pub fn none_leaked(testbed: &Testbed) -> Vec<Broken> {
    let mut verdict = Verdict::default();
    cluster::nothing_leaked(testbed, &mut verdict);
    let ledger = testbed.cluster.ledger();
    verdict.hold(Invariant::NoPhantom, ledger.phantom == 0, || format!("{ledger:?}"));
    verdict.0
}

/// What does not hold of a completed run that nobody interfered with in a way that costs members.
pub async fn none_was_lost(testbed: &Testbed) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict::default();
    order::none_was_lost(&story, &mut verdict);
    verdict.0
}

/// What does not hold once a run was undone.
pub async fn after_undo(testbed: &Testbed, namespace: &str) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict::default();
    cluster::freed(testbed, &mut verdict);
    cluster::nothing_leaked(testbed, &mut verdict);
    cluster::shown(testbed, namespace, "Failed", &mut verdict);
    order::hold(&story, testbed, &mut verdict);
    verdict.0
}

/// What does not hold of a Backup for which no run was planned.
pub async fn after_nothing(testbed: &Testbed) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict::default();
    cluster::freed(testbed, &mut verdict);
    for call in story.writes() {
        verdict.hold(Invariant::IntentFirst, false, || format!("{} {}", call.verb, call.resource));
    }
    verdict.0
}

/// Waits of a run that are longer than that, from one of its records to the next.
pub async fn waits(testbed: &Testbed, longest: Millis) -> Vec<Broken> {
    let records = testbed.group_records().await;
    let mut verdict = Verdict::default();
    for pair in records.windows(2) {
        let waited = pair[1].at.since(pair[0].at);
        verdict.hold(Invariant::NothingAwaited, waited <= longest, || {
            format!("{} s before {:?}", waited.0 / 1_000, pair[1].event)
        });
    }
    verdict.0
}

/// Everything that holds once the Backup is `Completed`; what does not, a line each.
pub async fn completed(testbed: &Testbed, namespace: &str, count: usize) -> Result<(), String> {
    lines(after_completion(testbed, namespace, count).await)
}

/// Everything that holds once a run was undone: a clean cluster.
pub async fn undone(testbed: &Testbed, namespace: &str) -> Result<(), String> {
    lines(after_undo(testbed, namespace).await)
}

fn lines(broken: Vec<Broken>) -> Result<(), String> {
    let lines: Vec<String> = broken.iter().map(Broken::to_string).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// Waits until nothing is being deleted any more. A VolumeSnapshot that somebody deleted while its group lived goes by
/// the controller's backoff only, up to five minutes after the group; the run does not wait for that.
pub async fn settled(testbed: &Testbed) {
    let terminating = |plural| {
        let objects = testbed.list(plural, None);
        objects.iter().any(|object| !object["metadata"]["deletionTimestamp"].is_null())
    };
    testbed.comes(|_| !terminating("volumesnapshots") && !terminating("volumesnapshotcontents")).await;
}
