//! Two daemons on copies of one journal that want opposite things: one undoes the run, the other goes forward.
//!
//! They disagree because the VolumeSnapshotClass of the release is missing while one of them looks, and there while
//! the other one does. Whoever wins, the members survive or everything is freed, and the overtaken one stops.

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
use crate::machine::point::Point;

/// Who undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The older one undoes, the newer one goes forward.
    OlderUndoes,
    /// The newer one undoes, the older one goes forward.
    NewerUndoes,
}

/// One duel.
#[derive(Debug, Clone, Copy)]
pub struct SplitBrain {
    /// Who undoes.
    pub direction: Direction,
    /// Where the life died that left the journal to both.
    pub died_at: Point,
    /// Members of the group.
    pub members: usize,
    /// Source of the time that every call takes, and of the head start of the older one.
    pub seed: u64,
}

/// How a duel ended.
#[derive(Debug)]
pub struct SplitBrainResult {
    /// How the newer one ended.
    pub newer: String,
    /// How the older one ended.
    pub older: String,
    /// What does not hold.
    pub broken: Vec<Broken>,
    /// The journal of the older one, a line for each record.
    pub older_journal: Vec<String>,
    /// The journal of the newer one.
    pub newer_journal: Vec<String>,
}

pub(super) const CLASSES: &str = "volumesnapshotclasses";

/// Plays a duel to its end.
pub async fn fight(duel: &SplitBrain) -> SplitBrainResult {
    let (testbed, _) =
        set(&Case::plain(Target::Complete, duel.members, false, Profile::Plain, duel.seed)).await;
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

/// The newer one, until its own run is over and the Backup says so, or it is stuck. The older one may have said something
/// else in the Backup before.
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
        None if waits_for_a_person(testbed) => Some(End::Stuck(STUCK)),
        wanted => testbed.ended().filter(|phase| wanted == Some(phase.as_str())).map(End::Phase),
    };
    testbed.run_daemon_to(points, Arc::default(), ended).await
}

const STUCK: &str = "stuck";

/// Whether the run frees nothing because the other one has released members.
fn waits_for_a_person(testbed: &Testbed) -> bool {
    let shown = testbed.list("groupsnapshots", Some(NAMESPACE));
    shown.iter().any(|run| run["status"]["waitingFor"].as_str().is_some_and(|text| text.contains(RELEASED)))
}

/// Where a run ends, and what the Backup says then.
const ENDS: [(&str, &str); 3] = [
    ("completed/after-record", "Completed"),
    ("failed/after-record", "Failed"),
    ("stuck/after-record", STUCK),
];

/// Sees the older one decide that it undoes.
fn watch(undoing: &Arc<AtomicBool>) -> CrashPoints {
    let undoing = undoing.clone();
    CrashPoints::ask(move |point| {
        if point.to_string() == "unwinding/after-record" {
            undoing.store(true, Ordering::SeqCst);
        }
        Verdict::GoOn
    })
}

/// The older one is at work before the newer one begins: where it undoes, it has decided so.
async fn head_start(duel: &SplitBrain, testbed: &Testbed, undoing: &AtomicBool) {
    if duel.direction == Direction::OlderUndoes {
        testbed.comes(|_| undoing.load(Ordering::SeqCst)).await;
    }
    let millis = fastrand::Rng::with_seed(duel.seed).u64(..6000);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn drop_class(testbed: &Testbed, class: &Value) {
    let name = class["metadata"]["name"].as_str().unwrap_or_default();
    // Without it there is nothing to drop.
    let _ = testbed.hand().delete(CLASSES, None, name, Default::default());
}

/// What a run says that waits for a person to decide about released members.
pub(super) const RELEASED: &str = "released members";

/// Gives a class back.
pub(super) fn restore_class(testbed: &Testbed, plural: &str, mut class: Value) {
    class["metadata"]["resourceVersion"] = Value::Null;
    class["metadata"]["uid"] = Value::Null;
    // One that is there already needs no hand.
    let _ = testbed.hand().create(plural, class);
}

/// Never half: the storage of all members stands, or of none.
fn halves(duel: &SplitBrain, testbed: &Testbed) -> Option<Broken> {
    let physical = testbed.cluster.ledger().physical_snapshots;
    let half = physical != 0 && physical != duel.members;
    half.then(|| Broken {
        invariant: Invariant::NothingLeaked,
        shown: format!("{physical} of {}", duel.members),
    })
}

/// What holds after the end of the newer one.
async fn judge(duel: &SplitBrain, testbed: &Testbed, first: &End, newer: &End) -> Vec<Broken> {
    let wrong = |shown| vec![Broken { invariant: Invariant::Ends, shown }];
    match newer {
        _ if !matches!(first, End::Killed) => wrong(format!("the first life: {first:?}")),
        end if end.is("Completed") => invariants::after_completion(testbed, NAMESPACE, duel.members).await,
        end if end.is("Failed") => invariants::after_undo(testbed, NAMESPACE).await,
        // Each has done what it believed in before it could be told of the other: a person has to look.
        End::Stuck(_) => invariants::none_leaked(testbed),
        end => wrong(format!("the newer one: {end:?}\n{}", testbed.shown().await)),
    }
}
