//! Drives Backups: what they observe, and what they publish.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::observe;
use crate::domain::ids::StreamId;
use crate::domain::plan::Plan;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::backup::acceptance::object_id;
use crate::engine::backup::forming;
use crate::engine::cache::{IndexKey, MinVersions, ReadError, Subscription};
use crate::engine::driven::Driven;
use crate::engine::driver::{Context, journal_problem};
use crate::engine::events;
use crate::engine::runs::{RunState, fold_group};
use crate::journal::{JournalError, Record};
use crate::machine::backup::machine::{Scope, ScopedGroup};
use crate::machine::backup::{
    BackupMachine, BackupPlan, BackupRun, Event, FormedGroups, GroupSeen, Milestone, RunEnd, Seen, Timed,
    end_of,
};
use crate::machine::kit::{Action, Decision, Stage as _, Wait as _, WaitReport};
use crate::records::{self, WireError};

/// State of the driver of a Backup between observations; not journaled.
#[derive(Debug, Default)]
pub struct Memory {
    /// The groups, formed by the last read that needed them.
    formed: Option<Arc<FormedGroups>>,
    /// The runs of the groups as they were read from the journal.
    read: BTreeMap<StreamId, GroupSeen>,
}

impl Driven for BackupMachine {
    type Memory = Memory;

    fn stream(plan: &BackupPlan) -> StreamId {
        StreamId::of_backup(&plan.backup.uid.0)
    }

    fn subscribe(context: &Context, scope: &Arc<Scope>) -> Subscription {
        context.cache.subscribe_to_keys(&keys(scope))
    }

    fn set_interest(subscription: &mut Subscription, scope: &Arc<Scope>) {
        subscription.set_keys(&keys(scope));
    }

    fn observe(context: &Context, scope: &Scope, fresh: bool, _: Timestamp, memory: &mut Memory) -> Seen {
        let object = context.cache.backup(&scope.backup.namespace, &scope.backup.name);
        let object = object.filter(|object| object.metadata.uid.as_deref() == Some(&scope.backup.uid.0));
        let claimed = object.and_then(|object| observe::epoch(&object.metadata));
        let group = |group: &ScopedGroup| match (context.runs.state(group.run), memory.read.get(&group.run)) {
            (Some(RunState::InProgress), _) => GroupSeen::Running,
            (_, Some(GroupSeen::Ended(end))) => GroupSeen::Ended(end.clone()),
            (Some(RunState::Over), _) => GroupSeen::Unread,
            (None, read) => read.cloned().unwrap_or(GroupSeen::Unread),
        };
        Seen {
            claimed: claimed.is_some_and(|epoch| epoch > context.journal.epoch()),
            fresh,
            formed: memory.formed.clone(),
            groups: scope.groups.iter().map(group).collect(),
        }
    }

    /// Reads the runs that are not in progress from the journal, and forms the groups where they have no plan.
    async fn read(
        context: &Context,
        scope: &Scope,
        _: &MinVersions,
        memory: &mut Memory,
    ) -> Result<(), ReadError> {
        for (index, group) in scope.groups.iter().enumerate() {
            let is_over = matches!(memory.read.get(&group.run), Some(GroupSeen::Ended(_)));
            let in_progress = context.runs.state(group.run) == Some(RunState::InProgress);
            if group.ended || is_over || in_progress {
                continue;
            }
            let is_known = matches!(memory.read.get(&group.run), Some(GroupSeen::Unknown));
            let seen =
                read_group(context, scope, index, group, is_known).await.map_err(ReadError::Journal)?;
            memory.read.insert(group.run, seen);
        }
        let unplanned = |group: &ScopedGroup| {
            let seen = memory.read.get(&group.run);
            !group.ended && group.plan.is_none() && matches!(seen, Some(GroupSeen::Absent))
        };
        if scope.forms || scope.groups.iter().any(unplanned) {
            let formed = forming::form(context, &scope.backup, &scope.label_key).await;
            memory.formed = Some(Arc::new(formed));
        }
        Ok(())
    }

