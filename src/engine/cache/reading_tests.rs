//! Tests fresh reads and watches against an API server that is a map from paths to objects.

use std::collections::BTreeMap;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::cluster::kinds::{VolumeSnapshot, VolumeSnapshotContent};
use crate::domain::ids::Uid;
use crate::domain::limits;
use crate::domain::observed::ScopeMember;

const GROUPS: &str = "/apis/groupsnapshot.storage.k8s.io/v1";
const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1";

/// The objects of the API server, and the calls that it received, with their queries.
#[derive(Clone)]
struct Server {
    /// resourceVersion of every list.
    version: Arc<Mutex<String>>,
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    calls: Arc<Mutex<Vec<String>>>,
    /// Number of further watches that are answered with 410.
    expired: Arc<Mutex<usize>>,
    /// Whether a get by name is refused.
    forbids_get: Arc<Mutex<bool>>,
}

impl Default for Server {
    fn default() -> Self {
        let version = Arc::new(Mutex::new("90".to_owned()));
        Self {
            version,
            objects: Arc::default(),
            calls: Arc::default(),
            expired: Arc::default(),
            forbids_get: Arc::default(),
        }
    }
}

impl Server {
    async fn adapter(&self) -> Adapter {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let uri = request.uri().clone();
                let query = uri.query().unwrap_or_default();
                let (watches, tells) = (query.contains("watch=true"), query.contains("sendInitialEvents"));
                if watches {
                    server.calls.lock().expect("calls").push(format!("{}?{query}", uri.path()));
                }
                let (code, body) = match watches {
                    true if tells => status(422),
                    true if server.expires() => status(410),
                    true => std::future::pending().await,
                    false => server.answer(&uri),
                };
                let body = Body::from(body.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(code).body(body).expect("an answer"),
                )
            }
        });
        let adapter = Adapter::connect(Client::new(service, "default")).await.expect("a cluster");
        self.calls.lock().expect("calls").clear();
        adapter
    }

    fn expires(&self) -> bool {
        let mut expired = self.expired.lock().expect("expired");
        let expires = *expired > 0;
        *expired = expired.saturating_sub(1);
        expires
    }

    /// All objects below the path that match the name or the label of the query, else 404.
    fn answer(&self, uri: &http::Uri) -> (u16, Value) {
        let path = uri.path();
        let query = uri.query().unwrap_or_default();
        self.calls.lock().expect("calls").push(format!("{path}?{query}"));
        if path == "/apis" {
            let version = json!({"groupVersion": "groupsnapshot.storage.k8s.io/v1", "version": "v1"});
            let group = json!({"name": "groupsnapshot.storage.k8s.io", "versions": [version]});
            return (200, json!({"kind": "APIGroupList", "groups": [group]}));
        }
        let objects = self.objects.lock().expect("objects");
        if uri.query().is_none_or(|query| !query.contains("limit")) {
            return match objects.get(path) {
                Some(_) if *self.forbids_get.lock().expect("forbids") => status(403),
                Some(object) => (200, object.clone()),
                None => status(404),
            };
        }
        let items: Vec<_> = objects
            .iter()
            .filter(|(key, _)| key.starts_with(&format!("{path}/")))
            .filter(|(_, object)| {
                let run = object["metadata"]["labels"]["stillpoint.dev/run"].as_str();
                !query.contains("labelSelector") || run.is_some_and(|run| query.contains(run))
            })
            .filter(|(key, _)| {
                let name = key.rsplit('/').next().unwrap_or_default();
                !query.contains("fieldSelector") || query.contains(&format!("metadata.name%3D{name}&"))
            })
            .map(|(_, object)| object)
            .collect();
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": *self.version.lock().expect("version")}, "items": items}),
        )
    }

    fn put(&self, collection: &str, name: &str, version: u64, mut object: Value) {
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        if collection.contains("/namespaces/") {
            object["metadata"]["namespace"] = json!("shop");
        }
        self.objects.lock().expect("objects").insert(format!("{collection}/{name}"), object);
    }

    fn take(&self, collection: &str, name: &str) {
        self.objects.lock().expect("objects").remove(&format!("{collection}/{name}"));
    }

    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().expect("calls"))
    }
}

fn status(code: u16) -> (u16, Value) {
    (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "no"}))
}

fn collection(root: &str, namespaced: &str) -> String {
    format!("{root}/namespaces/shop/{namespaced}")
}

