//! Reconstructs a run from the cluster after its journal was lost.
//!
//! The remaining objects are enough to end the run, but not to know all earlier decisions. The conclusions
//! are therefore limited to these:
//!
//! | observed | conclusion |
//! |---|---|
//! | the GroupSnapshot has state Completed or Failed | the run is over; no further action |
//! | not every member has its receipt, or the run was being rolled back | roll back: free all storage |
//! | every member has its receipt, the group and its content exist, every member still names the group | bound: continue as from VSBound |
//! | every member has its receipt, any other state | past the pivot: only go forward |
//!
//! SUBTLE: going forward with a run that was being rolled back would rebuild members whose storage is freed.
//! 1. A rollback first sets contents to Delete.
//! 2. The pivot requires all of them under Retain.
//! 3. Therefore a content under Delete while the group is gone proves a rollback, independent of the last
//!    status.
//!
//! Not here: finding and reading objects (`engine`), and the next action (the recovery table).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::atomicity::Demand;
use crate::domain::ids::{ObjectId, StreamId, Uid};
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::names::stub_content;
use crate::domain::observed::{
    ContentSeen, DeletionPolicy, Entries, GroupContentSeen, GroupSnapshotSeen, Owner, SnapshotSeen,
};
use crate::domain::plan::{BackupRef, Plan, PlannedMember};
use crate::domain::receipt::{MemberCopy, Receipt, ReceiptMember};
use crate::domain::time::{Millis, Timestamp};
use crate::machine::group::event::{Event, ReceiptHead, ReceiptPart};

/// Velero's default of `csiSnapshotTimeout`. No deadline of a reconstructed run depends on it before its
/// rollback ends.
const CUT_TIMEOUT: Millis = Millis::from_secs(600);
/// Velero's default of `itemOperationTimeout`.
const READY_TIMEOUT: Millis = Millis::from_secs(4 * 3600);

/// State from which a reconstructed run continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Roll back: all storage is freed.
    Undo,
    /// Continue as from VSBound.
    Bound,
    /// Past the pivot: only go forward.
    Released,
    /// The run was completed.
    Completed,
    /// The run was rolled back.
    Failed,
}

impl Standing {
    /// Name for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undo => "to be undone",
            Self::Bound => "bound",
            Self::Released => "past the pivot",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// Conclusion from the cluster: the record that follows a reconstructed plan and receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconstructed {
    /// State from which the run continues.
    pub standing: Standing,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Uid of the VolumeGroupSnapshot, if an object still names it.
    pub group_uid: Option<Uid>,
    /// Final record of the receipt, built from the copies on the members.
    pub receipt: Option<ReceiptHead>,
    /// Description of the observed objects, for users.
    pub seen: Vec<String>,
}

/// A volume of the cluster with the PVC that it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSeen {
    /// CSI volume handle.
    pub handle: String,
    /// Name of the PersistentVolume.
    pub volume: String,
    /// Namespace of the PVC.
    pub namespace: String,
    /// Name of the PVC.
    pub claim: String,
    /// Uid of the PVC.
    pub claim_uid: Uid,
}

/// All objects of the cluster that belong, or may belong, to one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    pub run: StreamId,
    /// Namespace of its PVCs.
    pub namespace: String,
    /// The Backup that requested the run.
    pub backup: BackupRef,
    /// Label key and value of the group.
    pub group_label: (String, String),
    pub driver: String,
    pub group_class: String,
    /// VolumeSnapshotClass of the driver, if one can be chosen.
    pub snapshot_class: Option<String>,
    /// `matchLabels` of the VolumeGroupSnapshot.
    pub selector: BTreeMap<String, String>,
    /// State and attempt in the last status of the GroupSnapshot.
    pub shown: Option<(String, u32)>,
    /// Names of the PVCs in the GroupSnapshot.
    pub claims: Vec<String>,
    pub group: Option<GroupSnapshotSeen>,
    pub content: Option<GroupContentSeen>,
    /// Whether the run's stub content exists.
    pub stub: bool,
    pub snapshots: Vec<SnapshotSeen>,
    pub contents: Vec<ContentSeen>,
    /// Volumes of PVCs in the namespace.
    pub volumes: Vec<VolumeSeen>,
}

/// The observed objects are not sufficient to reconstruct a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unclear(pub String);

