//! Lists all causes.
//!
//! Causes that the simulator has a list for are generated from it. Tests compare the rest with its lists: a
//! new switch, fault or actor that is not crossed here fails a test.

use std::time::Duration;

use stillpoint::sim::Release;
use stillpoint::sim::actors::driver::DriverConfig;
use stillpoint::sim::api_server::{Answer, CallInfo, FaultDecision, Replicas, StreamEnd, StreamFault};
use stillpoint::sim::{Cluster, Config};

use super::cause::{Cause, Family};
use super::hand;
use crate::disruptions;
use Family::{Behaviour, Driver, Fault};

/// Members that already belong to the user are outside the guarantees.
const HANDED_OVER: &[&str] = &["Cleaned"];

/// Returns every cause.
pub fn all() -> Vec<Cause> {
    [behaviours(), driver(), cluster(), coins(), calls(), actors(), clocks()].concat()
}

/// Returns the 22 observable behaviours of the real controllers, each with at least one cause that shows it.
fn behaviours() -> Vec<Cause> {
    let b = Behaviour;
    vec![
        Cause::cluster(b(1), "only v1beta1 is served", |c| c.groupsnapshot_versions = versions(&["v1beta1"])),
        Cause::cluster(b(1), "only v1beta2 is served", |c| c.groupsnapshot_versions = versions(&["v1beta2"])),
        Cause::once(b(2), "every object has a new version", hand::touch),
        Cause::on_calls(b(3), "409 on every patch", |call| {
            (call.verb == "patch").then(|| told(false, Answer::Status(409, None)))
        })
        .for_secs(60),
        Cause::new(b(4), "a foreign finalizer").between(hand::hold, hand::let_go),
        Cause::once(b(5), "labels and annotations taken off", disruptions::unlabel_member)
            .not_in(HANDED_OVER),
        Cause::cluster(b(6), "slow garbage collector", |c| c.gc_delay_ms = 30_000),
        Cause::new(b(7), "the name is taken by another group for a moment")
            .between(hand::replace_group, disruptions::delete_foreign_groups)
            .for_secs(1),
        Cause::cluster(b(8), "one call in two seconds", |c| c.controller_qps = Some(0.5)),
        Cause::cluster(b(9), "caches ten seconds old", |c| c.cache_lag_ms = 10_000),
        Cause::driver(b(10), "not ready for half a minute", |d| d.not_ready_ms = 30_000),
        Cause::driver(b(11), "readiness after the list of members", |d| d.not_ready_ms = 2_000),
        Cause::once(b(12), "ownership put back", hand::own_again),
        Cause::once(b(13), "a member deleted", |c| disruptions::delete_member(c, "orders-db-0"))
            .not_in(HANDED_OVER),
        Cause::once(b(13), "the group deleted", |c| disruptions::delete_first(c, "volumegroupsnapshots")),
        Cause::driver(b(14), "the group cannot be freed", |d| {
            d.delete_fails_with = Some(("Internal".to_owned(), "busy".to_owned()));
        }),
        Cause::once(b(15), "the content deleted", |c| {
            disruptions::delete_first(c, "volumegroupsnapshotcontents")
        }),
        Cause::driver(b(16), "a final error in a hot loop", |d| d.fail_with = failure("Internal")),
        Cause::driver(b(17), "an imported member of unknown state", |d| d.lists_snapshots = false),
        // Before the run is planned, it is simply one more member.
        Cause::once(b(18), "one more claim with the group's label", hand::join_group).not_in(&["alone"]),
        Cause::new(b(19), "the name is taken by another group")
            .between(hand::replace_group, disruptions::delete_foreign_groups),
        Cause::cluster(b(20), "release 8.2", |c| of_release(c, Release::V8_2)),
        Cause::cluster(b(20), "release 8.4", |c| of_release(c, Release::V8_4)),
        Cause::cluster(b(20), "release 8.6", |c| of_release(c, Release::V8_6)),
        Cause::on_calls(b(21), "no Event is taken", |call| {
            (call.plural == "events").then(|| told(false, Answer::Status(403, None)))
        }),
        Cause::new(b(22), "a claim Pending from a member")
            .between(hand::restore_pending, hand::give_up_restore),
    ]
}

fn versions(served: &[&str]) -> Vec<String> {
    served.iter().map(|version| (*version).to_owned()).collect()
}

fn of_release(config: &mut Config, release: Release) {
    config.release = Some(release);
    config.groupsnapshot_versions = versions(&[release.group_version()]);
}