/// A run with one member, whose group, contents and snapshot exist.
fn one_member(server: &Server) -> Scope {
    server.put(&collection(GROUPS, "volumegroupsnapshots"), "g", 1, json!({"metadata": {}}));
    let reference = json!({"namespace": "shop", "name": "g", "uid": "uid-g"});
    let spec = json!({"deletionPolicy": "Delete", "volumeGroupSnapshotRef": reference});
    let contents = format!("{GROUPS}/volumegroupsnapshotcontents");
    server.put(&contents, "gc", 2, json!({"metadata": {}, "spec": spec}));
    let labels = json!({"labels": {"stillpoint.dev/run": "run-1"}});
    let status = json!({"boundVolumeSnapshotContentName": "c", "volumeGroupSnapshotName": "g"});
    let snapshot = json!({"metadata": labels, "status": status});
    server.put(&collection(SNAPSHOTS, "volumesnapshots"), "s", 3, snapshot);
    let spec = json!({
        "deletionPolicy": "Delete",
        "source": {"volumeHandle": "vol-1"},
        "volumeSnapshotRef": {"namespace": "shop", "name": "s"},
    });
    let contents = format!("{SNAPSHOTS}/volumesnapshotcontents");
    server.put(&contents, "c", 4, json!({"metadata": labels, "spec": spec}));
    Scope {
        run: "run-1".into(),
        backup: Uid::from("uid-b"),
        namespace: "shop".into(),
        group_name: "g".into(),
        group_uid: None,
        group_content: None,
        stub: "stub".into(),
        import: None,
        handles: vec![],
        group_class: "groups".into(),
        snapshot_class: "snaps".into(),
        members: vec![ScopeMember {
            claim: "data".into(),
            volume_handle: "vol-1".into(),
            snapshot: None,
            snapshot_uid: None,
            content: None,
            rebuilt: "rebuilt".into(),
        }],
        labelled: true,
    }
}

fn seen(cache: &Cache, scope: &Scope) -> [usize; 4] {
    let seen = cache.observe(scope, 1, true);
    let some = |present: bool| usize::from(present);
    [some(seen.group.is_some()), some(seen.content.is_some()), seen.snapshots.len(), seen.contents.len()]
}

/// The same run, with the members as recorded in its receipt.
fn recorded(scope: &Scope) -> Scope {
    let mut scope = scope.clone();
    scope.group_content = Some("gc".into());
    let member = &mut scope.members[0];
    (member.snapshot, member.content) = (Some("s".into()), Some("c".into()));
    member.snapshot_uid = Some(Uid::from("uid-s"));
    scope
}

/// All calls except those for one object.
fn lists(server: &Server) -> Vec<String> {
    server.calls().into_iter().filter(|call| call.contains("limit")).collect()
}

