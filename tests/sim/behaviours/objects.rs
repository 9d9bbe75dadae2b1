//! Behaviours 4, 6 and 7: deletion, garbage collection, names.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stillpoint::sim::Config;
use stillpoint::sim::api_server::Preconditions;

use crate::lab::{CONTENTS, GROUP, Lab, NAMESPACE, SNAPSHOTS, annotation, is_deleting, name, uid};

const MAPS: &str = "configmaps";

fn map(name: &str, metadata: Value) -> Value {
    let mut object = json!({"metadata": metadata});
    object["metadata"]["name"] = json!(name);
    object["metadata"]["namespace"] = json!(NAMESPACE);
    object
}

#[tokio::test(start_paused = true)]
async fn behaviour_04_finalizers_block_deletion() {
    let lab = Lab::new(0, Config::default()).await;
    let object =
        lab.create(MAPS, map("protected", json!({"finalizers": ["example.com/a", "example.com/b"]})));
    let delete = |uid: Option<&str>, version: Option<&str>| {
        let wanted =
            Preconditions { uid: uid.map(str::to_owned), resource_version: version.map(str::to_owned) };
        lab.user.delete(MAPS, Some(NAMESPACE), "protected", wanted)
    };
    assert_eq!(delete(Some("other"), None).expect_err("another uid").code, 409);
    assert_eq!(delete(None, Some("1")).expect_err("an old version").code, 409);
    let marked = delete(Some(uid(&object)), None).expect("accepted").expect("the object");
    assert!(is_deleting(&marked));
    let again = delete(None, None).expect("accepted").expect("still exists");
    assert_eq!(
        again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"],
        "a second delete changes nothing"
    );
    let set = |finalizers: Value| {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        lab.user.merge_patch(MAPS, Some(NAMESPACE), "protected", None, patch)
    };
    let refused = set(json!(["example.com/a", "example.com/b", "example.com/new"])).expect_err("refused");
    assert!([403, 422].contains(&refused.code), "{}", refused.code);
    assert!(refused.message.contains("no new finalizers can be added"), "{}", refused.message);
    set(json!(["example.com/b"])).expect("finalizers may be removed");
    set(json!(null)).expect("any client may remove the last finalizer");
    assert!(lab.get(MAPS, "protected").is_none());
    assert_ne!(
        uid(&lab.create(MAPS, map("protected", json!({})))),
        uid(&object),
        "a reused name has a new uid"
    );
}

#[tokio::test(start_paused = true)]
async fn behaviour_06_collects_objects_without_owners_after_delay() {
    let lab = Lab::new(0, Config { gc_delay_ms: 400, ..Config::default() }).await;
    let owner = lab.create(MAPS, map("owner", json!({})));
    let owned_by = |uid: &str| json!({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]});
    lab.create(MAPS, map("owned", owned_by(uid(&owner))));
    lab.create(MAPS, map("stranger", owned_by("6e0d1d2c-0000-0000-0000-000000000000")));
    assert!(lab.get(MAPS, "stranger").is_some(), "deletion is delayed");
    lab.wait_until_idle().await;
    assert!(lab.get(MAPS, "stranger").is_none(), "the name with another uid counts as absent");
    assert!(lab.get(MAPS, "owned").is_some());
    lab.delete(MAPS, &owner);
    assert!(lab.get(MAPS, "owned").is_some(), "background deletion");
    lab.wait_until_idle().await;
    assert!(lab.get(MAPS, "owned").is_none());
}

#[tokio::test(start_paused = true)]
async fn behaviour_07_names_and_annotations_match_real_ones() {
    let lab = Lab::new(2, Config::default()).await;
    let group = lab.create_ready_group(2).await;
    let content = lab.group_content().expect("exists");
    assert_eq!(name(&content), format!("groupsnapcontent-{}", uid(&group)));
    assert!(content["metadata"].get("ownerReferences").is_none());
    let reference = &content["spec"]["volumeGroupSnapshotRef"];
    assert_eq!(reference["uid"], uid(&group));
    assert!(reference["resourceVersion"].is_string() && reference["apiVersion"].is_string());
    let handle = &content["status"]["volumeGroupSnapshotHandle"];
    for listed in content["status"]["volumeSnapshotInfoList"].as_array().expect("members") {
        let volume = listed["volumeHandle"].as_str().expect("a handle");
        let digest = Sha256::digest(format!("{}{volume}", uid(&group)).as_bytes());
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let member = lab.get(SNAPSHOTS, &format!("snapshot-{hash}")).expect("the name contains the hash");
        let bound = lab.get(CONTENTS, &format!("snapcontent-{hash}")).expect("the name contains the hash");
        assert_eq!(
            member["metadata"]["ownerReferences"],
            json!([{"apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
                "name": GROUP, "uid": uid(&group)}])
        );
        assert!(
            member["metadata"].get("labels").is_none()
                && member["spec"].get("volumeSnapshotClassName").is_none()
        );
        let key = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle";
        assert_eq!(annotation(&bound, key), handle.as_str(), "the domain of this annotation is .k8s.io");
        assert_eq!(bound["spec"]["volumeSnapshotRef"]["uid"], uid(&member));
    }
    let name = lab.cluster.storage().physical_snapshots()[0].name.clone();
    assert!(name.starts_with(&format!("groupsnapshot-{}-", uid(&group))), "{name}");
}
