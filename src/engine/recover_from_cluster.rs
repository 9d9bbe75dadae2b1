//! Finds the runs of a lost journal in the cluster by labels, names and receipts.
//!
//! Reading the cluster writes nothing. Runs are those that a GroupSnapshot names or whose label any object
//! carries. The objects of a run are found as the engine finds them: by label, by the name that the run
//! computes, by owner, by binding. [`Remains::events`] derives the events from them.
//!
//! Not here: Backups. The daemon resumes a Backup that has not ended and finds the reconstructed runs under
//! their ids. A Backup that has ended needs no journal.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::core::metadata::PartialObjectMeta;
use uuid::Uuid;

use crate::cluster::kinds::{
    Backup, GroupSnapshot, VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot,
    VolumeSnapshotClass, VolumeSnapshotContent,
};
use crate::cluster::{Adapter, binding, observe};
use crate::domain::binding::BindingState;
use crate::domain::ids::{StreamId, Uid};
use crate::domain::labels;
use crate::domain::names;
use crate::domain::observed::{ContentSeen, GroupContentSeen, GroupSnapshotSeen, SnapshotSeen};
use crate::domain::plan::BackupRef;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::engine::driver::internal;
use crate::engine::foreign;
use crate::journal::{Journal, Record, StreamState};
use crate::machine::group::Event;
use crate::machine::group::Timed;
use crate::machine::group::reconstruct::Remains;
use crate::machine::group::reconstruct::Standing;
use crate::machine::group::reconstruct::VolumeSeen;
use crate::records;
use crate::records::binding::{self as binding_records, BindingEvent, BindingRecord};

/// The runs found in a cluster.
#[derive(Debug, Default)]
pub struct Found {
    /// The runs, in the order of their ids.
    pub runs: Vec<Remains>,
    /// The highest epoch that any object names; 0 without one.
    pub epoch: u64,
    /// The journals that left these objects, and the one that is bound: the new journal replaces them.
    pub journals: Vec<Uuid>,
}

/// One run that was written to a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    pub run: StreamId,
    /// Namespace of its PVCs, and its group.
    pub group: (String, String),
    /// Where the run resumes, or why it was left out.
    pub standing: Result<Standing, String>,
    /// The observed facts.
    pub seen: Vec<String>,
}

struct Objects {
    shown: Vec<GroupSnapshot>,
    groups: Vec<VolumeGroupSnapshot>,
    group_contents: Vec<VolumeGroupSnapshotContent>,
    snapshots: Vec<VolumeSnapshot>,
    contents: Vec<VolumeSnapshotContent>,
    volumes: Vec<VolumeSeen>,
    classes: Vec<VolumeSnapshotClass>,
    backups: Vec<PartialObjectMeta<Backup>>,
}

/// Reads everything that may be left of the runs that Backups of `namespace` requested.
///
/// # Errors
/// The API server does not answer, or refuses a list.
pub async fn look(adapter: &Adapter, namespace: &str) -> Result<Found, Problem> {
    let version = adapter.group_version()?;
    let objects = Objects {
        shown: adapter.list(&(), "", labels::RUN).await?,
        groups: adapter.list(&version, "", "").await?,
        group_contents: adapter.list(&version, "", "").await?,
        snapshots: adapter.list(&(), "", "").await?,
        contents: adapter.list(&(), "", "").await?,
        volumes: adapter.list::<PersistentVolume>(&(), "", "").await?.iter().filter_map(volume).collect(),
        classes: adapter.list(&(), "", "").await?,
        backups: Vec::new(),
    };
    let backups = objects.backups(adapter).await?;
    let mut found = Objects { backups, ..objects }.found();
    // A run whose objects do not name its Backup is included.
    found.runs.retain(|run| [namespace, ""].contains(&run.backup.namespace.as_str()));
    let left = foreign::journals(adapter, namespace).await?;
    let bound = adapter.binding(namespace).await?.and_then(|object| binding::parse(&object).ok());
    let journals: BTreeSet<Uuid> = left.iter().filter_map(|id| id.parse().ok()).collect();
    found.epoch = found.epoch.max(bound.as_ref().map_or(0, |bound| bound.mark.epoch));
    found.journals = journals.into_iter().chain(bound.map(|bound| bound.journal)).collect();
    found.journals.dedup();
    Ok(found)
}

