//! Runs many groups at once under random faults: calls fail, watches break, controllers stop and restart, and
//! the driver fails.
//!
//! All randomness comes from the seed of the cluster, and time is that of the runtime. On paused time the same
//! seed gives the same requests in the same order, and the same bytes in the journal.
//!
//! Not here: kills of the daemon, and disruptions that destroy objects of a run. Every group can be completed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::testbed::Testbed;
use crate::engine::crash_points::CrashPoints;
use crate::journal::{Entry, chain};
use crate::sim::api_server::{Answer, CallInfo, FaultDecision};
use crate::sim::{Cluster, Config, DriverConfig};

/// Largest number of members of a group.
const LARGEST: usize = 10;
/// Namespace of the Backups.
const BACKUPS: &str = "stillpoint";

/// Result of a soak run.
#[derive(Debug)]
pub struct Outcome {
    /// Number of Backups by the phase in which they ended.
    pub phases: BTreeMap<String, usize>,
    /// Number of members of all groups.
    pub members: usize,
    /// Simulated time from the first Backup to the last end.
    pub simulated: Duration,
    /// Every HTTP call with its time, in order.
    pub requests: Vec<String>,
    /// Entries of the journal.
    pub entries: Vec<Entry>,
    /// Violated conditions; empty if all hold.
    pub broken: Vec<String>,
}

/// Runs `groups` groups, each in a Backup of its own, to their ends.
///
/// # Panics
/// The daemon ends itself, or a group does not end.
pub async fn run(config: Config, groups: usize) -> Outcome {
    let seed = config.seed;
    let testbed = Testbed::new(config);
    let mut random = fastrand::Rng::with_seed(seed);
    let sizes: Vec<usize> = (0..groups).map(|_| random.usize(1..=LARGEST)).collect();
    for (index, size) in sizes.iter().enumerate() {
        testbed.claims(&namespace(index), "db", *size).await;
    }
    let (begun, log) = (Instant::now(), Log::default());
    storm(&testbed.cluster, &log, random.fork());
    tokio::select! {
        biased;
        () = testbed.run_daemon_until(CrashPoints::none(), |testbed| all_ended(testbed, groups)) => {}
        never = arrivals(&testbed, groups, random.fork()) => match never {},
        never = trouble(&testbed.cluster, random.fork()) => match never {},
    }
    let simulated = begun.elapsed();
    testbed.cluster.api().clear_faults();
    testbed.cluster.storage().set_config(DriverConfig::default());
    for agent in Cluster::agents() {
        testbed.cluster.set_frozen(agent, false);
    }
    super::invariants::settled(&testbed).await;
    let entries = testbed.entries().await;
    let phases = phases(&testbed);
    let broken = broken(&testbed, &sizes, &entries);
    Outcome { phases, members: sizes.iter().sum(), simulated, requests: log.lines(), entries, broken }
}

fn namespace(index: usize) -> String {
    format!("shop-{index:03}")
}

fn backups(testbed: &Testbed) -> Vec<Value> {
    testbed.list("backups", Some(BACKUPS))
}

fn phase(backup: &Value) -> &str {
    backup["status"]["phase"].as_str().unwrap_or_default()
}

fn all_ended(testbed: &Testbed, groups: usize) -> bool {
    let all = backups(testbed);
    all.len() == groups && all.iter().all(|backup| !["", "New", "InProgress"].contains(&phase(backup)))
}

fn phases(testbed: &Testbed) -> BTreeMap<String, usize> {
    let mut phases = BTreeMap::new();
    for backup in backups(testbed) {
        *phases.entry(phase(&backup).to_owned()).or_default() += 1;
    }
    phases
}

/// Creates the Backups, with a pause of up to 2 s after each one.
async fn arrivals(testbed: &Testbed, groups: usize, mut random: fastrand::Rng) -> std::convert::Infallible {
    for index in 0..groups {
        testbed.backup_named(&namespace(index), json!({"includedNamespaces": [namespace(index)]}));
        tokio::time::sleep(Duration::from_millis(random.u64(..2_000))).await;
    }
    std::future::pending().await
}

