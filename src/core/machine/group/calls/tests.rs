//! Tests the requests of each effect.

use super::*;
use crate::domain::ids::Uid;
use crate::machine::kit::Verb;

fn id(namespace: &str, name: &str) -> ObjectId {
    ObjectId { namespace: namespace.into(), name: name.into(), uid: Uid::from("u1") }
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn nothing() -> Entry {
    Entry { seen: None, write: BTreeMap::new() }
}

fn one(effect: &Effect) -> Call {
    match calls(effect) {
        Calls::One(call) => call,
        several => panic!("one call was expected: {several:?}"),
    }
}

fn check_patch(effect: &Effect, expected: Value) {
    match one(effect).verb {
        Verb::Patch(operations) => assert_eq!(Value::Array(operations), expected),
        other => panic!("a patch was expected: {other:?}"),
    }
}

fn check_create(effect: &Effect, kind: Kind, namespace: &str, expected: Value) {
    let call = one(effect);
    assert_eq!((call.kind, call.namespace.as_str(), call.name.as_str()), (kind, namespace, "x"));
    assert_eq!(call.verb, Verb::Create(expected));
}

#[test]
fn a_group_is_created_with_match_labels_only() {
    let effect = Effect::CreateGroup {
        namespace: "shop".into(),
        name: "x".into(),
        labels: strings(&[("stillpoint.dev/run", "r")]),
        annotations: strings(&[("stillpoint.dev/epoch", "3")]),
        class: "groups".into(),
        selector: strings(&[("velero.io/volume-group", "db")]),
    };
    let expected = json!({
        "metadata": {
            "labels": {"stillpoint.dev/run": "r"},
            "annotations": {"stillpoint.dev/epoch": "3"},
        },
        "spec": {
            "volumeGroupSnapshotClassName": "groups",
            "source": {"selector": {"matchLabels": {"velero.io/volume-group": "db"}}},
        },
    });
    check_create(&effect, Kind::VolumeGroupSnapshot, "shop", expected);
}

#[test]
fn rebuilds_lost_member_from_handle_with_retain_policy() {
    let effect = Effect::CreateContent {
        name: "x".into(),
        driver: "d".into(),
        snapshot_handle: "s1".into(),
        class: "snaps".into(),
        volume_mode: Some("Block".into()),
        snapshot_namespace: "shop".into(),
        snapshot_name: "x".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let expected = json!({
        "metadata": {},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": "d",
            "source": {"snapshotHandle": "s1"},
            "sourceVolumeMode": "Block",
            "volumeSnapshotClassName": "snaps",
            "volumeSnapshotRef": {"kind": "VolumeSnapshot", "namespace": "shop", "name": "x"},
        },
    });
    check_create(&effect, Kind::VolumeSnapshotContent, "", expected);
    let effect = Effect::CreateSnapshot {
        namespace: "shop".into(),
        name: "x".into(),
        content: "x".into(),
        class: "snaps".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let expected = json!({
        "metadata": {},
        "spec": {"volumeSnapshotClassName": "snaps", "source": {"volumeSnapshotContentName": "x"}},
    });
    check_create(&effect, Kind::VolumeSnapshot, "shop", expected);
}

fn unbound() -> Unbound {
    Unbound {
        name: "x".into(),
        driver: "d".into(),
        class: "groups".into(),
        group_handle: "g".into(),
        snapshot_handles: vec!["s1".into(), "s2".into()],
        group_namespace: "shop".into(),
        group_name: "nobody".into(),
        labels: BTreeMap::new(),
    }
}

fn of_unbound(policy: &str) -> Value {
    json!({
        "deletionPolicy": policy,
        "driver": "d",
        "source": {"groupSnapshotHandles": {
            "volumeGroupSnapshotHandle": "g",
            "volumeSnapshotHandles": ["s1", "s2"],
        }},
        "volumeGroupSnapshotClassName": "groups",
        "volumeGroupSnapshotRef": {"kind": "VolumeGroupSnapshot", "namespace": "shop", "name": "nobody"},
    })
}

#[test]
fn stub_has_all_handles_and_retain_policy() {
    let expected = json!({"metadata": {}, "spec": of_unbound("Retain")});
    check_create(&Effect::CreateStub(unbound()), Kind::VolumeGroupSnapshotContent, "", expected);
}

#[test]
fn import_has_delete_policy_and_protection_finalizer() {
    let finalizers = json!([labels::GROUP_CONTENT_BOUND_PROTECTION]);
    let expected = json!({"metadata": {"finalizers": finalizers}, "spec": of_unbound("Delete")});
    check_create(
        &Effect::CreateImport { content: unbound(), secret: None },
        Kind::VolumeGroupSnapshotContent,
        "",
        expected,
    );

    let secret = Some(SecretRef { namespace: "storage".into(), name: "key".into() });
    let annotations =
        json!({labels::DELETION_SECRET_NAMESPACE: "storage", labels::DELETION_SECRET_NAME: "key"});
    let expected = json!({
        "metadata": {"annotations": annotations, "finalizers": finalizers}, "spec": of_unbound("Delete"),
    });
    check_create(
        &Effect::CreateImport { content: unbound(), secret },
        Kind::VolumeGroupSnapshotContent,
        "",
        expected,
    );
}

#[test]
fn group_claim_tests_the_old_epoch() {
    let effect = Effect::ClaimGroup { group: id("shop", "g"), old: Some("2".into()), new: 3 };
    check_patch(
        &effect,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/metadata/annotations/stillpoint.dev~1epoch", "value": "2"},
            {"op": "add", "path": "/metadata/annotations/stillpoint.dev~1epoch", "value": "3"},
        ]),
    );
}

