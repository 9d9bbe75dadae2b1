//! A run with real decisions, against a minimal cluster model.
//!
//! The model answers an effect at once, and its controllers advance by one phase whenever the run waits. It
//! has no races and one kind of loss. It creates journals for tests of the audit, and proves nothing about
//! the machine.

use std::sync::Arc;

use crate::domain::atomicity::Demand;
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::labels;
use crate::domain::observed::*;
use crate::domain::plan::{BackupRef, Plan, PlannedMember};
use crate::domain::time::{Millis, Timestamp};
use crate::journal::{Disk, Entry, Journal, MemoryStore, Record, StreamState};
use crate::machine::backup::{AskedGroup, FailedGroup, Phase, earlier};
use crate::machine::group::Event;
use crate::machine::group::GroupRun;
use crate::machine::group::Reached;
use crate::machine::group::Stage;
use crate::machine::group::Step;
use crate::machine::group::Timed;
use crate::machine::group::effect::Effect;
use crate::machine::group::effect::EffectRef;
use crate::machine::group::effects;
use crate::machine::kit::Action;
use crate::machine::kit::Ask;
use crate::machine::kit::OperatorRequest;
use crate::machine::kit::Outcome;
use crate::machine::kit::fold;
use crate::machine::kit::fold_all;
use crate::machine::kit::{Logic, Next, step};
use crate::records::{encode_earlier_backup, encode_group};

pub const START: Timestamp = Timestamp(1_767_225_600_000_000_000);
const BACKUP_UID: &str = "5f0c2b1e-7a34-4c56-9b9e-0a1b2c3d4e5f";

pub fn plan() -> Plan {
    let member = |name: &str, number: u32| PlannedMember {
        claim: name.into(),
        claim_uid: format!("0a000000-0000-4000-8000-00000000000{number}").as_str().into(),
        volume: format!("pvc-0{number}"),
        volume_handle: format!("vol-0{number}"),
        spec: None,
    };
    let group = "orders-db";
    Plan {
        run: StreamId::of_group(BACKUP_UID, "shop", labels::DEFAULT_GROUP_KEY, group),
        backup: backup_ref(),
        namespace: "shop".into(),
        label_key: labels::DEFAULT_GROUP_KEY.into(),
        group: group.into(),
        members: vec![member("data-orders-0", 1), member("data-orders-1", 2), member("log-orders-0", 3)],
        driver: "hostpath.csi.k8s.io".into(),
        group_class: "csi-hostpath-groupsnapclass".into(),
        class: None,
        snapshot_class: "csi-hostpath-snapclass".into(),
        selector: [(labels::DEFAULT_GROUP_KEY.to_owned(), group.to_owned())].into(),
        keep_group_name: false,
        max_attempts: 2,
        cut_timeout: Millis::from_secs(600),
        ready_timeout: Millis::from_secs(14_400),
        atomicity: Demand::default(),
        planned_at: START,
        warnings: Vec::new(),
    }
}

pub fn backup_ref() -> BackupRef {
    BackupRef { namespace: "stillpoint".into(), name: "nightly".into(), uid: BACKUP_UID.into() }
}

fn id(namespace: &str, name: impl Into<String>, number: usize) -> ObjectId {
    let uid = format!("0b000000-0000-4000-8000-{number:012x}").as_str().into();
    ObjectId { namespace: namespace.into(), name: name.into(), uid }
}

/// The process is killed before the effects of this step.
pub type Kill = Option<Step>;

struct Cache {
    plan: Plan,
    seen: Observation,
    now: Timestamp,
    version: u64,
    final_error: bool,
    loses: Option<usize>,
    /// Whether the API server refuses the effects that would rebuild a member.
    refuses: bool,
    /// The operator's request for the run once it is stuck. The operator has fixed the cause of the refusal
    /// before.
    ask: Option<Ask>,
    /// Time between the snapshots of two consecutive members.
    gap: Millis,
}

/// The records of one run with their epochs. The run reaches Completed, or Failed if the driver fails.
pub fn script(kill: Kill, driver_fails: bool) -> Vec<(u64, Timed)> {
    play(kill, Cache::new(plan(), driver_fails))
}

