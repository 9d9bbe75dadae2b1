//! Tests a starting API server, and permissions: conditions that are waited for, number of reviews, refusals.

use std::time::Duration;

use serde_json::json;
use stillpoint::cluster::{Adapter, access};
use stillpoint::engine::crash_points::CrashPoints;
use stillpoint::engine::health::Health;
use stillpoint::sim::{Cluster, Config};

use crate::invariants;
use crate::testbed::Testbed;

const MEMBERS: usize = 2;

async fn set_up(config: Config) -> Testbed {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", MEMBERS).await;
    testbed.backup("shop");
    testbed
}

#[tokio::test(start_paused = true)]
async fn daemon_waits_while_api_server_forbids_everything() {
    let begun = tokio::time::Instant::now();
    let testbed = set_up(Config { forbid_first_ms: 30_000, ..Config::default() }).await;
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert!(begun.elapsed().as_secs() >= 30);
    assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn daemon_waits_for_restarted_api_server() {
    let again = |cluster: &Cluster| {
        cluster.add_fault(r#"{"start": {"forbidMs": 5000, "initializeMs": 2000}}"#).expect("a fault");
    };
    for at in [
        "backup/formed/before-record",
        "planned/after-record",
        "retain/before-intent",
        "detach/after-intent",
        "delete-group/after-effects",
    ] {
        let testbed = set_up(Config::default()).await;
        let end = testbed.run_daemon_acting(at.parse().expect("a point"), again, None).await;
        assert!(end.is("Completed"), "{at}: {end:?}\n{}", testbed.shown().await);
        assert_eq!(invariants::completed(&testbed, "shop", MEMBERS).await, Ok(()), "{at}");
    }
}

/// A permanent refusal cannot be distinguished from one during the start: the daemon goes on, and is not
/// ready.
#[tokio::test(start_paused = true)]
async fn daemon_is_unready_if_always_forbidden() {
    let testbed = Testbed::new(Config::default());
    testbed.cluster.api().restart(Duration::from_secs(1 << 20), Duration::ZERO);
    let health = Health::default();
    let client = || std::future::ready(Ok(testbed.client(&testbed.disk, "stillpoint/test")));
    tokio::select! {
        _ = Adapter::reach(client, |problem| health.waits(problem)) => panic!("nobody is let in"),
        () = testbed.pass(3600) => {}
    }
    let check = health.ready().await.into_iter().find(|check| check.name == "API server").expect("a check");
    let problem = check.problem.expect("it is not ready");
    println!("{problem}");
    assert!(problem.contains("system:discovery") && problem.contains("deploy/rbac.yaml"), "{problem}");
}

/// Counts the access reviews so far.
fn reviews(testbed: &Testbed) -> usize {
    testbed.calls.all().iter().filter(|call| call.resource == "selfsubjectaccessreviews").count()
}

#[tokio::test(start_paused = true)]
async fn reviews_permissions_at_start_and_after_refusal() {
    let testbed = set_up(Config::default()).await;
    let all = access::permissions().count();
    let next = async |name: &str| {
        testbed.backup_named(name, json!({"includedNamespaces": ["shop"]}));
        assert!(testbed.comes(|testbed| testbed.ended_as(name).is_some()).await, "{name} hangs");
        (testbed.ended_as(name).unwrap_or_default(), reviews(&testbed))
    };
    let work = async {
        assert!(testbed.comes(|testbed| testbed.ended().is_some()).await, "it hangs");
        assert_eq!(reviews(&testbed), all, "at the start");
        assert_eq!(next("second").await, ("Completed".to_owned(), all));
        // The first refused call only loses an Event; the next Backup is reviewed.
        testbed.rbac.deny("create events");
        assert_eq!(next("third").await, ("Completed".to_owned(), all));
        let (_, after) = next("fourth").await;
        assert!(after > all, "{after} reviews after a refusal");
        testbed.rbac.restore();
        testbed.pass(30).await;
        let before = (next("fifth").await.1, testbed.writes());
        // A permission that is removed without a refused call is detected within an hour, before anything
        // happens.
        testbed.rbac.deny("patch volumesnapshots/status");
        testbed.pass(3600).await;
        let (phase, _) = next("sixth").await;
        assert_eq!((phase.as_str(), testbed.writes()), ("Failed", before.1));
        before
    };
    tokio::select! {
        biased;
        problem = testbed.life(CrashPoints::none()) => panic!("{problem}"),
        reviewed = work => println!("{} reviews, {all} each time", reviewed.0),
    }
}
