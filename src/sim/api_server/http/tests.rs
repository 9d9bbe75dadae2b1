//! Tests the server through kube, with the router as the transport, in paused time.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    Preconditions, PropagationPolicy, WatchEvent, WatchParams,
};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Discovery, Error};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::api_server::{Answer, ApiServer, ApiServerConfig, FaultDecision};
use crate::clock::SimClock;

fn server() -> ApiServer {
    ApiServer::new(ApiServerConfig {
        seed: 1,
        clock: SimClock::new(1_795_000_000_000_000_000),
        groupsnapshot_versions: ["v1", "v1beta2", "v1beta1"].map(str::to_owned).to_vec(),
    })
}

fn client(server: &ApiServer) -> Client {
    Client::new(server.router(), "default")
}

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn snapshots(server: &ApiServer) -> Api<DynamicObject> {
    Api::namespaced_with(
        client(server),
        "default",
        &resource("snapshot.storage.k8s.io", "v1", "VolumeSnapshot"),
    )
}

fn config_maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(client(server), "default")
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).expect("a Kubernetes object")
}

fn snapshot(name: &str) -> DynamicObject {
    object(
        json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": name},
        "spec": {"source": {"persistentVolumeClaimName": "p"}}}),
    )
}

fn config_map(name: &str, labels: &[(&str, &str)]) -> ConfigMap {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a ConfigMap")
}

fn code<T>(result: Result<T, Error>) -> u16 {
    match result {
        Err(Error::Api(status)) => status.code,
        Err(other) => panic!("{other}"),
        Ok(_) => 200,
    }
}

#[tokio::test(start_paused = true)]
async fn kube_client_creates_patches_and_deletes() {
    let server = server();
    let api = snapshots(&server);
    let made = api.create(&Default::default(), &snapshot("a")).await.expect("created");
    assert_eq!(code(api.create(&Default::default(), &snapshot("a")).await), 409);
    let status = json!({"status": {"readyToUse": true}});
    let ready =
        api.patch_status("a", &PatchParams::default(), &Patch::Merge(&status)).await.expect("patched");
    assert_eq!(ready.data["status"]["readyToUse"], true);
    let test: json_patch::Patch = serde_json::from_value(json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/hold"]},
    ]))
    .expect("a patch");
    let pending =
        api.patch("a", &PatchParams::default(), &Patch::Json::<()>(test.clone())).await.expect("patched");
    assert_eq!(pending.metadata.finalizers.as_deref(), Some(&["example.com/hold".to_owned()][..]));
    assert_eq!(code(api.patch("a", &PatchParams::default(), &Patch::Json::<()>(test)).await), 422);
    assert_eq!(code(api.patch("a", &PatchParams::default(), &Patch::Strategic(json!({}))).await), 415);
    let wrong = Preconditions { uid: Some("other".to_owned()), resource_version: None };
    assert_eq!(code(api.delete("a", &DeleteParams::default().preconditions(wrong)).await), 409);
    let matching = Preconditions { uid: made.metadata.uid, resource_version: None };
    let left =
        api.delete("a", &DeleteParams::default().preconditions(matching)).await.expect("deleted").left();
    assert!(left.is_some_and(|object| object.metadata.deletion_timestamp.is_some()));
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("a", &PatchParams::default(), &free).await.expect("freed");
    assert!(api.get_opt("a").await.expect("a response").is_none());
}

#[tokio::test(start_paused = true)]
async fn validation_errors_name_the_field() {
    let server = server();
    let mut without = snapshot("a");
    without.data["spec"]["source"] = json!({});
    let Err(Error::Api(status)) = snapshots(&server).create(&Default::default(), &without).await else {
        panic!("accepted")
    };
    let details = status.details.clone().expect("details");
    assert_eq!((status.code, details.kind.as_str()), (422, "VolumeSnapshot"));
    assert_eq!(details.causes[0].field, "spec.source");
}