impl Remains {
    /// Builds the records of a run that continues from here: its plan, its receipt and the conclusion.
    ///
    /// # Errors
    /// The members cannot be determined.
    pub fn events(&self, at: Timestamp) -> Result<(Standing, Vec<Event>), Unclear> {
        let copies = self.copies();
        let standing = self.standing(&copies);
        let members = self.members(&copies);
        if members.is_empty() {
            return Err(Unclear("nothing tells which claims were its members".to_owned()));
        }
        let receipt = self.receipt(&copies, &members);
        let standing = match (standing, &receipt) {
            (Standing::Bound | Standing::Released, None) => Standing::Undo,
            (standing, _) => standing,
        };
        let plan = self.plan(&members, &copies, at)?;
        let parts = receipt.iter().flat_map(|receipt| {
            receipt.members.chunks(limits::RECEIPT_PART_MEMBERS).enumerate().map(|(part, members)| {
                let first = (part * limits::RECEIPT_PART_MEMBERS) as u16;
                Event::Part(ReceiptPart { first, members: members.to_vec() })
            })
        });
        let found = Reconstructed {
            standing,
            attempt: self.attempt(),
            group_uid: self.group_uid(),
            receipt: receipt.as_ref().map(|receipt| ReceiptHead {
                group_handle: receipt.group_handle.clone(),
                group_snapshot: receipt.group_snapshot.clone(),
                group_content: receipt.group_content.clone(),
                secret: receipt.secret.clone(),
                members: receipt.members.len() as u16,
                hash: Receipt::hash(&receipt.members),
                provenance: None,
            }),
            seen: self.seen(),
        };
        let planned = Event::Planned(Box::new(plan));
        let events = [planned].into_iter().chain(parts).chain([Event::Reconstructed(Box::new(found))]);
        Ok((standing, events.collect()))
    }

    /// Copies of the receipt, by volume handle.
    fn copies(&self) -> BTreeMap<String, MemberCopy> {
        let run = self.run.to_string();
        let of = |annotations: &Entries| {
            let text = annotations.as_ref()?.get(labels::RECEIPT)?;
            MemberCopy::read(text).filter(|copy| copy.run == run)
        };
        let snapshots = self.snapshots.iter().filter_map(|snapshot| of(&snapshot.annotations));
        let contents = self.contents.iter().filter_map(|content| of(&content.annotations));
        contents.chain(snapshots).map(|copy| (copy.volume_handle.clone(), copy)).collect()
    }

    fn standing(&self, copies: &BTreeMap<String, MemberCopy>) -> Standing {
        let state = self.shown.as_ref().map_or("", |(state, _)| state.as_str());
        let wanted = copies.values().next().map_or(0, |copy| copy.snapshot_handles.len());
        let group = self.group.as_ref().is_some_and(|group| !group.terminating);
        let deletes = |policy| policy == DeletionPolicy::Delete;
        let freed = self.content.iter().any(|content| deletes(content.policy))
            || self.contents.iter().any(|content| deletes(content.policy));
        match state {
            "Completed" => Standing::Completed,
            "Failed" => Standing::Failed,
            "Unwinding" => Standing::Undo,
            _ if wanted == 0 || copies.len() < wanted || (!group && freed) => Standing::Undo,
            _ if group && self.is_whole(wanted) => Standing::Bound,
            _ => Standing::Released,
        }
    }

    /// Whether the group exists as it was bound: its content, and every member with its name.
    fn is_whole(&self, members: usize) -> bool {
        let content = self.content.as_ref().is_some_and(|content| !content.terminating);
        let named = |snapshot: &&SnapshotSeen| !snapshot.terminating && snapshot.group_name.is_some();
        content && self.snapshots.iter().filter(named).count() == members
    }

    fn attempt(&self) -> u32 {
        let named = self.group.as_ref().and_then(|group| group.id.name.rsplit_once("-a"));
        let named = named.and_then(|(_, attempt)| attempt.parse().ok());
        named.or(self.shown.as_ref().map(|(_, attempt)| *attempt)).unwrap_or(1).max(1)
    }

    fn group_uid(&self) -> Option<Uid> {
        let owner = |owner: &&Owner| owner.kind == "VolumeGroupSnapshot";
        let owned = || self.snapshots.iter().find_map(|s| s.owners.iter().find(owner)).map(|o| o.uid.clone());
        let group = self.group.as_ref().map(|group| group.id.uid.clone());
        group.or_else(|| self.content.as_ref().and_then(|content| content.group_uid.clone())).or_else(owned)
    }

