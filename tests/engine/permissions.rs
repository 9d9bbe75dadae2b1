//! Tests that the granted permissions are the used ones.
//!
//! No scenario needs more (see `rbac`), and here each permission is needed by a scenario.

use std::collections::BTreeSet;

use stillpoint::cluster::access;
use stillpoint::machine::kit::Point;
use stillpoint::sim::{Cluster, Config, DriverConfig};

use crate::testbed::Testbed;
use crate::{disruptions, invariants};

type Used = BTreeSet<(String, String, String)>;

/// Used only if the CRD of Backup has a status subresource; neither Velero's nor that of this crate has one.
const ELSEWHERE: [(&str, &str, &str); 1] = [("patch", "velero.io", "backups/status")];

fn point(name: &str) -> Point {
    name.parse().expect("a point")
}

async fn completes(testbed: &Testbed, at: &str, act: fn(&Cluster), crash_at: Option<&str>) {
    if let Some(crash) = crash_at {
        testbed.run_daemon(Some(point(crash))).await;
    }
    let end = testbed.run_daemon_acting(point(at), act, None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(testbed, "shop", 2).await, Ok(()));
}

async fn set_up(config: Config) -> Testbed {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup("shop");
    testbed
}

/// Prints granted beside used permissions, one line for each resource. Permissions used elsewhere only appear
/// as unused.
fn table(used: &Used) {
    println!("{:<28} {:<36} {:<40} USED", "GROUP", "RESOURCE", "GRANTED");
    for grant in access::grants() {
        let verbs = |holds: &dyn Fn(&str) -> bool| -> String {
            let verbs: Vec<&str> = grant.verbs.iter().copied().filter(|verb| holds(verb)).collect();
            verbs.join(" ")
        };
        let is_used =
            |verb: &str| used.contains(&(verb.to_owned(), grant.group.to_owned(), grant.resource.to_owned()));
        let (granted, used) = (verbs(&|_| true), verbs(&is_used));
        println!("{:<28} {:<36} {granted:<40} {used}", grant.group, grant.resource);
    }
}

#[tokio::test(start_paused = true)]
async fn granted_permissions_are_exactly_those_used() {
    let mut used = Used::new();
    // A member is lost while the group exists, after a restart that claims the group: the member is rebuilt.
    let one = set_up(Config::default()).await;
    let lose: fn(&Cluster) = |cluster| disruptions::delete_member(cluster, "orders-db-1");
    completes(&one, "detach/before-intent", lose, Some("vs-bound/after-record")).await;
    used.extend(one.rbac.used());
    // The loss is observed only after the group is deleted: a stub replaces it.
    let late = set_up(Config::default()).await;
    completes(&late, "delete-content/after-effects", lose, None).await;
    used.extend(late.rbac.used());
    // The driver fails: the group is rolled back.
    let fail_with = Some(("Internal".to_owned(), "the array is on fire".to_owned()));
    let driver = DriverConfig { fail_with, cut_despite_failure: true, ..DriverConfig::default() };
    let failing = set_up(Config { driver, ..Config::default() }).await;
    let end = failing.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}");
    used.extend(failing.rbac.used());
    // During the rollback a user releases one member and deletes another: their leftovers are deleted one by
    // one.
    let undone = set_up(Config::default()).await;
    let unclass: fn(&Cluster) = |cluster| disruptions::delete_first(cluster, "volumesnapshotclasses");
    undone
        .run_daemon_acting(point("retained/before-record"), unclass, Some(point("undo-free/after-outcome")))
        .await;
    disruptions::release_member(&undone.cluster, "orders-db-0");
    disruptions::delete_member(&undone.cluster, "orders-db-1");
    let end = undone.run_daemon(None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", undone.shown().await);
    used.extend(undone.rbac.used());

    let word = |(verb, group, resource): (&str, &str, &str)| {
        (verb.to_owned(), group.to_owned(), resource.to_owned())
    };
    table(&used);
    used.extend(ELSEWHERE.map(word));
    let granted: Used = access::permissions()
        .map(|permission| word((permission.verb, permission.grant.group, permission.grant.resource)))
        .collect();
    let unused: Vec<_> = granted.difference(&used).collect();
    let missing: Vec<_> = used.difference(&granted).collect();
    assert!(unused.is_empty() && missing.is_empty(), "granted in vain: {unused:?}\nmissing: {missing:?}");
}
