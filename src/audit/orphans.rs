//! Finds out which objects of a cluster, and which storage in the receipts of a journal, still belong to something.
//!
//! The journal is the only source of what a run made. Labels and copies of receipts on objects are claims: anybody
//! who may edit an object may change them. So an object without a known run is reported and never trusted.
//!
//! Not here: how objects are read ([`crate::cli`]), and anything that frees storage.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use super::{Folded, Streams};
use crate::domain::binding::BindingState;
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::receipt::ReceiptMember;
use crate::journal::Entry;
use crate::machine::group::{Event, GroupRun, Reached};
use crate::machine::kit::Stage as _;
use crate::records::{self, Decoded};

/// To what an object or a handle belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// To nothing that acts on it.
    Orphaned,
    /// To another journal.
    Foreign,
    /// To a run in progress.
    Owned,
    /// To a completed run: a snapshot that was taken.
    Retained,
}

impl Standing {
    /// The word for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Orphaned => "orphaned",
            Self::Foreign => "foreign",
            Self::Owned => "owned",
            Self::Retained => "retained",
        }
    }
}

/// One object or one handle, and to what it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    pub standing: Standing,
    /// Kind of the object, or `SnapshotHandle` or `GroupSnapshotHandle`.
    pub kind: &'static str,
    /// Namespace of the object; empty for a handle and for an object of the cluster.
    pub namespace: String,
    /// Name of the object, or the handle.
    pub name: String,
    /// The run, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    pub reason: String,
    /// The command that removes it, where one can be recommended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// An object of the cluster that carries labels of Stillpoint, or names a handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSeen {
    pub kind: Kind,
    pub id: ObjectId,
    /// Run in the labels.
    pub run: Option<String>,
    /// Journal in the labels.
    pub journal: Option<String>,
    /// Handle of the storage behind it.
    pub handle: Option<String>,
}

/// The kinds of objects that a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    VolumeSnapshot,
    VolumeSnapshotContent,
    VolumeGroupSnapshot,
    VolumeGroupSnapshotContent,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::VolumeSnapshot => "VolumeSnapshot",
            Self::VolumeSnapshotContent => "VolumeSnapshotContent",
            Self::VolumeGroupSnapshot => "VolumeGroupSnapshot",
            Self::VolumeGroupSnapshotContent => "VolumeGroupSnapshotContent",
        }
    }

    /// Whether it is an object of a group, of which a completed run leaves none.
    fn is_of_group(self) -> bool {
        matches!(self, Self::VolumeGroupSnapshot | Self::VolumeGroupSnapshotContent)
    }
}

/// What a journal says about its runs.
#[derive(Debug, Default)]
pub struct Known {
    /// The journal's id and those that it has replaced; none in a journal without a binding.
    binding: Option<BindingState>,
    runs: BTreeMap<StreamId, Run>,
}

#[derive(Debug)]
struct Run {
    /// Namespace and name of the group.
    group: String,
    standing: RunStanding,
    driver: String,
    group_handle: Option<String>,
    members: Vec<ReceiptMember>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunStanding {
    Running,
    /// It has ended, and its storage is not known to be freed.
    Holds,
    RolledBack,
}

impl Known {
    /// Reads the runs and the binding from the entries of a journal. Of a run whose other records are in an archive
    /// that is missing, the receipt is enough.
    pub fn of(entries: &[Entry]) -> Self {
        let bindings = entries.iter().filter(|entry| records::binding::is_binding(&entry.record));
        let newest = bindings.max_by_key(|entry| entry.position);
        let binding =
            newest.and_then(|entry| records::binding::decode(entry).ok()).map(|record| record.state);
        let mut known = Self { binding, runs: BTreeMap::new() };
        for stream in Streams::of(entries).iter() {
            if let Some(Folded::Group(run)) = &stream.folded {
                known.runs.insert(stream.id, Run::of(run));
            }
        }
        known.add_receipts(entries);
        known
    }

    /// Adds runs that cannot be folded because only the records of their receipts are there.
    fn add_receipts(&mut self, entries: &[Entry]) {
        let folded: BTreeSet<StreamId> = self.runs.keys().copied().collect();
        for entry in entries.iter().filter(|entry| !folded.contains(&StreamId(entry.stream))) {
            let Ok(Decoded::Group(timed)) = records::decode(&entry.record) else { continue };
            let id = StreamId(entry.stream);
            match (timed.event, self.runs.get_mut(&id)) {
                (Event::Planned(plan), None) => {
                    let group = format!("{}/{}", plan.namespace, plan.group);
                    let (driver, standing) = (plan.driver.clone(), RunStanding::Holds);
                    let run = Run { group, standing, driver, group_handle: None, members: Vec::new() };
                    self.runs.insert(id, run);
                }
                (Event::Part(part), Some(run)) => run.members.extend(part.members),
                (Event::MilestoneReached { reached: Reached::VsBound(head), .. }, Some(run)) => {
                    run.group_handle = Some(head.group_handle.clone());
                }
                _ => {}
            }
        }
    }