    /// Members sorted by the names of their PVCs: from the cut, else from the selector, else from the
    /// GroupSnapshot.
    fn members(&self, copies: &BTreeMap<String, MemberCopy>) -> Vec<PlannedMember> {
        let frozen = self.content.iter().flat_map(|content| content.volume_handles.iter().cloned());
        let own = self.contents.iter().filter_map(|content| content.volume_handle.clone());
        let mut handles: BTreeSet<String> = frozen.chain(copies.keys().cloned()).collect();
        if handles.is_empty() {
            handles.extend(own);
        }
        let mut members: Vec<PlannedMember> =
            handles.into_iter().map(|handle| self.member(handle, copies)).collect();
        if members.is_empty() {
            members = self.claims.iter().map(|claim| self.member_of_claim(claim)).collect();
        }
        members.sort_by(|one, other| one.claim.cmp(&other.claim));
        members
    }

    fn member(&self, volume_handle: String, copies: &BTreeMap<String, MemberCopy>) -> PlannedMember {
        let seen = self.volumes.iter().find(|seen| seen.handle == volume_handle);
        let copied = copies.get(&volume_handle).map(|copy| copy.claim.clone());
        PlannedMember {
            claim: copied.or(seen.map(|seen| seen.claim.clone())).unwrap_or_else(|| volume_handle.clone()),
            claim_uid: seen.map_or(Uid(String::new()), |seen| seen.claim_uid.clone()),
            volume: seen.map_or(String::new(), |seen| seen.volume.clone()),
            volume_handle,
            spec: None,
        }
    }

    fn member_of_claim(&self, claim: &str) -> PlannedMember {
        let seen = self.volumes.iter().find(|seen| seen.claim == claim);
        PlannedMember {
            claim: claim.to_owned(),
            claim_uid: seen.map_or(Uid(String::new()), |seen| seen.claim_uid.clone()),
            volume: seen.map_or(String::new(), |seen| seen.volume.clone()),
            volume_handle: seen.map_or(String::new(), |seen| seen.handle.clone()),
            spec: None,
        }
    }

    /// The receipt; none unless every member has its copy.
    fn receipt(&self, copies: &BTreeMap<String, MemberCopy>, members: &[PlannedMember]) -> Option<Receipt> {
        let first = copies.values().next()?;
        // The copies list the handles in the order of the plan. The members must have the same order, because
        // the order is part of the annotation.
        let place = |member: &PlannedMember| {
            let copy = copies.get(&member.volume_handle)?;
            first.snapshot_handles.iter().position(|handle| *handle == copy.snapshot_handle)
        };
        let in_order = members.iter().map(place).eq((0..first.snapshot_handles.len()).map(Some));
        if !in_order {
            return None;
        }
        let nameless = |name: String| ObjectId { namespace: String::new(), name, uid: Uid(String::new()) };
        let group = self.group.as_ref().map(|group| group.id.clone());
        let content = self.content.as_ref().map(|content| content.id.clone());
        Some(Receipt {
            group_handle: first.group_handle.clone(),
            group_snapshot: group.unwrap_or_else(|| ObjectId {
                namespace: self.namespace.clone(),
                name: crate::domain::names::group_snapshot(&self.group_label.1, self.run, self.attempt()),
                uid: self.group_uid().unwrap_or(Uid(String::new())),
            }),
            // No object has this name, so a search for it finds nothing. That is correct for a content that
            // is gone.
            group_content: content.unwrap_or_else(|| nameless(format!("{}-gone", stub_content(self.run)))),
            driver: first.driver.clone(),
            group_class: first.group_class.clone(),
            secret: first.secret.clone(),
            members: members.iter().filter_map(|member| self.receipt_member(copies, member)).collect(),
            // Copies on the objects do not have it.
            provenance: None,
        })
    }

