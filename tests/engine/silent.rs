//! Nothing happens for a long time: who waits, waits for events, and asks nobody anything meanwhile.

use std::time::Duration;

use crate::stage::Stage;
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::sim::Config;

/// Calls of the daemon so far, the renewals of watches and of the journal's binding apart.
fn asked(stage: &Stage) -> String {
    let tally = stage.cluster.api().tally();
    let mut verbs = tally.0.get("stillpoint").cloned().unwrap_or_default();
    verbs.remove("watch");
    for resources in verbs.values_mut() {
        resources.remove("configmaps");
    }
    format!("{verbs:?}")
}

#[tokio::test(start_paused = true)]
async fn with_the_sidecar_silent_for_ten_hours_the_tally_does_not_move() {
    let stage = Stage::new(Config::default());
    stage.claims("shop", "orders-db", 2).await;
    stage.cluster.set_frozen("csi-snapshotter", true);
    stage.backup("shop");
    let wait = async {
        // The deadline of the cut passes, and the undo begins to wait for the sidecar.
        stage.pass(3600).await;
        let before = asked(&stage);
        let writes = stage.cluster.api().tally().writes("snapshot-controller");
        for hour in 1..=10 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert_eq!(asked(&stage), before, "after {hour} h");
        }
        let now = stage.cluster.api().tally().writes("snapshot-controller");
        println!(
            "ten hours: {} calls but watches before and after; {} writes of the controller",
            before,
            now - writes
        );
        stage.cluster.set_frozen("csi-snapshotter", false);
        assert!(stage.comes(|stage| stage.ended().is_some()).await, "it goes on once the sidecar does");
    };
    tokio::select! {
        biased;
        problem = stage.life(CrashPoints::none()) => panic!("the daemon ended: {problem}"),
        () = wait => {}
    }
    assert_eq!(stage.ended().as_deref(), Some("Failed"), "{}", stage.shown().await);
    assert_eq!(stage.cluster.ledger().physical_snapshots, 0);
}
