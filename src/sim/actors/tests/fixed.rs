//! Tests static (pre-provisioned) objects: members and groups recreated from handles.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use super::lab::{GROUP, Lab, NAMESPACE};
use crate::Config;
use crate::actors::driver::DriverConfig;
use crate::actors::object;
use crate::actors::strings::{DRIVER, finalizer, plural};

fn ledger(lab: &Lab) -> (usize, usize, usize) {
    let ledger = lab.cluster.ledger();
    (ledger.physical_snapshots, ledger.leaked, ledger.phantom)
}

/// Returns the handles of a group whose objects are deleted while its storage exists.
async fn lab_with_orphaned_storage(members: usize, config: Config) -> (Lab, String, Vec<String>) {
    let lab = Lab::new(members, config).await;
    let group = lab.create_ready_group(members).await;
    let handle = lab.group_contents()[0]["status"]["volumeGroupSnapshotHandle"].as_str().unwrap().to_owned();
    let listed = lab.cluster.storage().physical_snapshots();
    let members = listed.into_iter().map(|snapshot| snapshot.snapshot_handle).collect();
    lab.set_policies("Retain");
    lab.wait_until_idle().await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    lab.delete(plural::GROUP_CONTENTS, &lab.group_contents()[0]);
    for content in lab.contents() {
        lab.delete(plural::CONTENTS, &content);
    }
    lab.wait_until_idle().await;
    assert_eq!((lab.group_contents(), lab.contents(), lab.snapshots()), Default::default());
    (lab, handle, members)
}

async fn import_member(lab: &Lab, name: &str, handle: &str) {
    lab.create(
        plural::CONTENTS,
        json!({
            "metadata": {"name": name},
            "spec": {
                "deletionPolicy": "Retain", "driver": DRIVER, "source": {"snapshotHandle": handle},
                "sourceVolumeMode": "Filesystem", "volumeSnapshotRef": {"name": name, "namespace": NAMESPACE},
            },
        }),
    );
    sleep(Duration::from_millis(20)).await;
    lab.create(
        plural::SNAPSHOTS,
        json!({
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"volumeSnapshotContentName": name}},
        }),
    );
}

fn import_group_content(lab: &Lab, handle: &str, members: &[String], policy: &str) {
    lab.create(plural::GROUP_CONTENTS, group_content_body(handle, members, policy));
}

fn group_content_body(handle: &str, members: &[String], policy: &str) -> Value {
    json!({
        "metadata": {"name": "imported"},
        "spec": {
            "deletionPolicy": policy, "driver": DRIVER,
            "source": {"groupSnapshotHandles": {
                "volumeGroupSnapshotHandle": handle, "volumeSnapshotHandles": members,
            }},
            "volumeGroupSnapshotRef": {"name": GROUP, "namespace": NAMESPACE},
        },
    })
}

fn import_group(lab: &Lab) -> Value {
    lab.create(
        plural::GROUPS,
        json!({
            "metadata": {"name": GROUP, "namespace": NAMESPACE},
            "spec": {"source": {"volumeGroupSnapshotContentName": "imported"}},
        }),
    )
}

#[tokio::test(start_paused = true)]
async fn member_is_ready_only_with_known_group_content() {
    let (lab, handle, members) = lab_with_orphaned_storage(2, Config::default()).await;
    assert_eq!(ledger(&lab), (2, 2, 0));
    import_member(&lab, "m0", &members[0]).await;
    lab.wait_until_idle().await;
    let status = lab.get(plural::SNAPSHOTS, "m0").unwrap()["status"].clone();
    assert_eq!(
        status["error"]["message"],
        "Snapshot status update failed, updateSnapshotStatus: cannot find the group snapshot for VolumeSnapshot \
         [t1/m0], will not update snapshot status"
    );
    assert!(status.get("readyToUse").is_none());
    let content = lab.get(plural::CONTENTS, "m0").unwrap();
    assert_eq!(content["status"]["volumeGroupSnapshotHandle"], handle.as_str());

    // An unbound content with the handles of the group is enough, and can be deleted again.
    import_group_content(&lab, &handle, &members, "Retain");
    lab.wait_until("the member is ready", |lab| {
        lab.get(plural::SNAPSHOTS, "m0").unwrap()["status"]["readyToUse"] == true
    })
    .await;
    let stub = lab.get(plural::GROUP_CONTENTS, "imported").unwrap();
    assert!(stub["metadata"].get("finalizers").is_none());
    lab.delete(plural::GROUP_CONTENTS, &stub);
    lab.wait_until_idle().await;
    let member = lab.get(plural::SNAPSHOTS, "m0").unwrap();
    assert_eq!(member["status"]["readyToUse"], true);
    assert_eq!(lab.cluster.storage().calls().get("DeleteVolumeGroupSnapshot"), None);
}