#[tokio::test(start_paused = true)]
async fn list_pages_share_one_revision() {
    let server = server();
    let api = config_maps(&server);
    for name in ["a", "b", "c", "d"] {
        api.create(
            &Default::default(),
            &config_map(name, &[("odd", if name == "a" || name == "c" { "1" } else { "0" })]),
        )
        .await
        .expect("created");
    }
    let page = ListParams::default().limit(3);
    let first = api.list(&page).await.expect("listed");
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (3, Some(1)));
    api.delete("d", &DeleteParams::default()).await.expect("deleted");
    let token = first.metadata.continue_.expect("a continue token");
    let second = api.list(&page.clone().continue_token(&token)).await.expect("listed");
    assert_eq!(second.items[0].metadata.name.as_deref(), Some("d"), "the state of the first page");
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    server.compact();
    assert_eq!(code(api.list(&page.continue_token(&token)).await), 410);
    let odd = api.list(&ListParams::default().labels("odd=1")).await.expect("listed");
    assert_eq!(odd.items.len(), 2);
    let one = api.list(&ListParams::default().fields("metadata.name=b")).await.expect("listed");
    assert_eq!(one.items.len(), 1);
    assert_eq!(code(api.list(&ListParams::default().fields("spec.x=b")).await), 400);
}

#[tokio::test(start_paused = true)]
async fn watch_follows_selection_and_ends_with_bookmark() {
    let server = server();
    let api = config_maps(&server);
    api.create(&Default::default(), &config_map("a", &[("in", "1")])).await.expect("created");
    let version =
        api.list(&ListParams::default()).await.expect("listed").metadata.resource_version.expect("set");
    let params = WatchParams::default().labels("in=1").timeout(90);
    let mut stream = api.watch(&params, &version).await.expect("watching").boxed();
    api.create(&Default::default(), &config_map("b", &[])).await.expect("created");
    for labels in [json!({"in": null}), json!({"in": "1"}), json!({"more": "1"})] {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        api.patch("a", &PatchParams::default(), &patch).await.expect("patched");
    }
    let mut seen = Vec::new();
    while let Some(event) = stream.try_next().await.expect("readable") {
        seen.push(match event {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            WatchEvent::Bookmark(_) => "bookmark",
            WatchEvent::Error(_) => "error",
        });
    }
    assert_eq!(seen, ["deleted", "added", "modified", "bookmark", "bookmark"], "at 60 s and at the end");
}

#[tokio::test(start_paused = true)]
async fn watch_before_history_receives_410_in_stream() {
    let server = server();
    let api = config_maps(&server);
    api.create(&Default::default(), &config_map("a", &[])).await.expect("created");
    server.compact();
    let mut stream = api.watch(&WatchParams::default(), "1").await.expect("watching").boxed();
    let first = stream.try_next().await.expect("readable");
    assert!(
        matches!(first, Some(WatchEvent::Error(status)) if status.code == 410 && status.reason == "Expired")
    );
    assert!(stream.try_next().await.expect("readable").is_none());
}

