//! Runs one cell of the table, which is a cause, a state and a profile, and checks the actions of the daemon.
//!
//! Each of these results is correct:
//!
//! - The run ends Completed, or Failed after a full rollback.
//! - The run waits while the cause lasts, reports the wait condition in `status.waitingFor`, and ends when the
//!   cause does.
//! - After the pivot, the run is stuck because it was refused. It reports this within a minute of the end of
//!   the cause, and ends when a user resumes it.
//!
//! Ledger and invariants hold at the end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use stillpoint::domain::problem::Code;
use stillpoint::drill::invariants::Invariant;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::machine::kit::Ask;
use stillpoint::machine::kit::Point;
use stillpoint::sim::Cluster;
use tokio::sync::Notify;

use super::cause::{Act, Cause};
use super::profile::Profile;
use super::state::State;
use crate::testbed::{End, Testbed};
use crate::{disruptions, invariants};

/// Recorded for a run that waits and does not report its wait condition.
const NOTHING: &str = "nothing";

pub const MEMBERS: usize = 2;

/// Observed behaviour of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Did {
    /// Phase of the Backup at the end.
    pub phase: String,
    /// Code of the reason, for a run that failed.
    pub code: Option<String>,
    /// Attempt of the run at the end; `None` if nothing was planned.
    pub attempt: Option<u64>,
    /// Wait condition of the run when the cause ended, if the run had not ended before.
    pub waited_for: Option<String>,
    /// Whether the run was stuck and a user resumed it.
    pub resumed: bool,
}

impl Did {
    /// Formats the result for a cell: `C` completed, `F13` failed with SP0013, `2` in the second attempt, `*`
    /// waited until the cause ended, `!` was resumed.
    pub fn short(&self) -> String {
        let end = match (&self.code, self.phase.as_str()) {
            (_, "Completed") => "C".to_owned(),
            (Some(code), _) => format!("F{}", code.trim_start_matches("SP").trim_start_matches('0')),
            (None, _) => "F".to_owned(),
        };
        let attempt =
            self.attempt.filter(|attempt| *attempt > 1).map(|n| format!("/{n}")).unwrap_or_default();
        let waited = if self.waited_for.is_some() { "*" } else { "" };
        let resumed = if self.resumed { "!" } else { "" };
        format!("{end}{attempt}{waited}{resumed}")
    }
}

/// Runs the cell.
pub async fn run(cause: &Cause, state: &State, profile: Profile, seed: u64) -> Result<Did, String> {
    let mut config = profile.config(seed);
    (cause.config)(&mut config);
    let mut testbed = Testbed::new(config);
    testbed.defaults = state.defaults();
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup_with(json!({
        "includedNamespaces": ["shop"], "csiSnapshotTimeout": "30s", "itemOperationTimeout": "90s",
    }));
    let begun = Arc::new(Notify::new());
    if state.at.is_none() {
        (cause.begin)(&testbed.cluster);
        begun.notify_one();
    }
    let came = Arc::new(AtomicBool::new(state.at.is_none()));
    let points = points(&testbed.cluster, cause.begin.clone(), state, came.clone(), begun.clone());
    let (end, waited_for, resumed) = match cause.clock_set {
        Some(seconds) => {
            let end = restarted(&mut testbed, points, &begun, seconds).await;
            (end, None, false)
        }
        None => {
            let over = AtomicBool::new(false);
            let lived = async {
                tokio::join!(run_daemon(&testbed, points), until_the_end(&testbed, cause, &begun, &over))
            };
            let mut resumed = Ok(false);
            let (end, waited_for) = tokio::select! {
                biased;
                lived = lived => lived,
                never = person(&testbed, &over, &mut resumed) => match never {},
            };
            (end, waited_for, resumed?)
        }
    };
    if !came.load(Ordering::SeqCst) {
        return Err(format!("the run never came to {}: {end:?}\n{}", state.name, testbed.shown().await));
    }
    match judge(&testbed, cause, &end, waited_for).await {
        Ok(did) => Ok(Did { resumed, ..did }),
        Err(reason) => Err(format!("{reason}\n{}", testbed.shown().await)),
    }
}

async fn run_daemon(testbed: &Testbed, points: CrashPoints) -> End {
    testbed.run_daemon_with(points, Arc::default()).await
}