#[tokio::test(start_paused = true)]
async fn unbound_content_with_delete_policy_deletes_nothing() {
    let (lab, handle, members) = lab_with_orphaned_storage(2, Config::default()).await;
    import_group_content(&lab, &handle, &members, "Delete");
    lab.wait_until_idle().await;
    lab.delete(plural::GROUP_CONTENTS, &lab.group_contents()[0]);
    lab.wait_until_idle().await;
    assert_eq!(ledger(&lab), (2, 2, 0));
}

/// The sidecar may delete an unbound static content. It is too late only if no finalizer protects the content
/// (external-snapshotter, `shouldDeleteGroupSnapshotContent`).
#[tokio::test(start_paused = true)]
async fn unbound_content_with_finalizer_frees_known_storage() {
    for (known, calls) in [(true, Some(&1)), (false, None)] {
        let (lab, handle, members) = lab_with_orphaned_storage(2, Config::default()).await;
        let handle = if known { handle } else { "another".to_owned() };
        let mut content = group_content_body(&handle, &members, "Delete");
        content["metadata"]["finalizers"] = json!([finalizer::GROUP_CONTENT_BOUND]);
        lab.create(plural::GROUP_CONTENTS, content);
        lab.wait_until_idle().await;
        lab.delete(plural::GROUP_CONTENTS, &lab.group_contents()[0]);
        lab.wait_until_idle().await;
        assert_eq!(lab.group_contents(), Vec::<Value>::new(), "known: {known}");
        assert_eq!(lab.cluster.storage().calls().get("DeleteVolumeGroupSnapshot"), calls, "known: {known}");
    }
}

