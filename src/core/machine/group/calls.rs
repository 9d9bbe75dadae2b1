//! Converts each effect to its API calls. Pure: the requests are determined here and tested here, to the
//! byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::ids::ObjectId;
use crate::domain::labels;
use crate::domain::observed::{DeletionPolicy, Owner};
use crate::domain::receipt::SecretRef;
use crate::machine::group::effect::{Effect, Unbound};
use crate::machine::group::spec;
use crate::machine::kit::call::escape;
use crate::machine::kit::{Call, Calls, Entry, Kind, Patch};

/// The calls of `effect`.
pub fn calls(effect: &Effect) -> Calls {
    Calls::One(match effect {
        Effect::CreateGroup { namespace, name, labels, annotations, class, selector } => Call::create(
            Kind::VolumeGroupSnapshot,
            namespace,
            name,
            object(labels, annotations, spec::group(class, selector)),
        ),
        Effect::CreateSnapshot { namespace, name, content, class, labels, annotations } => Call::create(
            Kind::VolumeSnapshot,
            namespace,
            name,
            object(labels, annotations, spec::snapshot(content, class)),
        ),
        Effect::CreateContent { name, labels, annotations, .. } => Call::create(
            Kind::VolumeSnapshotContent,
            "",
            name,
            object(labels, annotations, spec::content(effect)),
        ),
        Effect::CreateStub(stub) => {
            let spec = spec::unbound(stub, "Retain");
            Call::create(
                Kind::VolumeGroupSnapshotContent,
                "",
                &stub.name,
                object(&stub.labels, &BTreeMap::new(), spec),
            )
        }
        Effect::CreateImport { content, secret } => import(content, secret.as_ref()),
        Effect::ClaimGroup { group, old, new } => return claim(group, old.as_deref(), *new),
        Effect::LabelMember { snapshot, labels, annotations } => Call::patch(
            Kind::VolumeSnapshot,
            snapshot,
            with_entries(Patch::of(&snapshot.uid.0), labels, annotations),
        ),
        Effect::SetGroupContentPolicy { content, resource_version, old, new, labels, annotations } => {
            let patch = with_policy(&content.uid.0, resource_version, *old, *new);
            Call::patch(Kind::VolumeGroupSnapshotContent, content, with_entries(patch, labels, annotations))
        }
        Effect::SetContentPolicy { content, resource_version, old, new, labels, annotations } => {
            let patch = with_policy(&content.uid.0, resource_version, *old, *new);
            Call::patch(Kind::VolumeSnapshotContent, content, with_entries(patch, labels, annotations))
        }
        Effect::SetGroupName { snapshot, old, new } => {
            let patch =
                Patch::of(&snapshot.uid.0).change("/status/volumeGroupSnapshotName", json!(old), json!(new));
            Call::patch_status(Kind::VolumeSnapshot, snapshot, patch)
        }
        Effect::DetachMember { snapshot, .. } => Call::patch(Kind::VolumeSnapshot, snapshot, detach(effect)),
        Effect::DeleteGroup { group, resource_version } => {
            Call::delete(Kind::VolumeGroupSnapshot, group, Some(resource_version))
        }
        Effect::MarkGroupContent { content, annotations } => {
            mark(Kind::VolumeGroupSnapshotContent, content, annotations)
        }
        Effect::DeleteGroupContent { content, resource_version } => {
            Call::delete(Kind::VolumeGroupSnapshotContent, content, resource_version.as_ref())
        }
        Effect::DeleteSnapshot { snapshot } => Call::delete(Kind::VolumeSnapshot, snapshot, None),
        Effect::DeleteContent { content, resource_version, annotations } => {
            return delete_content(content, resource_version.as_ref(), annotations);
        }
    })
}

/// SUBTLE: the finalizer causes the storage to be freed. A content without a bound VolumeGroupSnapshot gets
/// none. Such a content is removed as soon as it is deleted, with policy Delete as well, before the
/// csi-snapshotter receives the deletion. A content with the finalizer remains until the csi-snapshotter has
/// had the driver delete the group; it considers an unbound static content deletable (external-snapshotter,
/// `shouldDeleteGroupSnapshotContent` of the sidecar).
fn import(content: &Unbound, secret: Option<&SecretRef>) -> Call {
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let annotations = secret.into_iter().flat_map(|secret| {
        [
            entry(labels::DELETION_SECRET_NAME, &secret.name),
            entry(labels::DELETION_SECRET_NAMESPACE, &secret.namespace),
        ]
    });
    let mut made = object(&content.labels, &annotations.collect(), spec::unbound(content, "Delete"));
    made["metadata"]["finalizers"] = json!([labels::GROUP_CONTENT_BOUND_PROTECTION]);
    Call::create(Kind::VolumeGroupSnapshotContent, "", &content.name, made)
}

