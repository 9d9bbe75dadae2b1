//! Tests the two interfaces to the cluster and the caches against the embedded API server alone, without other
//! actors.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stillpoint::cluster::kinds::{BackupStatus, GroupSnapshotSpec, GroupSnapshotStatus};
use stillpoint::cluster::project::{KubeEvent, Shown};
use stillpoint::cluster::{Adapter, Claim, EffectResult};
use stillpoint::domain::ids::{ObjectId, StreamId, Uid};
use stillpoint::domain::labels;
use stillpoint::domain::observed::{DeletionPolicy, Observation, Scope, ScopeMember};
use stillpoint::domain::time::Timestamp;
use stillpoint::engine::cache::{Cache, Watches};
use stillpoint::journal::{Disk, Journal, MemoryStore, Record, StreamState};
use stillpoint::machine::group::GroupMachine;
use stillpoint::machine::group::effect::Effect;
use stillpoint::machine::group::effect::Unbound;
use stillpoint::machine::kit::Entry;
use stillpoint::machine::kit::Outcome;
use stillpoint::machine::kit::{Intent, Machine as _};
use stillpoint::sim::api_server::{Answer, ApiServer, ApiServerConfig, Caller, FaultDecision};
use stillpoint::sim::clock::SimClock;

/// An API server with one namespace, an adapter to it, a journal that issues tokens, and watches.
struct Testbed {
    server: ApiServer,
    hand: Caller,
    adapter: Adapter,
    journal: Journal,
    cache: Cache,
    _watches: Watches,
}

impl Testbed {
    async fn new(versions: &[&str]) -> Self {
        let server = ApiServer::new(ApiServerConfig {
            seed: 7,
            clock: SimClock::new(1_795_000_000_000_000_000),
            groupsnapshot_versions: versions.iter().map(|version| (*version).to_owned()).collect(),
        });
        let hand = server.caller("hand");
        for namespace in ["shop", "stillpoint"] {
            hand.create("namespaces", json!({"metadata": {"name": namespace}})).expect("a namespace");
        }
        let client = kube::Client::new(server.router(), "default");
        let adapter = Adapter::connect(client).await.expect("a cluster");
        let store = MemoryStore::open(&Disk::new()).expect("a store");
        let (journal, _) = Journal::open_task(store).expect("a journal");
        let (cache, watches) = Cache::start(&adapter, "stillpoint", 1);
        cache.synced().await;
        Self { server, hand, adapter, journal, cache, _watches: watches }
    }

    /// Performs one effect behind a durable intent, and applies the result to the caches.
    async fn perform(&self, effect: Effect) -> Outcome {
        let intent = Intent { effects: vec![GroupMachine::calls(&effect)] };
        let stream = StreamId::of_backup("one");
        let seq = self.journal.stream(stream).await.expect("a stream").len() as u64;
        let record = Record { kind: 1, version: 1, time_ns: 0, payload: Vec::new() };
        let durable = self.journal.append_durable(stream, seq, vec![record], StreamState::Open, intent).await;
        let EffectResult { outcome, object } = self.adapter.perform(&durable.expect("a record"), 0).await;
        object.into_iter().for_each(|object| self.cache.upsert(object));
        outcome
    }

    async fn done(&self, effect: Effect) {
        let outcome = self.perform(effect).await;
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }

    async fn refused(&self, effect: Effect, expected: u16) {
        let outcome = self.perform(effect).await;
        assert!(matches!(outcome, Outcome::Determinate { code, .. } if code == expected), "{outcome:?}");
    }

    fn observe(&self) -> Observation {
        self.cache.observe(&scope(), 1, false)
    }

    fn get(&self, plural: &str, namespace: Option<&str>, name: &str) -> Value {
        self.hand.get(plural, namespace, name).expect("an object")
    }

