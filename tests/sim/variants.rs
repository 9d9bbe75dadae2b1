//! Tests ways to separate a group from its members, and the remaining objects: the embedded cluster against
//! the table measured on Kubernetes 1.36 with external-snapshotter a little after 8.6.0 (three members, the
//! controller at 200 calls per second).

use serde_json::{Value, json};
use stillpoint::sim::Config;

use crate::lab::{CONTENTS, DRIVER, GROUP_CLASSES, GROUP_CONTENTS, GROUPS, Lab, NAMESPACE, SNAPSHOTS, name};
use crate::script::Step::{
    ClearNames, DeleteGroup, DeleteGroupContent, DeleteGroupOrphaning, DeleteMembers, GroupPolicy,
    MemberPolicies, NoDefaultClass, Strip, Wait,
};
use crate::script::{ALL, Step, lab_with_ready_group, leftovers, run};
use crate::table::{Leftovers, print};

struct Variant {
    name: &'static str,
    steps: &'static [Step],
    measured: Leftovers,
    /// Whether a PVC can be restored from each remaining VolumeSnapshot.
    restores: bool,
}

const MEMBERS: usize = 3;
const RETAIN: Step = GroupPolicy("Retain");
const ALL_LOST: Leftovers = Leftovers::new(0, 0, 3);
const CONTENTS_ONLY: Leftovers = Leftovers::new(0, 3, 3);
const ALL_PRESERVED: Leftovers = Leftovers::new(3, 3, 3);

/// The measured table. "slow" waits 5 seconds between the steps.
const VARIANTS: &[Variant] = &[
    Variant {
        name: "fast",
        steps: &[Strip, RETAIN, DeleteGroupContent, DeleteGroup],
        measured: ALL_LOST,
        restores: false,
    },
    Variant {
        name: "slow",
        steps: &[Strip, Wait(5000), RETAIN, Wait(5000), DeleteGroupContent, Wait(5000), DeleteGroup],
        measured: ALL_LOST,
        restores: false,
    },
    Variant {
        name: "vgsfirst",
        steps: &[Strip, RETAIN, DeleteGroup, DeleteGroupContent],
        measured: ALL_LOST,
        restores: false,
    },
    Variant {
        name: "vscretain",
        steps: &[MemberPolicies("Retain"), Strip, RETAIN, DeleteGroupContent, DeleteGroup],
        measured: CONTENTS_ONLY,
        restores: false,
    },
    Variant {
        name: "nostrip",
        steps: &[RETAIN, MemberPolicies("Retain"), DeleteGroupContent, DeleteGroup],
        measured: CONTENTS_ONLY,
        restores: false,
    },
    Variant {
        name: "orphan",
        steps: &[RETAIN, MemberPolicies("Retain"), DeleteGroupContent, DeleteGroupOrphaning],
        measured: CONTENTS_ONLY,
        restores: false,
    },
    Variant {
        name: "nullname",
        steps: &[
            ClearNames(ALL),
            Wait(5000),
            Strip,
            Wait(5000),
            RETAIN,
            DeleteGroupContent,
            Wait(5000),
            DeleteGroup,
        ],
        measured: ALL_PRESERVED,
        restores: true,
    },
    Variant {
        name: "nullfast",
        steps: &[ClearNames(ALL), Strip, RETAIN, DeleteGroupContent, DeleteGroup],
        measured: ALL_PRESERVED,
        restores: true,
    },
    Variant {
        name: "fast-nodefault",
        steps: &[NoDefaultClass, Strip, RETAIN, DeleteGroupContent, DeleteGroup],
        measured: ALL_PRESERVED,
        restores: true,
    },
    Variant {
        name: "slow-nodefault",
        steps: &[
            NoDefaultClass,
            Strip,
            Wait(5000),
            RETAIN,
            Wait(5000),
            DeleteGroupContent,
            Wait(5000),
            DeleteGroup,
        ],
        measured: ALL_PRESERVED,
        restores: true,
    },
    Variant {
        name: "delete, all Delete",
        steps: &[DeleteGroup],
        measured: Leftovers::new(0, 0, 0),
        restores: false,
    },
    Variant {
        name: "nullfast, then the snapshots deleted",
        steps: &[ClearNames(ALL), Strip, RETAIN, DeleteGroupContent, DeleteGroup, Wait(5000), DeleteMembers],
        measured: ALL_LOST,
        restores: false,
    },
    Variant {
        name: "fast-nodefault, then the snapshots deleted",
        steps: &[
            NoDefaultClass,
            Strip,
            RETAIN,
            DeleteGroupContent,
            DeleteGroup,
            Wait(5000),
            DeleteMembers,
            Wait(720_000),
        ],
        measured: CONTENTS_ONLY,
        restores: false,
    },
    Variant {
        name: "policy of the group Delete, members Retain",
        steps: &[MemberPolicies("Retain"), DeleteGroup],
        measured: Leftovers::new(0, 3, 0),
        restores: false,
    },
    Variant {
        name: "policy of the group Retain, members Delete",
        steps: &[RETAIN, DeleteGroup],
        measured: ALL_LOST,
        restores: false,
    },
];