fn failure(code: &str) -> Option<(String, String)> {
    Some((code.to_owned(), "the array is on fire".to_owned()))
}

/// Returns each switch of the driver. The first word of a name is the field of [`DriverConfig`].
fn driver() -> Vec<Cause> {
    let d = |name: &str, change| Cause::driver(Driver, name, change);
    vec![
        d("fail_with FailedPrecondition", |d| d.fail_with = failure("FailedPrecondition")),
        d("fail_with DeadlineExceeded", |d| d.fail_with = failure("DeadlineExceeded")),
        d("fail_with ResourceExhausted", |d| d.fail_with = failure("ResourceExhausted")),
        d("fail_times 3", |d| (d.fail_with, d.fail_times) = (failure("Internal"), 3)),
        d("cut_despite_failure", |d| {
            (d.fail_with, d.cut_despite_failure) = (failure("DeadlineExceeded"), true)
        }),
        d("partial_cut_left", |d| (d.fail_with, d.partial_cut_left) = (failure("Internal"), true)).leaking(),
        d("unimplemented", |d| d.unimplemented = true),
        d("member_limit 1", |d| d.member_limit = Some(1)),
        d("not_ready_ms for ever", |d| d.not_ready_ms = 1 << 40),
        d("skew_ms 500", |d| d.skew_ms = 500),
        d("omits_times 1", |d| d.omits_times = 1),
        d("delete_fails_with Unavailable", |d| d.delete_fails_with = failure("Unavailable")),
        d("lists_snapshots off", |d| d.lists_snapshots = false),
        d("reports_group_id off", |d| d.reports_group_id = false),
    ]
}

/// Returns each switch of the cluster that no profile and no behaviour has. The first word is the field of
/// [`Config`].
fn cluster() -> Vec<Cause> {
    let killed = Cause::once(Family::Cluster, "leader_election on and the leaders killed", |cluster| {
        cluster.restart("snapshot-controller");
        cluster.restart("csi-snapshotter");
    });
    vec![
        Cause::cluster(Family::Cluster, "handles_groups off", |c| c.handles_groups = false),
        Cause::cluster(Family::Cluster, "call_ms 20", |c| c.call_ms = 20),
        Cause { config: |c| c.leader_election = true, ..killed },
    ]
}

fn told(happen: bool, answer: Answer) -> FaultDecision {
    FaultDecision { happen, answer, ..FaultDecision::none() }
}

fn is_write(call: &CallInfo) -> bool {
    ["create", "update", "patch", "delete"].contains(&call.verb.as_str())
}

/// Returns the replies that a caller may receive, each kind at least once.
fn answers() -> Vec<Answer> {
    let status = |code| Answer::Status(code, None);
    vec![
        Answer::Normal,
        Answer::Drop,
        Answer::Cut,
        Answer::Status(429, Some(7)),
        status(500),
        status(503),
        status(504),
        status(403),
        status(409),
        status(422),
    ]
}

/// Returns the name of a reply. A new kind of reply does not compile without one.
fn answer_name(answer: &Answer) -> String {
    match answer {
        Answer::Normal => "as it is".to_owned(),
        Answer::Drop => "half a reply".to_owned(),
        Answer::Cut => "nothing".to_owned(),
        Answer::Status(code, Some(seconds)) => format!("{code}, retry after {seconds} s"),
        Answer::Status(code, None) => code.to_string(),
    }
}

/// Returns the causes with both random outcomes, for a minute of writes and of reads.
fn coins() -> Vec<Cause> {
    let coin = |happen: bool, answer: Answer| {
        let does = if happen { "happens" } else { "does not happen" };
        let name = format!("every write {does}, told {}", answer_name(&answer));
        Cause::on_calls(Fault, name, move |call| is_write(call).then(|| told(happen, answer.clone())))
            .for_secs(60)
    };
    let read = |answer: Answer| {
        let name = format!("every read told {}", answer_name(&answer));
        let reads = |call: &CallInfo| ["get", "list"].contains(&call.verb.as_str());
        Cause::on_calls(Fault, name, move |call| reads(call).then(|| told(false, answer.clone())))
            .for_secs(60)
    };
    let happening = answers().into_iter().filter(|answer| *answer != Answer::Normal).map(|a| coin(true, a));
    let failing = answers().into_iter().map(|answer| coin(false, answer));
    happening.chain(failing).chain(answers().into_iter().map(read)).collect()
}