/// The calls in the order of their arrival.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, at: Duration, call: &CallInfo) {
        let CallInfo { agent, verb, plural, subresource, namespace, name } = call;
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let path = [plural.clone(), part(namespace), part(name), part(subresource)].join("/");
        let line = format!("{:.3} {agent} {verb} {path}", at.as_secs_f64());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes one of 20 calls of the daemon fail at random, and logs every call.
fn storm(cluster: &Cluster, log: &Log, mut random: fastrand::Rng) {
    let (log, begun) = (log.clone(), Instant::now());
    cluster.api().set_faults(Box::new(move |call| {
        log.note(begun.elapsed(), call);
        if call.agent != "stillpoint" || random.u8(..20) > 0 {
            return FaultDecision::none();
        }
        let answers = [
            Answer::Drop,
            Answer::Status(429, Some(1)),
            Answer::Status(500, None),
            Answer::Status(503, None),
            Answer::Status(504, None),
        ];
        let answer = answers[random.usize(..answers.len())].clone();
        let happen = random.bool() && answer != Answer::Status(429, Some(1));
        FaultDecision { happen, answer, delay_ms: random.u64(..1_500), ..FaultDecision::none() }
    }));
}

/// Injects another fault every few seconds, for a few seconds.
async fn trouble(cluster: &Cluster, mut random: fastrand::Rng) -> std::convert::Infallible {
    let agents = Cluster::agents();
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(2_000..20_000))).await;
        let (agent, lasts) = (agents[random.usize(..agents.len())], random.u64(500..8_000));
        match random.u8(..6) {
            0 => cluster.restart(agent),
            1 => cluster.set_frozen(agent, true),
            2 => cluster.api().drop_watches(),
            3 => cluster.api().compact(),
            4 => cluster.storage().set_config(failing(["DeadlineExceeded", "Internal"][random.usize(..2)])),
            _ => cluster
                .storage()
                .set_config(DriverConfig { not_ready_ms: random.u64(..3_000), ..DriverConfig::default() }),
        }
        tokio::time::sleep(Duration::from_millis(lasts)).await;
        cluster.set_frozen(agent, false);
        cluster.storage().set_config(DriverConfig::default());
    }
}

fn failing(code: &str) -> DriverConfig {
    let fail_with = Some((code.to_owned(), "the array is on fire".to_owned()));
    DriverConfig { fail_with, fail_times: 2, ..DriverConfig::default() }
}

/// Returns the violated invariants over all groups together.
fn broken(testbed: &Testbed, sizes: &[usize], entries: &[Entry]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut hold = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    let mut kept = 0;
    for backup in backups(testbed) {
        let name = backup["metadata"]["name"].as_str().unwrap_or_default();
        let planned = sizes.iter().enumerate().find(|(index, _)| namespace(*index) == name);
        let (ended, size) = (phase(&backup), planned.map_or(0, |(_, size)| *size));
        let snapshots = testbed.list("volumesnapshots", Some(name));
        let stands = |snapshot: &&Value| {
            snapshot["status"]["readyToUse"] == true
                && snapshot["metadata"]["deletionTimestamp"].is_null()
                && snapshot["metadata"]["ownerReferences"].is_null()
        };
        let standing = snapshots.iter().filter(stands).count();
        let expected = if ended == "Completed" { size } else { 0 };
        kept += expected;
        let whole = standing == expected && snapshots.len() == expected;
        hold(
            whole,
            format!("{name} ended {ended} with {standing} of {} standing, of {size}", snapshots.len()),
        );
    }
    hold(testbed.group_objects() == 0, format!("{} group objects are left", testbed.group_objects()));
    let ledger = testbed.cluster.ledger();
    let books = ledger.leaked == 0 && ledger.phantom == 0 && ledger.physical_snapshots == kept;
    hold(books, format!("{kept} members are kept, and the storage: {ledger:?}"));
    let checked = chain::check(entries.iter().cloned());
    hold(checked.is_ok(), format!("the chain: {:?}", checked.err()));
    let different = crate::audit::replay(entries).different;
    hold(different.is_empty(), format!("a replay decides otherwise: {different:#?}"));
    broken
}
