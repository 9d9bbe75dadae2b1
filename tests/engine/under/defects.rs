//! Tests the defects that the cross table and its candidates found, each with a scenario that fails without
//! its fix.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use stillpoint::domain::limits;
use stillpoint::engine::crash_points::{CrashPoints, Verdict};
use stillpoint::machine::group::Event;
use stillpoint::machine::group::Reached;
use stillpoint::machine::kit::Point;
use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::api_server::{Answer, FaultDecision, StreamFault};
use stillpoint::sim::{Cluster, Config};

use super::hand;
use crate::testbed::Testbed;
use crate::{disruptions, invariants};

async fn set_up(config: Config, members: usize) -> Testbed {
    let testbed = Testbed::new(config);
    testbed.claims("shop", "orders-db", members).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop"], "csiSnapshotTimeout": "30s"}));
    testbed
}

fn point(text: &str) -> Point {
    text.parse().unwrap_or_else(|_| panic!("no point {text}"))
}

/// From now on no watch of the daemon delivers an event.
fn deafen(cluster: &Cluster) {
    cluster.api().set_faults(Box::new(|call| {
        let stream = StreamFault { drop_each: 1, ..StreamFault::default() };
        match (call.agent.as_str(), call.verb.as_str()) {
            ("stillpoint", "watch") => FaultDecision { stream, ..FaultDecision::none() },
            _ => FaultDecision::none(),
        }
    }));
    cluster.api().drop_watches();
}

async fn fails_clean(testbed: &Testbed, at: &str, act: fn(&Cluster)) {
    let end = testbed.run_daemon_acting(point(at), act, None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::undone(testbed, "shop").await, Ok(()), "{}", testbed.shown().await);
}

/// The snapshot-controller removes the in-group finalizer from a deleted member only while the member's status
/// names its group. A half-detached member stayed Terminating indefinitely, and blocked the rollback.
#[tokio::test(start_paused = true)]
async fn rollback_frees_half_detached_member() {
    let half: fn(&Cluster) = |cluster| {
        hand::half_release(cluster);
        disruptions::delete_first(cluster, "volumesnapshotclasses");
    };
    for at in ["vs-bound/after-record", "relabelled/after-record", "retained/before-record"] {
        let testbed = set_up(Config::default(), 2).await;
        fails_clean(&testbed, at, half).await;
        assert!(
            testbed.rows().await.iter().any(|row| row == "undo/e-untie"),
            "{at}: {}",
            testbed.shown().await
        );
    }
}

/// As above, before the receipt: the member is known by its content alone.
#[tokio::test(start_paused = true)]
async fn rollback_frees_half_detached_member_without_receipt() {
    let testbed = set_up(Config::default(), 2).await;
    let half: fn(&Cluster) = |cluster| {
        hand::half_release(cluster);
        disruptions::delete_first(cluster, "volumegroupsnapshots");
    };
    let end = testbed.run_daemon_acting(point("vs-bound/before-record"), half, None).await;
    assert!(end.is("Completed"), "the second attempt cuts again: {end:?}\n{}", testbed.shown().await);
    invariants::settled(&testbed).await;
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()), "{}", testbed.shown().await);
}

/// The sidecar does not release a content if it does not know whether the driver is cutting it. The rollback
/// must report that it waits for the driver, and not for a PVC.
#[tokio::test(start_paused = true)]
async fn rollback_reports_wait_for_silent_driver() {
    let failure = Some(("DeadlineExceeded".to_owned(), "the array is on fire".to_owned()));
    let config = Config {
        driver: DriverConfig { fail_with: failure, ..DriverConfig::default() },
        ..Config::default()
    };
    let testbed = set_up(config, 2).await;
    let mended = async {
        testbed.pass(300).await;
        let shown = testbed.list("groupsnapshots", Some("shop")).remove(0)["status"].take();
        let text = shown["waitingFor"].as_str().unwrap_or_default();
        assert!(text.starts_with("the driver to say whether it cut the group"), "{shown:#}");
        testbed.cluster.storage().set_config(DriverConfig::default());
    };
    let (end, ()) = tokio::join!(testbed.run_daemon(None), mended);
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()), "{}", testbed.shown().await);
}

