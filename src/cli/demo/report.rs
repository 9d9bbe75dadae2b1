//! The result of the demo, as JSON (the contract) and as text.

use std::path::Path;

use serde::Serialize;

use crate::cli::demo::progress::{Followed, Seen};
use crate::cli::demo::sample::{BACKUP, OWN_NAMESPACE};
use crate::cli::output::{exit, style, table};
use crate::domain::atomicity::Grade;
use crate::domain::receipt::Receipt;
use crate::domain::text::count;
use crate::domain::time::Millis;
use crate::journal::Journal;
use crate::machine::group::Milestone;
use crate::sim::Cluster;
use crate::sim::api_server::Caller;

/// Shorter waits are left out of the report.
const WORTH_TELLING: Millis = Millis(100);

/// The result of the demo.
#[derive(Debug, Serialize)]
pub struct End {
    backup: BackupEnd,
    groups: Vec<GroupEnd>,
    ledger: LedgerEnd,
    journal: JournalEnd,
}

#[derive(Debug, Serialize)]
struct BackupEnd {
    name: String,
    phase: String,
    #[serde(skip)]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupEnd {
    namespace: String,
    group: String,
    state: String,
    attempt: u32,
    skew_ms: Option<u64>,
    /// Whether the members are from one point in time, in words.
    #[serde(skip)]
    atomic: &'static str,
    members: Vec<MemberEnd>,
    #[serde(skip)]
    timeline: Vec<(Milestone, String)>,
    #[serde(skip)]
    waited: Vec<(&'static str, Millis)>,
    #[serde(skip)]
    cleaned: Option<[String; 2]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberEnd {
    pvc: String,
    volume_snapshot: String,
    snapshot_handle: String,
    ready_to_use: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LedgerEnd {
    physical_snapshots: usize,
    leaked: usize,
    phantom: usize,
}

#[derive(Debug, Serialize)]
struct JournalEnd {
    path: String,
    records: u64,
    head: HeadEnd,
}

#[derive(Debug, Serialize)]
struct HeadEnd {
    position: u64,
    hash: String,
}

impl End {
    /// Collects the state of the cluster, of the storage and of the journal.
    pub async fn gather(cluster: &Cluster, journal: &Journal, dir: &Path, seen: Seen) -> Self {
        let hand = cluster.api().caller("kubectl");
        let backup = hand.get("backups", Some(OWN_NAMESPACE), BACKUP).unwrap_or_default();
        let text = |field: &str| backup["status"][field].as_str().map(str::to_owned);
        let ledger = cluster.ledger();
        let head = journal.head();
        let mut groups: Vec<GroupEnd> = seen.values().map(|followed| group(&hand, followed)).collect();
        groups.sort_by(|one, other| (&one.namespace, &one.group).cmp(&(&other.namespace, &other.group)));
        End {
            backup: BackupEnd {
                name: BACKUP.to_owned(),
                phase: text("phase").unwrap_or_default(),
                reason: text("failureReason"),
            },
            groups,
            ledger: LedgerEnd {
                physical_snapshots: ledger.physical_snapshots,
                leaked: ledger.leaked,
                phantom: ledger.phantom,
            },
            journal: JournalEnd {
                path: dir.display().to_string(),
                records: head.position,
                head: HeadEnd {
                    position: head.position,
                    hash: head.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                },
            },
        }
    }

    /// Returns 0 only if the Backup completed, nothing leaked, and no snapshot is a phantom.
    pub fn exit_code(&self) -> u8 {
        let good = self.backup.phase == "Completed" && self.ledger.leaked == 0 && self.ledger.phantom == 0;
        if good { exit::DONE } else { exit::FAILED }
    }
}

fn group(hand: &Caller, followed: &Followed) -> GroupEnd {
    let run = &followed.run_status.run;
    let since = |at: crate::domain::time::Timestamp| at.since(run.plan.planned_at).to_string();
    let member = |member: &crate::domain::receipt::ReceiptMember| {
        let object = hand.get("volumesnapshots", Some(&run.plan.namespace), &member.snapshot.name);
        MemberEnd {
            pvc: member.claim.clone(),
            volume_snapshot: member.snapshot.name.clone(),
            snapshot_handle: member.snapshot_handle.clone(),
            ready_to_use: object.is_ok_and(|object| object["status"]["readyToUse"] == true),
        }
    };
    let receipt = run.state.receipt.as_deref();
    GroupEnd {
        namespace: run.plan.namespace.clone(),
        group: run.plan.group.clone(),
        state: run.state_name().to_owned(),
        attempt: run.attempt,
        skew_ms: receipt.and_then(Receipt::skew_ms),
        atomic: run.atomicity().map_or("", |grade| match grade {
            Grade::Within { .. } => " (atomic)",
            Grade::Apart { .. } => " (not atomic)",
            Grade::Unknown { .. } => "",
        }),
        members: receipt.map(|receipt| receipt.members.iter().map(member).collect()).unwrap_or_default(),
        timeline: run.timeline.iter().map(|passed| (passed.milestone, since(passed.at))).collect(),
        waited: followed.waited.iter().map(|(what, took)| (*what, millis(*took))).collect(),
        cleaned: receipt.map(|r| [r.group_snapshot.name.clone(), r.group_content.name.clone()]),
    }
}

fn millis(took: std::time::Duration) -> Millis {
    Millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
}

/// The result as text.
pub fn text(end: &End) -> String {
    let mut out = String::new();
    let phase = match end.backup.phase.as_str() {
        "Completed" => style::ok("Completed"),
        other => style::bad(other),
    };
    out.push_str(&format!("\nBackup {}/{}  {phase}\n", OWN_NAMESPACE, end.backup.name));
    if let Some(reason) = &end.backup.reason {
        out.push_str(&format!("  {reason}\n"));
    }
    end.groups.iter().for_each(|group| out.push_str(&group_text(group)));
    let ledger = &end.ledger;
    let clean = format!(
        "{}, {} leaked, {} phantom",
        count(ledger.physical_snapshots, "physical snapshot"),
        ledger.leaked,
        ledger.phantom
    );
    let clean = if ledger.leaked + ledger.phantom == 0 { style::ok(&clean) } else { style::bad(&clean) };
    out.push_str(&format!("\nStorage  {clean}\n"));
    let journal = &end.journal;
    out.push_str(&format!("Journal  {}  {}\n", journal.path, count(journal.records, "record")));
    for (command, does) in [
        ("list", "the runs in it"),
        ("show", "every record: what was seen, decided, done"),
        ("verify", "its hash chain"),
        ("replay", "every decision, made again"),
    ] {
        let line = format!("  stillpoint journal {command:<6} --journal {}", journal.path);
        out.push_str(&format!("{line}  {}\n", style::dim(does)));
    }
    out
}

fn group_text(group: &GroupEnd) -> String {
    let skew = group.skew_ms.map_or("unknown".to_owned(), |ms| format!("{ms} ms"));
    let title = style::bold(&format!("{}/{}", group.namespace, group.group));
    let mut out =
        format!("\nGroup {title}  {}  attempt {}  skew {skew}{}\n", group.state, group.attempt, group.atomic);
    let rows = group.members.iter().map(|member| {
        let ready = if member.ready_to_use { "true" } else { "false" };
        [member.pvc.clone(), member.volume_snapshot.clone(), member.snapshot_handle.clone(), ready.to_owned()]
    });
    let members = table(&["PVC", "VOLUMESNAPSHOT", "SNAPSHOTHANDLE", "READYTOUSE"], rows);
    out.extend(members.lines().map(|line| format!("  {line}\n")));
    let steps: Vec<String> =
        group.timeline.iter().map(|(milestone, at)| format!("{} +{at}", milestone.name())).collect();
    out.push_str(&format!("  {}\n", style::dim(&steps.join("  "))));
    for (what, took) in group.waited.iter().filter(|(_, took)| *took >= WORTH_TELLING) {
        out.push_str(&format!("  {}\n", style::dim(&format!("waited {took} for {what}"))));
    }
    if let Some([snapshot, content]) = &group.cleaned {
        let cleaned =
            format!("cleaned: VolumeGroupSnapshot {snapshot}, VolumeGroupSnapshotContent {content}");
        out.push_str(&format!("  {}\n", style::dim(&cleaned)));
    }
    out
}
