//! Tests every fault type, one test each, by its JSON.

use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::sim::Config;
use stillpoint::sim::api_server::ConnectionBroken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::lab::{GROUPS, Lab, NAMESPACE, Reply};

const MAPS: &str = "/api/v1/namespaces/t1/configmaps";

impl Lab {
    async fn fault(&self, fault: Value) {
        let reply = self.http("POST", "/sim/v1/faults", Some(fault.clone())).await;
        assert_eq!(reply.status, 201, "{fault}: {}", reply.text);
    }

    async fn create_map(&self, name: &str) -> Reply {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        self.http("POST", MAPS, Some(map)).await
    }

    async fn maps(&self, query: &str) -> Vec<String> {
        let list = self.http("GET", &format!("{MAPS}{query}"), None).await;
        let items = list.body["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The events of a watch of `seconds` seconds: type and name. The last one is `broken` if the connection
    /// broke.
    async fn watch_events(&self, seconds: u64, query: &str) -> Vec<String> {
        let path = format!("{MAPS}?watch=true&timeoutSeconds={seconds}{query}");
        let reply = self.http("GET", &path, None).await;
        reply
            .text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or(Value::Null))
            .map(|event: Value| {
                let object = &event["object"];
                let name = object["metadata"]["name"].as_str().map(str::to_owned);
                format!(
                    "{} {}",
                    event["type"].as_str().unwrap_or("?"),
                    name.unwrap_or(object["code"].to_string())
                )
            })
            .collect()
    }
}

async fn lab() -> Lab {
    Lab::new(0, Config::default()).await
}

#[tokio::test(start_paused = true)]
async fn write_and_reply_may_fail_independently() {
    for (index, (happen, answer, status)) in [
        (true, json!("drop"), 200),
        (false, json!("drop"), 200),
        (true, json!(504), 504),
        (false, json!(503), 503),
        (false, json!({"code": 429, "retryAfter": 7}), 429),
        (false, json!("normal"), 500),
    ]
    .into_iter()
    .enumerate()
    {
        let lab = lab().await;
        lab.fault(json!({"verb": "create", "plural": "configmaps", "happen": happen, "answer": answer}))
            .await;
        let reply = lab.create_map("a").await;
        assert_eq!(reply.status, status, "{index}");
        assert_eq!(lab.maps("").await.len(), usize::from(happen), "{index}: {answer}");
        let retry_after = reply.headers.get("retry-after").map(|value| value.as_bytes().to_owned());
        assert_eq!(retry_after.as_deref(), (status == 429).then_some(&b"7"[..]), "{index}");
    }
}

#[tokio::test(start_paused = true)]
async fn delays_calls_before_and_after_the_write() {
    let lab = lab().await;
    lab.fault(json!({"verb": "create", "beforeMs": 2000, "delayMs": 3000})).await;
    let start = Instant::now();
    let (reply, counts) = tokio::join!(lab.create_map("a"), async {
        sleep(Duration::from_millis(1999)).await;
        let before = lab.maps("").await.len();
        sleep(Duration::from_millis(2)).await;
        (before, lab.maps("").await.len())
    });
    assert_eq!((reply.status, counts, start.elapsed().as_millis()), (201, (0, 1), 5000));
}

#[tokio::test]
async fn socket_faults_differ_for_connection_and_reply() {
    let lab = lab().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = lab.cluster.router();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    for (answer, expected) in [("cut", ""), ("drop", "HTTP/1.1 200 OK")] {
        lab.fault(json!({"verb": "list", "plural": "configmaps", "answer": answer})).await;
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
        stream.write_all(format!("GET {MAPS} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let mut text = Vec::new();
        // The error at the end of the connection varies; only the data before it counts.
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(text.lines().next().unwrap_or_default(), expected, "{answer}: {text}");
        assert!(!text.contains("ConfigMapList"), "{text}");
    }
    server.abort();
    // In memory the response is marked, and the transport must break the connection.
    lab.fault(json!({"verb": "list", "answer": "cut"})).await;
    let request = axum::http::Request::get(MAPS).body(axum::body::Body::empty()).expect("a request");
    let response = tower::ServiceExt::oneshot(lab.cluster.router(), request).await.expect("answered");
    assert_eq!(response.extensions().get::<ConnectionBroken>(), Some(&ConnectionBroken));
}

#[tokio::test(start_paused = true)]
async fn stale_list_omits_own_recent_writes() {
    let lab = lab().await;
    lab.create_map("a").await;
    sleep(Duration::from_secs(10)).await;
    let written = lab.create_map("b").await;
    let version = written.body["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    lab.fault(json!({"verb": "list", "staleMs": 5000, "times": 2})).await;
    let list = lab.http("GET", MAPS, None).await.body;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let older = list["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    assert!(older.parse::<u64>().expect("a number") < version.parse().expect("a number"));
    assert_eq!(
        lab.maps(&format!("?resourceVersion={version}")).await,
        ["a"],
        "the requested version is ignored"
    );
    assert_eq!(lab.maps("").await, ["a", "b"]);
    // A watch from the version of the stale list misses no event.
    assert_eq!(lab.watch_events(1, &format!("&resourceVersion={older}")).await, ["ADDED b"]);
    lab.fault(json!({"verb": "get", "staleMs": 5000, "times": 2})).await;
    assert_eq!(lab.http("GET", &format!("{MAPS}/b"), None).await.status, 404);
    assert_eq!(lab.http("GET", &format!("{MAPS}/a"), None).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn stale_read_returns_an_earlier_object() {
    const CLASSES: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses";
    let lab = lab().await;
    let path = format!("{CLASSES}/csi-hostpath-snapclass");
    let was = lab.http("GET", &path, None).await.body;
    sleep(Duration::from_secs(10)).await;
    let patch = json!({"metadata": {"labels": {"changed": "yes"}}});
    let is = lab.http_as("application/merge-patch+json", "PATCH", &path, Some(patch)).await.body;
    assert_eq!(is["metadata"]["labels"]["changed"], "yes");
    for verb in ["get", "list"] {
        lab.fault(json!({"verb": verb, "staleMs": 5000, "times": 1})).await;
    }
    let list = async |lab: &Lab| lab.http("GET", CLASSES, None).await.body["items"].clone();
    let contains = |list: &Value, object: &Value| list.as_array().is_some_and(|items| items.contains(object));
    assert_eq!(lab.http("GET", &path, None).await.body, was);
    assert!(contains(&list(&lab).await, &was));
    assert_eq!(lab.http("GET", &path, None).await.body, is);
    assert!(contains(&list(&lab).await, &is));
}

/// A watch with that fault on its stream. Meanwhile two config maps are created, one is changed twice, and
/// one is deleted, 1 second apart each.
async fn watch_events_under(stream: Value, query: &str) -> (Vec<String>, Duration) {
    let lab = lab().await;
    lab.fault(json!({"verb": "watch", "plural": "configmaps", "stream": stream})).await;
    let start = Instant::now();
    let watch = async { (lab.watch_events(30, query).await, start.elapsed()) };
    let changes = async {
        sleep(Duration::from_secs(1)).await;
        lab.create_map("a").await;
        lab.create_map("b").await;
        for value in ["1", "2"] {
            sleep(Duration::from_secs(1)).await;
            let patch = json!({"data": {"k": value}});
            let patched =
                lab.http_as("application/merge-patch+json", "PATCH", &format!("{MAPS}/a"), Some(patch)).await;
            assert_eq!(patched.status, 200);
        }
        sleep(Duration::from_secs(1)).await;
        lab.http("DELETE", &format!("{MAPS}/b"), None).await;
    };
    tokio::join!(watch, changes).0
}

#[tokio::test(start_paused = true)]
async fn watch_events_may_be_late_merged_lost() {
    let all = ["ADDED a", "ADDED b", "MODIFIED a", "MODIFIED a", "DELETED b"];
    assert_eq!(watch_events_under(json!({}), "").await.0, all);
    assert_eq!(watch_events_under(json!({"delayMs": 9000}), "").await.0, all, "late and in order");
    assert_eq!(
        watch_events_under(json!({"delayMs": 40_000}), "").await.0.len(),
        0,
        "the delay exceeds the watch"
    );
    // An object that is added and deleted before its event is due is never sent.
    assert_eq!(watch_events_under(json!({"delayMs": 9000, "merge": true}), "").await.0, ["ADDED a"]);
    let lost = watch_events_under(json!({"dropEach": 2}), "").await.0;
    assert_eq!(lost, ["ADDED a", "MODIFIED a", "DELETED b"]);
}

#[tokio::test(start_paused = true)]
async fn bookmark_never_precedes_a_late_event() {
    let lab = lab().await;
    let version = lab.create_map("a").await.body["metadata"]["resourceVersion"].clone();
    lab.fault(json!({"verb": "watch", "stream": {"delayMs": 90_000}})).await;
    let late = async {
        sleep(Duration::from_secs(30)).await;
        lab.create_map("b").await;
    };
    let query = format!(
        "?watch=true&timeoutSeconds=100&allowWatchBookmarks=true&resourceVersion={}",
        version.as_str().expect("a version")
    );
    let path = format!("{MAPS}{query}");
    let (reply, ()) = tokio::join!(lab.http("GET", &path, None), late);
    let events: Vec<Value> =
        reply.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events[0]["type"], "BOOKMARK", "{events:?}");
    assert!(events.iter().all(|event| event["type"] == "BOOKMARK"), "{events:?}");
    let known = |event: &Value| event["object"]["metadata"]["resourceVersion"].as_str()?.parse::<u64>().ok();
    let made = lab.http("GET", &format!("{MAPS}/b"), None).await.body;
    let made = known(&json!({"object": made}));
    assert!(events.iter().all(|event| known(event) < made), "{made:?} {events:?}");
}

#[tokio::test(start_paused = true)]
async fn watch_may_end_break_or_expire() {
    let (events, after) = watch_events_under(json!({"endAfter": 2, "end": "close"}), "").await;
    assert_eq!((events, after.as_secs()), (vec!["ADDED a".to_owned(), "ADDED b".to_owned()], 1));
    let (events, after) = watch_events_under(json!({"endAfter": 1, "end": "gone"}), "").await;
    assert_eq!((events, after.as_secs()), (vec!["ADDED a".to_owned(), "ERROR 410".to_owned()], 1));
    let (events, after) = watch_events_under(json!({"endAfter": 0, "end": "gone"}), "").await;
    assert_eq!((events, after.as_secs()), (vec!["ERROR 410".to_owned()], 0));
    // A reader of the whole body gets no text if the body breaks off.
    let (events, after) = watch_events_under(json!({"endAfter": 1, "end": "break"}), "").await;
    assert_eq!((events.len(), after.as_secs()), (0, 1));

    let lab = lab().await;
    lab.fault(json!({"verb": "watch", "happen": false, "answer": 410})).await;
    let reply = lab.http("GET", &format!("{MAPS}?watch=true&resourceVersion=3"), None).await;
    assert_eq!((reply.status, &reply.body["reason"]), (410, &json!("Expired")), "410 as a status");
    let version = lab.create_map("a").await.body["metadata"]["resourceVersion"].clone();
    lab.create_map("b").await;
    lab.fault(json!({"history": "compact"})).await;
    let from = format!("&resourceVersion={}", version.as_str().expect("a version"));
    assert_eq!(lab.watch_events(9, &from).await, ["ERROR 410"], "410 as an event");
    let start = Instant::now();
    let drop = async {
        sleep(Duration::from_secs(2)).await;
        lab.fault(json!({"watches": "drop"})).await;
    };
    tokio::join!(lab.watch_events(30, ""), drop);
    assert_eq!(start.elapsed().as_secs(), 2, "all watches end");
}

#[tokio::test(start_paused = true)]
async fn stale_api_server_shares_one_write_order() {
    let lab = lab().await;
    lab.fault(json!({"replicas": {"lagMs": 2000, "seed": 3}})).await;
    sleep(Duration::from_secs(5)).await;
    let version = lab.create_map("a").await.body["metadata"]["resourceVersion"].clone();
    let version = version.as_str().expect("a version").to_owned();
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(lab.maps("?resourceVersion=0").await.len());
        assert_eq!(lab.maps("").await.len(), 1, "a list without a version is consistent");
    }
    assert!(seen.contains(&0) && seen.contains(&1), "a later list may be older: {seen:?}");
    // A call that requires a version gets it, possibly after a wait.
    let start = Instant::now();
    for _ in 0..8 {
        assert_eq!(lab.maps(&format!("?resourceVersion={version}")).await, ["a"]);
    }
    assert_eq!(start.elapsed().as_secs(), 2, "one call waits for the watch cache");
    // Both servers write to one store: a stale version conflicts on each.
    let patch = json!({"metadata": {"resourceVersion": version}, "data": {"k": "1"}});
    let mut codes = Vec::new();
    for _ in 0..8 {
        let path = format!("{MAPS}/a");
        codes.push(
            lab.http_as("application/merge-patch+json", "PATCH", &path, Some(patch.clone())).await.status,
        );
    }
    assert_eq!(codes, [200, 409, 409, 409, 409, 409, 409, 409]);
    // Events are late on some watches only.
    let mut late = Vec::new();
    for n in 0..12 {
        let watch = lab.watch_events(1, "&resourceVersion=0");
        let changes = async {
            sleep(Duration::from_millis(10)).await;
            lab.create_map(&format!("w{n}")).await;
        };
        let (events, _) = tokio::join!(watch, changes);
        late.push(!events.contains(&format!("ADDED w{n}")));
    }
    assert!(late.contains(&true) && late.contains(&false), "{late:?}");

    // A cache that lags far behind returns 504.
    lab.fault(json!({"replicas": {"lagMs": 60_000, "seed": 3}})).await;
    let version = lab.create_map("z").await.body["metadata"]["resourceVersion"].clone();
    let path = format!("{MAPS}?resourceVersion={}", version.as_str().expect("a version"));
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(lab.http("GET", &path, None).await.status);
    }
    assert!(codes.contains(&504) && codes.contains(&200), "{codes:?}");
    lab.fault(json!({"replicas": {"lagMs": 0}})).await;
    assert_eq!(lab.http("GET", &path, None).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn clock_change_does_not_delay_controllers() {
    let lab = Lab::new(2, Config { controller_qps: Some(5.0), ..Config::default() }).await;
    let made_at =
        |reply: &Reply| reply.body["metadata"]["creationTimestamp"].as_str().expect("a time").to_owned();
    let before = made_at(&lab.create_map("a").await);
    lab.fault(json!({"clock": {"stepMs": -3_600_000}})).await;
    let back = made_at(&lab.create_map("b").await);
    assert!(back < before, "{back} is not before {before}");
    let start = Instant::now();
    lab.create_ready_group(2).await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    lab.fault(json!({"clock": {"stepMs": 7_200_000}})).await;
    assert!(made_at(&lab.create_map("c").await) > before);
}

/// The group becomes ready, with one cut and one content per member, and its deletion leaves nothing.
async fn assert_converges(lab: &Lab, what: &str) {
    assert!(lab.becomes_true(2000, |lab| lab.is_ready(2)).await, "{what}: never ready");
    lab.wait_until_idle().await;
    assert_eq!((lab.contents().len(), lab.ledger()), (2, (2, 0, 0)), "{what}");
    lab.delete(GROUPS, &lab.group().expect("ready"));
    assert!(
        lab.becomes_true(900, |lab| lab.ledger() == (0, 0, 0) && lab.contents().is_empty()).await,
        "{what}: objects remain"
    );
}

/// Number of calls of an actor, without watches.
fn calls_of(lab: &Lab, actor: &str) -> u64 {
    let tally = lab.cluster.api().tally();
    ["get", "list"].iter().map(|verb| tally.calls(actor, verb)).sum::<u64>() + tally.writes(actor)
}

#[tokio::test(start_paused = true)]
async fn controller_can_stop_after_each_call() {
    for actor in ["snapshot-controller", "csi-snapshotter"] {
        let lab = Lab::new(2, Config::default()).await;
        let before = calls_of(&lab, actor);
        lab.create_ready_group(2).await;
        let all = calls_of(&lab, actor) - before;
        println!("{actor}: {all} calls until a group of two is ready");
        assert!(all >= 4, "{all}");
        for (action, calls) in (0..=all).flat_map(|calls| [("kill", calls), ("stop", calls)]) {
            let lab = Lab::new(2, Config::default()).await;
            lab.fault(json!({"actor": actor, "do": action, "afterCalls": calls, "forMs": 1500})).await;
            lab.create_group();
            let start = Instant::now();
            lab.wait_until("ready", |lab| lab.is_ready(2)).await;
            // After one of the last calls the group is ready without delay.
            let was_delayed = start.elapsed() >= Duration::from_millis(1500);
            assert!(was_delayed || calls + 4 >= all, "{actor} {action} after call {calls}: no effect");
            assert_converges(&lab, &format!("{actor} {action} after call {calls}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_controller_is_silent_killed_one_loses_caches() {
    let lab = Lab::new(1, Config::default()).await;
    lab.wait_until_idle().await;
    lab.fault(json!({"actor": "csi-snapshotter", "do": "stop"})).await;
    let before = lab.cluster.api().tally().0.get("csi-snapshotter").cloned();
    lab.create_group();
    sleep(Duration::from_secs(600)).await;
    let after = lab.cluster.api().tally().0.get("csi-snapshotter").cloned();
    assert_eq!(before, after, "a stopped controller makes no calls");
    lab.fault(json!({"actor": "csi-snapshotter", "do": "kill", "forMs": 1000})).await;
    lab.wait_until("ready", |lab| lab.is_ready(1)).await;
    let lists = lab.cluster.api().tally().calls("csi-snapshotter", "watch");
    assert_eq!(lists, 8, "four caches, filled twice");
}

#[tokio::test(start_paused = true)]
async fn named_fault_affects_only_one_controller() {
    // A throttled patch during the deletion of a group: the annotation that allows the sidecar to delete the
    // storage.
    let lab = Lab::new(2, Config::default()).await;
    lab.create_ready_group(2).await;
    lab.wait_until_idle().await;
    let fault = json!({"agent": "snapshot-controller", "verb": "patch", "plural": "volumegroupsnapshotcontents",
        "happen": false, "answer": {"code": 429, "retryAfter": 1}, "times": 3});
    lab.fault(fault).await;
    let failed = lab.cluster.failed_work("snapshot-controller");
    lab.delete(GROUPS, &lab.group().expect("ready"));
    lab.wait_until("freed", |lab| lab.ledger() == (0, 0, 0)).await;
    assert!(lab.cluster.failed_work("snapshot-controller") >= failed + 3);
}

#[tokio::test(start_paused = true)]
async fn same_seed_generates_same_faults() {
    let history = |seed: u64| async move {
        let lab = Lab::new(2, Config { seed, cache_lag_ms: 100, ..Config::default() }).await;
        let mut watch = lab.user.watch(GROUPS);
        for agent in ["snapshot-controller", "csi-snapshotter"] {
            lab.fault(json!({"seed": seed, "oneIn": 6, "agent": agent, "times": 8})).await;
        }
        lab.fault(json!([
            {"actor": "snapshot-controller", "do": "kill", "afterCalls": 9, "forMs": 700},
            {"clock": {"stepMs": 90_000}},
        ]))
        .await;
        lab.create_group();
        assert_converges(&lab, &format!("seed {seed}")).await;
        let events: Vec<_> = std::iter::from_fn(|| watch.try_next()).collect();
        (format!("{events:?}"), json!(lab.cluster.api().tally()).to_string())
    };
    let mut all = Vec::new();
    for seed in 1..=12 {
        let first = history(seed).await;
        assert_eq!(first, history(seed).await, "seed {seed}");
        all.push(first);
    }
    all.dedup();
    assert_eq!(all.len(), 12, "each seed gives another run");
}

#[tokio::test(start_paused = true)]
async fn driver_can_be_changed_at_runtime() {
    let lab = Lab::new(2, Config::default()).await;
    lab.fault(json!({"driver": {"failWith": ["Internal", "injected"]}})).await;
    lab.create_group();
    sleep(Duration::from_secs(60)).await;
    let error = lab.group_content().expect("exists")["status"]["error"]["message"].to_string();
    assert!(error.contains("code = Internal desc = injected"), "{error}");
    lab.fault(json!({"driver": {}})).await;
    assert_converges(&lab, "repaired").await;
}

#[tokio::test(start_paused = true)]
async fn accepts_every_documented_fault() {
    let text = include_str!("../../docs/simulator.md");
    let blocks: Vec<&str> =
        text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 8, "{} examples", blocks.len());
    for block in blocks {
        let lab = lab().await;
        let result = lab.cluster.add_fault(block);
        assert!(result.is_ok(), "{block}: {result:?}");
    }
    assert!(NAMESPACE == "t1" && MAPS.contains(NAMESPACE));
}