/// A rollback repeats a create of unknown fate, so that there is a known object to delete. The journal did not
/// record the created object: the rollback created, cut and deleted the group again and again, without end.
#[tokio::test(start_paused = true)]
async fn rollback_repeats_create_only_once() {
    let testbed = set_up(Config::default(), 2).await;
    let away: fn(&Cluster) = |cluster| {
        let back = tokio::time::Instant::now() + std::time::Duration::from_secs(300);
        cluster.api().set_faults(Box::new(move |call| {
            let gone = call.agent == "stillpoint" && tokio::time::Instant::now() < back;
            FaultDecision {
                happen: !gone,
                answer: if gone { Answer::Status(503, None) } else { Answer::Normal },
                ..FaultDecision::none()
            }
        }));
    };
    fails_clean(&testbed, "planned/after-record", away).await;
    let created = testbed.rows().await.into_iter().filter(|row| row == "undo/repeat-create").count();
    assert_eq!(created, 1, "{}", testbed.shown().await);
}

/// The snapshot-controller holds a member as long as any group has the name in the member's status. A rollback
/// waited indefinitely when another group had replaced the original one.
#[tokio::test(start_paused = true)]
async fn rollback_frees_members_of_replaced_group() {
    let testbed = set_up(Config::default(), 2).await;
    let replaced: fn(&Cluster) = |cluster| {
        hand::replace_group(cluster);
        disruptions::delete_first(cluster, "volumesnapshotclasses");
    };
    let end = testbed.run_daemon_acting(point("retained/before-record"), replaced, None).await;
    assert!(end.is("Failed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(testbed.list("volumegroupsnapshots", None).len(), 1, "the other group stays");
    disruptions::delete_foreign_groups(&testbed.cluster);
    assert_eq!(invariants::undone(&testbed, "shop").await, Ok(()), "{}", testbed.shown().await);
    assert!(
        testbed.rows().await.iter().any(|row| row == "undo/e-clear-foreign"),
        "{}",
        testbed.shown().await
    );
}

/// Labels that a user removed after the pivot were never restored: the owner of a member could not be
/// identified.
#[tokio::test(start_paused = true)]
async fn restores_labels_removed_during_the_release() {
    for at in ["clear-names/after-intent", "delete-group/after-intent", "delete-content/after-outcome"] {
        let testbed = set_up(Config::default(), 2).await;
        let end = testbed.run_daemon_acting(point(at), disruptions::unlabel_member, None).await;
        assert!(end.is("Completed"), "{at}: {end:?}\n{}", testbed.shown().await);
        assert_eq!(
            invariants::completed(&testbed, "shop", 2).await,
            Ok(()),
            "{at}: {}",
            testbed.shown().await
        );
        assert!(testbed.rows().await.iter().any(|row| row == "release/8-mend-labels"), "{at}");
    }
}

/// A rebuilt member may be deleted after it is bound, for example by a controller that still sees the group.
/// It leaves a content with its uid. The next snapshot of that name never bound to that content, and the run
/// waited indefinitely.
#[tokio::test(start_paused = true)]
async fn rebuilds_member_that_is_lost_twice() {
    for at in ["delete-group/after-outcome", "delete-content/after-outcome"] {
        let testbed = set_up(Config::default(), 2).await;
        let (cluster, lost) = (testbed.cluster.clone(), std::sync::atomic::AtomicU8::new(0));
        // Once the member is ready, it is removed from the group whose name it got.
        let ready = point("clear-names/before-intent");
        let points = CrashPoints::ask(move |passed| {
            match lost.load(Ordering::SeqCst) {
                0 if passed == point(at) => disruptions::delete_member(&cluster, "orders-db-1"),
                1 if passed == ready => hand::delete_rebuilt(&cluster),
                _ => return Verdict::GoOn,
            }
            lost.fetch_add(1, Ordering::SeqCst);
            Verdict::GoOn
        });
        let end = testbed.run_daemon_with(points, Arc::default()).await;
        assert!(end.is("Completed"), "{at}: {end:?}\n{}", testbed.shown().await);
        invariants::settled(&testbed).await;
        assert_eq!(
            invariants::completed(&testbed, "shop", 2).await,
            Ok(()),
            "{at}: {}",
            testbed.shown().await
        );
        let rebuilds = testbed.rows().await.iter().filter(|row| row.ends_with("-rebuild")).count();
        assert!(rebuilds >= 3, "{at}: made, its content dropped, made again: {rebuilds}");
    }
}

/// A member that was cut and never bound has no status. The rollback of its group tested the contents of the
/// status, was refused, and retried indefinitely.
#[tokio::test(start_paused = true)]
async fn rollback_frees_member_without_status() {
    let testbed = set_up(Config::default(), 2).await;
    fails_clean(&testbed, "vs-bound/before-record", hand::lose_statuses).await;
    assert!(testbed.rows().await.iter().any(|row| row == "undo/e-untie"), "{}", testbed.shown().await);
}

/// Every step that a run passed while its status could not be written counted as an attempt. The status of a
/// run that proceeded quickly was given up in the first second, and its end was never published.
#[tokio::test(start_paused = true)]
async fn publishes_end_after_status_writes_failed() {
    let testbed = set_up(Config::default(), 2).await;
    let begun = tokio::time::Instant::now();
    testbed.cluster.api().set_faults(Box::new(move |call| {
        let refused =
            call.agent == "stillpoint" && call.plural == "groupsnapshots" && begun.elapsed().as_secs() < 60;
        let answer = if refused { Answer::Status(409, None) } else { Answer::Normal };
        FaultDecision { happen: !refused, answer, ..FaultDecision::none() }
    }));
    let end = testbed.run_daemon(None).await;
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()), "{}", testbed.shown().await);
}

