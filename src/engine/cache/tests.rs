//! Tests the observation of one run in a cluster with other objects.

use futures::FutureExt;
use serde_json::{Value, json};

use super::*;
use crate::cluster::kinds::{Backup, VolumeGroupSnapshot};
use crate::domain::ids::{ObjectId, Uid};
use crate::domain::observed::ScopeMember;
use crate::machine::kit::Kind;

fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the API")
}

fn meta(namespace: &str, name: &str, version: u64) -> Value {
    let mut meta =
        json!({"name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string()});
    if !namespace.is_empty() {
        meta["namespace"] = json!(namespace);
    }
    meta
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
            rebuilt: "rebuilt-1".into(),
        }],
        labelled: false,
    }
}

struct Fixture(Cache);

impl Fixture {
    fn new() -> Self {
        Self(Cache::empty("stillpoint"))
    }

    fn group(&self, name: &str, version: u64) {
        let group = json!({"metadata": meta("shop", name, version)});
        self.0.apply(Event::Apply(read(group)), |store| &mut store.groups);
    }

    fn group_content(&self, name: &str, group: &str, group_uid: &str) {
        let content = json!({
            "metadata": meta("", name, 10),
            "spec": {
                "deletionPolicy": "Delete",
                "source": {"volumeHandles": ["vol-1"]},
                "volumeGroupSnapshotRef": {"namespace": "shop", "name": group, "uid": group_uid},
            },
        });
        self.0.apply(Event::Apply(read(content)), |store| &mut store.group_contents);
    }

    fn content(&self, name: &str, namespace: &str, snapshot: &str, source: Value, version: u64) {
        let content = json!({
            "metadata": meta("", name, version),
            "spec": {
                "deletionPolicy": "Delete",
                "source": source,
                "volumeSnapshotRef": {"namespace": namespace, "name": snapshot},
            },
        });
        self.0.apply(Event::Apply(read(content)), |store| &mut store.contents);
    }

    fn snapshot(&self, name: &str, owner_uid: Option<&str>, group: Option<&str>, version: u64) {
        let mut metadata = meta("shop", name, version);
        if let Some(uid) = owner_uid {
            metadata["ownerReferences"] = json!([{
                "apiVersion": "groupsnapshot.storage.k8s.io/v1beta2", "kind": "VolumeGroupSnapshot",
                "name": "whatever", "uid": uid,
            }]);
        }
        let snapshot = json!({"metadata": metadata, "status": {"volumeGroupSnapshotName": group}});
        self.0.apply(Event::Apply(read(snapshot)), |store| &mut store.snapshots);
    }

    fn names(&self, scope: &Scope) -> (Vec<String>, Vec<String>) {
        let seen = self.0.observe(scope, 1, false);
        let snapshots = seen.snapshots.into_iter().map(|snapshot| snapshot.id.name).collect();
        (snapshots, seen.contents.into_iter().map(|content| content.id.name).collect())
    }
}

fn handle(handle: &str) -> Value {
    json!({ "volumeHandle": handle })
}

#[test]
fn empty_cache_yields_default_observation() {
    let seen = Cache::empty("stillpoint").observe(&scope(), 7, true);
    assert_eq!(
        seen,
        Observation { epoch: 7, fresh: true, group_class_missing: true, ..Observation::default() }
    );
}

#[test]
fn matches_contents_by_volume_handle_or_computed_name() {
    let cache = Fixture::new();
    cache.content("of-volume", "shop", "s1", handle("vol-1"), 1);
    cache.content("of-other-volume", "shop", "s2", handle("vol-2"), 2);
    cache.content("of-other-namespace", "elsewhere", "s3", handle("vol-1"), 3);
    cache.content("rebuilt-1", "shop", "rebuilt-1", json!({"snapshotHandle": "snap-1"}), 4);
    assert_eq!(cache.names(&scope()).1, ["of-volume", "rebuilt-1"]);
}

