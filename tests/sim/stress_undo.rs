//! Tests undo, rebuilding and reclaiming under stress. Each experiment lists its measured results.

use serde_json::{Value, json};
use stillpoint::sim::Config;

use crate::lab::{
    CONTENTS, GROUP, GROUP_BEING_DELETED, GROUP_BOUND, GROUP_CLASS, GROUP_CONTENT_BOUND, GROUP_CONTENTS,
    GROUPS, Lab, NAMESPACE, SNAPSHOTS, annotation, has_finalizer, is_deleting, name,
};
use crate::script::Step::{
    DeleteGroup, DeleteGroupContent, DeleteMember, DeleteNamespace, Freeze, GroupPolicy, MemberPolicies,
    Unfreeze, Wait,
};
use crate::script::{RELEASE, RETAIN, Step, lab_with_ready_group, leftovers, run};
use crate::table::Leftovers;
use crate::variants::{create_retaining_class, import, import_group, import_group_content};

/// The undo of a retained group: sets all policies to Delete, then deletes the group.
const UNDO: [Step; 3] = [GroupPolicy("Delete"), MemberPolicies("Delete"), DeleteGroup];
const NOTHING: Leftovers = Leftovers::new(0, 0, 0);

fn fast(seed: u64) -> Config {
    Config { seed, controller_qps: Some(200.0), ..Config::default() }
}

#[tokio::test(start_paused = true)]
async fn rollback_with_stopped_controller_may_orphan_content() {
    let mut remaining = 0;
    for seed in 0..8 {
        let lab = lab_with_ready_group(2, Config { seed, ..Config::default() }).await;
        run(&lab, &RETAIN).await;
        run(&lab, &[Wait(1000), Freeze]).await;
        run(&lab, &UNDO).await;
        run(&lab, &[Wait(1000), Unfreeze]).await;
        lab.wait_until_idle().await;
        assert!(lab.list(GROUPS).is_empty());
        if !lab.list(GROUP_CONTENTS).is_empty() {
            remaining += 1;
            assert_eq!(lab.ledger().0, 2, "its storage remains");
            run(&lab, &[DeleteGroupContent]).await;
        }
        assert_eq!(leftovers(&lab).await, NOTHING, "deleting the content frees everything");
    }
    println!("undo with a stopped controller: content remains {remaining} of 8 times, measured 5 of 8");
    assert!((1..8).contains(&remaining));
}