/// The records of one run that loses a member together with its group, and rebuilds the member.
pub fn script_of_a_loss(kill: Kill) -> Vec<(u64, Timed)> {
    play(kill, Cache { loses: Some(1), ..Cache::new(plan(), false) })
}

/// The records of one run that loses a member and is not allowed to rebuild it. The run is stuck until the
/// operator fixes the cause of the refusal and sends a request.
pub fn script_of_a_refusal(ask: Option<Ask>) -> Vec<(u64, Timed)> {
    play(None, Cache { loses: Some(1), refuses: true, ask, ..Cache::new(plan(), false) })
}

/// The records of one run whose members are cut 45 s apart, although the plan requires at most 1 s. The run
/// is rolled back.
pub fn script_of_a_skew() -> Vec<(u64, Timed)> {
    let plan = Plan { atomicity: Demand { required: true, ..Demand::UNRECORDED }, ..plan() };
    play(None, Cache { gap: Millis(22_500), ..Cache::new(plan, false) })
}

fn play(kill: Kill, mut cache: Cache) -> Vec<(u64, Timed)> {
    let plan = cache.plan.clone();
    let mut records = vec![(1, Timed { at: START, event: Event::Planned(Box::new(plan)) })];
    let mut run = fold(None, &records[0].1).expect("a plan");
    let mut kill = kill;
    for _ in 0..500 {
        cache.pass(Millis(40));
        let considered = step(&Logic::default(), &run, &cache.seen, cache.now).expect("one row");
        let grounds = considered.grounds();
        // The scripts are as short as the records of earlier releases: no pause after a failure.
        let next = match (considered.next, considered.decision.then) {
            (Next::Wait { .. }, Action::Act(step)) => {
                Next::Act { step, effects: effects(&run, &cache.seen, step) }
            }
            (next, _) => next,
        };
        match next {
            Next::Act { step, effects: planned } => {
                let marks = planned.iter().map(|(mark, _)| *mark).collect();
                cache.record(&mut records, &mut run, Event::Intended { grounds, step, marks });
                if kill == Some(step) {
                    kill = None;
                    cache.restart();
                    continue;
                }
                let outcomes = cache.perform(&planned);
                cache.record(&mut records, &mut run, Event::StepCompleted { step, outcomes });
            }
            Next::Record { events, .. } => {
                for event in events {
                    cache.record(&mut records, &mut run, event);
                }
                if run.stuck.is_some() {
                    let Some(ask) = cache.ask.take() else { return records };
                    cache.refuses = false;
                    cache.pass(Millis(60_000));
                    cache.record(&mut records, &mut run, Event::RequestReceived(asked(ask)));
                }
            }
            Next::Refresh => cache.seen.fresh = true,
            Next::Wait { .. } => cache.controllers(),
            Next::StepDown | Next::Done => return records,
        }
    }
    panic!("the script does not end: {:?}", run.stage);
}

/// The request of an operator.
pub fn asked(ask: Ask) -> OperatorRequest {
    OperatorRequest { ask, request: "7f3a0c55-48213".to_owned(), by: "alice@desk".to_owned() }
}

impl Cache {
    fn new(plan: Plan, final_error: bool) -> Self {
        let claims = plan.members.iter().map(|member| ClaimSeen {
            id: ObjectId { uid: member.claim_uid.clone(), ..id("shop", member.claim.clone(), 0) },
            volume: Some(member.volume.clone()),
            terminating: false,
        });
        let seen = Observation {
            epoch: 1,
            claims: claims.collect(),
            class_exists: true,
            namespace: Some(NamespaceSeen::default()),
            ..Observation::default()
        };
        Self {
            plan,
            seen,
            now: START,
            version: 100,
            final_error,
            loses: None,
            refuses: false,
            ask: None,
            gap: Millis(0),
        }
    }

    fn pass(&mut self, time: Millis) {
        self.now = self.now.after(time);
    }

    fn restart(&mut self) {
        self.pass(Millis(3_060));
        self.seen.epoch += 1;
        self.seen.fresh = false;
    }

    fn record(&self, records: &mut Vec<(u64, Timed)>, run: &mut GroupRun, event: Event) {
        let timed = Timed { at: self.now, event };
        *run = fold(Some(run.clone()), &timed).expect("it follows");
        records.push((self.seen.epoch, timed));
    }

