//! Validates changes of PVCs, volumes and storage classes.
//!
//! Source: Kubernetes 1.36, `ValidatePersistentVolumeClaimUpdate`, `ValidatePersistentVolumeUpdate`,
//! `ValidateStorageClassUpdate`. The real message about a PVC ends with the difference in the format of Go;
//! the message here does not.
//!
//! Not here: validation of new objects.

use serde_json::{Value, json};

use crate::actors::quantity;
use crate::api_server::status::Cause;

/// The causes for which a change of a built-in object is refused.
pub(super) fn causes(plural: &str, current: &Value, next: &Value) -> Vec<Cause> {
    match plural {
        "persistentvolumeclaims" => pvc(current, next),
        "persistentvolumes" => volume(current, next),
        "storageclasses" => storage_class(current, next),
        _ => Vec::new(),
    }
}

fn pvc(current: &Value, next: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut allowed = current["spec"].clone();
    // A PVC without a volume or class may still get one.
    for field in ["volumeName", "storageClassName"] {
        if allowed[field].is_null() {
            allowed[field] = next["spec"][field].clone();
        }
    }
    for field in ["resources", "volumeAttributesClassName"] {
        allowed[field] = next["spec"][field].clone();
    }
    let mut compared = next["spec"].clone();
    for spec in [&mut allowed, &mut compared] {
        spec.as_object_mut().into_iter().for_each(|fields| fields.retain(|_, value| !value.is_null()));
    }
    if allowed != compared {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.push(Cause::forbidden("spec", why));
    }
    let requested = |pvc: &Value| quantity::bytes(pvc["spec"]["resources"]["requests"]["storage"].as_str()?);
    let has = next["status"]["capacity"]["storage"].as_str().and_then(quantity::bytes);
    if requested(next) < requested(current) && requested(next) < has {
        let why = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", why));
    }
    causes
}

fn volume(current: &Value, next: &Value) -> Vec<Cause> {
    if current["spec"]["csi"] == next["spec"]["csi"] {
        return Vec::new();
    }
    let why = "spec.persistentvolumesource is immutable after creation";
    vec![Cause::forbidden("spec.persistentvolumesource", why)]
}

fn storage_class(current: &Value, next: &Value) -> Vec<Cause> {
    let changed = |field: &&str| {
        current.get(*field).unwrap_or(&json!(null)) != next.get(*field).unwrap_or(&json!(null))
    };
    ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"]
        .into_iter()
        .filter(changed)
        .map(|field| Cause::forbidden(field, &format!("updates to {field} are forbidden.")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(plural: &str, current: &Value, change: impl Fn(&mut Value)) -> Vec<String> {
        let mut next = current.clone();
        change(&mut next);
        causes(plural, current, &next).into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn only_storage_request_of_pvc_may_grow() {
        let pvc = json!({
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}},
            "status": {"capacity": {"storage": "2Gi"}},
        });
        let set = |path: &'static str, value: Value| {
            refused("persistentvolumeclaims", &pvc, move |next| {
                *next.pointer_mut(path).unwrap_or(&mut json!(null)) = value.clone();
            })
        };
        assert_eq!(set("/spec/accessModes", json!(["ReadWriteMany"])), ["spec"]);
        assert_eq!(set("/spec/resources/requests/storage", json!("3Gi")), [""; 0]);
        assert_eq!(
            set("/spec/resources/requests/storage", json!("1Gi")),
            ["spec.resources.requests.storage"]
        );
        let bound = refused("persistentvolumeclaims", &pvc, |next| next["spec"]["volumeName"] = json!("v"));
        assert_eq!(bound, [""; 0], "an unbound PVC may be bound");
        let named = json!({"spec": {"volumeName": "v"}});
        let moved = refused("persistentvolumeclaims", &named, |next| next["spec"]["volumeName"] = json!("w"));
        assert_eq!(moved, ["spec"]);
    }

    #[test]
    fn volume_source_and_class_provisioner_are_immutable() {
        let volume = json!({"spec": {"csi": {"driver": "d", "volumeHandle": "h"}}});
        let handle = |next: &mut Value| next["spec"]["csi"]["volumeHandle"] = json!("other");
        assert_eq!(refused("persistentvolumes", &volume, handle), ["spec.persistentvolumesource"]);
        let policy = |next: &mut Value| next["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
        assert_eq!(refused("persistentvolumes", &volume, policy), [""; 0]);
        let class = json!({"provisioner": "d"});
        let other = |next: &mut Value| next["provisioner"] = json!("e");
        assert_eq!(refused("storageclasses", &class, other), ["provisioner"]);
    }
}