    /// Creates a member as the controllers leave it, and its content.
    fn member(&self) {
        let owner = json!({
            "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
            "name": "g", "uid": "u-group",
        });
        let content = json!({
            "metadata": {"name": "c", "finalizers": ["f/f"]},
            "spec": {
                "deletionPolicy": "Delete", "driver": "d", "source": {"volumeHandle": "vol-1"},
                "volumeSnapshotRef": {"kind": "VolumeSnapshot", "namespace": "shop", "name": "s"},
            },
        });
        self.hand.create("volumesnapshotcontents", content).expect("a content");
        let snapshot = json!({
            "metadata": {
                "name": "s", "namespace": "shop", "ownerReferences": [owner],
                "finalizers": [labels::IN_GROUP_PROTECTION, labels::AS_SOURCE_PROTECTION],
            },
            "spec": {"source": {"persistentVolumeClaimName": "data"}},
        });
        let mut snapshot = self.hand.create("volumesnapshots", snapshot).expect("a snapshot");
        snapshot["status"] = json!({
            "readyToUse": true, "volumeGroupSnapshotName": "g", "boundVolumeSnapshotContentName": "c",
        });
        self.hand.update_status("volumesnapshots", snapshot).expect("a status");
    }

    async fn until(&self, what: impl Fn(&Observation) -> bool) -> Observation {
        let waiting = self.cache.subscribe(&scope());
        loop {
            let seen = self.observe();
            if what(&seen) {
                return seen;
            }
            waiting.changed().await;
        }
    }
}

fn scope() -> Scope {
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
        labelled: false,
    }
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn create_group() -> Effect {
    Effect::CreateGroup {
        namespace: "shop".into(),
        name: "g".into(),
        labels: strings(&[(labels::RUN, "run-1")]),
        annotations: strings(&[(labels::EPOCH, "1")]),
        class: "groups".into(),
        selector: strings(&[("velero.io/volume-group", "db")]),
    }
}