#[tokio::test(start_paused = true)]
async fn rollback_is_clean_with_running_controller() {
    let slow = Config { controller_qps: Some(5.0), ..Config::default() };
    for (config, retained) in [(fast(1), true), (fast(2), false), (slow.clone(), true), (slow, false)] {
        let lab = lab_with_ready_group(3, config).await;
        if retained {
            run(&lab, &RETAIN).await;
            lab.wait_until_idle().await;
        }
        run(&lab, &UNDO).await;
        assert_eq!(leftovers(&lab).await, NOTHING, "measured 4 of 4 clean");
        assert!(lab.list(GROUP_CONTENTS).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn retaining_class_leaks_unless_delete_is_set() {
    for (steps, physical) in [(&[DeleteGroup][..], 4), (&UNDO[..], 0)] {
        let lab = Lab::new(4, fast(1)).await;
        create_retaining_class(&lab);
        lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("retaining"));
        lab.wait_until("ready", |lab| lab.is_ready(4)).await;
        run(&lab, steps).await;
        assert_eq!(leftovers(&lab).await.physical, physical);
    }
}

#[tokio::test(start_paused = true)]
async fn group_deleted_within_20_ms_leaves_storage() {
    let (mut orphaned, mut freed) = (0, 0);
    for seed in 0..12 {
        let lab = Lab::new(2, fast(seed)).await;
        lab.create_group();
        while lab.list(GROUP_CONTENTS).is_empty() {
            tokio::task::yield_now().await;
        }
        run(&lab, &[DeleteGroup]).await;
        lab.wait_until_idle().await;
        let Some(content) = lab.group_content() else { continue };
        assert_eq!((lab.list(GROUPS).len(), annotation(&content, GROUP_BEING_DELETED)), (0, None));
        orphaned += usize::from(lab.ledger().0 == 2);
        lab.patch(
            GROUP_CONTENTS,
            &content,
            json!({"metadata": {"annotations": {GROUP_BEING_DELETED: "yes"}}}),
        );
        run(&lab, &[DeleteGroupContent]).await;
        freed += usize::from(leftovers(&lab).await == NOTHING);
    }
    println!(
        "deleted within 20 ms: {orphaned} of 12 orphaned, {freed} freed by the annotation, measured 12 and 12"
    );
    assert_eq!((orphaned, freed), (12, 12));
}

#[tokio::test(start_paused = true)]
async fn group_without_class_never_gets_finalizer() {
    let lab = Lab::new(1, fast(1)).await;
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("nope"));
    run(&lab, &[Wait(600_000)]).await;
    assert!(lab.list(GROUP_CONTENTS).is_empty());
    assert!(!has_finalizer(&lab.group().expect("exists"), GROUP_BOUND));
    run(&lab, &[DeleteGroup]).await;
    assert!(lab.group().is_none(), "no finalizer delays the deletion");
}

/// A group that lost one member before the release, and is released up to a step.
async fn lab_with_lost_member(steps: &[Step]) -> (Lab, String) {
    let lab = lab_with_ready_group(3, fast(1)).await;
    run(&lab, &RETAIN).await;
    let lost = lab.snapshots().remove(0);
    let content = lost["status"]["boundVolumeSnapshotContentName"].as_str().expect("bound").to_owned();
    let handle = lab.get(CONTENTS, &content).expect("exists")["status"]["snapshotHandle"].clone();
    run(&lab, &[DeleteMember]).await;
    run(&lab, &RELEASE[..3]).await;
    lab.wait_until_idle().await;
    run(&lab, steps).await;
    lab.wait_until_idle().await;
    (lab, handle.as_str().expect("cut").to_owned())
}

fn is_ready(lab: &Lab, member: &str) -> bool {
    lab.get(SNAPSHOTS, member).is_some_and(|one| one["status"]["readyToUse"] == true && !is_deleting(&one))
}

#[tokio::test(start_paused = true)]
async fn member_is_rebuilt_between_group_and_content_deletion() {
    let (lab, handle) = lab_with_lost_member(&[]).await;
    import(&lab, "rebuilt", &handle, "Retain");
    lab.wait_until_idle().await;
    run(&lab, &RELEASE[3..]).await;
    lab.wait_until_idle().await;
    assert!(lab.get(SNAPSHOTS, "rebuilt").is_none(), "before step 5: adopted and deleted");

    let (lab, handle) = lab_with_lost_member(&RELEASE[3..5]).await;
    import(&lab, "rebuilt", &handle, "Retain");
    assert!(lab.becomes_true(1, |lab| is_ready(lab, "rebuilt")).await, "between 5 and 6: ready within 1 s");
    run(&lab, &RELEASE[5..]).await;
    lab.wait_until_idle().await;
    assert!(is_ready(&lab, "rebuilt"), "it stays ready");

    let (lab, handle) = lab_with_lost_member(&RELEASE[3..]).await;
    import(&lab, "rebuilt", &handle, "Retain");
    assert!(!lab.becomes_true(600, |lab| is_ready(lab, "rebuilt")).await, "after 8: never ready");
}

#[tokio::test(start_paused = true)]
async fn stub_makes_member_ready_after_content_deletion() {
    let (lab, handle) = lab_with_lost_member(&RELEASE[3..7]).await;
    let (group, members) = handles(&lab);
    let stub = import_group_content(&lab, "stub", &group, &members, "Retain");
    import(&lab, "rebuilt", &handle, "Retain");
    assert!(lab.becomes_true(60, |lab| is_ready(lab, "rebuilt")).await);
    lab.delete(GROUP_CONTENTS, &stub);
    lab.wait_until_idle().await;
    assert!(is_ready(&lab, "rebuilt"));
    assert_eq!((lab.ledger(), lab.list(GROUP_CONTENTS).len()), ((3, 0, 0), 0));
}

/// Handles of the group and of its members, as in a receipt.
fn handles(lab: &Lab) -> (String, Vec<String>) {
    let physical = lab.cluster.storage().physical_snapshots();
    let group = physical[0].group_handle.clone().expect("a group handle");
    (group, physical.into_iter().map(|one| one.snapshot_handle).collect())
}

#[tokio::test(start_paused = true)]
async fn retained_deleted_group_can_be_rebuilt_or_freed() {
    let lab = lab_with_ready_group(3, fast(1)).await;
    run(&lab, &RETAIN).await;
    run(&lab, &[DeleteGroup]).await;
    assert_eq!(leftovers(&lab).await, Leftovers::new(0, 3, 3));
    for (index, handle) in handles(&lab).1.iter().enumerate() {
        import(&lab, &format!("m{index}"), handle, "Retain");
    }
    lab.wait_until_idle().await;
    assert_eq!(lab.snapshots().iter().filter(|one| is_ready(&lab, name(one))).count(), 3);

    let lab = lab_with_ready_group(3, fast(2)).await;
    run(&lab, &RETAIN).await;
    run(&lab, &[DeleteNamespace, Wait(60_000), GroupPolicy("Delete"), DeleteGroupContent]).await;
    lab.wait_until_idle().await;
    assert_eq!(lab.ledger().0, 0, "deleting the content with policy Delete frees everything");
}

#[tokio::test(start_paused = true)]
async fn copied_member_needs_content_with_group() {
    let lab = lab_with_ready_group(2, fast(1)).await;
    run(&lab, &RETAIN).await;
    run(&lab, &RELEASE).await;
    import(&lab, "copy", &handles(&lab).1[0], "Retain");
    assert!(!lab.becomes_true(600, |lab| is_ready(lab, "copy")).await, "the content was deleted");

    let lab = lab_with_ready_group(2, fast(2)).await;
    run(&lab, &RETAIN).await;
    run(&lab, &RELEASE[..5]).await;
    import(&lab, "copy", &handles(&lab).1[0], "Retain");
    assert!(lab.becomes_true(60, |lab| is_ready(lab, "copy")).await, "the content exists");
    run(&lab, &[GroupPolicy("Delete"), DeleteGroupContent]).await;
    lab.wait_until_idle().await;
    assert_eq!((lab.ledger().0, lab.driver_calls("DeleteVolumeGroupSnapshot")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn labels_of_retained_patch_survive_namespace_deletion() {
    let lab = lab_with_ready_group(3, fast(1)).await;
    run(&lab, &RETAIN).await;
    for content in lab.contents() {
        let metadata =
            json!({"labels": {"example.com/run": "r1"}, "annotations": {"example.com/receipt": "{}"}});
        lab.patch(CONTENTS, &content, json!({"metadata": metadata}));
    }
    let (group, members) = handles(&lab);
    run(&lab, &RELEASE).await;
    run(&lab, &[DeleteNamespace]).await;
    lab.wait_until_idle().await;
    let contents = lab.contents();
    let has_metadata = |one: &&Value| {
        one["metadata"]["labels"]["example.com/run"] == "r1"
            && annotation(one, "example.com/receipt").is_some()
    };
    assert_eq!(contents.iter().filter(has_metadata).count(), 3);

    lab.create_namespace("elsewhere");
    let mut stub = import_group_content(&lab, "reclaim", &group, &members, "Delete");
    lab.delete(GROUP_CONTENTS, &stub);
    let metadata = json!({"name": "reclaim-content"});
    stub["metadata"] = metadata;
    stub["spec"]["volumeGroupSnapshotRef"]["namespace"] = json!("elsewhere");
    lab.wait_until("the first content is deleted", |lab| lab.list(GROUP_CONTENTS).is_empty()).await;
    lab.create(GROUP_CONTENTS, stub);
    let group = lab.create(
        GROUPS,
        json!({
            "metadata": {"name": "reclaim", "namespace": "elsewhere"},
            "spec": {"source": {"volumeGroupSnapshotContentName": "reclaim-content"}},
        }),
    );
    wait_until_protected(&lab).await;
    lab.delete(GROUPS, &group);
    lab.wait_until_idle().await;
    assert_eq!(lab.ledger().0, 0, "measured 3 of 3 freed");
}

async fn wait_until_protected(lab: &Lab) {
    lab.wait_until("both have their finalizer", |lab| {
        lab.list(GROUPS).iter().all(|one| has_finalizer(one, GROUP_BOUND))
            && lab.list(GROUP_CONTENTS).iter().all(|one| has_finalizer(one, GROUP_CONTENT_BOUND))
    })
    .await;
}

/// Deletes the storage first, then the remaining objects, which have readyToUse without physical snapshots in
/// between.
#[tokio::test(start_paused = true)]
async fn manual_group_reclaims_a_released_group() {
    let lab = lab_with_ready_group(4, fast(1)).await;
    run(&lab, &RETAIN).await;
    run(&lab, &RELEASE).await;
    run(&lab, &[MemberPolicies("Delete")]).await;
    let (group, members) = handles(&lab);
    import_group_content(&lab, "reclaim", &group, &members, "Delete");
    let group = import_group(&lab, "reclaim");
    wait_until_protected(&lab).await;
    lab.delete(GROUPS, &group);
    lab.wait_until_idle().await;
    assert_eq!(leftovers(&lab).await, Leftovers { phantoms: 4, ..Leftovers::new(4, 4, 0) });
    run(&lab, &[Step::DeleteMembers]).await;
    assert_eq!(leftovers(&lab).await, NOTHING);
    assert_eq!((lab.list(GROUPS).len(), lab.get("namespaces", NAMESPACE).is_some()), (0, true));
    assert!(lab.get(crate::lab::GROUP_CLASSES, GROUP_CLASS).is_some());
}
