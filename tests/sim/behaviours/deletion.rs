//! Behaviours 13 to 15, 19 and 22: deletion of a group, and the objects that remain.

use serde_json::json;
use stillpoint::sim::{Config, DriverConfig};

use crate::lab::{
    CONTENTS, GROUP, GROUP_BEING_CREATED, GROUP_BEING_DELETED, GROUP_CLASSES, GROUP_CONTENTS, GROUPS, Lab,
    NAMESPACE, PVCS, SNAPSHOTS, annotation, is_deleting, name, owners, pvc, uid,
};
use crate::script::Step::{
    ClearNames, DeleteGroup, DeleteGroupContent, DeleteMember, Freeze, GroupPolicy, MemberPolicies, Restart,
    Strip, Wait,
};
use crate::script::{ALL, Step, lab_with_ready_group, leftovers, run};
use crate::table::Leftovers;
use crate::variants::{import_group, import_group_content};

#[tokio::test(start_paused = true)]
async fn behaviour_13_policies_gates_and_name_decide_deletion() {
    // Policies of the contents of group and members; the remaining objects; the number of remaining group
    // contents.
    let keep = |which: fn(&'static str) -> Step| which("Retain");
    let table: [(&[Step], Leftovers, usize); 4] = [
        (&[], Leftovers::new(0, 0, 0), 0),
        (&[keep(GroupPolicy), keep(MemberPolicies)], Leftovers::new(0, 2, 2), 1),
        (&[keep(GroupPolicy)], Leftovers::new(0, 0, 2), 1),
        (&[keep(MemberPolicies)], Leftovers::new(0, 2, 0), 0),
    ];
    for (policies, expected, group_contents) in table {
        let lab = lab_with_ready_group(2, Config::default()).await;
        run(&lab, policies).await;
        run(&lab, &[Wait(1000), DeleteGroup]).await;
        assert_eq!(leftovers(&lab).await, expected, "{policies:?}");
        assert_eq!(lab.list(GROUP_CONTENTS).len(), group_contents, "{policies:?}");
        for content in lab.list(GROUP_CONTENTS) {
            assert_eq!(annotation(&content, GROUP_BEING_DELETED), Some("yes"), "the policy does not matter");
        }
    }
    // A deleted content waits for the deletion of its group.
    let lab = lab_with_ready_group(1, Config::default()).await;
    run(&lab, &[DeleteGroupContent, Wait(60_000)]).await;
    assert!(lab.group_content().is_some_and(|content| is_deleting(&content)));
    run(&lab, &[DeleteGroup]).await;
    assert_eq!(leftovers(&lab).await, Leftovers::new(0, 0, 0));
    // A deleted member also waits for its group, by the name in its status. Without that name it is removed.
    let lab = lab_with_ready_group(1, Config::default()).await;
    run(&lab, &[DeleteMember, Wait(60_000)]).await;
    assert_eq!(lab.snapshots().len(), 1);
    assert!(!lab.events("SnapshotDeletePending").is_empty());
    let member = lab.snapshots().remove(0);
    lab.patch(SNAPSHOTS, &member, json!({"metadata": {"finalizers": null}}));
    assert!(lab.snapshots().is_empty());
    let lab = lab_with_ready_group(1, Config::default()).await;
    run(
        &lab,
        &[Step::MemberPolicies("Retain"), ClearNames(ALL), Step::Release(ALL), DeleteMember, Wait(60_000)],
    )
    .await;
    assert_eq!((lab.snapshots().len(), lab.list(GROUPS).len()), (0, 1), "the group exists");
}

#[tokio::test(start_paused = true)]
async fn behaviour_14_one_group_call_frees_all_members() {
    let lab = lab_with_ready_group(3, Config::default()).await;
    run(&lab, &[ClearNames(ALL), Strip, GroupPolicy("Retain"), DeleteGroup, DeleteGroupContent, Wait(5000)])
        .await;
    run(&lab, &[Step::DeleteMembers]).await;
    assert_eq!(
        leftovers(&lab).await,
        Leftovers::new(0, 0, 3),
        "a content with policy Delete is deleted, its storage remains"
    );
    assert_eq!((lab.driver_calls("DeleteSnapshot"), lab.driver_calls("DeleteVolumeGroupSnapshot")), (0, 0));

    let lab = lab_with_ready_group(2, Config::default()).await;
    let fails = Some(("Internal".to_owned(), "injected".to_owned()));
    lab.cluster.storage().set_config(DriverConfig { delete_fails_with: fails, ..DriverConfig::default() });
    run(&lab, &[DeleteGroup, Wait(16_000)]).await;
    let tries = lab.driver_calls("DeleteVolumeGroupSnapshot");
    assert!((3..=7).contains(&tries), "measured: 5 in 16 s, simulated {tries}");
    assert_eq!(lab.events("GroupSnapshotDeleteError").len(), 1);
    assert_eq!((lab.list(GROUPS).len(), lab.list(GROUP_CONTENTS).len(), lab.snapshots().len()), (1, 1, 2));
    lab.cluster.storage().set_config(DriverConfig::default());
    lab.wait_until("a retry succeeds", |lab| lab.list(GROUPS).is_empty() && lab.ledger().0 == 0).await;
}

#[tokio::test(start_paused = true)]
async fn behaviour_15_only_ledger_reports_leaked_storage() {
    // The group is deleted before it has its finalizer.
    let lab = Lab::new(2, Config::default()).await;
    lab.create_group();
    while lab.group_content().is_none() {
        tokio::task::yield_now().await;
    }
    run(&lab, &[DeleteGroup]).await;
    lab.wait_until_idle().await;
    run(&lab, &[DeleteGroupContent]).await;
    assert_eq!((lab.ledger(), lab.list(GROUPS).len()), ((2, 2, 0), 0));
    lab.wait_until_idle().await;
    assert!(lab.group_content().is_some(), "the content cannot be deleted");

    // A static group is deleted as soon as it is ready.
    let lab = lab_with_ready_group(2, Config::default()).await;
    let physical = lab.cluster.storage().physical_snapshots();
    let handles: Vec<String> = physical.iter().map(|one| one.snapshot_handle.clone()).collect();
    import_group_content(
        &lab,
        "early",
        physical[0].group_handle.as_deref().expect("a group"),
        &handles,
        "Delete",
    );
    lab.wait_until_idle().await;
    import_group(&lab, "early");
    while lab.get(GROUPS, "early").is_none_or(|group| group["status"]["readyToUse"] != true) {
        tokio::task::yield_now().await;
    }
    lab.delete(GROUPS, &lab.get(GROUPS, "early").expect("exists"));
    lab.wait_until_idle().await;
    assert!(lab.get(GROUPS, "early").is_none() && lab.get(GROUP_CONTENTS, "early-content").is_some());
    assert_eq!(lab.ledger().0, 2);

    // The class has an unknown parameter: the group can never be deleted.
    let lab = Lab::new(1, Config::default()).await;
    lab.create(
        GROUP_CLASSES,
        json!({"metadata": {"name": "odd"}, "driver": crate::lab::DRIVER, "deletionPolicy": "Delete",
            "parameters": {"csi.storage.k8s.io/foo": "bar"}}),
    );
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("odd"));
    lab.wait_until_idle().await;
    run(&lab, &[DeleteGroup, Wait(900_000)]).await;
    let content = lab.group_content().expect("the content is never deleted");
    assert_eq!((annotation(&content, GROUP_BEING_CREATED), lab.list(GROUPS).len()), (Some("yes"), 1));
    lab.patch(GROUP_CONTENTS, &content, json!({"metadata": {"annotations": {GROUP_BEING_CREATED: null}}}));
    lab.wait_until("removing the annotation completes the deletion", |lab| lab.list(GROUPS).is_empty()).await;

    // A retained content is deleted.
    let lab = lab_with_ready_group(2, Config::default()).await;
    run(
        &lab,
        &[GroupPolicy("Retain"), MemberPolicies("Retain"), DeleteGroup, Wait(5000), DeleteGroupContent],
    )
    .await;
    for content in lab.contents() {
        lab.delete(CONTENTS, &content);
    }
    lab.wait_until_idle().await;
    let ledger = lab.cluster.ledger();
    assert_eq!((ledger.physical_snapshots, ledger.leaked, ledger.handles.leaked.len()), (2, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn behaviour_19_reused_group_name_deletes_old_members() {
    let lab = lab_with_ready_group(1, Config::default()).await;
    let old = lab.snapshots().remove(0);
    run(&lab, &[GroupPolicy("Retain"), MemberPolicies("Retain"), Wait(1000), Freeze, Strip]).await;
    let group = lab.group().expect("exists");
    lab.patch(GROUPS, &group, json!({"metadata": {"finalizers": null}}));
    run(&lab, &[DeleteGroup, Restart, Wait(30_000)]).await;
    assert_eq!((lab.list(GROUPS).len(), lab.snapshots().len()), (0, 1), "the member survived its group");
    let again = lab.create_group();
    lab.wait_until("adopted", |lab| {
        lab.get(SNAPSHOTS, name(&old)).is_some_and(|one| {
            owners(&one) == 1 && one["metadata"]["ownerReferences"][0]["uid"] == uid(&again)
        })
    })
    .await;
    run(&lab, &[DeleteGroup]).await;
    lab.wait_until("the new group deletes the member", |lab| lab.get(SNAPSHOTS, name(&old)).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn behaviour_22_pending_restore_blocks_group_deletion() {
    let lab = lab_with_ready_group(1, Config::default()).await;
    let member = name(&lab.snapshots()[0]).to_owned();
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": member});
    let mut too_small = pvc("restored", &json!({}), "csi-hostpath-sc");
    too_small["spec"]["dataSource"] = source;
    too_small["spec"]["resources"]["requests"]["storage"] = json!("1Mi");
    lab.create(PVCS, too_small.clone());
    lab.wait_until_idle().await;
    run(&lab, &[DeleteGroup, Wait(60_000)]).await;
    assert!(lab.group().is_some(), "a PVC from a member is Pending");
    assert!(lab.events("SnapshotDeletePending").iter().any(|event| {
        event["message"].as_str().is_some_and(|text| text.contains("being used to restore a PVC"))
    }));
    lab.delete(PVCS, &too_small);
    lab.wait_until("the PVC is deleted", |lab| lab.get(PVCS, "restored").is_none()).await;
    too_small["spec"]["resources"]["requests"]["storage"] = json!("10Mi");
    lab.create(PVCS, too_small);
    lab.wait_until("bound", |lab| {
        lab.get(PVCS, "restored").is_some_and(|one| one["status"]["phase"] == "Bound")
    })
    .await;
    lab.wait_until("the next retry deletes the group", |lab| lab.group().is_none()).await;
    assert_eq!((lab.ledger().0, lab.get(PVCS, "restored").is_some()), (0, true));
    assert_eq!(lab.get("namespaces", NAMESPACE).map(|one| is_deleting(&one)), Some(false));
}