#[test]
fn matches_snapshots_by_content_owner_group_or_name() {
    let cache = Fixture::new();
    cache.group("g", 1);
    cache.content("c", "shop", "by-content", handle("vol-1"), 1);
    cache.snapshot("by-content", None, None, 1);
    cache.snapshot("by-owner", Some("uid-g"), None, 2);
    cache.snapshot("by-group-name", None, Some("g"), 3);
    cache.snapshot("by-record", None, None, 4);
    cache.snapshot("of-another-group", Some("uid-h"), Some("h"), 5);
    assert_eq!(cache.names(&scope()).0, ["by-content", "by-group-name", "by-owner"]);
    let mut recorded = scope();
    recorded.members[0].snapshot = Some("by-record".into());
    assert!(cache.names(&recorded).0.contains(&"by-record".to_owned()));
}

#[test]
fn finds_member_by_owner_uid_after_group_deletion() {
    let cache = Fixture::new();
    cache.snapshot("s", Some("uid-g"), None, 2);
    assert!(cache.names(&scope()).0.is_empty());
    let known = Scope { group_uid: Some(Uid::from("uid-g")), ..scope() };
    assert_eq!(cache.names(&known).0, ["s"]);
}

#[test]
fn selects_content_by_group_uid_not_stub() {
    let cache = Fixture::new();
    cache.group_content("stub", "g", "");
    let seen = cache.0.observe(&scope(), 1, false);
    assert_eq!((seen.content, seen.stub.map(|stub| stub.name)), (None, Some("stub".into())));
    cache.group_content("a-foreign-one", "g", "uid-old");
    cache.group_content("ours", "g", "uid-g");
    cache.group("g", 20);
    let seen = cache.0.observe(&scope(), 1, false);
    assert_eq!(seen.content.map(|content| content.id.name).as_deref(), Some("ours"));
}

#[test]
fn unlabelled_content_with_recorded_handle_counts_as_imported() {
    let cache = Fixture::new();
    let scope = Scope { handles: vec!["group-1".into(), "snap-1".into()], ..scope() };
    cache.content("of-the-same-volume", "shop", "s1", handle("vol-1"), 1);
    cache.content("of-another-handle", "shop", "s2", json!({"snapshotHandle": "snap-2"}), 2);
    assert!(!cache.0.observe(&scope, 1, true).taken);
    cache.content("saved", "elsewhere", "s3", json!({"snapshotHandle": "snap-1"}), 3);
    assert!(cache.0.observe(&scope, 1, true).taken);
}

#[test]
fn next_observation_includes_responses_and_deletions() {
    let cache = Fixture::new();
    let group =
        |version: u64| ObjectChange::Group(Arc::new(read(json!({"metadata": meta("shop", "g", version)}))));
    cache.0.upsert(group(5));
    assert!(cache.0.observe(&scope(), 1, false).group.is_some());
    let id = ObjectId { namespace: "shop".into(), name: "g".into(), uid: Uid::from("uid-g") };
    cache.0.upsert(ObjectChange::Gone(Kind::VolumeGroupSnapshot, id));
    cache.group("g", 4);
    assert_eq!(cache.0.observe(&scope(), 1, false).group, None, "a late event");
}

#[test]
fn run_is_notified_only_of_relevant_changes() {
    let cache = Fixture::new();
    let mut waiting = cache.0.subscribe(&scope());
    let woken = |waiting: &Subscription| waiting.changed().now_or_never().is_some();
    assert!(!woken(&waiting));
    cache.group("h", 1);
    cache.content("of-other-volume", "shop", "s2", handle("vol-2"), 1);
    cache.snapshot("foreign", Some("uid-h"), Some("h"), 2);
    assert!(!woken(&waiting), "another group");
    cache.group("g", 3);
    cache.content("c", "shop", "s", handle("vol-1"), 4);
    assert!(woken(&waiting));
    assert!(!woken(&waiting), "two changes in between count as one");
    cache.content("c", "shop", "s", handle("vol-1"), 4);
    assert!(!woken(&waiting), "the same look again");
    cache.snapshot("member", None, Some("g"), 5);
    assert!(woken(&waiting), "a snapshot that names the group");
    cache.snapshot("member", None, None, 6);
    assert!(woken(&waiting), "the same snapshot, which names it no more");
    cache.snapshot("member", None, None, 7);
    assert!(!woken(&waiting));
    let mut recorded = scope();
    recorded.members[0].snapshot = Some("member".into());
    waiting.set_interest(&Arc::new(recorded));
    cache.snapshot("member", None, None, 8);
    assert!(woken(&waiting), "its name is recorded now");
}

