//! Two daemons alive on copies of one journal: an older life that does not know that it was replaced, and the newer one.
//!
//! The fence is the epoch, on the Backup and on the VolumeGroupSnapshot: the newer one claims the Backup before anything
//! of it goes on, and the group, where there is one, before its first write there. The older one remembers a claim that it
//! was told of when the object is gone. What it had under way at that instant may still arrive, and fails or does no
//! harm, because every write tests the uid and the old value; but it begins no step after it.

use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::problem::{Code, Problem};
use crate::drill::invariants::{Broken, Invariant};
use crate::drill::testbed::Testbed;
use crate::drill::wire::Call;
use crate::engine::crash_points::CrashPoints;
use crate::journal::{Batch, Disk, Journal, MemoryStore, Store, StoredRecord};
use crate::machine::group::{Event, Timed};
use crate::records::{self, Decoded};
use crate::sim::Cluster;
use crate::sim::api_server::FaultDecision;

/// The older daemon's name in the calls.
const OLDER: &str = "older/drill";

/// How long the older one has to notice, once the newer one is done.
const PATIENCE: Duration = Duration::from_secs(600);

/// The same journal on another disk, as a volume that was restored or mounted twice has it.
///
/// # Panics
/// Somebody holds the disk.
pub fn copy(disk: &Disk) -> Disk {
    let copied = Disk::new();
    let source = MemoryStore::open(disk).expect("the disk is free");
    let mut slots = Vec::new();
    let streams = source.streams().expect("streams");
    for head in &streams {
        for (seq, position) in source.positions(head.stream).expect("positions").into_iter().enumerate() {
            let envelope = source.record(position).expect("a record").expect("a record");
            slots.push(StoredRecord { position, stream: head.stream, seq: seq as u64 + 1, envelope });
        }
    }
    slots.sort_by_key(|slot| slot.position);
    let meta = source.meta().expect("readable").expect("a journal");
    let mut target = MemoryStore::open(&copied).expect("the disk is free");
    target.write(&Batch { meta, slots, streams }).expect("written");
    target.sync().expect("synced");
    drop(target);
    copied
}

/// An older life on its own disk.
pub(super) struct Older {
    disk: Disk,
    done: Notify,
    /// Calls that were made before there were two.
    since: usize,
    /// Whether the Backup is on both journals: only then does the newer one go on with something, and claim it.
    accepted: bool,
}

impl Older {
    /// Copies the journal as it is now, and lets the newer one be started once more than the older one.
    pub(super) async fn of(testbed: &Testbed) -> Self {
        let disk = copy(&testbed.disk);
        let accepted = !testbed.entries().await.is_empty();
        Self { disk, done: Notify::new(), since: testbed.calls.all().len(), accepted }
    }

    /// Lives, until it ends itself or nobody waits for it any more.
    pub(super) async fn run_daemon(&self, testbed: &Testbed, points: CrashPoints) -> Option<Problem> {
        let end = tokio::select! {
            biased;
            problem = testbed.unbound_life_on(&self.disk, OLDER, points) => Some(problem),
            () = self.dismissed() => None,
        };
        self.disk.crash();
        end
    }

    /// The newer one is done.
    pub(super) fn dismiss(&self) {
        self.done.notify_one();
    }

    async fn dismissed(&self) {
        self.done.notified().await;
        tokio::time::sleep(PATIENCE).await;
    }

    /// What does not hold of the two.
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

    /// Its journal, a line for each record.
    pub(super) async fn shown(&self) -> Vec<String> {
        lines(&self.disk).await
    }
}

/// The records of groups on a disk, a line each.
pub(super) async fn lines(disk: &Disk) -> Vec<String> {
    story(disk).await.iter().map(|(position, record)| line(*position, record)).collect()
}

const GROUP_CLAIM: (&str, &str) = ("patch", "volumegroupsnapshots");

/// The first such call of a life that goes on with a Backup.
const BACKUP_CLAIM: (&str, &str) = ("patch", "backups");

/// Records of groups with their positions.
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

/// One record, for people.
fn line(position: u64, record: &Timed) -> String {
    let text = match &record.event {
        Event::Planned(_) => "planned".to_owned(),
        Event::Intended { grounds, step, .. } => format!("{} -> {}", grounds.row, step.name()),
        Event::StepCompleted { step, .. } => format!("ended {}", step.name()),
        Event::ReceiptPart { .. } => "receipt".to_owned(),
        Event::RequestReceived(asked) => format!("asked to {} by {}", asked.ask.name(), asked.by),
        Event::Reconstructed(found) => format!("reconstructed as {}", found.standing.name()),
        Event::MilestoneReached { grounds, milestone, .. } => {
            format!("{} -> {}", grounds.row, milestone.name())
        }
    };
    format!("{position:>4}  {text}")
}

/// Every call of a daemon takes a time of its own, so that two of them interleave differently under each seed.
pub(super) fn jitter(cluster: &Cluster, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    cluster.api().set_faults(Box::new(move |call| {
        if !["older", "stillpoint"].contains(&call.agent.as_str()) || call.verb == "watch" {
            return FaultDecision::none();
        }
        FaultDecision { before_ms: random.u64(..200), delay_ms: random.u64(..200), ..FaultDecision::none() }
    }));
}