/// Writes runs to a journal that has none, each as one batch of records. The journal gets the id `id`.
///
/// # Errors
/// The journal cannot be written.
pub async fn record(
    journal: &Journal,
    id: Uuid,
    found: &Found,
    at: Timestamp,
) -> Result<Vec<Rebuilt>, Problem> {
    identify(journal, id, found, at).await?;
    let mut rebuilt = Vec::new();
    for remains in &found.runs {
        let group = (remains.namespace.clone(), remains.group_label.1.clone());
        let (standing, seen) = match remains.events(at) {
            Err(unclear) => (Err(unclear.to_string()), vec![]),
            Ok((standing, events)) => {
                let seen = events.last().map(seen).unwrap_or_default();
                let records = encoded(remains.run, events, at)?;
                let state = match standing {
                    Standing::Completed => StreamState::Holding,
                    Standing::Failed => StreamState::Finished,
                    _ => StreamState::Open,
                };
                let appended = journal.append(remains.run, 0, records, state).await;
                appended.map_err(|error| internal(remains.run, &error))?;
                (Ok(standing), seen)
            }
        };
        rebuilt.push(Rebuilt { run: remains.run, group, standing, seen });
    }
    Ok(rebuilt)
}

/// Records the journal's own id, and the ids of the journals that it replaces.
async fn identify(journal: &Journal, id: Uuid, found: &Found, at: Timestamp) -> Result<(), Problem> {
    let state = BindingState { supersedes: found.journals.clone(), ..BindingState::new(id) };
    let record = BindingRecord { event: BindingEvent::Identified, roll: 1, start: id, state };
    let stream = binding_records::stream(id, record.roll);
    let encoded = binding_records::encode(&record, at).map_err(|error| internal(stream, &error))?;
    let appended = journal.append(stream, 0, vec![encoded], StreamState::Open).await;
    appended.map(|_| ()).map_err(|error| internal(stream, &error))
}

fn seen(event: &Event) -> Vec<String> {
    match event {
        Event::Reconstructed(found) => found.seen.clone(),
        _ => vec![],
    }
}

fn encoded(run: StreamId, events: Vec<Event>, at: Timestamp) -> Result<Vec<Record>, Problem> {
    let encode = |event| records::encode_group(&Timed { at, event: records::fit_group(event) });
    events.into_iter().map(encode).collect::<Result<_, _>>().map_err(|error| internal(run, &error))
}

fn volume(volume: &PersistentVolume) -> Option<VolumeSeen> {
    let spec = volume.spec.as_ref()?;
    let claim = spec.claim_ref.as_ref()?;
    Some(VolumeSeen {
        handle: spec.csi.as_ref()?.volume_handle.clone(),
        volume: volume.metadata.name.clone()?,
        namespace: claim.namespace.clone()?,
        claim: claim.name.clone()?,
        claim_uid: Uid(claim.uid.clone().unwrap_or_default()),
    })
}

type Labels = Option<BTreeMap<String, String>>;

fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.as_ref()?.get(key).map(String::as_str)
}

fn run_of(labels: &Labels) -> Option<StreamId> {
    label(labels, labels::RUN)?.parse().ok()
}

impl Objects {
    /// All Backups in the namespaces of the Backups that requested the runs: an earlier incarnation may have
    /// claimed one whose group is gone.
    async fn backups(&self, adapter: &Adapter) -> Result<Vec<PartialObjectMeta<Backup>>, Problem> {
        let asking = self.shown.iter().filter_map(|shown| Some(&shown.spec.backup_ref.as_ref()?.namespace));
        let mut backups = Vec::new();
        for namespace in asking.collect::<BTreeSet<_>>() {
            backups.extend(adapter.list::<PartialObjectMeta<Backup>>(&(), namespace, "").await?);
        }
        Ok(backups)
    }

