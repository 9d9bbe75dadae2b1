//! `groups resume RUN` and `groups abandon RUN`: requests of an operator for a run.
//!
//! The command patches the GroupSnapshot and waits until the status contains the daemon's answer. It works
//! from any machine with a kubeconfig and the permission to patch GroupSnapshots. It never touches the
//! journal. A daemon that is not running answers after its next start.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Cluster, text};
use crate::api::stillpoint::GroupSnapshotAnswer;
use crate::api::{GroupSnapshot, GroupSnapshotStatus};
use crate::cli::common::{OutputArgs, duration, show};
use crate::cli::output::{self, exit};
use crate::cluster::{Adapter, ask};
use crate::domain::labels;
use crate::domain::problem::{About, Code, Problem};
use crate::machine::kit::Ask;
use crate::machine::kit::OperatorRequest;

/// Interval between two reads while the command waits for the answer.
const PAUSE: Duration = Duration::from_millis(500);

/// The run, and the options of the request.
#[derive(Debug, Args)]
pub struct Request {
    /// Name of a GroupSnapshot, as printed by `groups get`, or a prefix of the run id (at least 4 characters)
    run: String,
    /// Search only this namespace. Defaults to all namespaces
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Time to wait for the daemon's answer, for example 30s or 2m. A bare number is in seconds; 0 does not
    /// wait
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct Abandon {
    #[command(flatten)]
    request: Request,
    /// Keep the storage: nothing more is deleted, even if the run is being rolled back
    #[arg(long)]
    keep_storage: bool,
    /// Skip the confirmation prompt
    #[arg(short, long)]
    yes: bool,
}

/// The output of the commands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    namespace: String,
    name: String,
    /// State of the run at the last read.
    state: Option<String>,
    /// The daemon's answer; none if the daemon has not handled the request yet.
    answered: Option<GroupSnapshotAnswer>,
}

impl Request {
    pub async fn resume(self) -> u8 {
        self.report(Ask::Resume, |_| Ok(())).await
    }

    async fn report(self, wanted: Ask, sure: impl Fn(&GroupSnapshot) -> Result<(), Problem>) -> u8 {
        let document = self.output.output.is_document();
        self.run(wanted, sure).await.unwrap_or_else(|problem| output::report(&problem, document))
    }

    async fn run(
        self,
        wanted: Ask,
        sure: impl Fn(&GroupSnapshot) -> Result<(), Problem>,
    ) -> Result<u8, Problem> {
        let adapter = self.cluster.connect().await?;
        let run = self.find(&adapter).await?;
        askable(&run, wanted)?;
        sure(&run)?;
        let asked = OperatorRequest { ask: wanted, request: id(&run), by: who() };
        adapter.ask(&run, &asked).await?;
        let seen = self.answered(&adapter, &run, &asked).await?;
        let status = seen.status.clone().unwrap_or_default();
        let answered = status.answered.filter(|answer| answer.id == asked.request);
        let ended = is_over(status.state.as_deref());
        let answer = Answer {
            namespace: text(seen.metadata.namespace.as_ref()),
            name: text(seen.metadata.name.as_ref()),
            state: status.state,
            answered,
        };
        let (code, said) = said(&answer, wanted, ended);
        show(self.output.output, &answer, |_| said)?;
        Ok(code)
    }

    async fn find(&self, adapter: &Adapter) -> Result<GroupSnapshot, Problem> {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let mut found: Vec<GroupSnapshot> = adapter.list(&(), namespace, "").await?;
        found.retain(|run| is_meant(run, &self.run));
        let problem = |reason: String, fix: &str| {
            Err(Problem::new(Code::Usage, About::new("GroupSnapshot", namespace, &self.run), reason, fix))
        };
        match found.as_slice() {
            [run] => Ok(run.clone()),
            [] => problem("run not found".to_owned(), "`stillpoint groups get` lists them"),
            many => {
                let place = |run: &GroupSnapshot| {
                    format!("{}/{}", text(run.metadata.namespace.as_ref()), text(run.metadata.name.as_ref()))
                };
                let names: Vec<String> = many.iter().map(place).collect();
                problem(
                    format!("it may be any of {}", names.join(", ")),
                    "name one of them, or its namespace",
                )
            }
        }
    }