async fn applied(config: watcher::Config) -> Vec<String> {
    let server = server();
    let api = config_maps(&server);
    api.create(&Default::default(), &config_map("a", &[])).await.expect("created");
    let mut stream = watcher::watcher(api.clone(), config).boxed();
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("apply e") {
        let event = tokio::time::timeout(Duration::from_secs(3600), stream.next()).await.expect("no event");
        match event {
            Some(Ok(Event::InitApply(object))) => {
                seen.push(format!("init {}", object.metadata.name.unwrap_or_default()))
            }
            Some(Ok(Event::InitDone)) if seen.len() < 3 => {
                api.create(&Default::default(), &config_map("b", &[])).await.expect("created");
                seen.push("done".to_owned());
            }
            Some(Ok(Event::Apply(object))) => {
                let name = object.metadata.name.unwrap_or_default();
                if name == "b" {
                    // The stream breaks, and the history to resume from was compacted.
                    server.drop_watches();
                    api.delete("b", &DeleteParams::default()).await.expect("deleted");
                    server.compact();
                    api.create(&Default::default(), &config_map("e", &[])).await.expect("created");
                }
                seen.push(format!("apply {name}"));
            }
            Some(Ok(Event::InitDone)) => return seen,
            Some(Ok(_)) => {}
            Some(Err(error)) => seen.push(format!(
                "error {}",
                error.to_string().contains("410") || matches!(error, watcher::Error::WatchError(_))
            )),
            None => panic!("the watcher ended"),
        }
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn watcher_lists_again_after_410() {
    let seen = applied(watcher::Config::default()).await;
    assert_eq!(seen, ["init a", "done", "apply b", "error true", "init a", "init e"]);
}

#[tokio::test(start_paused = true)]
async fn watcher_uses_streaming_list() {
    let seen = applied(watcher::Config::default().streaming_lists()).await;
    assert_eq!(seen, ["init a", "done", "apply b", "error true", "init a", "init e"]);
}

#[tokio::test(start_paused = true)]
async fn server_side_apply_creates_and_changes() {
    let server = server();
    let api = config_maps(&server);
    let params = PatchParams::apply("stillpoint");
    let apply = |data: Value| {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
        let (api, params) = (api.clone(), params.clone());
        async move { api.patch("a", &params, &Patch::Apply(object)).await }
    };
    let first = apply(json!({"x": "1", "y": "1"})).await.expect("created");
    let same = apply(json!({"x": "1", "y": "1"})).await.expect("applied");
    assert_eq!(same.metadata.resource_version, first.metadata.resource_version);
    let next = apply(json!({"x": "2"})).await.expect("applied");
    assert_eq!(serde_json::to_value(next.data).expect("data"), json!({"x": "2"}));
}

#[tokio::test(start_paused = true)]
async fn both_discovery_formats_list_served_versions() {
    let server = server();
    for discovery in [
        Discovery::new(client(&server)).run().await.expect("discovered"),
        Discovery::new(client(&server)).run_aggregated().await.expect("discovered"),
    ] {
        let group = discovery.get("groupsnapshot.storage.k8s.io").expect("served");
        assert_eq!(group.versions().collect::<Vec<_>>(), ["v1", "v1beta2", "v1beta1"]);
        let gvk = GroupVersionKind::gvk("groupsnapshot.storage.k8s.io", "v1", "VolumeGroupSnapshot");
        let (found, capabilities) = discovery.resolve_gvk(&gvk).expect("found");
        assert_eq!(found.plural, "volumegroupsnapshots");
        assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural.ends_with("status")));
    }
}

#[tokio::test(start_paused = true)]
async fn serves_group_snapshot_content_in_three_versions() {
    let server = server();
    let content = json!({"metadata": {"name": "c"}, "spec": {"deletionPolicy": "Delete", "driver": "d",
        "source": {"volumeHandles": ["h"]}, "volumeGroupSnapshotRef": {"name": "g", "namespace": "default"}}});
    let caller = server.caller("sidecar");
    caller.create("volumegroupsnapshotcontents", content).expect("created");
    let status = json!({"status": {"readyToUse": true, "volumeSnapshotInfoList": [{"volumeHandle": "h"}]}});
    caller.merge_patch("volumegroupsnapshotcontents", None, "c", Some("status"), status).expect("patched");
    let api = |version: &str| -> Api<DynamicObject> {
        Api::all_with(
            client(&server),
            &resource("groupsnapshot.storage.k8s.io", version, "VolumeGroupSnapshotContent"),
        )
    };
    let old = api("v1beta1");
    assert!(old.get("c").await.expect("read").data["status"]["volumeSnapshotInfoList"].is_null());
    let retain = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    old.patch("c", &PatchParams::default(), &retain).await.expect("patched");
    let new = api("v1beta2").get("c").await.expect("read");
    assert_eq!(new.types.expect("typed").api_version, "groupsnapshot.storage.k8s.io/v1beta2");
    assert_eq!(new.data["spec"]["deletionPolicy"], "Retain");
    assert_eq!(new.data["status"]["volumeSnapshotInfoList"][0]["volumeHandle"], "h");
}

