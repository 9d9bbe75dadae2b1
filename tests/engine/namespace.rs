//! Tests the deletion of a namespace under a run: before the pivot the run ends with it, after the pivot the
//! storage stays.

use std::sync::Arc;

use stillpoint::machine::kit::Point;
use stillpoint::sim::Config;

use crate::testbed::{End, Testbed};
use crate::{disruptions, invariants};

async fn set_up() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    testbed
}

/// Deletes the namespace at that point. Returns the phase of the Backup and the seconds until it was reached.
async fn deleted_at(testbed: &Testbed, at: &str) -> (String, u64) {
    let (at, begun): (Point, _) = (at.parse().expect("a point"), Arc::new(std::sync::Mutex::new(None)));
    let clock = begun.clone();
    let act = move |cluster: &stillpoint::sim::Cluster| {
        *clock.lock().expect("no poison") = Some(tokio::time::Instant::now());
        disruptions::delete_held_namespace(cluster, "shop");
    };
    let end = testbed.run_daemon_acting(at, act, None).await;
    let begun = begun.lock().expect("no poison").expect("the point was passed");
    let End::Phase(phase) = end else {
        panic!("{end:?}\n{}", testbed.shown().await);
    };
    (phase, begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn rolls_back_group_if_namespace_is_deleted_early() {
    for at in ["created/after-record", "vs-bound/after-record", "retained/after-record"] {
        let testbed = set_up().await;
        let (phase, took) = deleted_at(&testbed, at).await;
        assert_eq!(phase, "Failed", "{at}\n{}", testbed.shown().await);
        let reason = testbed.nightly()["status"]["failureReason"].as_str().unwrap_or_default().to_owned();
        let said = "SP0003 group shop/orders-db: Namespace shop: the namespace is ";
        assert!(reason.starts_with(said), "{at}: {reason}");
        assert!(took <= 120, "{at}: {took} s");
        invariants::settled(&testbed).await;
        assert_eq!(testbed.cluster.ledger().physical_snapshots, 0, "{at}");
        assert_eq!(testbed.group_objects(), 0, "{at}");
    }
}

#[tokio::test(start_paused = true)]
async fn storage_survives_namespace_deletion_after_pivot() {
    for at in ["detach/after-outcome", "delete-group/after-outcome", "delete-content/after-outcome"] {
        let testbed = set_up().await;
        let (phase, took) = deleted_at(&testbed, at).await;
        assert_eq!(phase, "Completed", "{at}\n{}", testbed.shown().await);
        assert!(took <= 60, "{at}: {took} s");
        invariants::settled(&testbed).await;
        assert_eq!(testbed.cluster.ledger().physical_snapshots, 2, "{at}");
        let refused = testbed.rows().await.iter().filter(|row| row.contains("rebuild")).count();
        assert!(refused <= 1, "{at}: members that go are rebuilt {refused} times");
        assert_eq!(testbed.nightly()["status"]["warnings"], 1, "{at}: the Backup says that they went");
    }
}
