//! Tests long periods without events: a waiting run waits for events and makes no calls meanwhile.

use std::time::Duration;

use crate::testbed::Testbed;
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::sim::Config;

/// Formats the calls of the daemon so far, except renewals of watches and of the journal's binding.
fn asked(testbed: &Testbed) -> String {
    let tally = testbed.cluster.api().tally();
    let mut verbs = tally.0.get("stillpoint").cloned().unwrap_or_default();
    verbs.remove("watch");
    for resources in verbs.values_mut() {
        resources.remove("configmaps");
    }
    format!("{verbs:?}")
}

#[tokio::test(start_paused = true)]
async fn daemon_sends_no_requests_while_sidecar_is_silent() {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    testbed.cluster.set_frozen("csi-snapshotter", true);
    testbed.backup("shop");
    let wait = async {
        // The deadline of the cut passes, and the rollback begins to wait for the sidecar.
        testbed.pass(3600).await;
        let before = asked(&testbed);
        let writes = testbed.cluster.api().tally().writes("snapshot-controller");
        for hour in 1..=10 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert_eq!(asked(&testbed), before, "after {hour} h");
        }
        let now = testbed.cluster.api().tally().writes("snapshot-controller");
        println!(
            "ten hours: {} calls but watches before and after; {} writes of the controller",
            before,
            now - writes
        );
        testbed.cluster.set_frozen("csi-snapshotter", false);
        assert!(testbed.comes(|testbed| testbed.ended().is_some()).await, "it goes on once the sidecar does");
    };
    tokio::select! {
        biased;
        problem = testbed.life(CrashPoints::none()) => panic!("the daemon ended: {problem}"),
        () = wait => {}
    }
    assert_eq!(testbed.ended().as_deref(), Some("Failed"), "{}", testbed.shown().await);
    assert_eq!(testbed.cluster.ledger().physical_snapshots, 0);
}