#[test]
fn dropped_subscription_is_removed_completely() {
    let cache = Fixture::new();
    let before = format!("{:?}", cache.0.store().subscriptions);
    drop(cache.0.subscribe(&scope()));
    let after = format!("{:?}", cache.0.store().subscriptions);
    assert_eq!(before.replace("next: 2", "next: 3"), after);
}

#[test]
fn queue_is_notified_of_backups() {
    let cache = Cache::empty("stillpoint");
    assert!(cache.backups_changed().now_or_never().is_none());
    let backup = json!({"metadata": meta("stillpoint", "nightly", 1), "spec": {}, "apiVersion": "velero.io/v1", "kind": "Backup"});
    cache.apply(Event::Apply(read(backup)), |store| &mut store.backups);
    assert!(cache.backups_changed().now_or_never().is_some());
    assert_eq!(cache.backups().len(), 1);
}

/// The fence outlives the object that carries it: the watch delivers the claim before the deletion of the
/// group.
#[test]
fn claimed_run_stays_overtaken_after_group_deletion() {
    let claimed = |epoch: &str| {
        let mut group = json!({"metadata": meta("shop", &scope().group_name, 10)});
        group["metadata"]["labels"] = json!({(labels::RUN): scope().run});
        group["metadata"]["annotations"] = json!({(labels::EPOCH): epoch});
        read::<VolumeGroupSnapshot>(group)
    };
    let told = |events: Vec<Event<VolumeGroupSnapshot>>| {
        let cache = Cache::empty("stillpoint");
        cache.store().groups.live_as(2);
        events.into_iter().for_each(|event| cache.apply(event, |store| &mut store.groups));
        cache.observe(&scope(), 2, false)
    };
    let ours = told(vec![Event::Apply(claimed("2")), Event::Delete(claimed("2"))]);
    assert_eq!((ours.group, ours.overtaken), (None, false));
    let newer =
        told(vec![Event::Apply(claimed("2")), Event::Apply(claimed("3")), Event::Delete(claimed("3"))]);
    assert_eq!((newer.group, newer.overtaken), (None, true));
    let merged = told(vec![Event::Apply(claimed("2")), Event::Delete(claimed("3"))]);
    assert_eq!(
        (merged.group, merged.overtaken),
        (None, true),
        "the last state of what is gone tells it, too"
    );
}

/// Where there is no group to claim, the Backup carries the claim.
#[test]
fn claimed_backup_overtakes_all_its_runs() {
    let claimed = |uid: &str, epoch: &str| {
        let mut meta = meta("stillpoint", "nightly", 10);
        (meta["uid"], meta["annotations"]) = (json!(uid), json!({(labels::EPOCH): epoch}));
        read::<Backup>(json!({"metadata": meta, "spec": {}}))
    };
    let told = |backup: Backup| {
        let cache = Cache::empty("stillpoint");
        cache.store().backups.live_as(2);
        cache.apply(Event::Apply(backup), |store| &mut store.backups);
        cache.observe(&scope(), 2, false).overtaken
    };
    assert!(told(claimed("uid-b", "3")));
    assert!(!told(claimed("uid-b", "2")), "that is this life");
    assert!(!told(claimed("uid-c", "3")), "another Backup");
}
