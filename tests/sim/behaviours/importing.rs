//! Behaviour 17: static groups and members.

use serde_json::json;
use stillpoint::sim::Config;

use crate::lab::{
    GROUP, GROUP_BOUND, GROUP_CONTENT_BOUND, GROUP_CONTENTS, GROUPS, IN_GROUP, Lab, SNAPSHOTS, has_finalizer,
    owners,
};
use crate::script::{CONTROLLER, RELEASE, RETAIN, Step, lab_with_ready_group, leftovers, run};
use crate::table::Leftovers;
use crate::variants::{import, import_group, import_group_content};

/// A group that was released and whose members were deleted: only handles and storage remain.
async fn lab_with_orphaned_storage() -> (Lab, String, Vec<String>) {
    let lab = lab_with_ready_group(2, Config::default()).await;
    run(&lab, &RETAIN).await;
    run(&lab, &RELEASE[..7]).await;
    let physical = lab.cluster.storage().physical_snapshots();
    let handles = physical.iter().map(|one| one.snapshot_handle.clone()).collect();
    let group = physical[0].group_handle.clone().expect("a group handle");
    run(&lab, &[Step::DeleteMembers, Step::Wait(5000)]).await;
    for content in lab.contents() {
        lab.delete("volumesnapshotcontents", &content);
    }
    lab.wait_until_idle().await;
    assert_eq!(lab.ledger(), (2, 2, 0));
    (lab, group, handles)
}

#[tokio::test(start_paused = true)]
async fn behaviour_17_members_need_content_of_their_group() {
    let (lab, group, handles) = lab_with_orphaned_storage().await;
    for (number, handle) in handles.iter().enumerate() {
        import(&lab, &format!("m{number}"), handle, "Retain");
    }
    lab.wait_until_idle().await;
    for member in lab.snapshots() {
        let text = member["status"]["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains("cannot find the group snapshot for VolumeSnapshot [t1/"), "{text}");
    }
    // An unbound content is enough. Its deletion never calls the driver, whatever its policy.
    let stub = import_group_content(&lab, GROUP, &group, &handles, "Delete");
    lab.wait_until("ready", |lab| lab.snapshots().iter().all(|one| one["status"]["readyToUse"] == true))
        .await;
    let stub_now = lab.get(GROUP_CONTENTS, "g1-content").expect("exists");
    assert!(stub_now["metadata"].get("finalizers").is_none());
    assert!(
        stub_now["status"].get("volumeSnapshotInfoList").is_none(),
        "the list of a static content stays empty"
    );
    lab.delete(GROUP_CONTENTS, &stub);
    lab.wait_until_idle().await;
    assert_eq!((lab.list(GROUP_CONTENTS).len(), lab.driver_calls("DeleteVolumeGroupSnapshot")), (0, 0));
    assert_eq!(leftovers(&lab).await, Leftovers::new(2, 2, 2));

    // A group adopts static members, and deletes them with one storage call.
    import_group_content(&lab, GROUP, &group, &handles, "Delete");
    let made = import_group(&lab, GROUP);
    lab.wait_until("protected", |lab| {
        lab.group().is_some_and(|one| has_finalizer(&one, GROUP_BOUND))
            && lab.group_content().is_some_and(|one| has_finalizer(&one, GROUP_CONTENT_BOUND))
    })
    .await;
    lab.wait_until("adopted", |lab| lab.snapshots().iter().all(|one| owners(one) == 1)).await;
    assert!(!lab.snapshots().iter().any(|one| has_finalizer(one, IN_GROUP)));
    lab.delete(GROUPS, &made);
    assert_eq!(leftovers(&lab).await, Leftovers::new(0, 2, 0), "contents with policy Retain remain");
    assert_eq!(lab.driver_calls("DeleteVolumeGroupSnapshot"), 1);
}

#[tokio::test(start_paused = true)]
async fn behaviour_17_reports_wrong_lists_and_references() {
    let (lab, group, handles) = lab_with_orphaned_storage().await;
    import_group(&lab, "late");
    lab.wait_until_idle().await;
    assert_eq!(
        lab.get(GROUPS, "late").expect("exists")["status"]["error"]["message"],
        "VolumeGroupSnapshotContent is missing"
    );
    import_group_content(&lab, "late", &group, &handles, "Retain");
    lab.wait_until("either object may be created first", |lab| {
        lab.get(GROUPS, "late").is_some_and(|one| one["status"]["readyToUse"] == true)
    })
    .await;

    import_group_content(&lab, "short", &group, &handles[..1], "Retain");
    lab.wait_until_idle().await;
    let text =
        lab.get(GROUP_CONTENTS, "short-content").expect("exists")["status"]["error"]["message"].to_string();
    assert!(text.contains("InvalidArgument"), "{text}");
    lab.create(
        GROUPS,
        json!({"metadata": {"name": "thief", "namespace": "t1"},
            "spec": {"source": {"volumeGroupSnapshotContentName": "late-content"}}}),
    );
    lab.wait_until_idle().await;
    assert_eq!(
        lab.get(GROUPS, "thief").expect("exists")["status"]["error"]["message"],
        "VolumeGroupSnapshotContent [late-content] is bound to a different group snapshot"
    );
}

/// Measured: 40 log lines in 21 s for eight members.
#[tokio::test(start_paused = true)]
async fn restored_name_makes_controller_fail_forever() {
    for (steps, expected) in [(&RELEASE[..], 40), (&RELEASE[..7], 0)] {
        let lab = lab_with_ready_group(8, Config::default()).await;
        run(&lab, &RETAIN).await;
        run(&lab, &RELEASE[..7]).await;
        lab.wait_until_idle().await;
        let before = lab.cluster.failed_work(CONTROLLER);
        run(&lab, &steps[7..]).await;
        run(&lab, &[Step::Wait(21_000)]).await;
        let failed = lab.cluster.failed_work(CONTROLLER) - before;
        println!("errors in 21 s: {failed}, measured {expected}");
        assert!(failed.abs_diff(expected) <= 8, "{failed}");
        assert!(lab.list(SNAPSHOTS).iter().all(|one| owners(one) == 0));
    }
}