/// Returns the other faults on calls. The first word is the field of [`FaultDecision`] or of [`StreamFault`].
fn calls() -> Vec<Cause> {
    let every =
        |name: &str, decide: fn(&CallInfo) -> Option<FaultDecision>| Cause::on_calls(Fault, name, decide);
    let told_all = |cause: Cause| Cause { mute: false, ..cause };
    vec![
        told_all(every("before_ms 3000", |call| {
            (call.verb != "watch").then(|| FaultDecision { before_ms: 3_000, ..FaultDecision::none() })
        })),
        told_all(every("delay_ms 3000", |call| {
            (call.verb != "watch").then(|| FaultDecision { delay_ms: 3_000, ..FaultDecision::none() })
        })),
        every("delay_ms longer than anybody waits", |call| {
            (call.verb != "watch").then(|| FaultDecision { delay_ms: 40_000, ..FaultDecision::none() })
        })
        .for_secs(120),
        told_all(every("stale_ms 5000", |call| {
            ["get", "list"]
                .contains(&call.verb.as_str())
                .then(|| FaultDecision { stale_ms: 5_000, ..FaultDecision::none() })
        })),
        every("every watch told 410", |call| {
            (call.verb == "watch").then(|| told(false, Answer::Status(410, None)))
        })
        .for_secs(120),
        every("every watch told half a reply", |call| {
            (call.verb == "watch").then(|| told(false, Answer::Drop))
        })
        .for_secs(120),
        every("the API server is away", |_| Some(told(false, Answer::Status(503, None)))).for_secs(400),
        stream("stream.delay_ms 3000", || StreamFault { delay_ms: 3_000, ..StreamFault::default() }),
        stream("stream.merge", || StreamFault { delay_ms: 3_000, merge: true, ..StreamFault::default() }),
        stream("stream.drop_each 3", || StreamFault { drop_each: 3, ..StreamFault::default() }),
        stream("stream.end Close", || ends(StreamEnd::Close)),
        stream("stream.end Break", || ends(StreamEnd::Break)),
        stream("stream.end Gone", || ends(StreamEnd::Gone)),
        Cause::new(Fault, "two API servers of different ages").between(
            |cluster| cluster.api().set_replicas(Some(Replicas::new(2_000, 7))),
            |cluster| cluster.api().set_replicas(None),
        ),
        Cause::new(Fault, "one call in four of the actors refused").between(
            |cluster| {
                let mut random = fastrand::Rng::with_seed(7);
                cluster.api().set_actor_faults(Box::new(move |_| match random.u8(..4) {
                    0 => told(false, Answer::Status(503, None)),
                    _ => FaultDecision::none(),
                }));
            },
            |cluster| cluster.api().clear_actor_faults(),
        ),
    ]
}

fn ends(how: StreamEnd) -> StreamFault {
    // A new kind of end does not compile before it is crossed.
    match how {
        StreamEnd::Close | StreamEnd::Break | StreamEnd::Gone => {}
    }
    StreamFault { end: Some((3, how)), ..StreamFault::default() }
}

/// A fault on every watch of the daemon. Open watches are restarted, so that the fault applies to them.
fn stream(name: &str, fault: fn() -> StreamFault) -> Cause {
    let begin = move |cluster: &Cluster| {
        cluster.api().set_faults(Box::new(move |call| match (call.agent.as_str(), call.verb.as_str()) {
            ("stillpoint", "watch") => FaultDecision { stream: fault(), ..FaultDecision::none() },
            _ => FaultDecision::none(),
        }));
        cluster.api().drop_watches();
    };
    // Open watches do not repeat lost events: the daemon has to read.
    Cause::new(Fault, name).between(begin, |cluster| cluster.api().clear_faults())
}

/// Returns each actor paused for a while, and restarted.
fn actors() -> Vec<Cause> {
    let frozen = |agent: &'static str| {
        let begin = move |cluster: &Cluster| cluster.set_frozen(agent, true);
        let end = move |cluster: &Cluster| cluster.set_frozen(agent, false);
        Cause::new(Fault, format!("{agent} stopped")).between(begin, end)
    };
    let restarted = |agent: &'static str| {
        Cause::once(Fault, format!("{agent} restarted"), move |cluster| cluster.restart(agent))
    };
    // Between two of its calls: the effect is in the cluster, and the reply is unread.
    let killed = |agent: &'static str, calls: u64| {
        Cause::once(Fault, format!("{agent} killed after {calls} calls"), move |cluster| {
            cluster.kill_after(agent, calls, Duration::from_secs(5));
        })
    };
    let each = |agent: &&'static str| {
        [frozen(agent), restarted(agent), killed(agent, 1), killed(agent, 2), killed(agent, 5)]
    };
    Cluster::agents().iter().flat_map(each).collect()
}