async fn run_case(variant: &Variant) -> (Lab, Leftovers) {
    let lab =
        lab_with_ready_group(MEMBERS, Config { controller_qps: Some(200.0), ..Config::default() }).await;
    assert!(run(&lab, variant.steps).await, "{}: a wait timed out", variant.name);
    let leftovers = leftovers(&lab).await;
    (lab, leftovers)
}

#[tokio::test(start_paused = true)]
async fn every_variant_matches_measured_losses() {
    let mut different = Vec::new();
    for variant in VARIANTS {
        let (lab, simulated) = run_case(variant).await;
        print(variant.name, simulated, variant.measured);
        if simulated != variant.measured {
            different.push(variant.name);
        }
        for snapshot in lab.snapshots() {
            assert_eq!(lab.restores_from(name(&snapshot)).await, variant.restores, "{}", variant.name);
        }
    }
    assert_eq!(different, Vec::<&str>::new());
}

fn variant(wanted: &str) -> &'static Variant {
    VARIANTS.iter().find(|variant| variant.name == wanted).expect("in the table")
}

#[tokio::test(start_paused = true)]
async fn survivors_keep_error_without_default_class() {
    let (lab, _) = run_case(variant("fast-nodefault")).await;
    for snapshot in lab.snapshots() {
        assert_eq!(
            snapshot["status"]["error"]["message"],
            "Failed to set default snapshot class with error cannot find default snapshot class"
        );
        assert_eq!(snapshot["status"]["readyToUse"], true);
    }
    assert_eq!(lab.events("SetDefaultSnapshotClassFailed").len(), MEMBERS);
}

#[tokio::test(start_paused = true)]
async fn content_of_survivor_without_class_cannot_be_deleted() {
    let (lab, _) = run_case(variant("fast-nodefault, then the snapshots deleted")).await;
    lab.cluster.restart(crate::script::CONTROLLER);
    for content in lab.contents() {
        lab.delete(CONTENTS, &content);
    }
    lab.wait_until_idle().await;
    assert_eq!(
        (lab.contents().len(), lab.ledger()),
        (3, (3, 3, 0)),
        "the contents hang and the storage remains"
    );
}

#[tokio::test(start_paused = true)]
async fn retaining_class_leaves_leftovers_and_keeps_storage() {
    let lab = Lab::new(MEMBERS, Config::default()).await;
    create_retaining_class(&lab);
    lab.create_group_with("g1", json!({"matchLabels": {"group": "g1"}}), Some("retaining"));
    lab.wait_until("ready", |lab| lab.is_ready(MEMBERS)).await;
    assert!(lab.contents().iter().all(|content| content["spec"]["deletionPolicy"] == "Retain"));
    run(&lab, &[DeleteGroup]).await;
    let simulated = leftovers(&lab).await;
    print("class with policy Retain", simulated, CONTENTS_ONLY);
    assert_eq!((simulated, lab.list(GROUP_CONTENTS).len(), lab.list(GROUPS).len()), (CONTENTS_ONLY, 1, 0));
    run(&lab, &[DeleteGroupContent]).await;
    for content in lab.contents() {
        lab.delete(CONTENTS, &content);
    }
    assert_eq!(leftovers(&lab).await, ALL_LOST);
}

/// Creates a second VolumeGroupSnapshotClass with policy Retain, which is not the default.
pub fn create_retaining_class(lab: &Lab) {
    lab.create(
        GROUP_CLASSES,
        json!({"metadata": {"name": "retaining"}, "driver": DRIVER, "deletionPolicy": "Retain"}),
    );
}

/// Creates a static VolumeSnapshotContent and its VolumeSnapshot for a handle.
pub fn import(lab: &Lab, name: &str, handle: &str, policy: &str) {
    lab.create(
        CONTENTS,
        json!({
            "metadata": {"name": name},
            "spec": {
                "deletionPolicy": policy, "driver": DRIVER, "source": {"snapshotHandle": handle},
                "sourceVolumeMode": "Filesystem", "volumeSnapshotRef": {"name": name, "namespace": NAMESPACE},
            },
        }),
    );
    lab.create(
        SNAPSHOTS,
        json!({
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"source": {"volumeSnapshotContentName": name}},
        }),
    );
}

/// Creates a content that names a group by its handles, for a VolumeGroupSnapshot that need not exist.
pub fn import_group_content(lab: &Lab, group: &str, handle: &str, members: &[String], policy: &str) -> Value {
    lab.create(
        GROUP_CONTENTS,
        json!({
            "metadata": {"name": format!("{group}-content")},
            "spec": {
                "deletionPolicy": policy, "driver": DRIVER,
                "source": {"groupSnapshotHandles": {
                    "volumeGroupSnapshotHandle": handle, "volumeSnapshotHandles": members,
                }},
                "volumeGroupSnapshotRef": {"name": group, "namespace": NAMESPACE},
            },
        }),
    )
}

/// Creates the VolumeGroupSnapshot for such a content.
pub fn import_group(lab: &Lab, group: &str) -> Value {
    lab.create(
        GROUPS,
        json!({
            "metadata": {"name": group, "namespace": NAMESPACE},
            "spec": {"source": {"volumeGroupSnapshotContentName": format!("{group}-content")}},
        }),
    )
}
