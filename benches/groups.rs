//! Measures the cost of a group: the time from a Backup to its end on a cluster without delays, and the writes
//! in it.
//!
//! `cargo bench --bench groups` runs all sizes; `-- 3` selects one size.
//!
//! The embedded cluster runs in this process and on the same processors. Its controllers work without a rate
//! limit and from fresh caches. The measurement therefore covers everything except waiting. A real controller
//! takes about two seconds per member at its defaults, and the measured cost should be negligible beside that.
//!
//! The same is measured with a journal that is in memory only; the ratio is the cost of the disk. The cluster
//! alone is a group without a daemon, from its creation until it and all its members are ready. A Backup is
//! more than the run of its group: its permissions are reviewed and its phases are written. The run itself
//! lasts from its first decision to its end. All of it runs on one thread, as the daemon does (`cli`). In
//! memory it is measured on two threads as well.
//!
//! The second table covers reads. It shows their number, and the duration of a group when a consistent list
//! waits for the watch cache as that of a real API server does (60 to 76 ms; a get by name takes about 1 ms).
//!
//! The third table covers a group that begins while a Backup of many groups starts: the start of a run does not
//! hold up another one.

#[path = "support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};
use stillpoint::cluster::Adapter;
use stillpoint::engine::backup_spec::Defaults;
use stillpoint::engine::binding::BindingOptions;
use stillpoint::engine::cache::Cache;
use stillpoint::engine::clock::Clock;
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::engine::telemetry::{Metric, MetricsSink};
use stillpoint::engine::{Config, Engine};
use stillpoint::journal::{Disk, Journal, MemoryStore, Opened};
use stillpoint::records::journal_options;
use stillpoint::sim::Cluster;
use stillpoint::sim::api_server::{Caller, Preconditions, WatchEvent};
use tower::ServiceExt;

use support::{Samples, ms, table};

const SIZES: [usize; 2] = [3, 50];
const WARM_UPS: usize = 4;
const RUNS: usize = 31;
/// Groups of the Backup beside which another one is measured.
const MANY: usize = 256;
const ROUNDS: usize = 5;
const CLAIMS: &str = "persistentvolumeclaims";
/// Time that a consistent list waits in the second table, in milliseconds.
const LIST_DELAY_MS: u64 = 70;

fn main() {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let two = two.expect("a runtime");
    let asked: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if asked.is_empty() { SIZES.to_vec() } else { asked };
    let rows: Vec<_> = sizes
        .iter()
        .map(|&members| {
            let on_two = two.block_on(in_memory(members)).backups;
            one.block_on(row(members, &on_two))
        })
        .collect();
    table(
        &format!("one group after another, median of {RUNS}"),
        [
            "members",
            "journal on disk",
            "spread",
            "per member",
            "in memory",
            "spread",
            "of it the run",
            "spread",
            "disk/memory",
            "on two threads",
            "the cluster alone",
            "writes",
            "4N+4",
        ],
        &rows,
    );
    let rows: Vec<_> = sizes.iter().map(|&members| one.block_on(row_of_reads(members))).collect();
    table(
        &format!("reads of one group, and its time where a consistent list takes {LIST_DELAY_MS} ms"),
        [
            "members",
            "gets",
            "lists",
            "reviews",
            "in memory",
            "of it the run",
            "lists delayed",
            "of it the run",
        ],
        &rows,
    );
    table(
        &format!("one group of 3 that begins 20 ms after a Backup of {MANY} groups, median of {ROUNDS}"),
        ["groups", "alone", "beside their start", "ratio", "all groups"],
        &[one.block_on(row_beside())],
    );
}

