//! Tests single snapshots, PVCs and volumes.

use serde_json::{Value, json};

use super::lab::{Lab, NAMESPACE};
use crate::Config;
use crate::actors::object;
use crate::actors::strings::{finalizer, plural};

fn create_single(lab: &Lab) -> Value {
    lab.create(
        plural::SNAPSHOTS,
        json!({
            "metadata": {"name": "single", "namespace": NAMESPACE},
            "spec": {"source": {"persistentVolumeClaimName": "data-0"}},
        }),
    )
}

async fn ready_single(lab: &Lab) -> Value {
    create_single(lab);
    lab.wait_until("it is ready", |lab| lab.snapshots()[0]["status"]["readyToUse"] == true).await;
    lab.wait_until_idle().await;
    lab.snapshots().remove(0)
}

#[tokio::test(start_paused = true)]
async fn single_snapshot_is_created_and_deleted() {
    for config in [Config::default(), Config { cache_lag_ms: 200, ..Config::default() }] {
        let lab = Lab::new(1, config).await;
        let single = ready_single(&lab).await;
        assert_eq!(single["spec"]["volumeSnapshotClassName"], "csi-hostpath-snapclass");
        assert!(object::has_finalizer(&single, finalizer::SNAPSHOT_BOUND));
        assert!(object::has_finalizer(&single, finalizer::AS_SOURCE));
        let content = lab.contents().remove(0);
        assert_eq!(object::name(&content), format!("snapcontent-{}", object::uid(&single)));
        assert_eq!(lab.cluster.storage().physical_snapshots().len(), 1);
        let pvc = lab.get(plural::PVCS, "data-0").unwrap();
        assert!(!object::has_finalizer(&pvc, finalizer::PVC_AS_SOURCE), "the cut removes the finalizer");
        let ledger = lab.cluster.ledger();
        assert_eq!((ledger.leaked, ledger.phantom), (0, 0));

        lab.delete(plural::SNAPSHOTS, &single);
        lab.wait_until_idle().await;
        assert_eq!((lab.snapshots(), lab.contents()), Default::default());
        assert_eq!(lab.cluster.storage().physical_snapshots(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn pvc_and_volume_are_bound_and_deleted_together() {
    let lab = Lab::new(1, Config::default()).await;
    let pvc = lab.get(plural::PVCS, "data-0").unwrap();
    let volume = lab.list(plural::VOLUMES).remove(0);
    assert_eq!(pvc["spec"]["volumeName"], object::name(&volume));
    assert_eq!(object::name(&volume), format!("pvc-{}", object::uid(&pvc)));
    assert_eq!(volume["spec"]["claimRef"]["uid"], object::uid(&pvc));
    assert_eq!(volume["spec"]["csi"]["driver"], "hostpath.csi.k8s.io");
    assert_eq!(volume["status"]["phase"], "Bound");
    assert_eq!(pvc["status"]["capacity"]["storage"], "10Mi");
    let annotations = &pvc["metadata"]["annotations"];
    assert_eq!(annotations["pv.kubernetes.io/bind-completed"], "yes");
    assert_eq!(annotations["volume.kubernetes.io/storage-provisioner"], "hostpath.csi.k8s.io");
    assert_eq!(pvc["metadata"]["finalizers"], json!([finalizer::PVC]));

    lab.delete(plural::PVCS, &pvc);
    lab.wait_until_idle().await;
    assert_eq!((lab.list(plural::PVCS), lab.list(plural::VOLUMES)), Default::default());
}

fn restore(lab: &Lab, size: &str) {
    lab.create(
        plural::PVCS,
        json!({
            "metadata": {"name": "restored", "namespace": NAMESPACE},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}},
                "storageClassName": "csi-hostpath-sc",
                "dataSource": {
                    "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "single",
                },
            },
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn restores_pvc_from_ready_snapshot() {
    let lab = Lab::new(1, Config::default()).await;
    restore(&lab, "20Mi");
    lab.wait_until_idle().await;
    let pending = lab.get(plural::PVCS, "restored").unwrap();
    assert_eq!(pending["status"]["phase"], "Pending", "the snapshot does not exist yet");
    create_single(&lab);
    lab.wait_until("it is bound", |lab| {
        lab.get(plural::PVCS, "restored").unwrap()["status"]["phase"] == "Bound"
    })
    .await;
    let single = lab.snapshots().remove(0);
    assert!(
        !object::has_finalizer(&single, finalizer::RESTORE_SOURCE),
        "the finalizer exists only during provisioning"
    );
}

#[tokio::test(start_paused = true)]
async fn pending_restore_blocks_group_deletion() {
    let lab = Lab::new(1, Config::default()).await;
    let group = lab.create_ready_group(1).await;
    let member = object::name(&lab.snapshots()[0]).to_owned();
    lab.create(
        plural::PVCS,
        json!({
            "metadata": {"name": "small", "namespace": NAMESPACE},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}},
                "storageClassName": "csi-hostpath-sc",
                "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": member},
            },
        }),
    );
    lab.wait_until_idle().await;
    lab.delete(plural::GROUPS, &group);
    lab.wait_until_idle().await;
    assert!(lab.group().is_some(), "a PVC that is too small for the member is Pending");
    lab.delete(plural::PVCS, &lab.get(plural::PVCS, "small").unwrap());
    lab.wait_until("a later retry deletes the group", |lab| lab.group().is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn sample_pvcs_are_bound_and_can_be_cut() {
    let lab = Lab::new(0, Config::default()).await;
    lab.cluster.load_sample();
    lab.cluster.load_sample();
    lab.wait_until("all six PVCs are bound", |lab| {
        let pvcs = lab.list(plural::PVCS);
        pvcs.len() == 6 && pvcs.iter().all(|pvc| pvc["status"]["phase"] == "Bound")
    })
    .await;
    lab.create(
        plural::GROUPS,
        json!({
            "metadata": {"name": "orders", "namespace": "shop"},
            "spec": {"source": {"selector": {"matchLabels": {"velero.io/volume-group": "orders-db"}}}},
        }),
    );
    lab.wait_until("the group has three members", |lab| lab.snapshots().len() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn same_seed_gives_same_cluster() {
    let run = || async {
        let lab = Lab::new(3, Config { seed: 11, cache_lag_ms: 50, ..Config::default() }).await;
        lab.create_ready_group(3).await;
        lab.wait_until_idle().await;
        let all =
            [plural::GROUPS, plural::GROUP_CONTENTS, plural::SNAPSHOTS, plural::CONTENTS, plural::EVENTS];
        all.map(|plural| serde_json::to_string(&lab.list(plural)).expect("JSON"))
    };
    assert_eq!(run().await, run().await);
}

#[tokio::test(start_paused = true)]
async fn uses_newest_served_group_api_version() {
    for version in ["v1beta1", "v1beta2"] {
        let config = Config { groupsnapshot_versions: vec![version.to_owned()], ..Config::default() };
        let lab = Lab::new(2, config).await;
        let group = lab.create_ready_group(2).await;
        assert_eq!(group["apiVersion"], format!("groupsnapshot.storage.k8s.io/{version}"));
        let owner = &lab.snapshots()[0]["metadata"]["ownerReferences"][0];
        assert_eq!(owner["apiVersion"], group["apiVersion"]);
        lab.delete(plural::GROUPS, &group);
        lab.wait_until_idle().await;
        assert_eq!(lab.cluster.ledger().physical_snapshots, 0);
    }
}
