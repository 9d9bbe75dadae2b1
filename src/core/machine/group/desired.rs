//! Computes the wanted labels and annotations of the objects of a run.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::domain::labels;
use crate::domain::names::valid_label_value;
use crate::domain::observed::{ContentSeen, Entries, GroupContentSeen, SnapshotSeen};
use crate::domain::receipt::Receipt;
use crate::machine::group::state::GroupRun;

type Map = BTreeMap<String, String>;

fn map<const N: usize>(pairs: [(&str, String); N]) -> Map {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Id of the journal in the labels of the run's objects; `None` if no binding is used.
pub type Journal<'a> = Option<&'a str>;

/// Labels of the VolumeGroupSnapshot: Velero's, the group's own, the run and its journal.
pub fn group_labels(run: &GroupRun, journal: Journal<'_>) -> Map {
    let mut labels = backup_labels(run);
    labels.insert(run.plan.label_key.clone(), run.plan.group.clone());
    labels.extend(run_label(run, journal));
    labels
}

fn backup_labels(run: &GroupRun) -> Map {
    map([
        (labels::BACKUP_NAME, valid_label_value(&run.plan.backup.name)),
        (labels::BACKUP_UID, run.plan.backup.uid.to_string()),
    ])
}

/// Labels of contents and of the stub: the run and its journal.
pub fn run_label(run: &GroupRun, journal: Journal<'_>) -> Map {
    let journal = journal.map(|id| (labels::JOURNAL.to_owned(), id.to_owned()));
    map([(labels::RUN, run.plan.run.to_string())]).into_iter().chain(journal).collect()
}

/// Labels of one member VolumeSnapshot. Outside plugin mode the member is excluded from Velero's backups:
/// Velero treats every VolumeSnapshot with the name of one of its Backups as its own.
pub fn member_labels(run: &GroupRun, journal: Journal<'_>, index: usize) -> Map {
    let mut labels = backup_labels(run);
    labels.extend(run_label(run, journal));
    labels.insert(labels::PVC.to_owned(), valid_label_value(&run.plan.members[index].claim));
    if !run.plan.keep_group_name {
        labels.insert(labels::EXCLUDE_FROM_BACKUP.to_owned(), "true".to_owned());
    }
    labels
}

/// Annotations of one member VolumeSnapshot: handles for Velero, and the receipt.
pub fn member_annotations(run: &GroupRun, receipt: &Receipt, index: usize) -> Map {
    let text = receipt.annotation(&run.plan.run.to_string(), index);
    map(on_member(receipt, index, &text).map(|(key, value)| (key, value.to_owned())))
}

fn on_member<'a>(receipt: &'a Receipt, index: usize, text: &'a str) -> [(&'static str, &'a str); 4] {
    [
        (labels::GROUP_HANDLE, &receipt.group_handle),
        (labels::SNAPSHOT_HANDLE, &receipt.members[index].snapshot_handle),
        (labels::DRIVER_NAME, &receipt.driver),
        (labels::RECEIPT, text),
    ]
}

/// The receipt on a member's content.
pub fn content_annotations(run: &GroupRun, receipt: &Receipt, index: usize) -> Map {
    map([(labels::RECEIPT, receipt.annotation(&run.plan.run.to_string(), index))])
}

/// The receipt on the group's content.
pub fn group_content_annotations(run: &GroupRun, receipt: &Receipt) -> Map {
    map([(labels::RECEIPT, receipt.group_annotation(&run.plan.run.to_string()))])
}

/// The receipt as annotated on the objects of one member. It is computed at first use, because it is long and
/// both objects have the same text.
#[derive(Debug, Default)]
pub struct Text(OnceCell<String>);

impl Text {
    fn of(&self, run: &GroupRun, receipt: &Receipt, index: usize) -> &str {
        self.0.get_or_init(|| receipt.annotation(&run.plan.run.to_string(), index))
    }
}

/// Whether a member has all of its labels and annotations.
pub fn is_labelled(
    run: &GroupRun,
    journal: Journal<'_>,
    index: usize,
    snapshot: &SnapshotSeen,
    text: &Text,
) -> bool {
    let Some(receipt) = &run.state.receipt else { return false };
    has(&snapshot.labels, &member_labels(run, journal, index))
        && has_all(&snapshot.annotations, on_member(receipt, index, text.of(run, receipt, index)))
}

/// Whether a member's content has the label of the run and the receipt. Controllers write back complete
/// annotation maps from their caches, so a written receipt can be lost again.
pub fn is_content_marked(
    run: &GroupRun,
    journal: Journal<'_>,
    index: usize,
    content: &ContentSeen,
    text: &Text,
) -> bool {
    let Some(receipt) = &run.state.receipt else { return false };
    has(&content.labels, &run_label(run, journal))
        && has_all(&content.annotations, [(labels::RECEIPT, text.of(run, receipt, index))])
}

/// Whether the group's content has the label of the run and the receipt.
pub fn is_group_content_marked(run: &GroupRun, journal: Journal<'_>, content: &GroupContentSeen) -> bool {
    let Some(receipt) = &run.state.receipt else { return false };
    has(&content.labels, &run_label(run, journal))
        && has(&content.annotations, &group_content_annotations(run, receipt))
}

fn has(seen: &Entries, wanted: &Map) -> bool {
    has_all(seen, wanted.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

fn has_all<'a>(seen: &Entries, wanted: impl IntoIterator<Item = (&'a str, &'a str)>) -> bool {
    let found = |key: &str| seen.as_ref().and_then(|seen| seen.get(key)).map(String::as_str);
    wanted.into_iter().all(|(key, value)| found(key) == Some(value))
}