    /// Whether objects that carry this id belong to this journal. Without a binding all do.
    fn owns(&self, journal: &str) -> bool {
        let Some(binding) = &self.binding else { return true };
        journal.parse::<Uuid>().is_ok_and(|id| binding.owns(id))
    }
}

impl Run {
    fn of(run: &GroupRun) -> Self {
        let standing = match run.stage.is_final() {
            false => RunStanding::Running,
            true if run.holds() => RunStanding::Holds,
            true => RunStanding::RolledBack,
        };
        let receipt = run.state.receipt.as_deref();
        Self {
            group: format!("{}/{}", run.plan.namespace, run.plan.group),
            standing,
            driver: run.plan.driver.clone(),
            group_handle: receipt.map(|receipt| receipt.group_handle.clone()),
            members: receipt.map(|receipt| receipt.members.clone()).unwrap_or_default(),
        }
    }
}

/// Judges every object with labels of Stillpoint and every handle that the journal holds. `bound` has the namespace
/// of the binding of each journal in the cluster. Orphaned ones come first.
pub fn judge(known: &Known, objects: &[ObjectSeen], bound: &BTreeMap<String, String>) -> Vec<Item> {
    let labelled = objects.iter().filter(|object| object.run.is_some() || object.journal.is_some());
    let mut items: Vec<Item> = labelled.map(|object| of_object(known, object, bound)).collect();
    let named: BTreeSet<&str> = objects.iter().filter_map(|object| object.handle.as_deref()).collect();
    for (id, run) in known.runs.iter().filter(|(_, run)| run.standing == RunStanding::Holds) {
        items.extend(run.members.iter().map(|member| of_handle(*id, run, member, &named)));
    }
    items.sort_by(|one, other| {
        let key = |item: &Item| (item.standing, item.kind, item.namespace.clone(), item.name.clone());
        key(one).cmp(&key(other))
    });
    items
}

fn of_object(known: &Known, object: &ObjectSeen, bound: &BTreeMap<String, String>) -> Item {
    let item = |standing, reason: String, command: Option<String>| Item {
        standing,
        kind: object.kind.name(),
        namespace: object.id.namespace.clone(),
        name: object.id.name.clone(),
        run: object.run.clone(),
        reason,
        command,
    };
    if let Some(journal) = object.journal.as_deref().filter(|journal| !known.owns(journal)) {
        let place =
            bound.get(journal).map_or("which is bound nowhere in this cluster".to_owned(), |namespace| {
                format!("which is bound in namespace {namespace}")
            });
        return item(Standing::Foreign, format!("it belongs to journal {journal}, {place}"), None);
    }
    let run = object.run.as_deref().and_then(|run| run.parse().ok()).map(StreamId);
    let Some(run) = run.and_then(|run| known.runs.get(&run)) else {
        let reason = "the journal does not know its run: a backup tool restored a copy, or the journal was lost; \
                      nothing frees the storage behind it";
        return item(Standing::Orphaned, reason.to_owned(), None);
    };
    let group = &run.group;
    match run.standing {
        RunStanding::Running => {
            item(Standing::Owned, format!("the run of group {group} is in progress"), None)
        }
        RunStanding::Holds if object.kind.is_of_group() => {
            let reason = format!(
                "the run of group {group} has ended, and its members belong to this object again: the next start of \
                 the daemon releases them; do not delete it before"
            );
            item(Standing::Orphaned, reason, None)
        }
        RunStanding::Holds => item(Standing::Retained, format!("a member of completed group {group}"), None),
        RunStanding::RolledBack => {
            let reason = format!("the run of group {group} was rolled back, and its storage was freed");
            item(Standing::Orphaned, reason, Some(delete(object)))
        }
    }
}

fn delete(object: &ObjectSeen) -> String {
    let (kind, ObjectId { namespace, name, .. }) = (object.kind.name().to_lowercase(), &object.id);
    match namespace.is_empty() {
        true => format!("kubectl delete {kind} {name}"),
        false => format!("kubectl delete {kind} {name} -n {namespace}"),
    }
}

fn of_handle(id: StreamId, run: &Run, member: &ReceiptMember, named: &BTreeSet<&str>) -> Item {
    let handle = &member.snapshot_handle;
    let whose = format!("PVC {} of group {}", member.claim, run.group);
    let (standing, reason) = match named.contains(handle.as_str()) {
        true => (Standing::Retained, format!("a VolumeSnapshotContent names the snapshot of {whose}")),
        false => {
            let of_group =
                run.group_handle.as_ref().map_or(String::new(), |group| format!(", group handle {group}"));
            let reason = format!(
                "no VolumeSnapshotContent names the snapshot of {whose} any more (driver {}{of_group}); its storage is \
                 kept, and only the journal knows it: docs/groups.md says how to free it",
                run.driver
            );
            (Standing::Orphaned, reason)
        }
    };
    let (namespace, name, run, command) = (String::new(), handle.clone(), Some(id.to_string()), None);
    Item { standing, kind: "SnapshotHandle", namespace, name, run, reason, command }
}
