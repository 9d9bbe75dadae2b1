//! Runs an older and a newer daemon on copies of one journal, and checks that the older one stops.
//!
//! The older incarnation does not know that it was replaced. The fencing token is the epoch, on the Backup and
//! on the VolumeGroupSnapshot. The newer daemon claims the Backup before it continues any work on it. It
//! claims the group, if one exists, before its first write to it. The older daemon remembers a claim that it
//! has observed, even when the object is deleted. Calls of the older daemon that are in flight at that instant
//! may still arrive. They fail or do no harm, because every write tests the uid and the old value. The older
//! daemon begins no step after that instant.

use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::problem::{Code, Problem};
use crate::drill::invariants::{Broken, Invariant};
use crate::drill::testbed::Testbed;
use crate::drill::wire::Call;
use crate::engine::crash_points::CrashPoints;
use crate::journal::{Batch, Disk, Journal, MemoryStore, Store, StoredRecord};
use crate::machine::group::Event;
use crate::machine::group::Timed;
use crate::machine::kit::Reached as _;
use crate::records::{self, Decoded};
use crate::sim::Cluster;
use crate::sim::api_server::FaultDecision;

/// User-Agent of the older daemon.
const OLDER: &str = "older/drill";

/// Time that the older daemon has to notice the newer one, after the newer one has finished.
const PATIENCE: Duration = Duration::from_secs(600);

/// Copies the journal to another disk, as with a volume that was restored or mounted twice.
///
/// # Panics
/// The disk is in use.
pub fn copy(disk: &Disk) -> Disk {
    let copied = Disk::new();
    let source = MemoryStore::open(disk).expect("the disk is free");
    let mut records = Vec::new();
    let streams = source.streams().expect("streams");
    for head in &streams {
        for (seq, position) in source.positions(head.stream).expect("positions").into_iter().enumerate() {
            let envelope = source.record(position).expect("a record").expect("a record");
            records.push(StoredRecord { position, stream: head.stream, seq: seq as u64 + 1, envelope });
        }
    }
    records.sort_by_key(|record| record.position);
    let meta = source.meta().expect("readable").expect("a journal");
    let mut target = MemoryStore::open(&copied).expect("the disk is free");
    target.write(&Batch { meta, records, streams }).expect("written");
    target.sync().expect("synced");
    drop(target);
    copied
}

/// An older incarnation of the daemon on its own disk.
pub(super) struct Older {
    disk: Disk,
    done: Notify,
    /// Number of calls that were made before the second daemon started.
    since: usize,
    /// Whether both journals contain the Backup. Only then does the newer daemon continue work and claim the
    /// Backup.
    accepted: bool,
}

impl Older {
    /// Copies the current journal. Opens the original once more, so that the newer daemon has one start more
    /// than the older one.
    pub(super) async fn of(testbed: &Testbed) -> Self {
        let disk = copy(&testbed.disk);
        let accepted = !testbed.entries().await.is_empty();
        Self { disk, done: Notify::new(), since: testbed.calls.all().len(), accepted }
    }

    /// Runs the older daemon until it ends itself, or until `PATIENCE` has passed after `dismiss`.
    pub(super) async fn run_daemon(&self, testbed: &Testbed, points: CrashPoints) -> Option<Problem> {
        let end = tokio::select! {
            biased;
            problem = testbed.unbound_life_on(&self.disk, OLDER, points) => Some(problem),
            () = self.dismissed() => None,
        };
        self.disk.crash();
        end
    }

    /// Reports that the newer daemon has finished.
    pub(super) fn dismiss(&self) {
        self.done.notify_one();
    }

    async fn dismissed(&self) {
        self.done.notified().await;
        tokio::time::sleep(PATIENCE).await;
    }

    /// Returns the violated invariants of the two daemons.
    pub(super) async fn judge(&self, testbed: &Testbed, end: Option<&Problem>) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut wrong = |shown: String| broken.push(Broken { invariant: Invariant::OneWriter, shown });
        if let Some(problem) = end.filter(|problem| problem.code != Code::Overtaken) {
            wrong(format!("the older one ended with {problem}"));
        }
        let calls: Vec<Call> = testbed.calls.all().split_off(self.since);
        let claims = |call: &Call| {
            let what = (call.verb.as_str(), call.resource.as_str());
            let claims = what == GROUP_CLAIM || (what == BACKUP_CLAIM && self.accepted);
            call.agent != OLDER && call.accepted() && claims
        };
        let Some(claim) = calls.iter().position(claims) else { return broken };
        let story = story(&self.disk).await;
        for call in calls[claim..].iter().filter(|call| call.agent == OLDER && call.writes()) {
            let begun = story.iter().rev().find(|(position, record)| {
                *position <= call.durable && matches!(record.event, Event::Intended { .. })
            });
            let late = begun.is_none_or(|(_, record)| record.at > calls[claim].answered);
            if late && call.accepted() {
                wrong(format!("the older one: {} {} {:?}", call.verb, call.resource, call.name));
            }
        }
        broken
    }

    /// Formats the journal of the older daemon, one line for each record.
    pub(super) async fn shown(&self) -> Vec<String> {
        lines(&self.disk).await
    }
}

/// Formats the group records on a disk, one line each.
pub(super) async fn lines(disk: &Disk) -> Vec<String> {
    story(disk).await.iter().map(|(position, record)| line(*position, record)).collect()
}

const GROUP_CLAIM: (&str, &str) = ("patch", "volumegroupsnapshots");

/// First claim of an incarnation that continues a Backup.
const BACKUP_CLAIM: (&str, &str) = ("patch", "backups");

/// Reads the records of groups with their positions.
async fn story(disk: &Disk) -> Vec<(u64, Timed)> {
    let store = MemoryStore::open(disk).expect("the disk is free");
    let (journal, _) = Journal::open_task(store).expect("the journal opens");
    let entries = journal.entries(1, usize::MAX >> 1).await.expect("entries");
    disk.crash();
    let records = entries.into_iter().filter_map(|entry| match records::decode(&entry.record) {
        Ok(Decoded::Group(record)) => Some((entry.position, record)),
        _ => None,
    });
    records.collect()
}

/// Formats one record as text.
fn line(position: u64, record: &Timed) -> String {
    let text = match &record.event {
        Event::Planned(_) => "planned".to_owned(),
        Event::Intended { grounds, step, .. } => format!("{} -> {}", grounds.row, step.name()),
        Event::StepCompleted { step, .. } => format!("ended {}", step.name()),
        Event::Part(_) => "receipt".to_owned(),
        Event::RequestReceived(asked) => format!("asked to {} by {}", asked.ask.name(), asked.by),
        Event::Reconstructed(found) => format!("reconstructed as {}", found.standing.name()),
        Event::MilestoneReached { grounds, reached } => {
            format!("{} -> {}", grounds.row, reached.milestone().name())
        }
    };
    format!("{position:>4}  {text}")
}

/// Delays every call of a daemon by a random time, so that two daemons interleave differently under each seed.
pub fn jitter(cluster: &Cluster, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    cluster.api().set_faults(Box::new(move |call| {
        if !["older", "stillpoint"].contains(&call.agent.as_str()) || call.verb == "watch" {
            return FaultDecision::none();
        }
        FaultDecision { before_ms: random.u64(..200), delay_ms: random.u64(..200), ..FaultDecision::none() }
    }));
}