/// Wall clocks that are set, forward and back, while a run is under way. The daemon reads its wall clock only
/// once in an incarnation. Its clock is therefore set between two incarnations.
fn clocks() -> Vec<Cause> {
    let hour = |name: &str, seconds: i64| {
        let set = Cause::new(Fault, format!("the daemon's clock set {name} and the daemon restarted"));
        let of_the_cluster =
            Cause::once(Fault, format!("the API server's clock set {name}"), move |cluster| {
                cluster.clock().step(seconds * 1_000);
            });
        [Cause { clock_set: Some(seconds), ..set }, of_the_cluster]
    };
    [hour("an hour forward", 3_600), hour("an hour back", -3_600)].concat()
}

/// Returns the fields of a struct, from its `Debug` output.
fn fields(shown: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let (mut depth, mut word) = (0, String::new());
    for letter in shown.chars() {
        match letter {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            ':' if depth == 1 => fields.push(std::mem::take(&mut word)),
            letter if letter.is_alphanumeric() || letter == '_' => word.push(letter),
            _ => word.clear(),
        }
    }
    fields
}

#[test]
fn every_switch_of_the_driver_is_crossed() {
    let switches = fields(&format!("{:?}", DriverConfig::default()));
    assert!(switches.contains(&"skew_ms".to_owned()), "{switches:?}");
    let crossed = driver();
    let missing =
        |switch: &&String| !crossed.iter().any(|cause| cause.name.split(' ').next() == Some(switch));
    let missing: Vec<_> = switches.iter().filter(missing).collect();
    assert!(missing.is_empty(), "switches of the driver that nobody crosses: {missing:?}");
}

#[test]
fn every_fault_on_calls_is_crossed() {
    // Every reply crosses the two random outcomes.
    let coins = ["happen", "answer", "stream"];
    let decision = fields(&format!("{:?}", FaultDecision::none()));
    let stream = fields(&format!("{:?}", StreamFault::default()));
    let stream = stream.into_iter().map(|field| format!("stream.{field}"));
    let wanted = decision.into_iter().filter(|field| !coins.contains(&field.as_str())).chain(stream);
    let crossed = calls();
    let missing: Vec<String> = wanted
        .filter(|field| !crossed.iter().any(|cause| cause.name.split(' ').next() == Some(field)))
        .collect();
    assert!(missing.is_empty(), "faults that nobody crosses: {missing:?}");
}

#[test]
fn every_switch_of_the_cluster_is_crossed() {
    // Crossed by the profiles, by the switches of the driver, by behaviours of this name, or harmless.
    const ELSEWHERE: [(&str, &str); 10] = [
        ("seed", "no switch: every cell has one"),
        ("anchor_unix_ns", "no switch: the cluster's wall clock"),
        ("controller_qps", "profile, and behaviour 8"),
        ("cache_lag_ms", "profile, and behaviour 9"),
        ("groupsnapshot_versions", "behaviour 1"),
        ("release", "behaviour 20"),
        ("gc_delay_ms", "behaviour 6"),
        ("driver", "the switches of the driver"),
        ("forbid_first_ms", "module starting"),
        ("list_delay_ms", "no fault: real API servers answer consistent lists that late"),
    ];
    let crossed = cluster();
    let missing: Vec<String> = fields(&format!("{:?}", Config::default()))
        .into_iter()
        .filter(|field| {
            !ELSEWHERE.iter().any(|(name, _)| name == field)
                && !crossed.iter().any(|cause| cause.name.split(' ').next() == Some(field))
        })
        .collect();
    assert!(missing.is_empty(), "switches of the cluster that nobody crosses: {missing:?}");
}

#[test]
fn all_22_behaviours_are_crossed() {
    let crossed = behaviours();
    for number in 1..=22 {
        assert!(crossed.iter().any(|cause| cause.family == Behaviour(number)), "behaviour {number}");
    }
}

#[test]
fn every_cause_has_unique_name() {
    let mut names: Vec<String> = all().into_iter().map(|cause| cause.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
