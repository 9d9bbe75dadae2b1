//! Builds a small cluster for the tests of this module: namespace `shop` with one group `db` of PVCs
//! `data-0`, `data-1`, … on volumes of driver `disk.csi`, one class of each kind, and a Backup of that
//! namespace.

use std::collections::BTreeMap;

use crate::domain::atomicity::Demand;
use crate::domain::ids::Uid;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::plan::BackupRef;
use crate::domain::problem::Problem;
use crate::domain::time::Timestamp;
use crate::planning::{
    ClaimRef, ClassInfo, CsiVolume, Formed, Inventory, NamespaceInfo, PvInfo, PvcInfo, Request, form_groups,
};

/// Request and inventory of one test.
pub(super) struct Scene {
    pub request: Request,
    pub inventory: Inventory,
}

impl Scene {
    /// A cluster with one group of `members`.
    pub fn new(members: usize) -> Self {
        let request = Request {
            backup: BackupRef {
                namespace: "stillpoint".into(),
                name: "nightly".into(),
                uid: "backup-uid".into(),
            },
            label_key: labels::DEFAULT_GROUP_KEY.into(),
            label_key_explicit: false,
            warnings: Vec::new(),
            included_namespaces: vec!["shop".into()],
            annotations: BTreeMap::new(),
            cut_timeout: limits::CSI_SNAPSHOT_TIMEOUT,
            ready_timeout: limits::ITEM_OPERATION_TIMEOUT,
            atomicity: Demand::default(),
            keep_group_name: false,
        };
        let inventory = Inventory {
            group_classes: vec![class("group-class", "disk.csi").label(labels::GROUP_CLASS_DEFAULT, "true")],
            snapshot_classes: vec![class("snapshot-class", "disk.csi")],
            ..Inventory::default()
        };
        let mut scene = Self { request, inventory };
        scene.namespace("shop");
        (0..members).for_each(|_| scene.add("shop", "db"));
        scene
    }

    pub fn namespace(&mut self, name: &str) {
        self.inventory.namespaces.push(NamespaceInfo {
            name: name.into(),
            terminating: false,
            excluded: false,
        });
    }

    /// Adds the next PVC and its volume, in this group; in no group for an empty name.
    pub fn add(&mut self, namespace: &str, group: &str) {
        let number = self.inventory.claims.len();
        let (name, uid) = (format!("data-{number}"), Uid(format!("uid-{number}")));
        let mut labels = BTreeMap::new();
        if !group.is_empty() {
            labels.insert(self.request.label_key.clone(), group.into());
        }
        self.inventory.volumes.push(PvInfo {
            name: format!("pv-{number}"),
            csi: Some(CsiVolume { driver: "disk.csi".into(), handle: format!("handle-{number}") }),
            claim: Some(ClaimRef { namespace: namespace.into(), name: name.clone(), uid: uid.clone() }),
            storage_class: Some("fast".into()),
        });
        self.inventory.claims.push(PvcInfo {
            namespace: namespace.into(),
            name,
            uid,
            labels,
            annotations: BTreeMap::new(),
            phase: "Bound".into(),
            volume: format!("pv-{number}"),
            terminating: false,
            storage_class: Some("fast".into()),
            requested: Some("10Gi".into()),
            access_modes: vec!["ReadWriteOnce".into()],
            volume_mode: Some("Filesystem".into()),
        });
    }

    /// The PVC `data-<number>`.
    pub fn claim(&mut self, number: usize) -> &mut PvcInfo {
        &mut self.inventory.claims[number]
    }

    /// The volume of the PVC `data-<number>`.
    pub fn volume(&mut self, number: usize) -> &mut PvInfo {
        &mut self.inventory.volumes[number]
    }

    /// Plans the request.
    pub fn form(&self) -> Formed {
        form_groups(&self.request, &self.inventory, Timestamp(7))
    }
}

/// A class without marks.
pub(super) fn class(name: &str, driver: &str) -> ClassInfo {
    ClassInfo {
        name: name.into(),
        uid: Uid::from(name),
        driver: driver.into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        get_secret: None,
    }
}

impl ClassInfo {
    /// The class with one more label.
    pub(super) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// The class with one more annotation.
    pub(super) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }
}

/// The problem of the only group, which must have been refused.
pub(super) fn refusal(scene: &Scene) -> Problem {
    let formed = scene.form();
    assert_eq!((formed.plans.len(), formed.refused.len()), (0, 1), "{formed:?}");
    formed.refused[0].problem.clone()
}
