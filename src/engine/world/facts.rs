//! What planning is told about the cluster, out of the caches.
//!
//! Only the claims of the namespaces that are asked for, and only the volumes of those claims: the cost is that of the
//! request, not of the cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;

use super::World;
use crate::domain::ids::Uid;
use crate::planning::facts::{ClaimFact, ClaimRef, ClassFact, CsiVolume, Facts, NamespaceFact, VolumeFact};

impl World {
    /// The facts for a plan over these namespaces; over all of them where none is named.
    pub fn facts(&self, namespaces: &[String]) -> Facts {
        let store = self.store();
        let all: Vec<_> = store.namespaces.all().map(|namespace| namespace_fact(namespace)).collect();
        let every = || all.iter().map(|namespace| namespace.name.clone()).collect();
        let asked: Vec<String> = if namespaces.is_empty() { every() } else { namespaces.to_vec() };
        let claims: Vec<_> = asked
            .iter()
            .flat_map(|namespace| store.claims.within(namespace))
            .map(|claim| claim_fact(claim))
            .collect();
        let volumes = claims.iter().filter_map(|claim| store.volumes.get("", &claim.volume));
        let volumes = volumes.map(|volume| volume_fact(volume)).collect();
        let group_classes = store.group_classes.all().map(|class| class_fact(&class.metadata, &class.driver));
        let snapshot_classes = store.classes.all().map(|class| class_fact(&class.metadata, &class.driver));
        Facts {
            namespaces: all,
            volumes,
            group_classes: group_classes.collect(),
            snapshot_classes: snapshot_classes.collect(),
            claims,
        }
    }
}

fn namespace_fact(namespace: &Namespace) -> NamespaceFact {
    let meta = &namespace.metadata;
    NamespaceFact { name: text(&meta.name), terminating: meta.deletion_timestamp.is_some() }
}

fn claim_fact(claim: &PersistentVolumeClaim) -> ClaimFact {
    let meta = &claim.metadata;
    let spec = claim.spec.as_ref();
    ClaimFact {
        namespace: text(&meta.namespace),
        name: text(&meta.name),
        uid: Uid(text(&meta.uid)),
        labels: map(&meta.labels),
        annotations: map(&meta.annotations),
        phase: claim.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default(),
        volume: spec.and_then(|spec| spec.volume_name.clone()).unwrap_or_default(),
        terminating: meta.deletion_timestamp.is_some(),
        storage_class: spec.and_then(|spec| spec.storage_class_name.clone()),
    }
}

fn volume_fact(volume: &PersistentVolume) -> VolumeFact {
    let spec = volume.spec.as_ref();
    let csi = spec.and_then(|spec| spec.csi.as_ref());
    let claim = spec.and_then(|spec| spec.claim_ref.as_ref());
    VolumeFact {
        name: text(&volume.metadata.name),
        csi: csi.map(|csi| CsiVolume { driver: csi.driver.clone(), handle: csi.volume_handle.clone() }),
        claim: claim.map(|claim| ClaimRef {
            namespace: text(&claim.namespace),
            name: text(&claim.name),
            uid: Uid(text(&claim.uid)),
        }),
        storage_class: spec.and_then(|spec| spec.storage_class_name.clone()),
    }
}

fn class_fact(meta: &ObjectMeta, driver: &str) -> ClassFact {
    ClassFact {
        name: text(&meta.name),
        driver: driver.to_owned(),
        labels: map(&meta.labels),
        annotations: map(&meta.annotations),
    }
}

fn text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn map(map: &Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    map.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_facts_are_those_of_the_namespaces_that_are_asked_for() {
        let world = World::empty();
        for (namespace, name) in [("shop", "data"), ("bank", "books")] {
            let volume = format!("pv-{name}");
            let claim = json!({
                "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"app": "db"}},
                "spec": {"volumeName": volume, "storageClassName": "fast"},
                "status": {"phase": "Bound"},
            });
            let claim = serde_json::from_value(claim).expect("a claim");
            world.feed(Event::Apply(claim), |store| &mut store.claims);
            let volume = json!({
                "metadata": {"name": volume, "uid": volume},
                "spec": {
                    "csi": {"driver": "d", "volumeHandle": format!("vol-{name}")},
                    "claimRef": {"namespace": namespace, "name": name, "uid": format!("uid-{name}")},
                    "storageClassName": "fast",
                },
            });
            let volume = serde_json::from_value(volume).expect("a volume");
            world.feed(Event::Apply(volume), |store| &mut store.volumes);
            let object = json!({"metadata": {"name": namespace, "uid": namespace}});
            let object = serde_json::from_value(object).expect("a namespace");
            world.feed(Event::Apply(object), |store| &mut store.namespaces);
        }
        let facts = world.facts(&["shop".to_owned()]);
        let claim = ClaimFact {
            namespace: "shop".into(),
            name: "data".into(),
            uid: Uid::from("uid-data"),
            labels: BTreeMap::from([("app".to_owned(), "db".to_owned())]),
            annotations: BTreeMap::new(),
            phase: "Bound".into(),
            volume: "pv-data".into(),
            terminating: false,
            storage_class: Some("fast".into()),
        };
        assert_eq!(facts.claims, [claim]);
        let volume = VolumeFact {
            name: "pv-data".into(),
            csi: Some(CsiVolume { driver: "d".into(), handle: "vol-data".into() }),
            claim: Some(ClaimRef {
                namespace: "shop".into(),
                name: "data".into(),
                uid: Uid::from("uid-data"),
            }),
            storage_class: Some("fast".into()),
        };
        assert_eq!(facts.volumes, [volume]);
        assert_eq!(facts.namespaces.len(), 2);
        assert_eq!(world.facts(&[]).claims.len(), 2, "none named: all");
    }
}