    fn perform(&mut self, planned: &[(EffectRef, Effect)]) -> Vec<Outcome> {
        self.pass(Millis(12));
        self.seen.fresh = false;
        let done = |(_, effect): &(EffectRef, Effect)| {
            if self.refuses && matches!(effect, Effect::CreateContent { .. } | Effect::CreateSnapshot { .. })
            {
                let message = "Forbidden: an admission webhook denied the request".to_owned();
                return Outcome::Determinate { code: 403, message };
            }
            self.version += 1;
            let uid = self.apply(effect);
            Outcome::Done { uid: uid.0, resource_version: self.version.to_string() }
        };
        planned.iter().map(done).collect()
    }

    fn apply(&mut self, effect: &Effect) -> crate::domain::ids::Uid {
        let target = match effect {
            Effect::CreateGroup { name, labels, .. } => {
                let group = GroupSnapshotSeen {
                    id: id("shop", name.clone(), 1),
                    resource_version: self.version.to_string(),
                    run: labels.get(labels::RUN).cloned(),
                    epoch: Some(self.seen.epoch),
                    journal: None,
                    bound_content: None,
                    ready: false,
                    terminating: false,
                    protected: true,
                    finalizers: Vec::new(),
                    error: None,
                };
                self.seen.group.insert(group).id.clone()
            }
            Effect::ClaimGroup { group, new, .. } => {
                self.seen.group.as_mut().expect("claimed").epoch = Some(*new);
                group.clone()
            }
            Effect::LabelMember { snapshot, labels, annotations } => {
                let seen = self.snapshot(snapshot);
                seen.labels.get_or_insert_default().extend(labels.write.clone());
                seen.annotations.get_or_insert_default().extend(annotations.write.clone());
                snapshot.clone()
            }
            Effect::SetGroupContentPolicy { content, new, labels, annotations, .. } => {
                let seen = self.seen.content.as_mut().expect("it has a policy");
                seen.policy = *new;
                seen.labels.get_or_insert_default().extend(labels.write.clone());
                seen.annotations.get_or_insert_default().extend(annotations.write.clone());
                content.clone()
            }
            Effect::SetContentPolicy { content, new, labels, annotations, .. } => {
                let seen = self.seen.contents.iter_mut().find(|seen| seen.id == *content);
                let seen = seen.expect("it has a policy");
                seen.policy = *new;
                seen.labels.get_or_insert_default().extend(labels.write.clone());
                seen.annotations.get_or_insert_default().extend(annotations.write.clone());
                content.clone()
            }
            Effect::SetGroupName { snapshot, new, .. } => {
                self.snapshot(snapshot).group_name = new.clone();
                snapshot.clone()
            }
            Effect::DetachMember { snapshot, new_owners, new_finalizers, new_class, .. } => {
                let seen = self.snapshot(snapshot);
                (seen.owners, seen.finalizers) = (new_owners.clone(), new_finalizers.clone());
                seen.class = new_class.clone();
                snapshot.clone()
            }
            Effect::DeleteGroup { group, .. } => {
                self.seen.group.as_mut().expect("deleted").terminating = true;
                group.clone()
            }
            Effect::DeleteGroupContent { content, .. } => {
                let seen = self.seen.content.as_mut().expect("deleted");
                (seen.terminating, seen.marked_deleted) = (true, true);
                content.clone()
            }
            Effect::CreateContent { name, snapshot_handle, volume_mode, labels, annotations, .. } => {
                let content = ContentSeen {
                    id: id("", name.clone(), 40),
                    policy: DeletionPolicy::Retain,
                    volume_handle: None,
                    snapshot_handle: Some(snapshot_handle.clone()),
                    group_handle: None,
                    snapshot_name: name.clone(),
                    snapshot_uid: None,
                    volume_mode: volume_mode.clone(),
                    labels: Some(labels.clone()),
                    annotations: Some(annotations.clone()),
                    ..self.seen.contents[0].clone()
                };
                self.seen.contents.push(content);
                id("", name.clone(), 40)
            }
            Effect::CreateSnapshot { name, content, class, labels, annotations, .. } => {
                let snapshot = SnapshotSeen {
                    id: id("shop", name.clone(), 30),
                    bound_content: Some(content.clone()),
                    ready: false,
                    class: Some(class.clone()),
                    labels: Some(labels.clone()),
                    annotations: Some(annotations.clone()),
                    ..self.seen.snapshots[0].clone()
                };
                self.seen.snapshots.push(snapshot);
                id("shop", name.clone(), 30)
            }
            Effect::DeleteContent { content, .. } => {
                self.seen.contents.retain(|seen| seen.id != *content);
                content.clone()
            }
            other => panic!("the script has no {:?}", other.kind()),
        };
        target.uid
    }