fn delete_content(content: &ObjectId, resource_version: Option<&String>, annotations: &Entry) -> Calls {
    let last = Call::delete(Kind::VolumeSnapshotContent, content, resource_version);
    if annotations.holds() {
        return Calls::One(last);
    }
    Calls::InOrder(mark(Kind::VolumeSnapshotContent, content, annotations), last)
}

/// Tests the old epoch and writes the new one. Where the annotation is missing, the whole map may be missing
/// too, and the effect does not state which: one of two patches matches.
fn claim(group: &ObjectId, old: Option<&str>, new: u64) -> Calls {
    let path = format!("/metadata/annotations/{}", escape(labels::EPOCH));
    let entry = Patch::of(&group.uid.0).change(&path, json!(old), new.to_string());
    let entry = Call::patch(Kind::VolumeGroupSnapshot, group, entry);
    if old.is_some() {
        return Calls::One(entry);
    }
    let write = BTreeMap::from([(labels::EPOCH.to_owned(), new.to_string())]);
    let map = Patch::of(&group.uid.0).entries("/metadata/annotations", &Entry { seen: None, write });
    Calls::Either(Call::patch(Kind::VolumeGroupSnapshot, group, map), entry)
}

fn mark(kind: Kind, content: &ObjectId, annotations: &Entry) -> Call {
    Call::patch(kind, content, Patch::of(&content.uid.0).entries("/metadata/annotations", annotations))
}

/// One patch, because only then does the return of the as-source finalizer prove that the controller saw the
/// released object. It tests everything that makes a release safe.
///
/// A member that is to be deleted has no group name, and nothing that it gets now blocks its deletion. It may
/// have no status at all: a test of a path inside a missing status never passes.
fn detach(effect: &Effect) -> Patch {
    let Effect::DetachMember {
        snapshot,
        ready,
        group_name,
        old_owners,
        new_owners,
        old_finalizers,
        new_finalizers,
        old_class,
        new_class,
    } = effect
    else {
        unreachable!("called for DetachMember only");
    };
    let patch = Patch::of(&snapshot.uid.0);
    let patch = match ready {
        true => {
            patch.test("/status/readyToUse", true).test("/status/volumeGroupSnapshotName", json!(group_name))
        }
        false => patch,
    };
    patch
        .change("/metadata/ownerReferences", owners(old_owners), owners(new_owners))
        .change("/metadata/finalizers", list(old_finalizers), list(new_finalizers))
        .change("/spec/volumeSnapshotClassName", json!(old_class), json!(new_class))
}

fn with_policy(uid: &str, resource_version: &str, old: DeletionPolicy, new: DeletionPolicy) -> Patch {
    Patch::of(uid).test("/metadata/resourceVersion", resource_version).change(
        "/spec/deletionPolicy",
        policy(old),
        policy(new),
    )
}

fn with_entries(patch: Patch, labels: &Entry, annotations: &Entry) -> Patch {
    patch.entries("/metadata/labels", labels).entries("/metadata/annotations", annotations)
}

fn policy(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Delete => "Delete",
        DeletionPolicy::Retain => "Retain",
    }
}

/// A list in the form that is stored on an object: an empty one is not stored.
fn list(items: &[String]) -> Value {
    if items.is_empty() { Value::Null } else { json!(items) }
}

fn owners(owners: &[Owner]) -> Value {
    if owners.is_empty() {
        return Value::Null;
    }
    Value::Array(owners.iter().map(owner).collect())
}

fn owner(owner: &Owner) -> Value {
    let mut reference = json!({
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
    });
    if let Some(controller) = owner.controller {
        reference["controller"] = json!(controller);
    }
    if let Some(block) = owner.block_owner_deletion {
        reference["blockOwnerDeletion"] = json!(block);
    }
    reference
}

fn object(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>, spec: Value) -> Value {
    let mut metadata = json!({});
    for (key, map) in [("labels", labels), ("annotations", annotations)] {
        if !map.is_empty() {
            metadata[key] = json!(map);
        }
    }
    json!({ "metadata": metadata, "spec": spec })
}

#[cfg(test)]
mod tests;