    /// A Backup frees nothing.
    async fn may_free(_: &Context, _: &BackupRun, _: &Seen) -> Result<Option<&'static str>, Problem> {
        Ok(None)
    }

    fn holds(run: &BackupRun) -> bool {
        run.holds()
    }

    fn warns(milestone: Milestone) -> bool {
        matches!(milestone, Milestone::PartiallyFailed | Milestone::Failed | Milestone::Stuck)
    }

    fn report(
        run: &BackupRun,
        _: &Seen,
        decision: &Decision<Self>,
        _: Option<Timestamp>,
        _: Timestamp,
    ) -> WaitReport {
        let what = match decision.then {
            Action::Wait(condition) => condition.text(),
            _ => "the next try",
        };
        WaitReport::new(decision.row.id, what, run.changed_at)
    }

    fn publish(context: &Context, run: &Arc<BackupRun>, _: Option<Arc<WaitReport>>, _: &Memory) {
        context.backups.publish(Self::stream(&run.plan), run.clone());
    }

    fn claimed(run: &BackupRun) -> About {
        About::new("Backup", &run.plan.backup.namespace, &run.plan.backup.name)
    }

    fn fit(event: Event) -> Event {
        records::fit_backup(event)
    }

    fn encode(record: &Timed) -> Result<Record, WireError> {
        records::encode_backup(record)
    }
}

/// Changes of the Backup, and the ends of its runs.
fn keys(scope: &Scope) -> Vec<IndexKey> {
    let runs = scope.groups.iter().filter(|group| !group.ended).map(|group| IndexKey::Run(group.run));
    [IndexKey::BackupOf(scope.backup.uid.0.clone())].into_iter().chain(runs).collect()
}

/// The run of a group that is not in progress, from the journal.
///
/// # Errors
/// The journal cannot be read: the daemon ends.
async fn read_group(
    context: &Context,
    scope: &Scope,
    index: usize,
    group: &ScopedGroup,
    is_known: bool,
) -> Result<GroupSeen, Problem> {
    let entries = match context.journal.stream(group.run).await {
        Err(error @ JournalError::ArchiveMissing { .. }) => {
            if !is_known {
                // The run has ended and never runs again.
                tracing::warn!(run = %group.run, %error, "{}", error.fix());
            }
            return Ok(GroupSeen::Unknown);
        }
        entries => entries.map_err(|error| journal_problem(group.run, &error))?,
    };
    let (Some(run), Some(last)) = (fold_group(group.run, &entries)?, entries.last()) else {
        return Ok(unrecorded(context, scope, group, is_known));
    };
    if !run.stage.is_final() {
        return Ok(GroupSeen::Running);
    }
    Ok(GroupSeen::Ended(RunEnd {
        index: u16::try_from(index).expect("a Backup has at most 256 groups"),
        records: entries.len() as u64,
        hash: last.hash,
        result: end_of(&run),
    }))
}

/// A run that the journal does not know. If it has left objects in the cluster, it began in another journal:
/// started again, it would be cut twice, or rolled back after its pivot.
fn unrecorded(context: &Context, scope: &Scope, group: &ScopedGroup, is_known: bool) -> GroupSeen {
    let Some(plan) = &group.plan else { return GroupSeen::Absent };
    let traces = context.cache.traces(plan);
    if traces.is_empty() {
        return GroupSeen::Absent;
    }
    if !is_known {
        record_unknown(context, scope, plan, &traces);
    }
    GroupSeen::Unknown
}

fn record_unknown(context: &Context, scope: &Scope, plan: &Plan, traces: &[String]) {
    let problem = Problem::new(
        Code::UnknownRun,
        About::new("Group", &plan.namespace, &plan.group),
        format!("the journal does not know run {}, of which the cluster has {}", plan.run, traces.join(", ")),
        "stop the daemon and run `stillpoint journal rebuild --from-cluster`, or restore the journal",
    );
    tracing::error!(run = %plan.run, %problem, "not begun");
    let at = context.clock.now();
    let event = events::of_backup(&object_id(&scope.backup), true, "UnknownRun", &problem.to_string(), at);
    context.recorder.record(event);
}