    fn receipt_member(
        &self,
        copies: &BTreeMap<String, MemberCopy>,
        member: &PlannedMember,
    ) -> Option<ReceiptMember> {
        let copy = copies.get(&member.volume_handle)?;
        let carries = |annotations: &Entries| {
            let text = annotations.as_ref().and_then(|annotations| annotations.get(labels::RECEIPT));
            text.and_then(|text| MemberCopy::read(text))
                .is_some_and(|c| c.volume_handle == copy.volume_handle)
        };
        let snapshot = self.snapshots.iter().find(|snapshot| carries(&snapshot.annotations));
        let content = self.contents.iter().find(|content| carries(&content.annotations));
        let bound = || {
            snapshot.and_then(|s| self.contents.iter().find(|c| s.bound_content.as_ref() == Some(&c.id.name)))
        };
        let content = content.or_else(bound);
        let lost = |namespace: &str, name: String| ObjectId {
            namespace: namespace.to_owned(),
            name,
            uid: Uid(String::new()),
        };
        let named = content.map(|content| ObjectId {
            namespace: content.snapshot_namespace.clone(),
            name: content.snapshot_name.clone(),
            uid: content.snapshot_uid.clone().unwrap_or(Uid(String::new())),
        });
        let snapshot_id = snapshot.map(|snapshot| snapshot.id.clone()).or(named);
        let bound_name = snapshot.and_then(|snapshot| snapshot.bound_content.clone());
        Some(ReceiptMember {
            claim: copy.claim.clone(),
            volume_handle: copy.volume_handle.clone(),
            snapshot_handle: copy.snapshot_handle.clone(),
            snapshot: snapshot_id.unwrap_or_else(|| lost(&self.namespace, copy.claim.clone())),
            content: content
                .map(|content| content.id.clone())
                .unwrap_or_else(|| lost("", bound_name.unwrap_or_else(|| copy.claim.clone()))),
            created_at: copy.created_at_ns,
            restore_size: copy.restore_size,
            volume_mode: copy.volume_mode.clone(),
        })
    }

    fn plan(
        &self,
        members: &[PlannedMember],
        copies: &BTreeMap<String, MemberCopy>,
        at: Timestamp,
    ) -> Result<Plan, Unclear> {
        let copy = copies.values().next();
        let written = self.snapshots.iter().find_map(|snapshot| snapshot.class.clone());
        let excluded = |snapshot: &SnapshotSeen| {
            snapshot.labels.as_ref().is_some_and(|labels| labels.contains_key(labels::EXCLUDE_FROM_BACKUP))
        };
        let labelled = |snapshot: &&SnapshotSeen| {
            snapshot.labels.as_ref().is_some_and(|labels| labels.contains_key(labels::RUN))
        };
        let keep_group_name =
            self.snapshots.iter().find(labelled).is_some_and(|snapshot| !excluded(snapshot));
        let driver = copy.map_or(self.driver.as_str(), |copy| copy.driver.as_str());
        if self.group_label.1.is_empty() {
            return Err(Unclear("nothing tells its group".to_owned()));
        }
        Ok(Plan {
            run: self.run,
            backup: self.backup.clone(),
            namespace: self.namespace.clone(),
            label_key: self.group_label.0.clone(),
            group: self.group_label.1.clone(),
            members: members.to_vec(),
            driver: driver.to_owned(),
            group_class: copy.map_or(self.group_class.as_str(), |copy| copy.group_class.as_str()).to_owned(),
            class: None,
            snapshot_class: written.or(self.snapshot_class.clone()).unwrap_or_default(),
            selector: self.selector.clone(),
            keep_group_name,
            max_attempts: 1,
            cut_timeout: CUT_TIMEOUT,
            ready_timeout: READY_TIMEOUT,
            atomicity: Demand::default(),
            planned_at: at,
            warnings: vec![
                "reconstructed from the cluster: the journal that knew this run was lost".to_owned(),
            ],
        })
    }

    fn seen(&self) -> Vec<String> {
        let mut seen = Vec::new();
        if let Some((state, attempt)) = &self.shown {
            seen.push(format!("GroupSnapshot in state {state}, attempt {attempt}"));
        }
        if let Some(group) = &self.group {
            let going = if group.terminating { ", being deleted" } else { "" };
            let epoch = group.epoch.map_or("no".to_owned(), |epoch| epoch.to_string());
            seen.push(format!("VolumeGroupSnapshot {} of epoch {epoch}{going}", group.id));
        }
        if let Some(content) = &self.content {
            let going = if content.terminating { ", being deleted" } else { "" };
            seen.push(format!("VolumeGroupSnapshotContent {} under {:?}{going}", content.id, content.policy));
        }
        if self.stub {
            seen.push(format!("stub content {}", stub_content(self.run)));
        }
        let with = |annotations: &Entries| {
            annotations.as_ref().is_some_and(|annotations| annotations.contains_key(labels::RECEIPT))
        };
        let receipts = self.snapshots.iter().filter(|snapshot| with(&snapshot.annotations)).count();
        seen.push(format!("{} VolumeSnapshots, {receipts} with a receipt", self.snapshots.len()));
        let receipts = self.contents.iter().filter(|content| with(&content.annotations)).count();
        seen.push(format!("{} VolumeSnapshotContents, {receipts} with a receipt", self.contents.len()));
        seen
    }
}
