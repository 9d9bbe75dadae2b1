//! Runs two daemons on copies of one journal with opposite decisions: one rolls the run back, the other
//! continues it.
//!
//! They disagree because the VolumeSnapshotClass of the release is missing when one daemon reads it, and
//! present when the other one does. Whichever daemon wins, the members survive or everything is freed, and the
//! overtaken daemon stops.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::drill::invariants::{self, Broken, Invariant};
use crate::drill::runner::{NAMESPACE, set};
use crate::drill::scenario::{Case, Profile, Target};
use crate::drill::stale_daemon::{Older, jitter, lines};
use crate::drill::testbed::{End, Testbed};
use crate::engine::crash_points::{CrashPoints, Verdict};
use crate::machine::kit::Point;

/// Selects the daemon that rolls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The older daemon rolls back, the newer one goes forward.
    OlderUndoes,
    /// The newer daemon rolls back, the older one goes forward.
    NewerUndoes,
}

/// One split-brain drill.
#[derive(Debug, Clone, Copy)]
pub struct SplitBrain {
    pub direction: Direction,
    /// Point at which the incarnation was killed that left its journal to both daemons.
    pub died_at: Point,
    /// Number of members of the group.
    pub members: usize,
    /// Seed of the duration of every call, and of the head start of the older daemon.
    pub seed: u64,
}

/// Result of a split-brain drill.
#[derive(Debug)]
pub struct SplitBrainResult {
    /// End of the newer daemon.
    pub newer: String,
    /// End of the older daemon.
    pub older: String,
    /// Violated invariants.
    pub broken: Vec<Broken>,
    /// Journal of the older daemon, one line for each record.
    pub older_journal: Vec<String>,
    /// Journal of the newer daemon, one line for each record.
    pub newer_journal: Vec<String>,
}

pub(super) const CLASSES: &str = "volumesnapshotclasses";

/// Runs a split-brain drill to its end.
pub async fn fight(duel: &SplitBrain) -> SplitBrainResult {
    let (testbed, _) =
        set(&Case::plain(Target::Complete, duel.members, false, Profile::Plain, duel.seed), |_| {}).await;
    let first = testbed.run_daemon(Some(duel.died_at)).await;
    let older = Older::of(&testbed).await;
    jitter(&testbed.cluster, duel.seed);
    let (class, undoing) = (testbed.list(CLASSES, None).remove(0), Arc::new(AtomicBool::new(false)));
    if duel.direction == Direction::OlderUndoes {
        drop_class(&testbed, &class);
    }
    let newer = async {
        head_start(duel, &testbed, &undoing).await;
        match duel.direction {
            Direction::OlderUndoes => restore_class(&testbed, CLASSES, class.clone()),
            Direction::NewerUndoes => drop_class(&testbed, &class),
        }
        let end = to_its_own_end(&testbed).await;
        older.dismiss();
        end
    };
    let (newer_end, older_end) = tokio::join!(newer, older.run_daemon(&testbed, watch(&undoing)));
    testbed.cluster.api().clear_faults();
    invariants::settled(&testbed).await;
    let mut broken = older.judge(&testbed, older_end.as_ref()).await;
    broken.extend(judge(duel, &testbed, &first, &newer_end).await);
    broken.extend(halves(duel, &testbed));
    SplitBrainResult {
        newer: format!("{newer_end:?}"),
        older: older_end.map_or("nothing left to do".to_owned(), |problem| problem.to_string()),
        broken,
        older_journal: older.shown().await,
        newer_journal: lines(&testbed.disk).await,
    }
}

/// Runs the newer daemon until its own run is over and the Backup shows the same end, or until the run is
/// stuck. The older daemon may have written another end to the Backup before.
async fn to_its_own_end(testbed: &Testbed) -> End {
    let course = Arc::new(Mutex::new(None));
    let passing = course.clone();
    let points = CrashPoints::ask(move |point| {
        let name = point.to_string();
        let end = ENDS.iter().find(|(milestone, _)| name == *milestone);
        if let Some((_, end)) = end {
            *passing.lock().unwrap_or_else(PoisonError::into_inner) = Some(*end);
        }
        Verdict::GoOn
    });
    let ended = |testbed: &Testbed| match *course.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(STUCK) => Some(End::Stuck(STUCK)),
        None if testbed.waits_for(RELEASED) => Some(End::Stuck(STUCK)),
        wanted => testbed.ended().filter(|phase| wanted == Some(phase.as_str())).map(End::Phase),
    };
    testbed.run_daemon_to(points, Arc::default(), ended).await
}

const STUCK: &str = "stuck";

/// Points at which a run ends, and the phase of the Backup after each.
const ENDS: [(&str, &str); 3] = [
    ("completed/after-record", "Completed"),
    ("failed/after-record", "Failed"),
    ("stuck/after-record", STUCK),
];

/// Detects that the older daemon decides to roll back.
fn watch(undoing: &Arc<AtomicBool>) -> CrashPoints {
    let undoing = undoing.clone();
    CrashPoints::ask(move |point| {
        if point.to_string() == "unwinding/after-record" {
            undoing.store(true, Ordering::SeqCst);
        }
        Verdict::GoOn
    })
}

/// Waits until the older daemon is at work. If the older daemon rolls back, it has decided so by then.
async fn head_start(duel: &SplitBrain, testbed: &Testbed, undoing: &AtomicBool) {
    if duel.direction == Direction::OlderUndoes {
        testbed.comes(|_| undoing.load(Ordering::SeqCst)).await;
    }
    let millis = fastrand::Rng::with_seed(duel.seed).u64(..6000);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn drop_class(testbed: &Testbed, class: &Value) {
    let name = class["metadata"]["name"].as_str().unwrap_or_default();
    // Ignored: the class may be deleted already.
    let _ = testbed.hand().delete(CLASSES, None, name, Default::default());
}

/// Text that a run shows while it waits for a user to decide about released members.
pub(super) const RELEASED: &str = "released members";

/// Creates a deleted class again.
pub(super) fn restore_class(testbed: &Testbed, plural: &str, mut class: Value) {
    class["metadata"]["resourceVersion"] = Value::Null;
    class["metadata"]["uid"] = Value::Null;
    // Ignored: the class may exist already.
    let _ = testbed.hand().create(plural, class);
}

/// Checks that the storage exists for all members, or for none.
fn halves(duel: &SplitBrain, testbed: &Testbed) -> Option<Broken> {
    let physical = testbed.cluster.ledger().physical_snapshots;
    let half = physical != 0 && physical != duel.members;
    half.then(|| Broken {
        invariant: Invariant::NothingLeaked,
        shown: format!("{physical} of {}", duel.members),
    })
}

/// Returns the violated invariants after the end of the newer daemon.
async fn judge(duel: &SplitBrain, testbed: &Testbed, first: &End, newer: &End) -> Vec<Broken> {
    let wrong = |shown| vec![Broken { invariant: Invariant::Ends, shown }];
    match newer {
        _ if !matches!(first, End::Killed) => wrong(format!("the first life: {first:?}")),
        end if end.is("Completed") => invariants::after_completion(testbed, NAMESPACE, duel.members).await,
        end if end.is("Failed") => invariants::after_undo(testbed, NAMESPACE).await,
        // Each daemon acted on its own decision before it could observe the other one. Manual intervention is
        // required.
        End::Stuck(_) => invariants::none_leaked(testbed),
        end => wrong(format!("the newer one: {end:?}\n{}", testbed.shown().await)),
    }
}
