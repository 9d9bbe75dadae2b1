//! Creates Kubernetes Events from journal entries, queues them, and delivers them independently of the runs.
//!
//! A run never waits for an Event. The queue is bounded. Events that do not fit, or that the API server
//! refuses, are dropped and counted. The name of an Event is computed from its content, so that an Event that
//! is repeated after a restart is the same object.

use std::convert::Infallible;

use tokio::sync::mpsc;

use crate::cluster::kinds::Backup;
use crate::cluster::project::KubeEvent;
use crate::cluster::{Adapter, observe};
use crate::domain::ids::ObjectId;
use crate::domain::limits;
use crate::domain::problem::Code;
use crate::domain::time::Timestamp;
use crate::engine::clock::Clock;
use crate::engine::telemetry::{Metric, MetricsSink};
use crate::machine::group::Milestone;
use crate::machine::group::advance;
use crate::machine::group::{GroupMachine, GroupRun};
use crate::machine::kit::TimelineEntry;
use crate::machine::kit::WaitReport;
use crate::machine::kit::wait_report::Cause;

/// Events that wait for delivery.
const QUEUE: usize = 512;
/// Attempts to deliver one Event.
const TRIES: u32 = 3;

/// Accepts Events. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<KubeEvent>,
    metrics: std::sync::Arc<dyn MetricsSink>,
}

/// The queued Events.
pub struct EventQueue {
    queue: mpsc::Receiver<KubeEvent>,
    metrics: std::sync::Arc<dyn MetricsSink>,
}

/// A queue and its two ends.
pub fn queue(metrics: std::sync::Arc<dyn MetricsSink>) -> (EventRecorder, EventQueue) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (EventRecorder { queue: sender, metrics: metrics.clone() }, EventQueue { queue: receiver, metrics })
}

impl EventRecorder {
    /// Queues an Event; never waits.
    pub fn record(&self, event: KubeEvent) {
        if self.queue.try_send(event).is_err() {
            self.metrics.record(Metric::EventDropped);
        }
    }
}

/// Delivers until the daemon ends, one Event after the other.
pub async fn deliver(adapter: Adapter, clock: Clock, event_queue: Option<EventQueue>) -> Infallible {
    let Some(mut event_queue) = event_queue else { return std::future::pending().await };
    loop {
        let Some(event) = event_queue.queue.recv().await else { return std::future::pending().await };
        if !delivered(&adapter, &clock, &event).await {
            event_queue.metrics.record(Metric::EventDropped);
        }
    }
}

async fn delivered(adapter: &Adapter, clock: &Clock, event: &KubeEvent) -> bool {
    for failures in 1..=TRIES {
        match adapter.project_event(event).await {
            Ok(()) => return true,
            Err(problem) if problem.code == Code::Unreachable => {
                clock.sleep_until(Some(clock.now().after(limits::backoff(failures)))).await;
            }
            Err(problem) => {
                tracing::debug!(%problem, "an Event is not taken");
                return false;
            }
        }
    }
    false
}

/// An Event on a Backup.
pub fn of_backup(backup: &ObjectId, warning: bool, reason: &str, note: &str, at: Timestamp) -> KubeEvent {
    use kube::Resource;
    KubeEvent {
        api_version: Backup::api_version(&()).into_owned(),
        kind: Backup::kind(&()).into_owned(),
        object: backup.clone(),
        warning,
        reason: reason.to_owned(),
        action: "Backup".to_owned(),
        note: limits::clip_to(note, limits::MAX_NOTE_BYTES),
        at,
    }
}

/// An Event on a refused Backup.
pub fn of_refusal(backup: &Backup, reason: &str, note: &str, at: Timestamp) -> KubeEvent {
    of_backup(&observe::id(&backup.metadata), true, reason, note, at)
}