    fn snapshot(&mut self, id: &ObjectId) -> &mut SnapshotSeen {
        self.seen.snapshots.iter_mut().find(|seen| seen.id == *id).expect("a member")
    }

    /// One phase of the controllers and of the driver: freeze, cut, bind, acknowledge, release.
    fn controllers(&mut self) {
        self.pass(Millis(900));
        self.seen.fresh = false;
        if self.seen.group.as_ref().is_some_and(|group| group.terminating) {
            self.seen.group = None;
            // A content with the policy Delete is deleted too, with all its snapshots.
            if self.seen.content.as_ref().is_some_and(|content| content.policy == DeletionPolicy::Delete) {
                self.seen.content = None;
                self.seen.snapshots.clear();
                self.seen.contents.clear();
            }
            if let Some(lost) = self.loses.take() {
                self.seen.snapshots.remove(lost);
            }
            return;
        }
        match &mut self.seen.content {
            Some(content) if content.terminating => self.seen.content = None,
            Some(content) if self.final_error => {
                content.error = Some("rpc error: code = Unimplemented desc = no group controller".into());
            }
            Some(content) if content.group_handle.is_none() => self.cut(),
            Some(_) if self.seen.snapshots.iter().all(|snapshot| !snapshot.ready) => self.bind(),
            Some(_) => self.acknowledge(),
            None => self.freeze(),
        }
    }

    fn freeze(&mut self) {
        let Some(group) = &self.seen.group else { return };
        self.seen.content = Some(GroupContentSeen {
            id: id("", "groupsnapcontent-01", 2),
            resource_version: "200".into(),
            group_uid: Some(group.id.uid.clone()),
            policy: DeletionPolicy::Delete,
            volume_handles: self.plan.members.iter().map(|member| member.volume_handle.clone()).collect(),
            group_handle: None,
            created_at: None,
            cuts: Vec::new(),
            error: None,
            terminating: false,
            protected: true,
            finalizers: Vec::new(),
            marked_deleted: false,
            secret: None,
            labels: None,
            annotations: None,
        });
    }

    fn cut(&mut self) {
        let content = self.seen.content.as_mut().expect("frozen");
        content.group_handle = Some("group-01".into());
        content.cuts = self
            .plan
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| CutSeen {
                volume_handle: member.volume_handle.clone(),
                snapshot_handle: format!("snap-0{}", index + 1),
                created_at: Some(
                    Timestamp(self.now.0 + index as i64 * 1_500_000).after(Millis(self.gap.0 * index as u64)),
                ),
                restore_size: Some(1 << 30),
            })
            .collect();
        let group = self.seen.group.as_ref().expect("cut");
        let owner = Owner {
            api_version: "groupsnapshot.storage.k8s.io/v1".into(),
            kind: "VolumeGroupSnapshot".into(),
            name: group.id.name.clone(),
            uid: group.id.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        };
        for (index, member) in self.plan.members.iter().enumerate() {
            let (snapshot, content) = (
                id("shop", format!("snapshot-0{index}"), 10 + index),
                id("", format!("snapcontent-0{index}"), 20 + index),
            );
            self.seen.contents.push(ContentSeen {
                id: content.clone(),
                resource_version: "300".into(),
                policy: DeletionPolicy::Delete,
                volume_handle: Some(member.volume_handle.clone()),
                snapshot_handle: Some(format!("snap-0{}", index + 1)),
                group_handle: Some("group-01".into()),
                snapshot_namespace: "shop".into(),
                snapshot_name: snapshot.name.clone(),
                snapshot_uid: Some(snapshot.uid.clone()),
                ready: true,
                created_at: Some(self.now),
                restore_size: Some(1 << 30),
                volume_mode: Some("Filesystem".into()),
                error: None,
                finalizers: Vec::new(),
                terminating: false,
                labels: None,
                annotations: None,
            });
            self.seen.snapshots.push(SnapshotSeen {
                id: snapshot,
                resource_version: "400".into(),
                claim: Some(member.claim.clone()),
                bound_content: Some(content.name),
                ready: false,
                group_name: Some(owner.name.clone()),
                error: None,
                class: None,
                owners: vec![owner.clone()],
                finalizers: vec![labels::AS_SOURCE_PROTECTION.into(), labels::IN_GROUP_PROTECTION.into()],
                terminating: false,
                labels: None,
                annotations: None,
                created_at: Some(self.now),
            });
        }
    }

    fn bind(&mut self) {
        self.seen.group.as_mut().expect("bound").ready = true;
        self.seen.snapshots.iter_mut().for_each(|snapshot| snapshot.ready = true);
    }

    fn acknowledge(&mut self) {
        for snapshot in self.seen.snapshots.iter_mut().filter(|snapshot| snapshot.finalizers.is_empty()) {
            snapshot.finalizers.push(labels::AS_SOURCE_PROTECTION.into());
        }
        self.seen.snapshots.iter_mut().for_each(|snapshot| snapshot.ready = true);
    }
}