/// Returns the points at which the lead acts and the cause begins, each once.
fn points(
    cluster: &Cluster,
    begin: Act,
    state: &State,
    came: Arc<AtomicBool>,
    begun: Arc<Notify>,
) -> CrashPoints {
    let (cluster, lead, at) = (cluster.clone(), state.lead, state.at);
    let led = AtomicBool::new(lead.is_none());
    CrashPoints::ask(move |point: Point| {
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

/// Kills an incarnation when the cause begins, and starts another one whose wall clock was set meanwhile.
async fn restarted(testbed: &mut Testbed, points: CrashPoints, begun: &Notify, seconds: i64) -> End {
    let killed = tokio::select! {
        biased;
        () = begun.notified() => End::Killed,
        end = run_daemon(testbed, points) => end,
    };
    if !matches!(killed, End::Killed) {
        return killed;
    }
    testbed.disk.crash();
    testbed.clock = testbed.clock.set_by(seconds);
    run_daemon(testbed, CrashPoints::none()).await
}

/// Acts as a user who reads the message of a stuck run and follows it once the cause of the refusal is over.
async fn person(testbed: &Testbed, over: &AtomicBool, resumed: &mut Result<bool, String>) -> Infallible {
    /// Interval between two attempts to publish a run, plus a margin, in seconds.
    const TOLD_WITHIN: u32 = 65;
    let mut waited = 0;
    loop {
        testbed.pass(1).await;
        if !over.load(Ordering::SeqCst) || *resumed != Ok(false) {
            continue;
        }
        waited += 1;
        let shown = testbed.list("groupsnapshots", Some("shop"));
        let status = shown.first().map(|shown| shown["status"].clone()).unwrap_or_default();
        if status["state"] == "Stuck" && status["code"] == Code::Refused.to_string() {
            *resumed = match waited {
                0..=TOLD_WITHIN => Ok(true),
                _ => Err(format!("it was stuck and said so {waited} s after the end of the cause")),
            };
            disruptions::ask(&testbed.cluster, Ask::Resume, "drill");
        }
    }
}

/// Ends the cause when its time is over. Returns the wait condition of the run at that instant; `None` if the
/// run has ended.
async fn until_the_end(
    testbed: &Testbed,
    cause: &Cause,
    begun: &Notify,
    ended: &AtomicBool,
) -> Option<String> {
    let over = async {
        begun.notified().await;
        tokio::time::sleep(cause.lasts).await;
    };
    tokio::select! {
        biased;
        // The run ends before the cause does, or never reaches the state.
        _ = testbed.comes(|testbed| testbed.ended().is_some()) => return None,
        () = over => {}
    }
    let shown = testbed.list("groupsnapshots", Some("shop"));
    let status = shown.first().map(|shown| shown["status"].clone()).unwrap_or_default();
    let waits = status["waitingFor"].as_str().map(str::to_owned);
    (cause.end)(&testbed.cluster);
    ended.store(true, Ordering::SeqCst);
    (!cause.mute).then(|| waits.unwrap_or_else(|| format!("{NOTHING}: {status}")))
}

async fn judge(
    testbed: &Testbed,
    cause: &Cause,
    end: &End,
    waited_for: Option<String>,
) -> Result<Did, String> {
    let End::Phase(phase) = end else { return Err(format!("ended as {end:?}, waited for {waited_for:?}")) };
    if let Some(nothing) = waited_for.as_ref().filter(|text| text.starts_with(NOTHING)) {
        return Err(format!("it waited and did not say for what: {nothing}"));
    }
    (cause.end)(&testbed.cluster);
    invariants::settled(testbed).await;
    let shown = testbed.list("groupsnapshots", Some("shop"));
    let verdict = match phase.as_str() {
        "Completed" => invariants::completed(testbed, "shop", MEMBERS).await,
        "FailedValidation" if shown.is_empty() => Ok(()),
        _ => invariants::undone(testbed, "shop").await,
    };
    let ours = |line: &&str| {
        let leak = [Invariant::StorageFate, Invariant::OneCut, Invariant::NothingLeaked];
        !(cause.leaks && leak.iter().any(|one| line.starts_with(one.name())))
    };
    if let Err(broken) = verdict
        && broken.lines().any(|line| ours(&line))
    {
        return Err(format!("ended {phase}, but {broken}"));
    }
    let reason = testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned();
    let code = reason.find("SP").map(|at| reason[at..].chars().take(6).collect());
    let attempt = shown.first().and_then(|shown| shown["status"]["attempt"].as_u64());
    times_go_forward(testbed).await?;
    Ok(Did { phase: phase.clone(), code, attempt, waited_for, resumed: false })
}

/// Checks, whichever clock was set, that no record is older than the one before it in its stream, and that
/// nothing ended before it began.
async fn times_go_forward(testbed: &Testbed) -> Result<(), String> {
    let mut newest = BTreeMap::new();
    for entry in testbed.entries().await {
        let before = newest.insert(entry.stream, entry.record.time_ns).unwrap_or(i64::MIN);
        if entry.record.time_ns < before {
            return Err(format!("time goes back from {before} to {} in a stream", entry.record.time_ns));
        }
    }
    let spans = [
        ("backups", "startTimestamp", "completionTimestamp"),
        ("groupsnapshots", "startTime", "completionTime"),
    ];
    for (plural, begin, end) in spans {
        for object in testbed.list(plural, None) {
            let at = |field: &str| object["status"][field].as_str().unwrap_or_default().to_owned();
            if at(end) < at(begin) {
                return Err(format!("{plural}: from {} to {}", at(begin), at(end)));
            }
            if object["status"]["skewMs"].as_i64().is_some_and(|skew| skew < 0) {
                return Err(format!("{plural}: skew {}", object["status"]["skewMs"]));
            }
        }
    }
    Ok(())
}
