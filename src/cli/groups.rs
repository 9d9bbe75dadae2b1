//! `stillpoint groups`: the runs, as the statuses of their GroupSnapshots report them.
//!
//! The commands use only the cluster: they work from any machine with a kubeconfig, whether a daemon runs or
//! not. `get` and `describe` only read. `resume` and `abandon` write a request to a GroupSnapshot (`ask`);
//! the daemon handles the request.

mod ask;
mod wait;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::common::{OutputArgs, show};
use super::output::{self, Format, exit, table};
use crate::api::{GroupSnapshot, GroupSnapshotStatus};
use crate::cluster::{Adapter, client_config};
use crate::domain::problem::{About, Code, Problem};

/// List, inspect, resume and abandon group runs
#[derive(Debug, Subcommand)]
pub enum Groups {
    /// List runs, or print one run
    Get(Look),
    /// Print the details of a run: conditions, members, handles and the reason of its state
    Describe(Look),
    /// Request that the daemon continue a stuck run
    ///
    /// The daemon counts refusals from zero again.
    Resume(ask::Request),
    /// Request that the daemon give up a run
    ///
    /// Before the pivot the run is rolled back. After the pivot nothing is deleted and the storage is kept.
    Abandon(ask::Abandon),
}

/// The cluster to connect to.
#[derive(Debug, Args)]
pub(super) struct Cluster {
    /// Path to the kubeconfig file. Defaults to the kubeconfig of the environment
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

impl Cluster {
    pub(super) async fn connect(&self) -> Result<Adapter, Problem> {
        let config = client_config(self.kubeconfig.as_deref()).await?;
        let about = About::new("Cluster", "", &config.cluster_url.to_string());
        let client = kube::Client::try_from(config)
            .map_err(|error| Problem::new(Code::Usage, about, error.to_string(), "check the kubeconfig"))?;
        Adapter::connect(client).await
    }
}

/// The runs to print, and their format.
#[derive(Debug, Args)]
pub struct Look {
    /// Name of a GroupSnapshot. Without a name, all GroupSnapshots are printed
    name: Option<String>,
    /// Only runs in this namespace
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Only runs of this Backup
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    output: OutputArgs,
}

impl Groups {
    /// Executes the command. Returns 2 if a named run does not exist.
    pub async fn execute(self) -> u8 {
        let (look, describe) = match self {
            Self::Get(look) => (look, false),
            Self::Describe(look) => (look, true),
            Self::Resume(request) => return request.resume().await,
            Self::Abandon(abandon) => return abandon.execute().await,
        };
        let format = look.output.output;
        let shown = look.run(describe).await;
        shown.unwrap_or_else(|problem| output::report(&problem, format.is_document()))
    }
}

impl Look {
    async fn run(self, describe: bool) -> Result<u8, Problem> {
        let adapter = self.cluster.connect().await?;
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let mut found: Vec<GroupSnapshot> = adapter.list(&(), namespace, "").await?;
        found.retain(|run| self.wants(run));
        if let Some(name) = self.name.as_deref().filter(|_| found.is_empty()) {
            let about = About::new("GroupSnapshot", namespace, name);
            let fix = "`stillpoint groups get` lists them";
            return Err(Problem::new(Code::Usage, about, "run not found", fix));
        }
        let (format, now) = (self.output.output, jiff::Timestamp::now());
        show(format, &found, |found| match describe {
            true => found.iter().map(|run| described(run, now)).collect::<Vec<_>>().join("\n"),
            false => listed(found, format == Format::Wide),
        })?;
        Ok(exit::DONE)
    }

    fn wants(&self, run: &GroupSnapshot) -> bool {
        let backup = run.spec.backup_ref.as_ref().map(|backup| backup.name.as_str());
        (self.name.is_none() || self.name == run.metadata.name)
            && (self.backup.is_none() || self.backup.as_deref() == backup)
    }
}

fn text<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// The condition that reports whether the members are from one point in time.
fn atomic(status: &GroupSnapshotStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == "Atomic")
}

fn listed(runs: &[GroupSnapshot], wide: bool) -> String {
    let mut headers = vec!["namespace", "name", "group", "state", "members", "skew", "atomic", "backup"];
    if wide {
        headers.extend(["attempt", "driver", "started", "completed", "waiting for"]);
    }
    let none = GroupSnapshotStatus::default();
    let rows = runs.iter().map(|run| {
        let status = run.status.as_ref().unwrap_or(&none);
        let skew = status.skew_ms.map(|ms| format!("{ms} ms"));
        let mut row = vec![
            text(run.metadata.namespace.as_ref()),
            text(run.metadata.name.as_ref()),
            run.spec.group.clone(),
            text(status.state.as_ref()),
            text(status.members.as_ref()),
            text(skew.as_ref()),
            text(atomic(status).map(|atomic| &atomic.status)),
            text(run.spec.backup_ref.as_ref().map(|backup| &backup.name)),
        ];
        if wide {
            row.extend([
                text(status.attempt.as_ref()),
                run.spec.driver.clone(),
                text(status.start_time.as_ref().map(|time| &time.0)),
                text(status.completion_time.as_ref().map(|time| &time.0)),
                text(status.waiting_for.as_ref()),
            ]);
        }
        row
    });
    table(&headers, rows)
}