/// Measures one group beside the start of a Backup of many groups.
async fn row_beside() -> [String; 5] {
    let dir = tempfile::tempdir().expect("a directory");
    let on_disk = Journal::open_thread(dir.path(), journal_options()).expect("a new journal");
    let (cluster, engine, _) = daemon(on_disk, 0).await;
    let hand = cluster.api().caller("bench");
    let cache = engine.cache();
    let measured = async {
        names().take(2 * ROUNDS).for_each(|name| claims(&hand, &name, 3));
        hand.create("namespaces", json!({"metadata": {"name": "many"}})).expect("a new namespace");
        (0..MANY).for_each(|group| claim(&hand, "many", &format!("many-{group}"), &format!("db-{group}")));
        for (name, members) in
            names().take(2 * ROUNDS).map(|name| (name, 3)).chain([("many".to_owned(), MANY)])
        {
            while !seen(&cache, &name, members) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let (mut alone, mut beside, mut many) = (Vec::new(), Vec::new(), Vec::new());
        let names: Vec<String> = names().take(2 * ROUNDS).collect();
        for (round, pair) in names.chunks(2).enumerate() {
            alone.push(backup(&hand, &pair[0]).await);
            let large_name = format!("many-{round}");
            let large = backup_of(&hand, &large_name, "many");
            let small = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                backup(&hand, &pair[1]).await
            };
            let (large, small) = tokio::join!(large, small);
            beside.push(small);
            many.push(large);
        }
        [alone, beside, many].map(Samples::new)
    };
    let [alone, beside, many] = tokio::select! {
        problem = engine.run() => panic!("the daemon ended: {problem}"),
        measured = measured => measured,
    };
    [MANY.to_string(), ms(alone.median()), ms(beside.median()), beside.ratio(&alone), ms(many.median())]
}

async fn row_of_reads(members: usize) -> [String; 8] {
    let at_once = in_memory(members).await;
    let delayed = in_memory_with(members, LIST_DELAY_MS).await;
    let Calls { gets, lists, reviews, .. } = at_once.calls;
    [
        members.to_string(),
        gets.to_string(),
        lists.to_string(),
        reviews.to_string(),
        ms(at_once.backups.median()),
        ms(at_once.runs.median()),
        ms(delayed.backups.median()),
        ms(delayed.runs.median()),
    ]
}

async fn row(members: usize, on_two: &Samples) -> [String; 13] {
    let dir = tempfile::tempdir().expect("a directory");
    let on_disk = Journal::open_thread(dir.path(), journal_options()).expect("a new journal");
    let Measured { backups: disk, calls, .. } = measure(members, on_disk, 0).await;
    let Measured { backups: memory, runs, .. } = in_memory(members).await;
    [
        members.to_string(),
        ms(disk.median()),
        disk.spread(),
        ms(disk.median() / u32::try_from(members).unwrap_or(u32::MAX)),
        ms(memory.median()),
        memory.spread(),
        ms(runs.median()),
        runs.spread(),
        disk.ratio(&memory),
        ms(on_two.median()),
        ms(alone(members).await.median()),
        calls.writes.to_string(),
        (4 * members + 4).to_string(),
    ]
}

/// Measures groups of one size with a journal in memory.
async fn in_memory(members: usize) -> Measured {
    in_memory_with(members, 0).await
}

async fn in_memory_with(members: usize, list_delay_ms: u64) -> Measured {
    let store = MemoryStore::open(&Disk::new()).expect("a free disk");
    measure(members, Journal::open_task(store).expect("a new journal"), list_delay_ms).await
}

/// Measurements of one incarnation of the daemon.
struct Measured {
    /// Durations from a Backup to its end.
    backups: Samples,
    /// Durations of the runs within the Backups.
    runs: Samples,
    /// Calls of the last Backup.
    calls: Calls,
}

/// Numbers of calls of the daemon.
#[derive(Clone, Copy)]
struct Calls {
    /// Writes to the objects of runs.
    writes: u64,
    /// Reads of single objects.
    gets: u64,
    lists: u64,
    /// Access reviews.
    reviews: u64,
}