/// Events for a milestone. Every milestone is reported on the run's GroupSnapshot. The Backup receives only
/// the end of each of its groups and errors; a Backup of 100 groups would otherwise receive 700 milestones.
pub fn of_milestone(
    run: &GroupRun,
    passed: &TimelineEntry<GroupMachine>,
    shown: &ObjectId,
) -> impl Iterator<Item = KubeEvent> {
    let plan = &run.plan;
    let (warning, reason, mut text) = words(passed.milestone);
    if run.keeps_storage() && passed.milestone == Milestone::Failed {
        "the run was abandoned after the pivot; nothing was deleted, its storage is retained"
            .clone_into(&mut text);
    }
    if let Some(why) = run.reason.as_ref().filter(|_| warning) {
        text = format!("{text}: {} {}", why.code, advance::reason_of(run, &why.message));
    }
    if let Some(advice) = advance::advice(run).filter(|_| passed.milestone == Milestone::Stuck) {
        text = format!("{text}\nWhat to do: {advice}");
    }
    let attempt = if passed.attempt > 1 { format!(" (attempt {})", passed.attempt) } else { String::new() };
    let on_run = of_run(shown, warning, reason, &format!("{text}{attempt}"), passed.at);
    let on_backup = format!("group {}/{}: {text}{attempt}", plan.namespace, plan.group);
    let bears_on_backup = warning || matches!(passed.milestone, Milestone::Completed | Milestone::Retried);
    let told = bears_on_backup.then(|| of_backup(&backup_of(run), warning, reason, &on_backup, passed.at));
    let apart = apart(run, passed).map(|(reason, note)| of_run(shown, true, reason, &note, passed.at));
    std::iter::once(on_run).chain(apart).chain(told)
}

/// The problem with the cut once it is known. The Backup is notified when the group is complete, or rolled
/// back.
fn apart(run: &GroupRun, passed: &TimelineEntry<GroupMachine>) -> Option<(&'static str, String)> {
    let now = passed.milestone == Milestone::VsBound && passed.attempt == run.attempt;
    let grade = run.atomicity().filter(|grade| now && !grade.is_atomic())?;
    Some((grade.reason(), grade.message(run.plan.atomicity.max_skew)))
}

/// Events for a wait that takes longer than usual: on the GroupSnapshot of the run, and on its Backup.
pub fn of_wait(run: &GroupRun, wait: &WaitReport, shown: &ObjectId) -> impl Iterator<Item = KubeEvent> {
    let (plan, reason, text) = (&run.plan, wait.cause.map_or("Waiting", Cause::name), wait.announcement());
    let on_run = of_run(shown, true, reason, &text, wait.since);
    let on_backup = format!("group {}/{}: {text}", plan.namespace, plan.group);
    [on_run, of_backup(&backup_of(run), true, reason, &on_backup, wait.since)].into_iter()
}

fn backup_of(run: &GroupRun) -> ObjectId {
    let backup = &run.plan.backup;
    ObjectId { namespace: backup.namespace.clone(), name: backup.name.clone(), uid: backup.uid.clone() }
}

/// An Event for a run, or for a group without a run, on its GroupSnapshot.
pub fn of_run(shown: &ObjectId, warning: bool, reason: &str, note: &str, at: Timestamp) -> KubeEvent {
    KubeEvent {
        api_version: "stillpoint.dev/v1alpha1".to_owned(),
        kind: "GroupSnapshot".to_owned(),
        object: shown.clone(),
        warning,
        reason: reason.to_owned(),
        action: "GroupSnapshot".to_owned(),
        note: limits::clip_to(note, limits::MAX_NOTE_BYTES),
        at,
    }
}

/// Whether the Event is a warning, its reason in CamelCase, and its note.
fn words(milestone: Milestone) -> (bool, &'static str, String) {
    let (warning, reason, text) = match milestone {
        Milestone::Created => (false, "Created", "the VolumeGroupSnapshot exists"),
        Milestone::Cut => (false, "Cut", "the driver has cut all volumes"),
        Milestone::VsBound => (false, "VSBound", "every member is ready and bound, the receipt is durable"),
        Milestone::Relabelled => (false, "Relabelled", "every member carries labels and receipt"),
        Milestone::Retained => (false, "Retained", "every content retains the storage"),
        Milestone::Cleaned => {
            (false, "Cleaned", "the members are ordinary snapshots, the group objects are gone")
        }
        Milestone::Completed => (false, "Completed", "the group snapshot is complete"),
        Milestone::Unwinding => (true, "Unwinding", "the attempt is being undone"),
        Milestone::Retried => (false, "Retried", "the attempt is undone, another one begins"),
        Milestone::Failed => (true, "Failed", "the group snapshot failed and is undone"),
        Milestone::Stuck => (true, "Stuck", "manual intervention is required"),
    };
    (warning, reason, text.to_owned())
}