/// A journal with one Backup and its one group, as the daemon of the first release would have written it.
pub async fn journal(records: &[(u64, Timed)]) -> Vec<Entry> {
    let (disk, run, stream) = (Disk::new(), plan().run, StreamId::of_backup(BACKUP_UID));
    let (_, last) = records.last().expect("a script");
    let phase = match &last.event {
        Event::MilestoneReached { reached: Reached::Completed, .. } => Some(Phase::Completed),
        Event::MilestoneReached { reached: Reached::Stuck(_), .. } => None,
        _ => Some(Phase::Failed),
    };
    let (mut seq, mut entries) = (0, Vec::new());
    for epoch in 1..=records.iter().map(|(epoch, _)| *epoch).max().unwrap_or(1) {
        let store = MemoryStore::open(&disk).expect("free");
        let (journal, opened) = Journal::open_task(store).expect("opened");
        assert_eq!(opened.epoch, epoch);
        if epoch == 1 {
            append(&journal, stream, 0, encode_earlier_backup(&accepted(), START).expect("it fits")).await;
        }
        for (_, timed) in records.iter().filter(|(of, _)| *of == epoch) {
            append(&journal, run, seq, encode_group(timed).expect("it fits")).await;
            seq += 1;
        }
        if let Some(phase) = phase.filter(|_| records[records.len() - 1].0 == epoch) {
            let failed = failure(records).into_iter().collect();
            let finished = earlier::Finished { phase, failed, warnings: Vec::new() };
            let finished = earlier::Event::Finished(finished);
            append(&journal, stream, 1, encode_earlier_backup(&finished, last.at).expect("it fits")).await;
        }
        entries = journal.entries(1, 1_000).await.expect("readable");
        drop(journal);
        disk.crash_keeping(usize::MAX);
    }
    entries
}

/// The failure of the run; none if the run did not fail or its records do not fold.
fn failure(records: &[(u64, Timed)]) -> Option<FailedGroup> {
    let run = fold_all(records.iter().map(|(_, timed)| timed)).ok()??;
    let reason = run.reason.filter(|_| run.stage == Stage::Failed)?;
    let Plan { namespace, group, .. } = Arc::unwrap_or_clone(run.plan);
    Some(FailedGroup { namespace, group, code: reason.code, message: reason.message })
}

fn accepted() -> earlier::Event {
    let plan = plan();
    earlier::Event::Accepted {
        backup: plan.backup,
        label_key: plan.label_key,
        groups: vec![AskedGroup { namespace: plan.namespace, group: plan.group, run: plan.run }],
        refused: Vec::new(),
        warnings: Vec::new(),
    }
}

pub async fn append(journal: &Journal, stream: StreamId, seq: u64, record: Record) {
    journal.append(stream, seq, vec![record], StreamState::Open).await.expect("appended");
}