#[tokio::test(start_paused = true)]
async fn fills_empty_cache_by_listing_unnamed_objects() {
    let server = Server::default();
    let scope = one_member(&server);
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    assert_eq!(seen(&cache, &scope), [1, 1, 1, 1]);
    let listed = lists(&server);
    let plurals: Vec<_> = listed.iter().filter_map(|call| call.split(['/', '?']).nth_back(1)).collect();
    let expected = ["volumegroupsnapshotcontents", "volumesnapshots"];
    assert_eq!(plurals, expected, "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_run_with_receipt_by_name_only() {
    let server = Server::default();
    let scope = recorded(&one_member(&server));
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    for _ in 0..2 {
        cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
        assert_eq!(seen(&cache, &scope), [1, 1, 1, 1]);
        let calls = server.calls();
        // Group, content, stub, and the VolumeSnapshot and VolumeSnapshotContent of the member.
        assert_eq!(calls.len(), 5, "{calls:?}");
        assert!(calls.iter().all(|call| !call.contains("limit")), "{calls:?}");
    }
    // The member is lost: the one that may have been rebuilt in its place is read.
    server.take(&collection(SNAPSHOTS, "volumesnapshots"), "s");
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    assert!(server.calls().iter().any(|call| call.contains("volumesnapshots/rebuilt")));
    assert_eq!(seen(&cache, &scope), [1, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn removes_objects_that_return_404() {
    for with_receipt in [false, true] {
        let server = Server::default();
        let found = one_member(&server);
        let scope = if with_receipt { recorded(&found) } else { found };
        let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
        cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
        server.take(&collection(GROUPS, "volumegroupsnapshots"), "g");
        server.take(&format!("{GROUPS}/volumegroupsnapshotcontents"), "gc");
        server.take(&collection(SNAPSHOTS, "volumesnapshots"), "s");
        server.take(&format!("{SNAPSHOTS}/volumesnapshotcontents"), "c");
        cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
        assert_eq!(seen(&cache, &scope), [0, 0, 0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_object_older_than_cached_one() {
    let server = Server::default();
    let scope = recorded(&one_member(&server));
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    let snapshots = collection(SNAPSHOTS, "volumesnapshots");
    let ready = json!({"metadata": {}, "status": {"readyToUse": true}});
    server.put(&snapshots, "s", 9, ready);
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    // An etcd member that lags answers: with the old object, and with a list of that time.
    server.put(&snapshots, "s", 3, json!({"metadata": {}}));
    "5".clone_into(&mut server.version.lock().expect("version"));
    let old = cache.read_run(&adapter, &scope, &cache.min_versions()).await;
    assert!(matches!(old, Err(ReadError::Behind { read: 5, known: 9, .. })), "{old:?}");
    assert!(cache.observe(&scope, 1, true).snapshots[0].ready);
}

#[tokio::test(start_paused = true)]
async fn finds_object_missed_by_the_watch() {
    let server = Server::default();
    let scope = recorded(&one_member(&server));
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    let later: VolumeSnapshot = serde_json::from_value(json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "spec": {"source": {}},
        "metadata": {"namespace": "shop", "name": "later", "uid": "uid-later", "resourceVersion": "50"},
    }))
    .expect("a VolumeSnapshot");
    cache.apply(Event::Apply(later), |store| &mut store.snapshots);
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    assert_eq!(seen(&cache, &scope), [1, 1, 1, 1], "the list of its name is as of version 90");
}

#[tokio::test(start_paused = true)]
async fn lists_by_name_if_get_is_forbidden() {
    let server = Server::default();
    let scope = recorded(&one_member(&server));
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    *server.forbids_get.lock().expect("forbids") = true;
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    assert_eq!(seen(&cache, &scope), [1, 1, 1, 1]);
    assert!(lists(&server).iter().all(|call| call.contains("fieldSelector=metadata.name")));
    assert_eq!(adapter.forbidden(), 4, "the permissions are reviewed again");
}

/// Each Backup retains snapshots of the same volumes: later runs do not read them.
#[tokio::test(start_paused = true)]
async fn snapshots_of_earlier_runs_are_not_read_individually() {
    let server = Server::default();
    let (scope, mut told) = (one_member(&server), Vec::new());
    for index in 0..20 {
        let labels = json!({"labels": {"stillpoint.dev/run": "another"}});
        let (snapshot, content) = (format!("old-{index}"), format!("oldc-{index}"));
        let status = json!({"metadata": labels, "status": {"boundVolumeSnapshotContentName": content}});
        server.put(&collection(SNAPSHOTS, "volumesnapshots"), &snapshot, 3, status);
        let spec = json!({
            "deletionPolicy": "Retain",
            "source": {"volumeHandle": "vol-1"},
            "volumeSnapshotRef": {"namespace": "shop", "name": snapshot},
        });
        let contents = format!("{SNAPSHOTS}/volumesnapshotcontents");
        server.put(&contents, &content, 4, json!({"metadata": labels, "spec": spec}));
        let object = server.objects.lock().expect("objects")[&format!("{contents}/{content}")].clone();
        told.push(serde_json::from_value::<VolumeSnapshotContent>(object).expect("a content"));
    }
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    for content in told {
        cache.apply(Event::Apply(content), |store| &mut store.contents);
    }
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    let calls = server.calls();
    assert!(calls.iter().all(|call| !call.contains("/old")), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn object_without_label_is_not_removed() {
    let server = Server::default();
    let scope = one_member(&server);
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    let snapshot = json!({"metadata": {}, "status": {"readyToUse": true}});
    server.put(&collection(SNAPSHOTS, "volumesnapshots"), "s", 9, snapshot);
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    let observation = cache.observe(&scope, 1, true);
    assert_eq!(observation.snapshots.len(), 1);
    assert!(observation.snapshots[0].ready && observation.snapshots[0].labels.is_none());
}

#[tokio::test(start_paused = true)]
async fn failed_read_is_error_not_absence() {
    let server = Server::default();
    let scope = one_member(&server);
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    let path = collection(GROUPS, "volumegroupsnapshots");
    server.objects.lock().expect("objects").insert(format!("{path}/g"), json!("no object"));
    assert!(cache.read_run(&adapter, &scope, &cache.min_versions()).await.is_err());
    assert_eq!(seen(&cache, &scope), [1, 1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn rejects_read_older_than_known_version() {
    let server = Server::default();
    let scope = one_member(&server);
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    // We created the group, at version 1, and the answer is older than that.
    server.take(&collection(GROUPS, "volumegroupsnapshots"), "g");
    "0".clone_into(&mut server.version.lock().expect("version"));
    let old = cache.read_run(&adapter, &scope, &cache.min_versions()).await;
    assert!(matches!(old, Err(ReadError::Behind { read: 0, known: 1, .. })), "{old:?}");
    assert_eq!(seen(&cache, &scope), [1, 1, 1, 1]);
    // A version that is not a number is not compared.
    "opaque".clone_into(&mut server.version.lock().expect("version"));
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    assert_eq!(seen(&cache, &scope)[0], 0);
}

#[tokio::test(start_paused = true)]
async fn read_need_not_show_events_after_its_start() {
    let server = Server::default();
    let scope = one_member(&server);
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    let began = cache.min_versions();
    cache.read_run(&adapter, &scope, &began).await.expect("reads");
    "0".clone_into(&mut server.version.lock().expect("version"));
    cache.read_run(&adapter, &scope, &began).await.expect("not older than when it began");
}

#[tokio::test(start_paused = true)]
async fn watch_relists_after_410_at_start() {
    let server = Server::default();
    let backups = "/apis/velero.io/v1/namespaces/stillpoint/backups";
    *server.expired.lock().expect("expired") = 1000;
    let (cache, _watches) = Cache::start(&server.adapter().await, "stillpoint", 1);
    cache.synced().await;
    assert!(cache.backups().is_empty());
    let backup = json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {}, "spec": {}});
    server.put(backups, "nightly", 5, backup);
    cache.backups_changed().await;
    assert_eq!(cache.backups().len(), 1);
}

/// Kubernetes 1.33 refuses streaming lists by default, and older ones do not know them.
#[tokio::test(start_paused = true)]
async fn relists_periodically_without_streaming_list() {
    let server = Server::default();
    let backups = "/apis/velero.io/v1/namespaces/stillpoint/backups";
    let (cache, _watches) = Cache::start(&server.adapter().await, "stillpoint", 1);
    cache.synced().await;
    let backup = json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {}, "spec": {}});
    server.put(backups, "nightly", 91, backup);
    server.calls();
    let begun = tokio::time::Instant::now();
    cache.backups_changed().await;
    // This server never answers the watch, which is given up after half a minute, with a pause as long.
    let longest = limits::FULL_TELLING.0 / 1_000 + 120;
    let asked = begun.elapsed().as_secs();
    assert!((limits::FULL_TELLING.0 / 1_000..longest).contains(&asked), "after {asked} s");
    let calls: Vec<_> = server.calls().into_iter().filter(|call| call.starts_with(backups)).collect();
    let told = calls.iter().filter(|call| call.contains("sendInitialEvents=true")).count();
    let listed = calls.iter().filter(|call| call.contains("limit=")).count();
    assert_eq!((told, listed), (1, 1), "{calls:#?}");
    // Requested once, refused, and not requested again by this process.
    tokio::time::sleep(std::time::Duration::from_millis(2 * limits::FULL_TELLING.0)).await;
    let told = server.calls().iter().filter(|call| call.contains("sendInitialEvents=true")).count();
    assert_eq!(told, 0);
}

#[tokio::test(start_paused = true)]
async fn watches_end_when_handle_is_dropped() {
    let server = Server::default();
    *server.expired.lock().expect("expired") = usize::MAX;
    let (cache, watches) = Cache::start(&server.adapter().await, "stillpoint", 1);
    cache.synced().await;
    drop(watches);
    tokio::task::yield_now().await;
    server.calls();
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert!(server.calls().is_empty());
}

/// Runs are tasks: their futures have to be `Send`.
#[allow(dead_code)]
fn everything_can_be_awaited_in_a_task(
    cache: &'static Cache,
    adapter: &'static Adapter,
    scope: &'static Scope,
) {
    fn moves<T: Send + 'static>(_: T) {}
    moves(cache.read_run(adapter, scope, Box::leak(Box::new(cache.min_versions()))));
    moves(cache.synced());
    moves(cache.backups_changed());
    moves(Box::leak(Box::new(cache.subscribe(scope))).changed());
    moves(adapter.pods("shop"));
}

/// A watch that lost the deletion of a namespace, or of a class, does not preserve it for a run before its
/// receipt.
#[tokio::test(start_paused = true)]
async fn removes_namespace_and_class_deleted_unseen() {
    let server = Server::default();
    let scope = one_member(&server);
    let (adapter, cache) = (server.adapter().await, Cache::empty("stillpoint"));
    server.put("/api/v1/namespaces", "shop", 5, json!({"metadata": {}}));
    let classes = format!("{GROUPS}/volumegroupsnapshotclasses");
    server.put(&classes, "groups", 6, json!({"metadata": {}, "driver": "d", "deletionPolicy": "Delete"}));
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    let observed = cache.observe(&scope, 1, true);
    assert!(observed.namespace.is_some() && !observed.group_class_missing);
    server.take("/api/v1/namespaces", "shop");
    server.take(&classes, "groups");
    cache.read_run(&adapter, &scope, &cache.min_versions()).await.expect("reads");
    let observed = cache.observe(&scope, 1, true);
    assert!(observed.namespace.is_none() && observed.group_class_missing);
}
