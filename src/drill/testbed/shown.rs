//! Reports the state that incarnations leave on a testbed: the journal on the disk, and a summary as text.

use serde_json::Value;

use super::Testbed;
use crate::journal::{Entry, Journal, MemoryStore};
use crate::machine::group::Event;
use crate::machine::group::Timed;
use crate::machine::kit::Outcome;
use crate::machine::kit::Reached as _;
use crate::records::{self, Decoded};

impl Testbed {
    /// Reads the journal on the disk.
    pub async fn entries(&self) -> Vec<Entry> {
        let store = MemoryStore::open(&self.disk).expect("the disk is free");
        let (journal, _) = Journal::open_task(store).expect("the journal opens");
        let entries = journal.entries(1, usize::MAX >> 1).await.expect("entries");
        self.disk.crash();
        entries
    }

    /// Returns the decided rows in journal order, from the decision records of every intent and milestone.
    pub async fn rows(&self) -> Vec<String> {
        let grounds = |event: &Event| match event {
            Event::Intended { grounds, .. } | Event::MilestoneReached { grounds, .. } => {
                Some(grounds.row.clone())
            }
            _ => None,
        };
        self.group_records().await.iter().filter_map(|record| grounds(&record.event)).collect()
    }

    /// Returns the records of all groups in journal order.
    pub async fn group_records(&self) -> Vec<Timed> {
        let decoded =
            self.entries().await.into_iter().filter_map(|entry| records::decode(&entry.record).ok());
        decoded
            .filter_map(|decoded| match decoded {
                Decoded::Group(record) => Some(record),
                Decoded::Backup(_) | Decoded::EarlierBackup { .. } => None,
            })
            .collect()
    }

    /// Formats the status of the Backup, the journal and the storage for a failure message.
    pub async fn shown(&self) -> String {
        let status = self.hand().get("backups", Some("stillpoint"), "nightly").map(|b| b["status"].clone());
        let mut lines = vec![format!("Backup: {status:?}"), format!("storage: {:?}", self.cluster.ledger())];
        for record in self.group_records().await {
            let seconds = (record.at.0 - self.anchor.0) / 1_000_000;
            let text = match record.event {
                Event::Planned(plan) => format!("planned {}/{}", plan.namespace, plan.group),
                Event::Intended { grounds, step, marks } => {
                    format!("{} -> {} with {} effects", grounds.row, step.name(), marks.len())
                }
                Event::StepCompleted { step, outcomes } => {
                    let failed: Vec<_> =
                        outcomes.iter().filter(|o| !matches!(o, Outcome::Done { .. })).collect();
                    format!("ended {} {failed:?}", step.name())
                }
                Event::RequestReceived(asked) => format!("asked to {} by {}", asked.ask.name(), asked.by),
                Event::Part(part) => format!("receipt of {}", part.members.len()),
                Event::Reconstructed(found) => {
                    format!("reconstructed as {}: {}", found.standing.name(), found.seen.join(", "))
                }
                Event::MilestoneReached { grounds, reached } => {
                    let name = reached.milestone().name();
                    let reason = reached.reason().map(|reason| format!(": {reason:?}"));
                    format!("{} -> {name}{}", grounds.row, reason.unwrap_or_default())
                }
            };
            lines.push(format!("{seconds:>9} ms  {text}"));
        }
        lines.extend(self.objects());
        lines.join("\n")
    }

    /// Formats one line for each object of the snapshot APIs and for each GroupSnapshot.
    fn objects(&self) -> Vec<String> {
        let line = |plural: &str, object: &Value| {
            let (meta, status) = (&object["metadata"], &object["status"]);
            let finalizers: Vec<&str> = meta["finalizers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|f| f.as_str()?.split('/').next_back())
                .collect();
            let waiting = &status["waitingFor"];
            format!(
                "{plural} {} deleted {} finalizers {finalizers:?} policy {} ready {} error {} owned {} annotations {} waiting for {waiting}",
                meta["name"],
                meta["deletionTimestamp"],
                object["spec"]["deletionPolicy"],
                status["readyToUse"],
                status["error"]["message"],
                meta["ownerReferences"].is_array(),
                meta["annotations"]
                    .as_object()
                    .map(|a| a.keys().cloned().collect::<Vec<_>>().join(","))
                    .unwrap_or_default(),
            )
        };
        let kinds = [
            "volumegroupsnapshots",
            "volumegroupsnapshotcontents",
            "volumesnapshots",
            "volumesnapshotcontents",
            "groupsnapshots",
        ];
        kinds
            .iter()
            .flat_map(|plural| self.list(plural, None).into_iter().map(move |object| line(plural, &object)))
            .collect()
    }
}