    /// Returns the run once its status contains the answer or the run has ended. After the timeout it returns
    /// the run in its current state.
    async fn answered(
        &self,
        adapter: &Adapter,
        run: &GroupSnapshot,
        asked: &OperatorRequest,
    ) -> Result<GroupSnapshot, Problem> {
        let end = tokio::time::Instant::now() + self.timeout;
        let (namespace, name) = (text(run.metadata.namespace.as_ref()), text(run.metadata.name.as_ref()));
        loop {
            let now: Option<GroupSnapshot> = adapter.get(&(), &namespace, &name).await?;
            let now = now.filter(|seen| seen.metadata.uid == run.metadata.uid);
            let Some(now) = now else {
                let about = About::new("GroupSnapshot", &namespace, &name);
                let reason = "it was deleted before the daemon answered";
                let fix = "the daemon makes it anew when the run changes; look with `stillpoint groups get`";
                return Err(Problem::new(Code::NotAskable, about, reason, fix));
            };
            let status = now.status.clone().unwrap_or_default();
            let is_answer = |answer: &GroupSnapshotAnswer| answer.id == asked.request;
            let done = status.answered.as_ref().is_some_and(is_answer) || is_over(status.state.as_deref());
            if done || tokio::time::Instant::now() >= end {
                return Ok(now);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Abandon {
    /// Requests to abandon the run, after the user has confirmed.
    pub async fn execute(self) -> u8 {
        let (yes, ask) = (self.yes, if self.keep_storage { Ask::Keep } else { Ask::Abandon });
        self.request.report(ask, move |run| if yes { Ok(()) } else { confirmed(run, ask) }).await
    }
}

/// Prompts for confirmation on a terminal. Without a terminal `--yes` is required.
fn confirmed(run: &GroupSnapshot, ask: Ask) -> Result<(), Problem> {
    let name = text(run.metadata.name.as_ref());
    let about = About::new("GroupSnapshot", &text(run.metadata.namespace.as_ref()), &name);
    let stop = |reason: &str| {
        let fix = "run the command with --yes to skip the confirmation prompt";
        Err(Problem::new(Code::Usage, about.clone(), reason, fix))
    };
    if !std::io::stdin().is_terminal() {
        return stop(
            "abandoning a run cannot be reverted, and there is no terminal for the confirmation prompt",
        );
    }
    output::talk(&format!(
        "{about} is {}. {}\nThis cannot be taken back. Abandon it? Type yes:",
        text(run.status.as_ref().and_then(|status| status.state.as_ref())),
        match ask {
            Ask::Keep =>
                "Nothing of it is deleted any more; its objects and its storage stay, and are yours to delete.",
            _ => {
                "Before the pivot it is undone and its snapshots are deleted; after it nothing is deleted, and the \
                 storage stays."
            }
        }
    ));
    let mut line = String::new();
    // A failed read counts as "no".
    let _ = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut line));
    if line.trim() == "yes" { Ok(()) } else { stop("aborted") }
}

/// Whether `wanted` is the name of the run's GroupSnapshot or a prefix of the run's id.
fn is_meant(run: &GroupSnapshot, wanted: &str) -> bool {
    let id = run.metadata.labels.as_ref().and_then(|labels| labels.get(labels::RUN));
    run.metadata.name.as_deref() == Some(wanted)
        || (wanted.len() >= 4 && id.is_some_and(|id| id.starts_with(wanted)))
}

fn is_over(state: Option<&str>) -> bool {
    matches!(state, Some("Completed" | "Failed" | "Refused"))
}

/// Checks that the run can take this request.
fn askable(run: &GroupSnapshot, wanted: Ask) -> Result<(), Problem> {
    let (none, name) = (GroupSnapshotStatus::default(), text(run.metadata.name.as_ref()));
    let status = run.status.as_ref().unwrap_or(&none);
    let state = status.state.as_deref().unwrap_or_default();
    let refuse = |reason: String, fix: String| {
        let about = About::new("GroupSnapshot", &text(run.metadata.namespace.as_ref()), &name);
        Err(Problem::new(Code::NotAskable, about, reason, fix))
    };
    let word = wanted.name();
    if is_over(Some(state)) {
        return refuse(
            format!("the run has ended: it is {state}, and there is nothing to {word}"),
            "create a Backup under a new name to cut the group again".to_owned(),
        );
    }
    if let Some(Ok(waiting)) = ask::read(&run.metadata)
        && status.answered.as_ref().is_none_or(|answer| answer.id != waiting.request)
    {
        return refuse(
            format!(
                "{} has asked to {} it, and the daemon has not answered yet",
                waiting.by,
                waiting.ask.name()
            ),
            format!(
                "see whether the daemon runs; to take the request back: kubectl label groupsnapshot -n {} {name} {}-",
                text(run.metadata.namespace.as_ref()),
                labels::REQUEST
            ),
        );
    }
    let undo = status.row.as_deref().is_some_and(|row| row.starts_with("undo/"));
    if wanted == Ask::Abandon && state == "Stuck" && undo {
        return refuse(
            "the run is being undone already, and its undo is stuck: abandoning it changes nothing"
                .to_owned(),
            format!(
                "do what its message says, or end it with its storage kept: stillpoint groups abandon --keep-storage {name}"
            ),
        );
    }
    if let Some(before) = status.answered.as_ref()
        && wanted == Ask::Abandon
        && before.request == wanted.name()
        && matches!(state, "Unwinding" | "Abandoned")
    {
        return refuse(
            format!("{} has abandoned it already: {}", before.by, before.message),
            format!(
                "wait for its end (`stillpoint groups describe {name}` shows what it waits for), or end it with its \
                 storage kept: stillpoint groups abandon --keep-storage {name}"
            ),
        );
    }
    Ok(())
}

/// The exit code, and the message for users.
fn said(answer: &Answer, wanted: Ask, ended: bool) -> (u8, String) {
    let Answer { namespace, name, state, answered } = answer;
    let state = state.as_deref().unwrap_or_default();
    match answered {
        Some(answered) if wanted != Ask::Resume && state == "Completed" => {
            (exit::FAILED, format!("{namespace}/{name}: nothing was abandoned: {}\n", answered.message))
        }
        Some(answered) => {
            (exit::DONE, format!("{namespace}/{name}: asked to {}: {}\n", wanted.name(), answered.message))
        }
        None if ended => (
            exit::FAILED,
            format!("{namespace}/{name}: the run was over before it was asked: it is {state}\n"),
        ),
        None => (
            exit::DEGRADED,
            format!(
                "{namespace}/{name}: asked to {}, and not answered yet; the daemon answers when it runs\n",
                wanted.name()
            ),
        ),
    }
}

/// The id of the request. It is unique: the request is written only if the resourceVersion in the id still
/// matches.
fn id(run: &GroupSnapshot) -> String {
    let part = |text: Option<&String>| text.cloned().unwrap_or_default();
    let uid = part(run.metadata.uid.as_ref());
    format!("{}-{}", uid.chars().take(8).collect::<String>(), part(run.metadata.resource_version.as_ref()))
}

/// The author of the request, for the journal. It is not authenticated.
fn who() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    let uname = rustix::system::uname();
    format!("{user}@{}", uname.nodename().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: &str, label: Option<(&str, &str)>, answered: Option<&str>) -> GroupSnapshot {
        let mut object = serde_json::json!({
            "apiVersion": "stillpoint.dev/v1alpha1", "kind": "GroupSnapshot",
            "metadata": {"name": "sp-db-1", "namespace": "shop", "labels": {labels::RUN: "b69d0f9a-1111"}},
            "spec": {"labelKey": "app", "group": "db", "driver": "d", "volumeGroupSnapshotClassName": "c", "claims": []},
            "status": {"state": state, "conditions": []},
        });
        if let Some((request, id)) = label {
            object["metadata"]["labels"][labels::REQUEST] = request.into();
            object["metadata"]["annotations"] =
                serde_json::json!({labels::REQUEST_ID: id, labels::REQUEST_BY: "bob"});
        }
        if let Some(id) = answered {
            object["status"]["answered"] =
                serde_json::json!({"id": id, "request": "abandon", "by": "bob", "message": "undone"});
        }
        serde_json::from_value(object).expect("a GroupSnapshot")
    }

    fn refused(run: &GroupSnapshot, wanted: Ask) -> String {
        let problem = askable(run, wanted).expect_err("it cannot be asked");
        assert_eq!(problem.code, Code::NotAskable);
        problem.reason
    }

    #[test]
    fn rejects_requests_for_ended_run() {
        for state in ["Completed", "Failed"] {
            let reason = refused(&run(state, None, None), Ask::Resume);
            assert_eq!(reason, format!("the run has ended: it is {state}, and there is nothing to resume"));
        }
        assert_eq!(askable(&run("Stuck", None, None), Ask::Abandon), Ok(()));
    }

    #[test]
    fn pending_request_blocks_the_next_one() {
        let waiting = run("Created", Some(("resume", "1")), None);
        assert_eq!(
            refused(&waiting, Ask::Abandon),
            "bob has asked to resume it, and the daemon has not answered yet"
        );
        assert_eq!(askable(&run("Stuck", Some(("resume", "1")), Some("1")), Ask::Abandon), Ok(()));
    }

    #[test]
    fn run_is_abandoned_only_once() {
        let going = run("Unwinding", Some(("abandon", "1")), Some("1"));
        assert_eq!(refused(&going, Ask::Abandon), "bob has abandoned it already: undone");
        assert_eq!(askable(&going, Ask::Resume), Ok(()));
        assert_eq!(askable(&going, Ask::Keep), Ok(()));
    }

    #[test]
    fn stuck_rollback_is_abandoned_only_with_keep_storage() {
        let mut stuck = run("Stuck", None, None);
        stuck.status.as_mut().expect("a status").row = Some("undo/e-kept".to_owned());
        let problem = askable(&stuck, Ask::Abandon).expect_err("it changes nothing");
        assert!(problem.fix.contains("stillpoint groups abandon --keep-storage sp-db-1"), "{problem}");
        assert_eq!((askable(&stuck, Ask::Keep), askable(&stuck, Ask::Resume)), (Ok(()), Ok(())));
        stuck.status.as_mut().expect("a status").row = Some("release/hollow".to_owned());
        assert_eq!(askable(&stuck, Ask::Abandon), Ok(()));
    }

    #[test]
    fn finds_run_by_object_name_or_id_prefix() {
        let run = run("Created", None, None);
        for (wanted, meant) in
            [("sp-db-1", true), ("b69d", true), ("b6", false), ("sp-db", false), ("", false)]
        {
            assert_eq!(is_meant(&run, wanted), meant, "{wanted}");
        }
    }

    #[test]
    fn distinguishes_missing_answer_from_late_answer() {
        let answer = |state: &str| Answer {
            namespace: "shop".into(),
            name: "sp-db-1".into(),
            state: Some(state.to_owned()),
            answered: None,
        };
        assert_eq!(said(&answer("Created"), Ask::Resume, false).0, exit::DEGRADED);
        let (code, text) = said(&answer("Completed"), Ask::Abandon, true);
        assert_eq!((code, text.contains("it is Completed")), (exit::FAILED, true));
    }
}
