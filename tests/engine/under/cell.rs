//! One cell of the table: a cause, a state, a profile; what the daemon did, and whether that is right.
//!
//! Right is: the run ends Completed, or Failed after a full undo; or it waits while the cause lasts, says for what in
//! `status.waitingFor`, and ends when the cause does. Ledger and invariants hold at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use stillpoint::engine::points::{Points, Verdict};
use stillpoint::machine::point::Point;
use stillpoint::sim::Cluster;
use tokio::sync::Notify;

use super::cause::{Act, Cause};
use super::profile::Profile;
use super::state::State;
use crate::invariants;
use crate::stage::{End, Stage};

/// What is noted of a run that waits and does not say for what.
const NOTHING: &str = "nothing";

pub const MEMBERS: usize = 2;

/// What the daemon did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Did {
    /// Phase of the Backup at the end.
    pub phase: String,
    /// Code of the reason, for a run that failed.
    pub code: Option<String>,
    /// Attempt of the run at the end; none when nothing was planned.
    pub attempt: Option<u64>,
    /// What the run waited for when the cause ended, if it had not ended before.
    pub waited_for: Option<String>,
}

impl Did {
    /// For a cell: `C` completed, `F13` failed with SP0013, `2` in the second attempt, `*` waited until the cause ended.
    pub fn short(&self) -> String {
        let end = match (&self.code, self.phase.as_str()) {
            (_, "Completed") => "C".to_owned(),
            (Some(code), _) => format!("F{}", code.trim_start_matches("SP").trim_start_matches('0')),
            (None, _) => "F".to_owned(),
        };
        let attempt =
            self.attempt.filter(|attempt| *attempt > 1).map(|n| format!("/{n}")).unwrap_or_default();
        let waited = if self.waited_for.is_some() { "*" } else { "" };
        format!("{end}{attempt}{waited}")
    }
}

/// Runs it.
pub async fn run(cause: &Cause, state: &State, profile: Profile, seed: u64) -> Result<Did, String> {
    let mut config = profile.config(seed);
    (cause.config)(&mut config);
    let mut stage = Stage::new(config);
    stage.defaults = state.defaults();
    stage.claims("shop", "orders-db", MEMBERS).await;
    stage.backup_with(json!({
        "includedNamespaces": ["shop"], "csiSnapshotTimeout": "30s", "itemOperationTimeout": "90s",
    }));
    let begun = Arc::new(Notify::new());
    if state.at.is_none() {
        (cause.begin)(&stage.cluster);
        begun.notify_one();
    }
    let came = Arc::new(AtomicBool::new(state.at.is_none()));
    let points = points(&stage.cluster, cause.begin.clone(), state, came.clone(), begun.clone());
    let (end, waited_for) = tokio::join!(live(&stage, points), until_the_end(&stage, cause, &begun));
    if !came.load(Ordering::SeqCst) {
        return Err(format!("the run never came to {}: {end:?}\n{}", state.name, stage.shown().await));
    }
    match judge(&stage, cause, &end, waited_for).await {
        Ok(did) => Ok(did),
        Err(reason) => Err(format!("{reason}\n{}", stage.shown().await)),
    }
}

async fn live(stage: &Stage, points: Points) -> End {
    stage.live_with(points, Arc::default()).await
}

/// Points at which the lead acts and the cause begins, each once.
fn points(cluster: &Cluster, begin: Act, state: &State, came: Arc<AtomicBool>, begun: Arc<Notify>) -> Points {
    let (cluster, lead, at) = (cluster.clone(), state.lead, state.at);
    let led = AtomicBool::new(lead.is_none());
    Points::ask(move |point: Point| {
        if let Some(lead) = lead.filter(|lead| lead.at == point)
            && !led.swap(true, Ordering::SeqCst)
        {
            (lead.act)(&cluster);
        }
        if Some(point) == at && led.load(Ordering::SeqCst) && !came.swap(true, Ordering::SeqCst) {
            begin(&cluster);
            begun.notify_one();
        }
        Verdict::GoOn
    })
}

/// Ends the cause when its time is over. What the run waits for then; none when it has ended.
async fn until_the_end(stage: &Stage, cause: &Cause, begun: &Notify) -> Option<String> {
    let over = async {
        begun.notified().await;
        tokio::time::sleep(cause.lasts).await;
    };
    tokio::select! {
        biased;
        // A run that ends before the cause does, or that never comes to the state.
        _ = stage.comes(|stage| stage.ended().is_some()) => return None,
        () = over => {}
    }
    let shown = stage.list("groupsnapshots", Some("shop"));
    let status = shown.first().map(|shown| shown["status"].clone()).unwrap_or_default();
    let waits = status["waitingFor"].as_str().map(str::to_owned);
    (cause.end)(&stage.cluster);
    (!cause.mute).then(|| waits.unwrap_or_else(|| format!("{NOTHING}: {status}")))
}

async fn judge(stage: &Stage, cause: &Cause, end: &End, waited_for: Option<String>) -> Result<Did, String> {
    let End::Phase(phase) = end else { return Err(format!("ended as {end:?}, waited for {waited_for:?}")) };
    if let Some(nothing) = waited_for.as_ref().filter(|text| text.starts_with(NOTHING)) {
        return Err(format!("it waited and did not say for what: {nothing}"));
    }
    (cause.end)(&stage.cluster);
    invariants::settled(stage).await;
    let shown = stage.list("groupsnapshots", Some("shop"));
    let verdict = match phase.as_str() {
        "Completed" => invariants::completed(stage, "shop", MEMBERS).await,
        "FailedValidation" if shown.is_empty() => Ok(()),
        _ => invariants::undone(stage, "shop").await,
    };
    let ours = |line: &&str| {
        let leak = ["the storage is freed", "one cut per run", "every storage handle is owned"];
        !(cause.leaks && leak.iter().any(|name| line.starts_with(name)))
    };
    if let Err(broken) = verdict
        && broken.lines().any(|line| ours(&line))
    {
        return Err(format!("ended {phase}, but {broken}"));
    }
    let reason = stage.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned();
    let code = reason.find("SP").map(|at| reason[at..].chars().take(6).collect());
    let attempt = shown.first().and_then(|shown| shown["status"]["attempt"].as_u64());
    Ok(Did { phase: phase.clone(), code, attempt, waited_for })
}