#[test]
fn first_claim_never_overwrites_existing_epoch() {
    let effect = Effect::ClaimGroup { group: id("shop", "g"), old: None, new: 3 };
    let Calls::Either(without_map, with_map) = calls(&effect) else { panic!("two shapes") };
    let uid = json!({"op": "test", "path": "/metadata/uid", "value": "u1"});
    assert_eq!(
        without_map.verb,
        Verb::Patch(vec![
            uid.clone(),
            json!({"op": "test", "path": "/metadata/annotations", "value": null}),
            json!({"op": "add", "path": "/metadata/annotations", "value": {"stillpoint.dev/epoch": "3"}}),
        ])
    );
    assert_eq!(
        with_map.verb,
        Verb::Patch(vec![
            uid,
            json!({"op": "test", "path": "/metadata/annotations/stillpoint.dev~1epoch", "value": null}),
            json!({"op": "add", "path": "/metadata/annotations/stillpoint.dev~1epoch", "value": "3"}),
        ])
    );
}

#[test]
fn a_member_is_labelled_in_one_patch() {
    let effect = Effect::LabelMember {
        snapshot: id("shop", "s"),
        labels: Entry { seen: None, write: strings(&[("stillpoint.dev/run", "r")]) },
        annotations: Entry { seen: Some(strings(&[("a", "1")])), write: strings(&[("a", "2")]) },
    };
    check_patch(
        &effect,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/metadata/labels", "value": null},
            {"op": "add", "path": "/metadata/labels", "value": {"stillpoint.dev/run": "r"}},
            {"op": "test", "path": "/metadata/annotations/a", "value": "1"},
            {"op": "add", "path": "/metadata/annotations/a", "value": "2"},
        ]),
    );
}

#[test]
fn sets_policy_on_observed_resource_version() {
    let labels = Entry { seen: None, write: strings(&[("stillpoint.dev/run", "r")]) };
    let effect = Effect::SetContentPolicy {
        content: id("", "c"),
        resource_version: "17".into(),
        old: DeletionPolicy::Delete,
        new: DeletionPolicy::Retain,
        labels: labels.clone(),
        annotations: nothing(),
    };
    let expected = json!([
        {"op": "test", "path": "/metadata/uid", "value": "u1"},
        {"op": "test", "path": "/metadata/resourceVersion", "value": "17"},
        {"op": "test", "path": "/spec/deletionPolicy", "value": "Delete"},
        {"op": "add", "path": "/spec/deletionPolicy", "value": "Retain"},
        {"op": "test", "path": "/metadata/labels", "value": null},
        {"op": "add", "path": "/metadata/labels", "value": {"stillpoint.dev/run": "r"}},
    ]);
    check_patch(&effect, expected.clone());
    let effect = Effect::SetGroupContentPolicy {
        content: id("", "c"),
        resource_version: "17".into(),
        old: DeletionPolicy::Delete,
        new: DeletionPolicy::Retain,
        labels,
        annotations: nothing(),
    };
    check_patch(&effect, expected);
    assert_eq!(one(&effect).kind, Kind::VolumeGroupSnapshotContent);
}