    fn found(&self) -> Found {
        let labels = (self.shown.iter().map(|o| &o.metadata.labels))
            .chain(self.groups.iter().map(|o| &o.metadata.labels))
            .chain(self.group_contents.iter().map(|o| &o.metadata.labels))
            .chain(self.snapshots.iter().map(|o| &o.metadata.labels))
            .chain(self.contents.iter().map(|o| &o.metadata.labels));
        let runs: BTreeSet<StreamId> = labels.filter_map(run_of).collect();
        let epochs = (self.groups.iter().map(|group| &group.metadata))
            .chain(self.backups.iter().map(|backup| &backup.metadata))
            .filter_map(observe::epoch);
        Found {
            runs: runs.into_iter().filter_map(|run| self.remains(run)).collect(),
            epoch: epochs.max().unwrap_or(0),
            journals: Vec::new(),
        }
    }

    fn remains(&self, run: StreamId) -> Option<Remains> {
        let own = |labels: &Labels| run_of(labels) == Some(run);
        let shown = self.shown.iter().find(|shown| own(&shown.metadata.labels));
        // Of two attempts the later one is the current one.
        let group = self.groups.iter().filter(|group| own(&group.metadata.labels)).max_by_key(|g| attempt(g));
        let seen = group.map(observe::group);
        let content = self.content(run, group, shown, &own);
        let snapshots = self.snapshots(&own, seen.as_ref(), content.as_ref());
        let contents = self.contents(&own, &snapshots);
        let namespace = self.namespace(shown, group, &snapshots, &contents)?;
        let labels = self.any_labels(&own);
        let (key, value) = group_label(shown, &labels);
        let driver = shown.map(|shown| shown.spec.driver.clone()).unwrap_or_default();
        let value_of = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let backup = shown.and_then(|shown| shown.spec.backup_ref.as_ref());
        let stub = names::stub_content(run);
        let status = shown.and_then(|shown| shown.status.as_ref());
        Some(Remains {
            run,
            backup: BackupRef {
                namespace: backup.map(|backup| backup.namespace.clone()).unwrap_or_default(),
                name: backup.map_or_else(|| value_of(labels::BACKUP_NAME), |backup| backup.name.clone()),
                uid: Uid(backup.map_or_else(|| value_of(labels::BACKUP_UID), |backup| backup.uid.clone())),
            },
            selector: [(key.clone(), value.clone())].into(),
            group_label: (key, value),
            group_class: shown.map(|s| s.spec.volume_group_snapshot_class_name.clone()).unwrap_or_default(),
            snapshot_class: self.class(&driver),
            driver,
            shown: status.and_then(|status| {
                let attempt = status.attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1);
                Some((status.state.clone()?, attempt))
            }),
            claims: shown.map(|shown| shown.spec.claims.clone()).unwrap_or_default(),
            group: seen,
            stub: self.group_contents.iter().any(|content| content.metadata.name.as_deref() == Some(&stub)),
            content,
            snapshots,
            contents,
            volumes: self.volumes.iter().filter(|volume| volume.namespace == namespace).cloned().collect(),
            namespace,
        })
    }

    /// The content that names the group, or carries the run's label, and is neither its stub nor its import.
    fn content(
        &self,
        run: StreamId,
        group: Option<&VolumeGroupSnapshot>,
        shown: Option<&GroupSnapshot>,
        own: &dyn Fn(&Labels) -> bool,
    ) -> Option<GroupContentSeen> {
        let uid = group.and_then(|group| group.metadata.uid.clone());
        let named: BTreeSet<String> = shown
            .map(|shown| {
                let attempts =
                    shown.status.as_ref().and_then(|status| status.attempt).unwrap_or(1).clamp(1, 9) as u32;
                (1..=attempts).map(|attempt| names::group_snapshot(&shown.spec.group, run, attempt)).collect()
            })
            .unwrap_or_default();
        let unbound = [names::stub_content(run), names::import_content(run)];
        let belongs = |content: &&VolumeGroupSnapshotContent| {
            let reference = &content.spec.volume_group_snapshot_ref;
            let named = || named.contains(&reference.name);
            content.metadata.name.as_ref().is_none_or(|name| !unbound.contains(name))
                && (own(&content.metadata.labels) || (uid.is_some() && reference.uid == uid) || named())
        };
        self.group_contents.iter().find(belongs).map(observe::group_content)
    }

    fn snapshots(
        &self,
        own: &dyn Fn(&Labels) -> bool,
        group: Option<&GroupSnapshotSeen>,
        content: Option<&GroupContentSeen>,
    ) -> Vec<SnapshotSeen> {
        let uid = group.map(|group| &group.id.uid).or(content.and_then(|content| content.group_uid.as_ref()));
        let belongs = |snapshot: &&VolumeSnapshot| {
            let owners = || observe::snapshot(snapshot).owners;
            own(&snapshot.metadata.labels) || uid.is_some_and(|uid| owners().iter().any(|o| o.is_group(uid)))
        };
        self.snapshots.iter().filter(belongs).map(observe::snapshot).collect()
    }

    fn contents(&self, own: &dyn Fn(&Labels) -> bool, snapshots: &[SnapshotSeen]) -> Vec<ContentSeen> {
        let bound: BTreeSet<&String> = snapshots.iter().filter_map(|s| s.bound_content.as_ref()).collect();
        let belongs = |content: &&VolumeSnapshotContent| {
            own(&content.metadata.labels)
                || content.metadata.name.as_ref().is_some_and(|name| bound.contains(name))
        };
        self.contents.iter().filter(belongs).map(observe::content).collect()
    }

    fn namespace(
        &self,
        shown: Option<&GroupSnapshot>,
        group: Option<&VolumeGroupSnapshot>,
        snapshots: &[SnapshotSeen],
        contents: &[ContentSeen],
    ) -> Option<String> {
        let shown = shown.and_then(|shown| shown.metadata.namespace.clone());
        let group = || group.and_then(|group| group.metadata.namespace.clone());
        let snapshot = || snapshots.first().map(|snapshot| snapshot.id.namespace.clone());
        let content = || contents.first().map(|content| content.snapshot_namespace.clone());
        shown.or_else(group).or_else(snapshot).or_else(content)
    }

    /// Labels of an object of the run that carries Velero's labels: its VolumeGroupSnapshot, else a member.
    fn any_labels(&self, own: &dyn Fn(&Labels) -> bool) -> BTreeMap<String, String> {
        let groups = self.groups.iter().map(|group| &group.metadata.labels);
        let labels = groups.chain(self.snapshots.iter().map(|snapshot| &snapshot.metadata.labels));
        labels.into_iter().find(|labels| own(labels)).cloned().flatten().unwrap_or_default()
    }

    /// The class of a driver, if there is only one.
    fn class(&self, driver: &str) -> Option<String> {
        let of_driver = self.classes.iter().filter(|class| class.driver == driver);
        let annotated = |class: &&VolumeSnapshotClass| {
            let annotations = class.metadata.annotations.as_ref();
            annotations.is_some_and(|a| a.get(labels::CLASS_IS_DEFAULT).is_some_and(|value| value == "true"))
        };
        let (mut all, mut default) = (of_driver.clone(), of_driver.filter(annotated));
        let only = match (default.next(), default.next(), all.next(), all.next()) {
            (Some(class), None, ..) | (None, _, Some(class), None) => Some(class),
            _ => None,
        };
        only.and_then(|class| class.metadata.name.clone())
    }
}

fn attempt(group: &VolumeGroupSnapshot) -> u32 {
    let name = group.metadata.name.as_deref().unwrap_or_default();
    name.rsplit_once("-a").and_then(|(_, attempt)| attempt.parse().ok()).unwrap_or(0)
}

/// Label key and value of the group: from the GroupSnapshot, else the label that is neither Velero's nor
/// ours.
fn group_label(shown: Option<&GroupSnapshot>, labels: &BTreeMap<String, String>) -> (String, String) {
    let known = [
        labels::BACKUP_NAME,
        labels::BACKUP_UID,
        labels::RUN,
        labels::JOURNAL,
        labels::PVC,
        labels::EXCLUDE_FROM_BACKUP,
    ];
    let other = || labels.iter().find(|(key, _)| !known.contains(&key.as_str()));
    match shown {
        Some(shown) => (shown.spec.label_key.clone(), shown.spec.group.clone()),
        None => other().map(|(key, value)| (key.clone(), value.clone())).unwrap_or_default(),
    }
}
