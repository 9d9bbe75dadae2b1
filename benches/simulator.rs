//! Measures the cost of a large embedded cluster: memory and time of 10,000 PVCs and 1,000 groups of them.
//!
//! `cargo bench --bench simulator`. The cluster runs on simulated time, with its controllers in this process
//! and without a rate limit. The memory is that of the whole process, as the kernel reports it. More than
//! [`LIMIT_MB`] is a failure. The environment variable `CLAIMS` sets another number of PVCs.

#[allow(dead_code, reason = "nothing is measured more than once here")]
#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use stillpoint::sim::api_server::{Caller, Preconditions};
use stillpoint::sim::{Cluster, Config};

use support::table;

/// Largest permitted resident memory of the cluster, in megabytes.
const LIMIT_MB: u64 = 500;
const MEMBERS: usize = 10;
const GROUPS_PER_NAMESPACE: usize = 10;

fn main() {
    let claims = std::env::var("CLAIMS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let rows = runtime.expect("a runtime").block_on(measure(claims));
    table(
        &format!("{claims} claims in {} groups", claims / MEMBERS),
        ["until", "real time", "simulated time", "resident now", "at its largest"],
        &rows,
    );
    let largest = resident("VmHWM");
    assert!(largest <= LIMIT_MB, "{largest} MB are more than {LIMIT_MB}");
}

async fn measure(claims: usize) -> Vec<[String; 5]> {
    let cluster = Cluster::start(Config::default());
    let user = cluster.api().caller("user");
    let mut rows = vec![row("the cluster is there", Instant::now(), tokio::time::Instant::now())];
    let groups: Vec<(String, String)> = (0..claims / MEMBERS)
        .map(|group| (format!("n{}", group / GROUPS_PER_NAMESPACE), format!("g{group}")))
        .collect();

    let (real, simulated) = (Instant::now(), tokio::time::Instant::now());
    for (namespace, group) in &groups {
        if user.get("namespaces", None, namespace).is_err() {
            user.create("namespaces", json!({"metadata": {"name": namespace}})).expect("a namespace");
        }
        (0..MEMBERS).for_each(|member| claim(&user, namespace, group, member));
    }
    until(|| count(&cluster, "persistentvolumes") >= claims).await;
    rows.push(row("every claim is bound", real, simulated));

    let (real, simulated) = (Instant::now(), tokio::time::Instant::now());
    for (namespace, group) in &groups {
        let selector = json!({"matchLabels": {"group": group}});
        let spec = json!({"source": {"selector": selector}});
        let object = json!({"metadata": {"name": group, "namespace": namespace}, "spec": spec});
        user.create("volumegroupsnapshots", object).expect("a group");
    }
    let ready = |plural: &str| {
        let all = user.all(plural).expect("served");
        all.iter().filter(|one| one["status"]["readyToUse"] == true).count()
    };
    until(|| ready("volumegroupsnapshots") >= groups.len() && ready("volumesnapshots") >= claims).await;
    rows.push(row("every group and member is ready", real, simulated));
    assert_eq!(cluster.ledger().physical_snapshots, claims);

    let (real, simulated) = (Instant::now(), tokio::time::Instant::now());
    for (namespace, group) in &groups {
        user.delete("volumegroupsnapshots", Some(namespace), group, Preconditions::default()).expect("there");
    }
    until(|| count(&cluster, "volumesnapshotcontents") == 0 && count(&cluster, "volumegroupsnapshots") == 0)
        .await;
    rows.push(row("every group is deleted", real, simulated));
    assert_eq!(cluster.ledger().physical_snapshots, 0);
    rows
}

fn claim(user: &Caller, namespace: &str, group: &str, member: usize) {
    let claim = json!({
        "metadata": {"name": format!("{group}-{member}"), "namespace": namespace, "labels": {"group": group}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "csi-hostpath-sc",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    user.create("persistentvolumeclaims", claim).expect("a claim");
}

fn count(cluster: &Cluster, plural: &str) -> usize {
    cluster.api().caller("user").all(plural).map_or(0, |all| all.len())
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn row(what: &str, real: Instant, simulated: tokio::time::Instant) -> [String; 5] {
    [
        what.to_owned(),
        format!("{:.1} s", real.elapsed().as_secs_f64()),
        format!("{:.1} s", simulated.elapsed().as_secs_f64()),
        format!("{} MB", resident("VmRSS")),
        format!("{} MB", resident("VmHWM")),
    ]
}

/// Returns the memory of this process in megabytes, or 0 if the kernel does not report it.
fn resident(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap_or_default();
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    kilobytes / 1024
}