#[tokio::test(start_paused = true)]
async fn handles_group_in_every_api_version() {
    for version in ["v1", "v1beta2", "v1beta1"] {
        let testbed = Testbed::new(&[version]).await;
        testbed.done(create_group()).await;
        let group = testbed.observe().group.expect("the answer is in the cache at once");
        assert_eq!((group.run.as_deref(), group.epoch, group.ready), (Some("run-1"), Some(1), false));
        testbed.refused(create_group(), 409).await;
        testbed.done(Effect::ClaimGroup { group: group.id.clone(), old: Some("1".into()), new: 2 }).await;
        testbed
            .refused(Effect::ClaimGroup { group: group.id.clone(), old: Some("1".into()), new: 3 }, 422)
            .await;
        let delete =
            |version: String| Effect::DeleteGroup { group: group.id.clone(), resource_version: version };
        testbed.refused(delete(group.resource_version.clone()), 409).await;
        let claimed = testbed.observe().group.expect("the group");
        assert_eq!(claimed.epoch, Some(2));
        testbed.done(delete(claimed.resource_version)).await;
        assert_eq!(testbed.observe().group, None);
        testbed.done(delete(String::from("1"))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn claims_both_group_shapes_without_epoch() {
    for annotations in [json!(null), json!({"somebody": "else"})] {
        let testbed = Testbed::new(&["v1"]).await;
        let group = json!({
            "metadata": {"name": "g", "namespace": "shop", "annotations": annotations},
            "spec": {"volumeGroupSnapshotClassName": "k", "source": {"selector": {"matchLabels": {"a": "b"}}}},
        });
        testbed.hand.create("volumegroupsnapshots", group).expect("a group");
        let group = testbed.until(|seen| seen.group.is_some()).await.group.expect("the group");
        testbed.done(Effect::ClaimGroup { group: group.id.clone(), old: None, new: 2 }).await;
        testbed.refused(Effect::ClaimGroup { group: group.id, old: None, new: 3 }, 422).await;
        assert_eq!(testbed.observe().group.and_then(|group| group.epoch), Some(2));
    }
}

#[tokio::test(start_paused = true)]
async fn labels_retains_and_releases_a_member() {
    let testbed = Testbed::new(&["v1"]).await;
    testbed.member();
    let seen = testbed.until(|seen| seen.contents.len() == 1 && seen.snapshots.iter().any(|s| s.ready)).await;
    let (snapshot, content) = (seen.snapshots[0].clone(), seen.contents[0].clone());
    let run = strings(&[(labels::RUN, "run-1")]);
    let receipt = strings(&[(labels::RECEIPT, "{}")]);
    let label = Effect::LabelMember {
        snapshot: snapshot.id.clone(),
        labels: Entry { seen: snapshot.labels.clone(), write: run.clone() },
        annotations: Entry { seen: snapshot.annotations.clone(), write: receipt.clone() },
    };
    testbed.done(label.clone()).await;
    testbed.refused(label, 422).await;
    let retain = Effect::SetContentPolicy {
        content: content.id.clone(),
        resource_version: content.resource_version.clone(),
        old: content.policy,
        new: DeletionPolicy::Retain,
        labels: Entry { seen: content.labels.clone(), write: run.clone() },
        annotations: Entry { seen: content.annotations.clone(), write: receipt },
    };
    testbed.done(retain.clone()).await;
    testbed.refused(retain, 422).await;
    let retained = testbed.observe().contents[0].clone();
    assert_eq!((retained.policy, retained.labels), (DeletionPolicy::Retain, Some(run)));

    let detach = || {
        let snapshot = testbed.observe().snapshots[0].clone();
        Effect::DetachMember {
            snapshot: snapshot.id,
            ready: true,
            group_name: None,
            old_owners: snapshot.owners,
            new_owners: Vec::new(),
            old_finalizers: snapshot.finalizers,
            new_finalizers: Vec::new(),
            old_class: snapshot.class,
            new_class: Some("snaps".into()),
        }
    };
    testbed.refused(detach(), 422).await;
    let name = |old: Option<&str>, new: Option<&str>| Effect::SetGroupName {
        snapshot: snapshot.id.clone(),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    testbed.done(name(Some("g"), None)).await;
    testbed.done(detach()).await;
    let released = testbed.observe().snapshots[0].clone();
    assert!(released.owners.is_empty() && released.finalizers.is_empty() && released.ready);
    assert_eq!((released.class.as_deref(), released.group_name), (Some("snaps"), None));
    testbed.done(name(None, Some("g"))).await;
    assert_eq!(testbed.get("volumesnapshots", Some("shop"), "s")["status"]["volumeGroupSnapshotName"], "g");
}

#[tokio::test(start_paused = true)]
async fn rebuilds_lost_member_and_deletes_leftovers() {
    let testbed = Testbed::new(&["v1"]).await;
    let (labels, annotations) = (strings(&[(labels::RUN, "run-1")]), BTreeMap::new());
    testbed
        .done(Effect::CreateContent {
            name: "rebuilt".into(),
            driver: "d".into(),
            snapshot_handle: "snap-1".into(),
            class: "snaps".into(),
            volume_mode: Some("Filesystem".into()),
            snapshot_namespace: "shop".into(),
            snapshot_name: "rebuilt".into(),
            labels: labels.clone(),
            annotations: annotations.clone(),
        })
        .await;
    testbed
        .done(Effect::CreateSnapshot {
            namespace: "shop".into(),
            name: "rebuilt".into(),
            content: "rebuilt".into(),
            class: "snaps".into(),
            labels: labels.clone(),
            annotations,
        })
        .await;
    testbed
        .done(Effect::CreateStub(Unbound {
            name: "stub".into(),
            driver: "d".into(),
            class: "groups".into(),
            group_handle: "group-1".into(),
            snapshot_handles: vec!["snap-1".into()],
            group_namespace: "shop".into(),
            group_name: "g".into(),
            labels,
        }))
        .await;
    let seen = testbed.observe();
    assert_eq!((seen.snapshots.len(), seen.contents.len(), seen.content), (1, 1, None));
    assert_eq!(seen.contents[0].snapshot_handle.as_deref(), Some("snap-1"));
    let stub = seen.stub.expect("the stub");
    testbed.done(Effect::DeleteGroupContent { content: stub, resource_version: None }).await;
    testbed.done(Effect::DeleteSnapshot { snapshot: seen.snapshots[0].id.clone() }).await;
    let mark = strings(&[("snapshot.storage.kubernetes.io/volumesnapshot-being-deleted", "yes")]);
    let content = &seen.contents[0];
    let annotations = Entry { seen: content.annotations.clone(), write: mark };
    testbed
        .done(Effect::DeleteContent { content: content.id.clone(), resource_version: None, annotations })
        .await;
    let seen = testbed.observe();
    assert_eq!((seen.snapshots.len(), seen.contents.len(), seen.stub), (0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn leaves_other_object_of_same_name_alone() {
    let testbed = Testbed::new(&["v1"]).await;
    testbed.member();
    let stranger = ObjectId { namespace: "shop".into(), name: "s".into(), uid: Uid::from("of-long-ago") };
    testbed.refused(Effect::DeleteSnapshot { snapshot: stranger.clone() }, 409).await;
    testbed.refused(Effect::SetGroupName { snapshot: stranger, old: Some("g".into()), new: None }, 422).await;
    assert_eq!(testbed.get("volumesnapshots", Some("shop"), "s")["status"]["volumeGroupSnapshotName"], "g");
}

#[tokio::test(start_paused = true)]
async fn fresh_read_resolves_a_lost_reply() {
    let testbed = Testbed::new(&["v1"]).await;
    for answer in [Answer::Drop, Answer::Status(504, None)] {
        testbed.server.set_faults(Box::new(move |call| match call.verb.as_str() {
            "create" => FaultDecision::of(true, answer.clone()),
            _ => FaultDecision::none(),
        }));
        let outcome = testbed.perform(create_group()).await;
        assert!(matches!(outcome, Outcome::Indeterminate { .. }), "{outcome:?}");
        testbed.server.clear_faults();
        testbed
            .cache
            .read_run(&testbed.adapter, &scope(), &testbed.cache.min_versions())
            .await
            .expect("reads");
        assert!(testbed.observe().group.is_some());
        testbed.hand.delete("volumegroupsnapshots", Some("shop"), "g", Default::default()).expect("gone");
        testbed.until(|seen| seen.group.is_none()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn caches_survive_dropped_watches_and_compacted_history() {
    let testbed = Testbed::new(&["v1"]).await;
    testbed.member();
    testbed.until(|seen| seen.snapshots.len() == 1).await;
    testbed.server.drop_watches();
    testbed.hand.delete("volumesnapshots", Some("shop"), "s", Default::default()).expect("terminating");
    testbed.server.compact();
    testbed.until(|seen| seen.snapshots.iter().all(|snapshot| snapshot.terminating)).await;
}

#[tokio::test(start_paused = true)]
async fn publishes_run_status_repeatedly() {
    let testbed = Testbed::new(&["v1"]).await;
    let spec = GroupSnapshotSpec { group: "db".into(), claims: vec!["data".into()], ..Default::default() };
    let show = async |state: &str, waiting: Option<&str>, is_new: bool| {
        let status = GroupSnapshotStatus {
            state: Some(state.to_owned()),
            waiting_for: waiting.map(str::to_owned),
            ..Default::default()
        };
        let labels = strings(&[(labels::RUN, "run-1")]);
        let turn = testbed.adapter.turn_to_show().await;
        let shown = Shown { namespace: "shop", name: "sp-db", labels: &labels, spec: &spec, status: &status };
        testbed.adapter.project_group_snapshot(turn, &shown, is_new).await.expect("shown");
        testbed.get("groupsnapshots", Some("shop"), "sp-db")
    };
    let first = show("Created", Some("the snapshot-controller"), true).await;
    assert_eq!(first["metadata"]["labels"][labels::RUN], "run-1");
    assert_eq!((&first["spec"]["group"], &first["status"]["state"]), (&json!("db"), &json!("Created")));
    assert_eq!(first["status"]["waitingFor"], "the snapshot-controller");
    let second = show("VSBound", None, false).await;
    assert_eq!(second["status"]["state"], "VSBound");
    assert!(second["status"].get("waitingFor").is_none(), "{second}");
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    // The object is not in the expected state: it exists already, or it is deleted.
    assert_eq!(show("Relabelled", None, true).await["metadata"]["uid"], first["metadata"]["uid"]);
    testbed.hand.delete("groupsnapshots", Some("shop"), "sp-db", Default::default()).expect("there");
    let again = show("Retained", None, false).await;
    assert_eq!(again["status"]["state"], "Retained");
    assert_ne!(again["metadata"]["uid"], first["metadata"]["uid"]);
}

#[tokio::test(start_paused = true)]
async fn label_key_and_phase_writes_keep_other_fields() {
    let testbed = Testbed::new(&["v1"]).await;
    let backup = json!({
        "metadata": {"name": "nightly", "namespace": "stillpoint"},
        "spec": {"includedNamespaces": ["shop"], "uploaderConfig": {"parallelFilesUpload": 2}},
    });
    let created = testbed.hand.create("backups", backup).expect("a Backup");
    let uid = Uid::from(created["metadata"]["uid"].as_str().expect("a uid"));
    let id = ObjectId { namespace: "stillpoint".into(), name: "nightly".into(), uid };
    let version = created["metadata"]["resourceVersion"].as_str();
    let claim = Claim { epoch: 3, journal: Some("j-1"), resource_version: version };
    testbed.cache.upsert(testbed.adapter.claim_backup(&id, &claim).await.expect("written"));
    testbed.adapter.claim_backup(&id, &claim).await.expect_err("the Backup has changed since");
    testbed.cache.upsert(testbed.adapter.project_label_key(&id, "app").await.expect("written"));
    let status = BackupStatus { phase: Some("InProgress".into()), ..Default::default() };
    testbed.cache.upsert(testbed.adapter.project_backup(&id, &status).await.expect("written"));
    let cached = testbed.cache.backup("stillpoint", "nightly").expect("the Backup");
    assert_eq!(cached.status.as_ref().and_then(|status| status.phase.as_deref()), Some("InProgress"));
    let status = BackupStatus { errors: Some(1), ..Default::default() };
    testbed.adapter.project_backup(&id, &status).await.expect("written");
    let now = testbed.get("backups", Some("stillpoint"), "nightly");
    assert_eq!((&now["status"]["phase"], &now["status"]["errors"]), (&json!("InProgress"), &json!(1)));
    assert_eq!(now["spec"]["volumeGroupSnapshotLabelKey"], "app");
    assert_eq!(now["metadata"]["annotations"]["stillpoint.dev/epoch"], "3");
    assert_eq!(now["metadata"]["annotations"]["stillpoint.dev/journal"], "j-1");
    assert_eq!(now["spec"]["uploaderConfig"]["parallelFilesUpload"], 2);
    let stranger = ObjectId { uid: Uid::from("of-long-ago"), ..id };
    testbed.adapter.project_backup(&stranger, &status).await.expect_err("another Backup of that name");
}

#[tokio::test(start_paused = true)]
async fn merges_identical_events_into_one() {
    let testbed = Testbed::new(&["v1"]).await;
    let event = KubeEvent {
        api_version: "velero.io/v1".into(),
        kind: "Backup".into(),
        object: ObjectId { namespace: "stillpoint".into(), name: "nightly".into(), uid: Uid::from("u1") },
        warning: true,
        reason: "GroupFailed".into(),
        action: "Unwind".into(),
        note: "the driver failed".into(),
        at: Timestamp(1_795_000_000_000_000_000),
    };
    testbed.adapter.project_event(&event).await.expect("told");
    testbed.adapter.project_event(&event).await.expect("told again");
    let events = testbed.hand.list("events", Some("stillpoint"), &BTreeMap::new()).expect("events");
    assert_eq!(events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn watches_cluster_without_group_api_but_cannot_write() {
    let testbed = Testbed::new(&[]).await;
    assert!(testbed.adapter.group_version().is_err());
    testbed.refused(create_group(), 404).await;
    let delete = Effect::DeleteGroup {
        group: ObjectId { namespace: "shop".into(), name: "g".into(), uid: Uid::from("u1") },
        resource_version: "1".into(),
    };
    testbed.refused(delete, 404).await;
}