fn described(run: &GroupSnapshot, now: jiff::Timestamp) -> String {
    let none = GroupSnapshotStatus::default();
    let status = run.status.as_ref().unwrap_or(&none);
    let object = format!("{}/{}", text(run.metadata.namespace.as_ref()), text(run.metadata.name.as_ref()));
    let backup = run.spec.backup_ref.as_ref().map(|backup| format!("{}/{}", backup.namespace, backup.name));
    let label = format!("{}={}", run.spec.label_key, run.spec.group);
    let reason = status.message.as_ref().map(|message| {
        let code = text(status.code.as_ref());
        format!("{code} {message}").trim_start().to_owned()
    });
    let answered = status.answered.as_ref().map(|answer| {
        format!(
            "{} by {} at {}: {}",
            answer.request,
            answer.by,
            text(answer.time.as_ref().map(|t| &t.0)),
            answer.message
        )
    });
    let facts = [
        ("GroupSnapshot", Some(object)),
        ("Backup", backup),
        ("Group", Some(label)),
        ("Driver", Some(run.spec.driver.clone()).filter(|driver| !driver.is_empty())),
        ("State", status.state.clone()),
        ("Attempt", status.attempt.map(|attempt| attempt.to_string())),
        ("Members ready", status.members.clone()),
        ("Skew", status.skew_ms.map(|ms| format!("{ms} ms"))),
        ("Atomic", atomic(status).map(|atomic| format!("{} ({})", atomic.status, atomic.reason))),
        ("Reason", reason),
        ("What to do", status.advice.clone()),
    ];
    let mut shown = String::new();
    let present = |facts: Vec<(&'static str, Option<String>)>| {
        facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Vec<_>>()
    };
    let handles = vec![
        ("Answered", answered),
        ("Group handle", status.receipt.as_ref().map(|receipt| receipt.group_handle.clone())),
        ("Journal", status.journal.as_ref().map(|head| format!("{}:{}", head.position, head.hash))),
    ];
    let lines = present(facts.into()).into_iter().chain(wait::lines(status, now)).chain(present(handles));
    for (name, value) in lines {
        shown.push_str(&format!("{:<16}{value}\n", format!("{name}:")));
    }
    if !status.conditions.is_empty() {
        let rows = status.conditions.iter().map(|condition| {
            [
                condition.last_transition_time.0.to_string(),
                condition.type_.clone(),
                condition.status.clone(),
                condition.message.clone(),
            ]
        });
        shown.push_str(&format!("\n{}", table(&["since", "condition", "status", "message"], rows)));
    }
    if let Some(receipt) = &status.receipt {
        let rows = receipt.members.iter().map(|member| {
            [
                member.claim.clone(),
                text(member.volume_snapshot.as_ref()),
                text(member.snapshot_handle.as_ref()),
                member.ready_to_use.to_string(),
            ]
        });
        shown.push_str(&format!(
            "\n{}",
            table(&["pvc", "volumesnapshot", "snapshothandle", "readytouse"], rows)
        ));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> GroupSnapshot {
        let object = serde_json::json!({
            "apiVersion": "stillpoint.dev/v1alpha1", "kind": "GroupSnapshot",
            "metadata": {"name": "sp-db-1", "namespace": "shop"},
            "spec": {
                "backupRef": {"namespace": "stillpoint", "name": "nightly", "uid": "u"}, "labelKey": "app",
                "group": "db", "driver": "disk.csi", "volumeGroupSnapshotClassName": "c", "claims": ["data"],
            },
            "status": {
                "state": "Retained", "members": "1/1", "skewMs": 0, "waitingFor": "the snapshot-controller",
                "conditions": [{
                    "type": "Atomic", "status": "True", "reason": "WithinMaxSkew", "message": "0 ms apart",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "receipt": {"groupHandle": "g-1", "members": [
                    {"claim": "data", "volumeSnapshot": "vs-1", "snapshotHandle": "h-1", "readyToUse": true}]},
            },
        });
        serde_json::from_value(object).expect("a GroupSnapshot")
    }

    #[test]
    fn list_has_line_per_run_and_wide_columns() {
        let narrow = listed(&[run()], false);
        let line = narrow.lines().nth(1).expect("a line");
        let cells: Vec<&str> = line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["shop", "sp-db-1", "db", "Retained", "1/1", "0 ms", "True", "nightly"]);
        assert!(listed(&[run()], true).contains("the snapshot-controller"));
    }

    #[test]
    fn a_description_has_every_handle() {
        let text = described(&run(), jiff::Timestamp::UNIX_EPOCH);
        for word in [
            "stillpoint/nightly",
            "app=db",
            "g-1",
            "h-1",
            "vs-1",
            "the snapshot-controller",
            "True (WithinMaxSkew)",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("Reason:"), "{text}");
    }
}