#[tokio::test(start_paused = true)]
async fn fault_decides_write_and_response_independently() {
    let server = server();
    let api = config_maps(&server);
    let decide = |happen: bool, answer: Answer| {
        let decision = FaultDecision::of(happen, answer).with_reply_delay(5);
        server.set_faults(Box::new(move |call| {
            assert_eq!((call.agent.as_str(), call.plural.as_str()), ("unknown", "configmaps"));
            if call.verb == "create" { decision.clone() } else { FaultDecision::none() }
        }));
    };
    decide(true, Answer::Drop);
    let lost = api.create(&Default::default(), &config_map("a", &[])).await;
    assert!(lost.is_err() && !matches!(lost, Err(Error::Api(_))), "not a response: {lost:?}");
    assert!(api.get("a").await.is_ok(), "the write was applied");
    decide(false, Answer::Drop);
    assert!(api.create(&Default::default(), &config_map("b", &[])).await.is_err());
    assert_eq!(code(api.get("b").await), 404);
    decide(true, Answer::Status(504, None));
    assert_eq!(code(api.create(&Default::default(), &config_map("c", &[])).await), 504);
    server.clear_faults();
    assert!(api.get("c").await.is_ok(), "the write was applied");
}

#[tokio::test(start_paused = true)]
async fn serves_partial_metadata_and_items_without_type() {
    let server = server();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client(&server), "default");
    let pvc = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {}})).expect("a PVC");
    let made = api.create(&Default::default(), &pvc).await.expect("created");
    assert_eq!(made.status.expect("set").phase.as_deref(), Some("Pending"));
    let partial = api.list_metadata(&ListParams::default()).await.expect("listed");
    assert_eq!(partial.items[0].metadata.name.as_deref(), Some("p"));
    let dynamic: Api<DynamicObject> =
        Api::all_with(client(&server), &resource("", "v1", "PersistentVolumeClaim"));
    let list = dynamic.list(&ListParams::default()).await.expect("listed");
    assert!(list.items[0].types.is_none(), "built-in kinds have no type in lists");
}

#[tokio::test(start_paused = true)]
async fn orphaned_dependents_lose_only_the_reference() {
    let cluster = crate::Cluster::start(crate::Config::default());
    let api = config_maps(cluster.api());
    let owner = api.create(&Default::default(), &config_map("owner", &[])).await.expect("created");
    let mut dependent = config_map("dependent", &[]);
    dependent.metadata.owner_references = Some(vec![
        serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}),
        )
        .expect("a reference"),
    ]);
    api.create(&Default::default(), &dependent).await.expect("created");
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    let pending = api.delete("owner", &orphan).await.expect("deleted").left().expect("pending");
    assert_eq!(
        pending.metadata.finalizers.unwrap_or_default(),
        ["orphan"],
        "until the garbage collector removes it"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(code(api.get("owner").await), 404);
    assert!(api.get("dependent").await.expect("stays").metadata.owner_references.is_none());
}