#[test]
fn clears_and_restores_group_name_in_status() {
    let name = |old: Option<&str>, new: Option<&str>| Effect::SetGroupName {
        snapshot: id("shop", "s"),
        old: old.map(str::to_owned),
        new: new.map(str::to_owned),
    };
    let path = "/status/volumeGroupSnapshotName";
    let uid = json!({"op": "test", "path": "/metadata/uid", "value": "u1"});
    let cleared = vec![
        uid.clone(),
        json!({"op": "test", "path": path, "value": "g"}),
        json!({"op": "remove", "path": path}),
    ];
    assert_eq!(one(&name(Some("g"), None)).verb, Verb::PatchStatus(cleared));
    let put_back = vec![
        uid,
        json!({"op": "test", "path": path, "value": null}),
        json!({"op": "add", "path": path, "value": "g"}),
    ];
    assert_eq!(one(&name(None, Some("g"))).verb, Verb::PatchStatus(put_back));
}

#[test]
fn release_patch_tests_all_its_preconditions() {
    let owner = |uid: &str, controller| Owner {
        api_version: "groupsnapshot.storage.k8s.io/v1".into(),
        kind: "VolumeGroupSnapshot".into(),
        name: "g".into(),
        uid: Uid::from(uid),
        controller,
        block_owner_deletion: None,
    };
    let effect = Effect::DetachMember {
        snapshot: id("shop", "s"),
        ready: true,
        group_name: None,
        old_owners: vec![owner("g1", None), owner("g2", Some(false))],
        new_owners: vec![owner("g2", Some(false))],
        old_finalizers: vec!["in-group".into(), "as-source".into()],
        new_finalizers: vec![],
        old_class: None,
        new_class: Some("snaps".into()),
    };
    let json_owner = json!({
        "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot", "name": "g", "uid": "g1",
    });
    let mut other = json_owner.clone();
    other["uid"] = json!("g2");
    other["controller"] = json!(false);
    check_patch(
        &effect,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/status/readyToUse", "value": true},
            {"op": "test", "path": "/status/volumeGroupSnapshotName", "value": null},
            {"op": "test", "path": "/metadata/ownerReferences", "value": [json_owner, other.clone()]},
            {"op": "add", "path": "/metadata/ownerReferences", "value": [other]},
            {"op": "test", "path": "/metadata/finalizers", "value": ["in-group", "as-source"]},
            {"op": "remove", "path": "/metadata/finalizers"},
            {"op": "test", "path": "/spec/volumeSnapshotClassName", "value": null},
            {"op": "add", "path": "/spec/volumeSnapshotClassName", "value": "snaps"},
        ]),
    );
}

/// A test of a path inside a missing status never passes: a member that was cut and never bound has none.
#[test]
fn releasing_deleted_member_does_not_test_status() {
    let effect = Effect::DetachMember {
        snapshot: id("shop", "s"),
        ready: false,
        group_name: None,
        old_owners: vec![],
        new_owners: vec![],
        old_finalizers: vec!["in-group".into()],
        new_finalizers: vec![],
        old_class: Some("snaps".into()),
        new_class: Some("snaps".into()),
    };
    check_patch(
        &effect,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/metadata/ownerReferences", "value": null},
            {"op": "test", "path": "/metadata/finalizers", "value": ["in-group"]},
            {"op": "remove", "path": "/metadata/finalizers"},
            {"op": "test", "path": "/spec/volumeSnapshotClassName", "value": "snaps"},
        ]),
    );
}

#[test]
fn deletes_name_uid_and_version() {
    let delete = |effect: Effect| one(&effect).verb;
    let verb = |version: Option<&str>| Verb::Delete {
        uid: "u1".to_owned(),
        resource_version: version.map(str::to_owned),
    };
    let group = id("shop", "g");
    assert_eq!(delete(Effect::DeleteGroup { group, resource_version: "9".into() }), verb(Some("9")));
    let content = id("", "c");
    assert_eq!(delete(Effect::DeleteGroupContent { content, resource_version: None }), verb(None));
    assert_eq!(delete(Effect::DeleteSnapshot { snapshot: id("shop", "s") }), verb(None));
}

#[test]
fn marks_content_before_delete_unless_already_marked() {
    let mark = strings(&[("being-deleted", "yes")]);
    let effect = |seen: Option<BTreeMap<String, String>>| Effect::DeleteContent {
        content: id("", "c"),
        resource_version: None,
        annotations: Entry { seen, write: mark.clone() },
    };
    let Calls::InOrder(first, then) = calls(&effect(None)) else { panic!("two calls") };
    assert_eq!(
        first.verb,
        Verb::Patch(vec![
            json!({"op": "test", "path": "/metadata/uid", "value": "u1"}),
            json!({"op": "test", "path": "/metadata/annotations", "value": null}),
            json!({"op": "add", "path": "/metadata/annotations", "value": {"being-deleted": "yes"}}),
        ])
    );
    assert!(matches!(then.verb, Verb::Delete { .. }));
    assert_eq!(calls(&effect(Some(mark.clone()))), Calls::One(then));
}