/// Nothing polls. When a watch lost events silently, a run waited until the caches were listed again. An API
/// server is not required to cause such a list.
#[tokio::test(start_paused = true)]
async fn renewed_watch_delivers_lost_events_without_list() {
    let testbed = set_up(Config::default(), 2).await;
    let lists = |testbed: &Testbed| {
        let tally = testbed.cluster.api().tally();
        let verbs = tally.0.get("stillpoint").cloned().unwrap_or_default();
        verbs.get("list").and_then(|kinds| kinds.get("volumesnapshots").copied()).unwrap_or(0)
    };
    let begun = tokio::time::Instant::now();
    let heard = async {
        // No events for longer than the run needs, and from the detach on: no fresh read happens before an
        // event arrives.
        testbed.comes(|testbed| testbed.group_objects() > 0).await;
        testbed.pass(120).await;
        testbed.cluster.api().clear_faults();
        lists(&testbed)
    };
    let (end, before) =
        tokio::join!(testbed.run_daemon_acting(point("detach/before-intent"), deafen, None), heard);
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    let longest = limits::FULL_TELLING.0 / 1_000 + u64::from(limits::WATCH_SECONDS);
    let took = begun.elapsed().as_secs();
    assert!((limits::FULL_TELLING.0 / 1_000..longest).contains(&took), "{took} s");
    println!("deaf for two minutes at the detach, completed after {took} s; {before} lists before that");
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()), "{}", testbed.shown().await);
}

/// A deadline ended the wait for a cut that existed but had not been observed. (Evidence takes precedence over
/// deadlines.)
#[tokio::test(start_paused = true)]
async fn deadline_waits_for_unobserved_events() {
    let testbed = set_up(Config::default(), 2).await;
    let hears_again = async {
        testbed.pass(60).await;
        testbed.cluster.api().clear_faults();
    };
    let (end, ()) =
        tokio::join!(testbed.run_daemon_acting(point("created/before-record"), deafen, None), hears_again);
    assert!(end.is("Completed"), "{end:?}\n{}", testbed.shown().await);
    assert_eq!(invariants::completed(&testbed, "shop", 2).await, Ok(()), "{}", testbed.shown().await);
    let records = testbed.group_records().await;
    let cut = records.iter().find_map(|record| match &record.event {
        Event::MilestoneReached { reached: Reached::Cut { .. }, .. } => Some(record.at),
        _ => None,
    });
    assert_eq!(cut.map(|at| at.since(records[0].at).0 / 1_000), Some(30), "at csiSnapshotTimeout");
}

/// A status that was refused five times was never written again. A run that waited afterwards reported nothing
/// or an old state. The end of a run was not published either.
#[tokio::test(start_paused = true)]
async fn publishes_wait_once_api_server_accepts_it() {
    let never_ready = DriverConfig { not_ready_ms: 1 << 40, ..DriverConfig::default() };
    let testbed = Testbed::new(Config { driver: never_ready, ..Config::default() });
    testbed.claims("shop", "orders-db", 2).await;
    testbed.backup_with(json!({"includedNamespaces": ["shop"], "csiSnapshotTimeout": "10m"}));
    let begun = tokio::time::Instant::now();
    testbed.cluster.api().set_faults(Box::new(move |call| {
        let refused =
            call.agent == "stillpoint" && call.plural == "groupsnapshots" && begun.elapsed().as_secs() < 120;
        let answer = if refused { Answer::Status(403, None) } else { Answer::Normal };
        FaultDecision { happen: !refused, answer, ..FaultDecision::none() }
    }));
    let shown = |testbed: &Testbed| {
        let all = testbed.list("groupsnapshots", Some("shop"));
        all.first().is_some_and(|shown| shown["status"]["waitingFor"].is_string())
    };
    testbed.run_daemon_until(CrashPoints::none(), shown).await;
    assert!((120..240).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
