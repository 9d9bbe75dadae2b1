//! Checks the named invariants that hold after every run (DESIGN: drills).
//!
//! [`completed`] and [`undone`] check all invariants of such an end. `cluster` checks objects and storage.
//! `order` checks the order of events, from the journal and the calls.
//!
//! Two invariants need more than one testbed, and the code that runs such drills checks them: "few writes"
//! needs a run without faults for comparison, and "one writer" needs two daemons.

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
        /// Conditions that hold after a run.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant { $($(#[$doc])* $value),+ }

        impl Invariant {
            pub const ALL: &'static [Invariant] = &[$(Invariant::$value),+];

            pub fn name(self) -> &'static str {
                match self { $(Invariant::$value => $name),+ }
            }
        }
    };
}

invariants! {
    /// The run reaches the end that is expected.
    Ends = "the run ends as it has to",
    /// The GroupSnapshot says how the run ended.
    Shown = "the published status is true",
    /// There are no more group cuts than attempts, and no more physical snapshots than members.
    OneCut = "one cut per run",
    /// The members are exactly the planned volumes, each under its recorded or rebuilt uid.
    MembersAsPlanned = "member uids equal the plan",
    /// No VolumeGroupSnapshot or VolumeGroupSnapshotContent of a finished run exists.
    GroupGone = "no group object of a finished run",
    /// Without destruction from outside, no member is rebuilt and nothing is cut again.
    NoneLost = "no member is lost unless a client destroys it",
    /// Every member is ready, bound, not terminating, not owned and retained.
    MembersFree = "every member bound, not terminating, not owned",
    /// Every member and its content have labels and receipt.
    MembersMarked = "every member carries run and receipt",
    /// Every VolumeSnapshotContent belongs to a member.
    NoneStray = "no content without a member",
    /// The receipt is durable before anything is deleted, unless the run is being rolled back.
    ReceiptFirst = "receipt durable before any delete",
    /// Every member was read after the group was deleted and before the run recorded that it is clean.
    SeenAfterwards = "members seen after the group was gone",
    /// The content is deleted after the group, while the run goes forward.
    ContentOutlivesGroup = "the content outlives its group",
    /// Every write of a daemon follows from an intent that is durable on its disk.
    IntentFirst = "no write without a durable intent",
    /// Nothing is rolled back after the pivot.
    PivotHolds = "no undo after the pivot",
    /// The chain is valid, and a replay makes the same decisions.
    JournalProves = "journal chain valid and replay identical",
    NothingLeaked = "every storage handle is owned, retained or reclaimed",
    NoPhantom = "every member's handle exists in the storage",
    /// After a rollback no object of the run is left.
    Undone = "no object of an undone run is left",
    /// After a rollback no storage of the run is left.
    StorageFate = "the storage of an undone run is freed",
    /// After a run was abandoned behind its pivot, the snapshots that were cut exist and are in the receipt.
    Kept = "what was cut is kept and written down",
    /// The run does not wait for an event that cannot occur. It waits for controllers and driver no longer
    /// than they can take.
    NothingAwaited = "no wait for what cannot come",
    /// A daemon that was overtaken stops writing.
    OneWriter = "two live daemons never both write",
    /// A recovery makes the missing writes, and at most three more calls.
    FewWrites = "recovery needs few writes",
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub invariant: Invariant,
    /// Observed state.
    pub shown: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.name(), self.shown)
    }
}

/// Collects violated invariants.
#[derive(Debug, Default)]
pub(super) struct Verdict(Vec<Broken>);

impl Verdict {
    fn hold(&mut self, invariant: Invariant, holds: bool, shown: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Broken { invariant, shown: shown() });
        }
    }
}

/// Returns the violated invariants once the Backup is `Completed`, with `count` members in `namespace`.
pub async fn after_completion(testbed: &Testbed, namespace: &str, count: usize) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict(of_cluster(testbed, namespace, count));
    order::hold(&story, testbed, &mut verdict);
    verdict.0
}

/// Returns the violated invariants of the cluster once the Backup is `Completed`, wherever its journal is.
pub fn of_cluster(testbed: &Testbed, namespace: &str, count: usize) -> Vec<Broken> {
    let mut verdict = Verdict::default();
    cluster::members(testbed, namespace, count, &mut verdict);
    cluster::nothing_leaked(testbed, &mut verdict);
    cluster::shown(testbed, namespace, "Completed", &mut verdict);
    verdict.0
}

/// Returns the violated invariants of the storage while a run is stuck.
pub fn none_leaked(testbed: &Testbed) -> Vec<Broken> {
    let mut verdict = Verdict::default();
    cluster::nothing_leaked(testbed, &mut verdict);
    let ledger = testbed.cluster.ledger();
    verdict.hold(Invariant::NoPhantom, ledger.phantom == 0, || format!("{ledger:?}"));
    verdict.0
}

/// Returns the violated invariants of a completed run without disruptions that cost members.
pub async fn none_was_lost(testbed: &Testbed) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict::default();
    order::none_was_lost(&story, &mut verdict);
    verdict.0
}

/// Returns the violated invariants once a run was rolled back.
pub async fn after_undo(testbed: &Testbed, namespace: &str) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict::default();
    cluster::freed(testbed, &mut verdict);
    cluster::nothing_leaked(testbed, &mut verdict);
    cluster::shown(testbed, namespace, "Failed", &mut verdict);
    order::hold(&story, testbed, &mut verdict);
    verdict.0
}

/// Returns the violated invariants of a Backup for which no run was planned.
pub async fn after_nothing(testbed: &Testbed) -> Vec<Broken> {
    let story = order::Story::read(testbed).await;
    let mut verdict = Verdict::default();
    cluster::freed(testbed, &mut verdict);
    for call in story.writes() {
        verdict.hold(Invariant::IntentFirst, false, || format!("{} {}", call.verb, call.resource));
    }
    verdict.0
}

/// Returns the waits of a run that are longer than `longest`, from one of its records to the next.
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

/// Checks all invariants once the Backup is `Completed`. Returns the violated ones, one line each.
pub async fn completed(testbed: &Testbed, namespace: &str, count: usize) -> Result<(), String> {
    lines(after_completion(testbed, namespace, count).await)
}

/// Checks all invariants once a run was rolled back to a clean cluster. Returns the violated ones, one line
/// each.
pub async fn undone(testbed: &Testbed, namespace: &str) -> Result<(), String> {
    lines(after_undo(testbed, namespace).await)
}

fn lines(broken: Vec<Broken>) -> Result<(), String> {
    let lines: Vec<String> = broken.iter().map(Broken::to_string).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// Waits until no object is terminating. A VolumeSnapshot that was deleted while its group existed is removed
/// only by the controller's back-off, up to five minutes after the group. The run does not wait for that.
pub async fn settled(testbed: &Testbed) {
    let terminating = |plural| {
        let objects = testbed.list(plural, None);
        objects.iter().any(|object| !object["metadata"]["deletionTimestamp"].is_null())
    };
    testbed.comes(|_| !terminating("volumesnapshots") && !terminating("volumesnapshotcontents")).await;
}
