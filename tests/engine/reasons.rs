//! Tests where the reasons of refused or failed groups of a Backup can be read after the Events have expired.

use serde_json::{Value, json};
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::sim::Config;

use crate::requests::{claim, claim_spec};
use crate::testbed::Testbed;

const UNFIT: usize = 5;

/// Creates a Backup of a good group, five groups with an unbound PVC, and a namespace that does not exist.
async fn set_up() -> Testbed {
    let testbed = Testbed::new(Config::default());
    testbed.claims("shop", "orders-db", 2).await;
    for index in 0..UNFIT {
        claim(&testbed, &format!("unfit-{index}"), 0, claim_spec("no-such-class"), json!({}));
    }
    testbed.pass(30).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop", "nowhere"]}));
    testbed
}

fn refused(testbed: &Testbed) -> Vec<Value> {
    let mut shown = testbed.list("groupsnapshots", None);
    shown.retain(|one| one["status"]["state"] == "Refused");
    shown
}

/// Checks that every reason is reported as a user sees it.
fn all_is_said(testbed: &Testbed) {
    let backup = testbed.nightly();
    let reason = backup["status"]["failureReason"].as_str().unwrap_or_default();
    assert!(reason.contains("and 4 more; in full: annotation stillpoint.dev/errors"), "{reason}");
    let uid = backup["metadata"]["uid"].as_str().expect("a uid");
    assert!(
        reason.ends_with(&format!("kubectl get groupsnapshots -A -l velero.io/backup-uid={uid}")),
        "{reason}"
    );
    let errors = backup["metadata"]["annotations"]["stillpoint.dev/errors"].as_str().unwrap_or_default();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), UNFIT + 1, "{errors}");
    assert!(lines[0].starts_with("SP0003 namespace nowhere: "), "what has no GroupSnapshot first: {errors}");
    let shown = refused(testbed);
    assert_eq!(shown.len(), UNFIT, "{shown:#?}");
    for one in &shown {
        let (spec, status) = (&one["spec"], &one["status"]);
        assert_eq!(one["metadata"]["namespace"], "shop");
        assert_eq!(one["metadata"]["labels"]["velero.io/backup-uid"], uid);
        assert_eq!(one["metadata"]["labels"]["stillpoint.dev/run"], Value::Null, "it has no run");
        let (group, message) = (spec["group"].as_str().unwrap_or_default(), status["message"].as_str());
        assert_eq!(status["code"], "SP0004");
        assert!(message.is_some_and(|message| message.contains(&format!("{group}-0"))), "{one:#}");
        assert!(
            errors.contains(&format!("SP0004 group shop/{group}: {}", message.unwrap_or_default())),
            "{errors}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn shows_reason_of_every_refused_group() {
    let testbed = set_up().await;
    let end = testbed.run_daemon(None).await;
    assert!(end.is("PartiallyFailed"), "{end:?}\n{}", testbed.shown().await);
    all_is_said(&testbed);
}

#[tokio::test(start_paused = true)]
async fn shows_refused_groups_after_restart() {
    for at in ["backup/formed/after-record", "backup/partially-failed/after-record"] {
        let testbed = set_up().await;
        testbed.run_daemon(Some(at.parse().expect("a point"))).await;
        testbed.run_daemon(None).await;
        assert_eq!(testbed.ended().as_deref(), Some("PartiallyFailed"), "{at}");
        all_is_said(&testbed);
    }
}

#[tokio::test(start_paused = true)]
async fn unwritable_refusal_status_does_not_block_backup() {
    let testbed = set_up().await;
    testbed.rbac.deny("create groupsnapshots");
    testbed.run_daemon_until(CrashPoints::none(), |testbed| testbed.ended().is_some()).await;
    let errors = testbed.nightly()["metadata"]["annotations"]["stillpoint.dev/errors"].take();
    assert_eq!(errors.as_str().unwrap_or_default().lines().count(), UNFIT + 1);
    assert_eq!(refused(&testbed), Vec::<Value>::new());
}
