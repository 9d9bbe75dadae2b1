//! Tests that every write of a run may fail once, in each possible way: the run completes, with one cut.
//!
//! Each call has two random outcomes: whether it was applied, and whether the caller received the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use stillpoint::machine::kit::Point;
use stillpoint::sim::api_server::{Answer, FaultDecision};
use stillpoint::sim::{Cluster, Config};

use crate::invariants;
use crate::share::{few_or_all, share};
use crate::testbed::{Passed, Testbed};

const MEMBERS: usize = 2;

/// One kind of failure.
struct Failure {
    name: &'static str,
    happens: bool,
    answer: Answer,
}

fn failures() -> Vec<Failure> {
    let failure = |name, happens, answer| Failure { name, happens, answer };
    vec![
        failure("happened, reply lost", true, Answer::Drop),
        failure("happened, 504", true, Answer::Status(504, None)),
        failure("happened, 500", true, Answer::Status(500, None)),
        failure("did not happen, connection broken", false, Answer::Drop),
        failure("did not happen, 503", false, Answer::Status(503, None)),
        failure("did not happen, 504", false, Answer::Status(504, None)),
        failure("did not happen, 429", false, Answer::Status(429, Some(7))),
        failure("did not happen, 409", false, Answer::Status(409, None)),
    ]
}

/// Makes write number `n` of the daemon fail, projections included. Returns the number of writes that the
/// daemon made.
async fn failing_at(config: Config, failure: &Failure, n: u64) -> Result<u64, String> {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    let writes = Arc::new(AtomicU64::new(0));
    let (counted, happen, answer) = (writes.clone(), failure.happens, failure.answer.clone());
    testbed.cluster.api().set_faults(Box::new(move |call| {
        let writes = ["create", "update", "patch", "delete"].contains(&call.verb.as_str());
        if call.agent != "stillpoint" || !writes || counted.fetch_add(1, Ordering::SeqCst) + 1 != n {
            return FaultDecision::none();
        }
        FaultDecision::of(happen, answer.clone())
    }));
    let end = testbed.run_daemon(None).await;
    testbed.cluster.api().clear_faults();
    let verdict = match end {
        _ if end.is("Completed") => invariants::completed(&testbed, "shop", MEMBERS).await,
        other => Err(format!("ended as {other:?}")),
    };
    let cuts = testbed.cluster.storage().calls().get("CreateVolumeGroupSnapshot").copied().unwrap_or(0);
    let attempt = testbed.list("groupsnapshots", Some("shop")).remove(0)["status"]["attempt"].take();
    let verdict = verdict.and_then(|()| match (cuts, &attempt) {
        (1, attempt) if *attempt == 1 => Ok(()),
        _ => Err(format!("{cuts} cuts, attempt {attempt}")),
    });
    match verdict {
        Ok(()) => Ok(writes.load(Ordering::SeqCst)),
        Err(reason) => Err(format!("{reason}\n{}", testbed.shown().await)),
    }
}

/// Fails each write in turn, until a run has no such write. In a share, fails every third write, with another
/// offset for each failure.
async fn each_write(config: fn() -> Config, (index, failure): (usize, Failure)) {
    let (mut broken, mut n) = (Vec::new(), index as u64 % 3);
    loop {
        n += few_or_all(3, 1);
        match failing_at(config(), &failure, n).await {
            Ok(made) if made < n => break,
            Ok(_) => {}
            Err(reason) => broken.push(format!("{}, write {n}: {reason}", failure.name)),
        }
        assert!(n < 200, "the writes of a run have no end");
    }
    println!("{}: up to write {}, {} ended wrong", failure.name, n - 1, broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

#[tokio::test(start_paused = true)]
async fn every_write_may_fail_once() {
    for failure in failures().into_iter().enumerate() {
        each_write(Config::default, failure).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_write_may_fail_once_with_slow_controllers() {
    for failure in failures().into_iter().filter(|f| [Answer::Drop].contains(&f.answer)).enumerate() {
        each_write(|| Config { cache_lag_ms: 400, ..Config::default() }, failure).await;
    }
}

/// Every write fails with this probability.
async fn failing_often(seed: u64, chance: f64) -> Result<(), String> {
    let testbed = Testbed::new(Config { seed, ..Config::default() });
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    let mut random = fastrand::Rng::with_seed(seed);
    let ways = failures();
    testbed.cluster.api().set_faults(Box::new(move |call| {
        if call.agent != "stillpoint" || call.verb == "watch" || random.f64() >= chance {
            return FaultDecision::none();
        }
        let way = &ways[random.usize(..ways.len())];
        FaultDecision::of(way.happens, way.answer.clone()).with_reply_delay(random.u64(..2000))
    }));
    let end = testbed.run_daemon(None).await;
    testbed.cluster.api().clear_faults();
    // Under these faults a run may give up, but it must leave a clean cluster.
    let verdict = match end {
        _ if end.is("Completed") => invariants::completed(&testbed, "shop", MEMBERS).await,
        _ if end.is("Failed") => invariants::undone(&testbed, "shop").await,
        other => Err(format!("ended as {other:?}")),
    };
    match verdict {
        Ok(()) => Ok(()),
        Err(reason) => Err(format!("seed {seed}: {reason}\n{}", testbed.shown().await)),
    }
}

#[tokio::test(start_paused = true)]
async fn one_call_in_seven_may_fail() {
    let mut broken = Vec::new();
    let seeds = few_or_all(6, 20);
    for seed in 1..=seeds {
        if let Err(reason) = failing_often(seed, 0.15).await {
            broken.push(reason);
        }
    }
    println!("{seeds} seeds, one call in seven fails: {} ended wrong", broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

// ---- the API server is unavailable ------------------------------------------------------------------------

const AWAY: Duration = Duration::from_secs(900);

/// From now on no call of the daemon is carried out, for 15 minutes.
fn goes_away(cluster: &Cluster) {
    let back = tokio::time::Instant::now() + AWAY;
    cluster.api().set_faults(Box::new(move |call| {
        if call.agent != "stillpoint" || tokio::time::Instant::now() >= back {
            return FaultDecision::none();
        }
        FaultDecision::of(false, Answer::Status(503, None))
    }));
}

async fn away_at(at: Point) -> Result<(), String> {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop"], "csiSnapshotTimeout": "1h"}));
    let end = testbed.run_daemon_acting(at, goes_away, None).await;
    let verdict = match end {
        _ if end.is("Completed") => invariants::completed(&testbed, "shop", MEMBERS).await,
        other => Err(format!("ended as {other:?}")),
    };
    match verdict {
        Ok(()) => Ok(()),
        Err(reason) => Err(format!("{reason}\n{}", testbed.shown().await)),
    }
}

#[tokio::test(start_paused = true)]
async fn api_server_may_outlast_every_deadline() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    let passed = Passed::default();
    let end = testbed.run_daemon_with(passed.watch(), Arc::default()).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let (points, mut broken) = (share(passed.distinct(), 6), Vec::new());
    for point in &points {
        if let Err(reason) = away_at(*point).await {
            broken.push(format!("{point}: {reason}"));
        }
    }
    println!("the API server away for {AWAY:?} at {} points, {} ended wrong", points.len(), broken.len());
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}