impl Calls {
    fn of(cluster: &Cluster) -> Self {
        let tally = cluster.api().tally();
        let reviews = |resource: &str| resource == "selfsubjectaccessreviews";
        let created = tally.0.get("stillpoint").and_then(|verbs| verbs.get("create"));
        Self {
            writes: writes(cluster),
            gets: tally.calls("stillpoint", "get"),
            lists: tally.calls("stillpoint", "list"),
            reviews: created
                .into_iter()
                .flatten()
                .filter(|(to, _)| reviews(to))
                .map(|(_, count)| count)
                .sum(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            gets: self.gets - before.gets,
            lists: self.lists - before.lists,
            reviews: self.reviews - before.reviews,
        }
    }
}

/// Records the duration of each run, from its first decision to its end.
#[derive(Default)]
struct Course(Mutex<(Option<Instant>, Vec<Duration>)>);

impl MetricsSink for Course {
    fn record(&self, metric: Metric) {
        let (begun, took) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match metric {
            // The rows of a Backup are not those of its runs.
            Metric::Decided(row) if !row.starts_with("backup/") => {
                begun.get_or_insert_with(Instant::now);
            }
            Metric::RunEnded(_) => took.extend(begun.take().map(|begun| begun.elapsed())),
            _ => {}
        }
    }
}

/// Runs groups of one size, one after the other, in one incarnation of the daemon.
async fn measure(members: usize, (journal, opened): (Journal, Opened), list_delay_ms: u64) -> Measured {
    let (cluster, engine, course) = daemon((journal, opened), list_delay_ms).await;
    let hand = cluster.api().caller("bench");
    let cache = engine.cache();
    let (backups, calls) = tokio::select! {
        problem = engine.run() => panic!("the daemon ended: {problem}"),
        measured = one_after_another(&cluster, &hand, &cache, members) => measured,
    };
    let runs = course.0.lock().unwrap_or_else(PoisonError::into_inner).1.split_off(WARM_UPS);
    Measured { backups, runs: Samples::new(runs), calls }
}

/// A cluster, and a daemon that is not started.
async fn daemon((journal, opened): (Journal, Opened), list_delay_ms: u64) -> (Cluster, Engine, Arc<Course>) {
    let cluster =
        Cluster::start(stillpoint::sim::Config { gc_delay_ms: 0, list_delay_ms, ..Default::default() });
    let adapter = Adapter::connect(client(&cluster)).await.expect("the cluster answers");
    let config = Config {
        group_logic: stillpoint::machine::kit::Logic::default(),
        namespace: "stillpoint".to_owned(),
        defaults: Defaults::default(),
        points: CrashPoints::none(),
        clock: Clock::wall(),
        binding: BindingOptions::new(uuid::Uuid::from_u128(1)),
    };
    let course = Arc::new(Course::default());
    let engine = Engine::observed(adapter, journal, opened, config, course.clone());
    (cluster, engine, course)
}

async fn one_after_another(
    cluster: &Cluster,
    hand: &Caller,
    cache: &Cache,
    members: usize,
) -> (Samples, Calls) {
    let (mut samples, mut made) = (Vec::new(), Calls::of(cluster));
    // All PVCs are created in advance: waiting for a binder would let the processor fall asleep.
    for name in names() {
        claims(hand, &name, members);
    }
    for name in names() {
        while !seen(cache, &name, members) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for (index, name) in names().enumerate() {
        let before = Calls::of(cluster);
        let took = backup(hand, &name).await;
        made = Calls::of(cluster).since(before);
        if index >= WARM_UPS {
            samples.push(took);
        }
    }
    (Samples::new(samples), made)
}

/// Returns a namespace for each group.
fn names() -> impl Iterator<Item = String> {
    (0..WARM_UPS + RUNS).map(|index| format!("bench-{index}"))
}

/// Measures groups of one size without a daemon.
async fn alone(members: usize) -> Samples {
    let cluster = Cluster::start(stillpoint::sim::Config { gc_delay_ms: 0, ..Default::default() });
    let hand = cluster.api().caller("bench");
    let mut samples = Vec::new();
    names().for_each(|name| claims(&hand, &name, members));
    until(&hand, CLAIMS, |claims| claims.iter().all(|claim| claim["status"]["phase"] == "Bound")).await;
    for (index, name) in names().enumerate() {
        let group = json!({
            "metadata": {"name": "db", "namespace": name},
            "spec": {"source": {"selector": {"matchLabels": {"velero.io/volume-group": "db"}}}},
        });
        let begun = Instant::now();
        hand.create("volumegroupsnapshots", group).expect("a new group");
        let ready = |all: &[Arc<Value>]| all.iter().filter(|one| one["status"]["readyToUse"] == true).count();
        until(&hand, "volumesnapshots", |all| ready(all) == members).await;
        until(&hand, "volumegroupsnapshots", |all| ready(all) == 1).await;
        let took = begun.elapsed();
        hand.delete("volumegroupsnapshots", Some(&name), "db", Preconditions::default()).expect("there");
        until(&hand, "volumesnapshotcontents", <[_]>::is_empty).await;
        until(&hand, "volumegroupsnapshots", <[_]>::is_empty).await;
        if index >= WARM_UPS {
            samples.push(took);
        }
    }
    Samples::new(samples)
}

/// Waits until the condition holds for all objects of the kind.
async fn until(hand: &Caller, plural: &str, holds: impl Fn(&[Arc<Value>]) -> bool) {
    let mut changes = hand.watch(plural);
    while !holds(&hand.all(plural).expect("served")) {
        changes.next().await;
    }
}

/// Creates a namespace with the PVCs of one group.
fn claims(hand: &Caller, namespace: &str, members: usize) {
    hand.create("namespaces", json!({"metadata": {"name": namespace}})).expect("a new namespace");
    for index in 0..members {
        claim(hand, namespace, &format!("data-{index}"), "db");
    }
}

fn claim(hand: &Caller, namespace: &str, name: &str, group: &str) {
    let claim = json!({
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"velero.io/volume-group": group},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "csi-hostpath-sc",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    hand.create(CLAIMS, claim).expect("a new claim");
}

/// Whether the daemon's caches contain all PVCs with their volumes: a Backup is planned from the caches.
fn seen(cache: &Cache, namespace: &str, members: usize) -> bool {
    let volume =
        |claim: &PersistentVolumeClaim| claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
            && volume(claim).is_some_and(|name| cache.volume(&name).is_some())
    };
    let claims = cache.claims(namespace);
    claims.len() == members && claims.iter().all(|claim| bound(claim))
}

/// Measures the time from the creation of a Backup to its end.
async fn backup(hand: &Caller, name: &str) -> Duration {
    backup_of(hand, name, name).await
}

async fn backup_of(hand: &Caller, name: &str, namespace: &str) -> Duration {
    let mut changes = hand.watch("backups");
    while changes.try_next().is_some() {}
    let backup = json!({
        "metadata": {"name": name, "namespace": "stillpoint"},
        "spec": {"includedNamespaces": [namespace]},
    });
    let begun = Instant::now();
    hand.create("backups", backup).expect("a new Backup");
    loop {
        let (WatchEvent::Added(backup) | WatchEvent::Modified(backup) | WatchEvent::Deleted(backup)) =
            changes.next().await;
        if backup["metadata"]["name"] != name {
            continue;
        }
        match backup["status"]["phase"].as_str() {
            Some("Completed") => return begun.elapsed(),
            None | Some("" | "New" | "InProgress") => {}
            Some(_) => panic!("{backup:#}"),
        }
    }
}

/// Counts the daemon's writes to the objects of runs.
fn writes(cluster: &Cluster) -> u64 {
    let tally = cluster.api().tally().0.remove("stillpoint").unwrap_or_default();
    let of_runs = |resource: &str| {
        resource.starts_with("volumegroupsnapshot") || resource.starts_with("volumesnapshot")
    };
    let writing =
        tally.iter().filter(|(verb, _)| ["create", "update", "patch", "delete"].contains(&verb.as_str()));
    writing.flat_map(|(_, calls)| calls).filter(|(to, _)| of_runs(to)).map(|(_, count)| count).sum()
}

/// Returns a client with the router of the embedded cluster as its transport, under the daemon's User-Agent.
fn client(cluster: &Cluster) -> kube::Client {
    let named = cluster.api().router().map_request(|mut request: http::Request<kube::client::Body>| {
        let agent = http::HeaderValue::from_static("stillpoint/bench");
        request.headers_mut().insert(http::header::USER_AGENT, agent);
        request
    });
    kube::Client::new(named, "default")
}