/// Sends one raw request. Returns code, headers and body of the reply.
async fn raw(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, http::HeaderMap, Value) {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(axum::body::Body::from(body.to_owned())).expect("a request");
    let response = server.router().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn unserved_request_is_refused_with_status() {
    let server = server();
    let rows = [
        ("GET", "/foo", "application/json", 404, "NotFound"),
        (
            "GET",
            "/apis/velero.io/v1/namespaces/default/backups/a/status",
            "application/json",
            404,
            "NotFound",
        ),
        ("POST", "/api/v1/configmaps", "application/json", 405, "MethodNotAllowed"),
        ("PUT", "/api/v1/namespaces/default/configmaps", "application/json", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/configmaps", "text/plain", 415, "UnsupportedMediaType"),
        ("POST", "/api/v1/namespaces/default/configmaps", "application/json", 400, "BadRequest"),
    ];
    for (method, path, media, code, reason) in rows {
        let (got, _, body) = raw(&server, method, path, &[("content-type", media)], "{}").await;
        assert_eq!(
            (got, body["reason"].as_str(), body["kind"].as_str()),
            (code, Some(reason), Some("Status")),
            "{method} {path}"
        );
    }
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(raw(&server, "GET", "/api/v1/pods", &protobuf, "").await.0, 406);
}

#[tokio::test(start_paused = true)]
async fn field_validation_drops_or_rejects_unknown_field() {
    let server = server();
    let body = json!({"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "a"},
        "spec": {"snapshotMoveDate": true}})
    .to_string();
    let path = "/apis/velero.io/v1/namespaces/default/backups";
    let (code, _, status) = raw(&server, "POST", &format!("{path}?fieldValidation=Strict"), &[], &body).await;
    assert_eq!(code, 400);
    let message = "Backup in version \"v1\" cannot be handled as a Backup: strict decoding error: unknown field \"spec.snapshotMoveDate\"";
    assert_eq!(status["message"], message);
    let (code, _, made) = raw(&server, "POST", path, &[], &body).await;
    assert_eq!((code, &made["spec"]), (201, &json!({})));
}

#[tokio::test(start_paused = true)]
async fn table_request_warns_about_deprecated_version() {
    let server = server();
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (_, headers, body) =
        raw(&server, "GET", "/apis/groupsnapshot.storage.k8s.io/v1beta1/volumegroupsnapshots", &table, "")
            .await;
    assert_eq!(body["columnDefinitions"][1]["name"], "ReadyToUse");
    let warning = "299 - \"groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshot is deprecated; use groupsnapshot.storage.k8s.io/v1 VolumeGroupSnapshot\"";
    assert_eq!(headers.get("warning").and_then(|value| value.to_str().ok()), Some(warning));
    let (_, headers, _) =
        raw(&server, "GET", "/apis/groupsnapshot.storage.k8s.io/v1/volumegroupsnapshots", &[], "").await;
    assert!(headers.get("warning").is_none());
}

#[tokio::test(start_paused = true)]
async fn counts_calls_by_agent_and_sends_retry_after() {
    let server = server();
    let agent = [("user-agent", "stillpoint/0.1.0")];
    raw(&server, "GET", "/api/v1/pods", &agent, "").await;
    assert_eq!(server.tally().calls("stillpoint", "list"), 1);
    server.set_faults(Box::new(|_| FaultDecision::of(false, Answer::Status(429, Some(3)))));
    let (code, headers, body) = raw(&server, "GET", "/api/v1/pods", &agent, "").await;
    assert_eq!((code, &body["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(headers["retry-after"], "3");
    assert_eq!(raw(&server, "GET", "/version", &agent, "").await.0, 200, "faults apply only to resources");
}

#[tokio::test(start_paused = true)]
async fn access_reviews_are_answered_and_not_stored() {
    let server = server();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": {}});
    let (code, _, body) = raw(&server, "POST", path, &[], &review.to_string()).await;
    assert_eq!((code, &body["status"]["allowed"]), (201, &json!(true)));
    assert_eq!(raw(&server, "GET", path, &[], "").await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn put_requires_existing_object_and_resource_version() {
    let server = server();
    let path = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots/a";
    let body = serde_json::to_string(&snapshot("a")).expect("serializes");
    assert_eq!(raw(&server, "PUT", path, &[], &body).await.0, 404);
    snapshots(&server).create(&Default::default(), &snapshot("a")).await.expect("created");
    assert_eq!(raw(&server, "PUT", path, &[], &body).await.0, 422);
    assert_eq!(raw(&server, "PUT", path, &[], &body.replace("\"a\"", "\"b\"")).await.0, 400, "another name");
}

#[tokio::test(start_paused = true)]
async fn same_calls_give_same_bytes() {
    async fn run() -> String {
        let server = server();
        let api = snapshots(&server);
        for name in ["a", "b"] {
            api.create(&Default::default(), &snapshot(name)).await.expect("created");
            tokio::time::advance(Duration::from_secs(7)).await;
        }
        let path = "/apis/snapshot.storage.k8s.io/v1/volumesnapshots";
        raw(&server, "GET", path, &[], "").await.2.to_string()
    }
    assert_eq!(run().await, run().await);
}

#[tokio::test(start_paused = true)]
async fn malformed_body_is_a_bad_request() {
    let server = server();
    let merge = [("content-type", "application/merge-patch+json")];
    let json_patch = [("content-type", "application/json-patch+json")];
    let namespace = "/api/v1/namespaces/default";
    for patch in [
        "\"x\"",
        "[]",
        "{\"metadata\": 1}",
        "{\"metadata\": {\"labels\": 1}}",
        "{\"metadata\": {\"finalizers\": [1]}}",
    ] {
        assert_eq!(raw(&server, "PATCH", namespace, &merge, patch).await.0, 400, "{patch}");
    }
    let replaced = r#"[{"op": "replace", "path": "/metadata", "value": "x"}]"#;
    assert_eq!(raw(&server, "PATCH", namespace, &json_patch, replaced).await.0, 400);
    let nameless = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": "x"}"#;
    assert_eq!(raw(&server, "POST", "/api/v1/namespaces", &[], nameless).await.0, 400);
    let watch = "/api/v1/pods?watch=true&resourceVersion=1&timeoutSeconds=18446744073709551615";
    server.compact();
    assert_eq!(raw(&server, "GET", watch, &[], "").await.0, 200, "any limit is accepted");
}

#[tokio::test(start_paused = true)]
async fn starting_server_refuses_all_then_custom_resources() {
    let server = server();
    let refused = async |what: &str| match snapshots(&server).list(&ListParams::default()).await {
        Ok(_) => 0,
        Err(Error::Api(status)) if status.message.contains(what) => status.code,
        Err(error) => panic!("{error}"),
    };
    let ready = async || {
        client(&server).request_text(http::Request::get("/readyz").body(vec![]).expect("a request")).await
    };
    assert_eq!((refused("").await, ready().await.is_ok()), (0, true));
    server.restart(Duration::from_secs(5), Duration::from_secs(2));
    assert_eq!(refused("\"system:discovery\" not found").await, 403);
    let discovery = client(&server).list_api_groups().await.expect_err("403");
    assert!(discovery.to_string().contains("cannot get path \"/apis\""), "{discovery}");
    assert!(ready().await.is_err());
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(refused("storage is (re)initializing").await, 429);
    client(&server).list_api_groups().await.expect("discovery");
    config_maps(&server).list(&ListParams::default()).await.expect("built-in kinds are served");
    assert!(ready().await.is_err());
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((refused("").await, ready().await.is_ok()), (0, true));
}

#[tokio::test(start_paused = true)]
async fn consistent_list_waits_for_watch_cache() {
    let server = server();
    server.set_list_delay(70);
    let took = async |call: &str| {
        let begun = tokio::time::Instant::now();
        let request =
            http::Request::get(format!("/api/v1/namespaces{call}")).body(vec![]).expect("a request");
        client(&server).request_text(request).await.expect("a response");
        begun.elapsed().as_millis()
    };
    assert_eq!((took("").await, took("?limit=1").await, took("?resourceVersion=0").await), (70, 70, 0));
    assert_eq!(took("/default").await, 0);
}
