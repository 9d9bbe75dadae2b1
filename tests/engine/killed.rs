//! Killed at every point, the daemon comes back and finishes.
//!
//! The points are not listed: a life that is watched says which ones there are. A kill drops the engine without
//! another poll and forgets every byte that was not synced.

use crate::invariants;
use crate::stage::{End, Passed, Stage};
use std::sync::Arc;
use stillpoint::machine::point::Point;
use stillpoint::sim::Config;

async fn stage(config: Config, members: usize) -> Stage {
    let stage = Stage::new(config);
    stage.claims("shop", "orders-db", members).await;
    stage.backup("shop");
    stage
}

/// All points that a life without a kill passes.
async fn points(config: Config, members: usize, expected: &str) -> (Vec<Point>, u64) {
    let stage = stage(config, members).await;
    let passed = Passed::default();
    let end = stage.live_with(passed.watch(), Arc::default()).await;
    assert!(matches!(&end, End::Phase(phase) if phase == expected), "{end:?} {:#}", stage.nightly());
    (passed.distinct(), stage.writes())
}

async fn killed_at_each(config: fn() -> Config, members: usize) {
    let (points, writes) = points(config(), members, "Completed").await;
    assert_eq!(writes, 4 * members as u64 + 4, "writes of a run without a kill");
    let mut failures = Vec::new();
    for point in &points {
        let stage = stage(config(), members).await;
        let first = stage.live(Some(*point)).await;
        assert!(matches!(first, End::Killed), "{point}: {first:?}");
        let second = stage.live(None).await;
        let verdict = match &second {
            End::Phase(phase) if phase == "Completed" => invariants::completed(&stage, "shop", members).await,
            other => Err(format!("ended as {other:?}")),
        };
        let most = writes + 3;
        let verdict = verdict.and_then(|()| match stage.writes() {
            made if made <= most => Ok(()),
            made => Err(format!("{made} writes, at most {most} were to be made")),
        });
        if let Err(reason) = verdict {
            failures.push(format!("{point}: {reason}"));
        }
    }
    println!("{members} members: {} points, {} ended wrong", points.len(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn at_every_point_of_a_group_of_one() {
    killed_at_each(Config::default, 1).await;
}

#[tokio::test(start_paused = true)]
async fn at_every_point_of_a_group_of_three() {
    killed_at_each(Config::default, 3).await;
}

#[tokio::test(start_paused = true)]
async fn at_every_point_under_the_rate_limit_of_real_controllers() {
    killed_at_each(|| Config { controller_qps: Some(5.0), ..Config::default() }, 3).await;
}

#[tokio::test(start_paused = true)]
async fn at_every_point_with_controllers_that_work_from_stale_caches() {
    killed_at_each(|| Config { cache_lag_ms: 400, ..Config::default() }, 3).await;
}