#[tokio::test(start_paused = true)]
async fn imported_group_adopts_and_frees_its_members() {
    let (lab, handle, members) = lab_with_orphaned_storage(2, Config::default()).await;
    import_group_content(&lab, &handle, &members, "Delete");
    import_group(&lab);
    for (index, member) in members.iter().enumerate() {
        import_member(&lab, &format!("m{index}"), member).await;
    }
    lab.wait_until("the group and its members are ready", |lab| lab.is_ready(2)).await;
    lab.wait_until_idle().await;
    for snapshot in lab.snapshots() {
        assert_eq!(snapshot["metadata"]["ownerReferences"][0]["name"], GROUP);
        assert!(!object::has_finalizer(&snapshot, finalizer::IN_GROUP));
    }
    let content = lab.get(plural::GROUP_CONTENTS, "imported").unwrap();
    assert!(
        content["status"].get("volumeSnapshotInfoList").is_none(),
        "the list of a static content stays empty"
    );
    assert!(object::has_finalizer(&content, finalizer::GROUP_CONTENT_BOUND));

    lab.delete(plural::GROUPS, &lab.group().unwrap());
    lab.wait_until_idle().await;
    assert_eq!((lab.group(), lab.group_contents(), lab.snapshots()), Default::default());
    assert_eq!(lab.contents().len(), 2, "contents with policy Retain remain");
    assert_eq!(ledger(&lab), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn reclaiming_needs_both_finalizers() {
    let (lab, handle, members) = lab_with_orphaned_storage(2, Config::default()).await;
    import_group_content(&lab, &handle, &members, "Delete");
    import_group(&lab);
    lab.wait_until("both have their finalizer", |lab| {
        let content = lab.get(plural::GROUP_CONTENTS, "imported");
        lab.group().is_some_and(|group| object::has_finalizer(&group, finalizer::GROUP_BOUND))
            && content.is_some_and(|content| object::has_finalizer(&content, finalizer::GROUP_CONTENT_BOUND))
    })
    .await;
    lab.delete(plural::GROUPS, &lab.group().unwrap());
    lab.wait_until_idle().await;
    assert_eq!(lab.group_contents().len(), 0);
    assert_eq!(ledger(&lab), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn refuses_wrong_member_list_and_wrong_reference() {
    let (lab, handle, members) = lab_with_orphaned_storage(2, Config::default()).await;
    import_group_content(&lab, &handle, &members[..1], "Delete");
    lab.wait_until_idle().await;
    let message = lab.group_contents()[0]["status"]["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("rpc error: code = InvalidArgument"), "{message}");

    lab.create(
        plural::GROUPS,
        json!({
            "metadata": {"name": "other", "namespace": NAMESPACE},
            "spec": {"source": {"volumeGroupSnapshotContentName": "imported"}},
        }),
    );
    lab.wait_until_idle().await;
    assert_eq!(
        lab.get(plural::GROUPS, "other").unwrap()["status"]["error"]["message"],
        "VolumeGroupSnapshotContent [imported] is bound to a different group snapshot"
    );
}

#[tokio::test(start_paused = true)]
async fn rebuilds_lost_member_while_content_exists() {
    let lab = Lab::new(2, Config::default()).await;
    let group = lab.create_ready_group(2).await;
    lab.set_policies("Retain");
    lab.wait_until_idle().await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert_eq!(lab.snapshots().len(), 0);
    let handle = lab.cluster.storage().physical_snapshots()[0].snapshot_handle.clone();
    import_member(&lab, "rebuilt", &handle).await;
    lab.wait_until("it is ready", |lab| lab.snapshots()[0]["status"]["readyToUse"] == true).await;
    lab.delete(plural::GROUP_CONTENTS, &lab.group_contents()[0]);
    lab.wait_until_idle().await;
    assert_eq!(lab.group_contents().len(), 0);
    assert_eq!(lab.snapshots()[0]["status"]["readyToUse"], true);
    assert_eq!(ledger(&lab), (2, 1, 0), "the other object remains");
}

#[tokio::test(start_paused = true)]
async fn driver_without_group_ids_yields_independent_members() {
    let driver = DriverConfig { reports_group_id: false, ..DriverConfig::default() };
    let (lab, _, members) = lab_with_orphaned_storage(1, Config { driver, ..Config::default() }).await;
    import_member(&lab, "m0", &members[0]).await;
    lab.wait_until_idle().await;
    let member = lab.get(plural::SNAPSHOTS, "m0").unwrap();
    assert_eq!(member["status"]["readyToUse"], true);
    assert!(member["status"].get("volumeGroupSnapshotName").is_none());
}

#[tokio::test(start_paused = true)]
async fn new_group_adopts_members_with_its_name() {
    let lab = Lab::new(1, Config::default()).await;
    let group = lab.create_ready_group(1).await;
    lab.set_policies("Retain");
    lab.wait_until_idle().await;
    lab.cluster.set_frozen("snapshot-controller", true);
    let old = lab.snapshots().remove(0);
    lab.patch(plural::SNAPSHOTS, &old, json!({"metadata": {"ownerReferences": null, "finalizers": null}}));
    lab.patch(plural::GROUPS, &group, json!({"metadata": {"finalizers": null}}));
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    lab.cluster.restart("snapshot-controller");
    lab.wait_until_idle().await;
    assert_eq!((lab.group(), lab.snapshots().len()), (None, 1), "the member survived the old group");
    let again = lab.create_group();
    lab.wait_until("the next reconcile of the new group adopts the old member", |lab| {
        let member = lab.get(plural::SNAPSHOTS, object::name(&old));
        member.is_some_and(|member| member["metadata"]["ownerReferences"][0]["uid"] == object::uid(&again))
    })
    .await;
}
