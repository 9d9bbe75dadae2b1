//! Create, update and delete: processes an object before it is stored.
//!
//! There is one function per verb. Each either completes the write or returns a [`Status`] and changes
//! nothing. A change is a function of the current object, so that PUT and every kind of patch use the same
//! sequence: precondition, isolation of the status subresource, validation, generation, no-op check, removal
//! when the last finalizer is removed.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api_server::status::{Cause, Status};
use crate::api_server::store::{Key, Store};
use crate::api_server::validate::{self, refuse};
use crate::api_server::{builtin, defaults, events, meta, namespaces, rules, schema};
use crate::resources::{NAMESPACES, Resource};

/// The object and the endpoint of a write.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub resource: &'static Resource,
    pub key: Key,
    /// The `/status` subresource.
    pub status: bool,
    /// Validate and reply, but change nothing.
    pub dry_run: bool,
}

/// The preconditions of a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// The required uid.
    pub uid: Option<String>,
    /// The required resourceVersion.
    pub resource_version: Option<String>,
}

pub(super) enum DeleteResult {
    /// Finalizers delay the removal; the object has a deletionTimestamp now.
    Pending(Arc<Value>),
    /// The object was removed; this is its last state.
    Removed(Arc<Value>),
}

/// Creates an object. The name is in its metadata; the target's key names the namespace.
///
/// # Errors
/// 400, 403, 404 (namespace), 409 `AlreadyExists`, 422.
pub(super) fn create(store: &mut Store, target: &Target, mut object: Value) -> Result<Arc<Value>, Status> {
    let resource = target.resource;
    validate::shape(&object)?;
    if !meta::get(&object, "resourceVersion").is_empty() {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    schema::prune_nulls(resource, &mut object);
    let name = generate_name(store, &mut object);
    let key = Key { name: name.clone(), ..target.key.clone() };
    namespaces::check_create(store, resource, &key)?;
    set_server_fields(store, target, &key, &mut object);
    let strict = !store.preserves_unknown_fields(resource.plural);
    if strict {
        schema::prune(resource, &mut object);
    }
    meta::prune_empty(&mut object);
    validate::metadata(resource, &object)?;
    if strict {
        schema::check(resource, &object)?;
    }
    rules::check(resource, None, &object)?;
    events::check(resource, &object)?;
    if store.has(&key) {
        return Err(Status::already_exists(resource, &name));
    }
    if target.dry_run {
        return Ok(Arc::new(object));
    }
    Ok(store.put(key, object))
}

/// Replaces an object by the result of `change`.
///
/// # Errors
/// 404, 409 (stale resourceVersion, other uid), 422, and the errors of `change`.
pub(super) fn update(
    store: &mut Store,
    target: &Target,
    change: impl FnOnce(&Value) -> Result<Value, Status>,
) -> Result<Arc<Value>, Status> {
    let resource = target.resource;
    let name = &target.key.name;
    let current = store.get(&target.key).ok_or_else(|| Status::not_found(resource, name))?;
    let mut wanted = change(&current)?;
    schema::prune_nulls(resource, &mut wanted);
    validate::shape(&wanted)?;
    preconditions_of_update(resource, &current, &wanted)?;
    let next = merge_written_half(target, &current, wanted);
    let next = complete_update(resource, &current, next, !store.preserves_unknown_fields(resource.plural))?;
    if next == *current {
        return Ok(current);
    }
    if target.dry_run {
        return Ok(Arc::new(next));
    }
    if meta::is_terminating(&next) && is_removable(resource, store, &next) {
        let last = store.remove(target.key.clone(), next);
        namespaces::remove_if_empty(store, &target.key);
        return Ok(last);
    }
    Ok(store.put(target.key.clone(), next))
}

/// Deletes an object, or marks it as terminating if it has finalizers.
///
/// # Errors
/// 404, 409 if a precondition is not met.
pub(super) fn delete(
    store: &mut Store,
    target: &Target,
    preconditions: &Preconditions,
) -> Result<DeleteResult, Status> {
    delete_with(store, target, preconditions, &[])
}

/// Deletes an object but not its dependents (`propagationPolicy: Orphan`): the finalizer `orphan` delays the
/// removal until the garbage collector has removed the references.
pub(super) fn delete_orphaning(
    store: &mut Store,
    target: &Target,
    preconditions: &Preconditions,
) -> Result<DeleteResult, Status> {
    delete_with(store, target, preconditions, &["orphan"])
}

fn delete_with(
    store: &mut Store,
    target: &Target,
    preconditions: &Preconditions,
    added_finalizers: &[&str],
) -> Result<DeleteResult, Status> {
    let resource = target.resource;
    let name = &target.key.name;
    let mut current = store.get(&target.key).ok_or_else(|| Status::not_found(resource, name))?;
    preconditions_of_delete(resource, &current, preconditions)?;
    if target.dry_run {
        return Ok(DeleteResult::Removed(current));
    }
    if meta::is_terminating(&current) {
        return Ok(DeleteResult::Pending(current));
    }
    if !added_finalizers.is_empty() {
        let object = Arc::make_mut(&mut current);
        let finalizers: Vec<&str> =
            meta::finalizers(object).into_iter().chain(added_finalizers.iter().copied()).collect();
        let finalizers = json!(finalizers);
        meta::set(object, "finalizers", finalizers);
    }
    if resource.plural != NAMESPACES && meta::finalizers(&current).is_empty() {
        let last = store.remove(target.key.clone(), (*current).clone());
        namespaces::remove_if_empty(store, &target.key);
        return Ok(DeleteResult::Removed(last));
    }
    let marked = store.put(target.key.clone(), mark_terminating(&current, &store.clock.rfc3339()));
    if resource.plural == NAMESPACES {
        namespaces::delete_contents(store, name);
    }
    match store.get(&target.key) {
        Some(pending) => Ok(DeleteResult::Pending(pending)),
        None => Ok(DeleteResult::Removed(marked)),
    }
}

/// Returns whether a terminating object can be removed.
pub(super) fn is_removable(resource: &Resource, store: &Store, object: &Value) -> bool {
    let has_contents = resource.plural == NAMESPACES && !store.is_empty(meta::get(object, "name"));
    meta::finalizers(object).is_empty() && !has_contents
}

/// The object with a deletionTimestamp and an incremented generation.
fn mark_terminating(current: &Value, now: &str) -> Value {
    let mut marked = current.clone();
    meta::set(&mut marked, "deletionTimestamp", json!(now));
    meta::set(&mut marked, "deletionGracePeriodSeconds", json!(0));
    if let Some(generation) = current["metadata"]["generation"].as_u64() {
        meta::set(&mut marked, "generation", json!(generation + 1));
    }
    if current["kind"] == "Namespace" {
        marked["status"] = json!({"phase": "Terminating"});
    }
    marked
}

fn generate_name(store: &mut Store, object: &mut Value) -> String {
    let prefix = meta::get(object, "generateName").to_owned();
    if meta::get(object, "name").is_empty() && !prefix.is_empty() {
        let truncated: String = prefix.chars().take(58).collect();
        let name = format!("{truncated}{}", store.name_suffix());
        meta::set(object, "name", json!(name));
    }
    meta::get(object, "name").to_owned()
}

fn set_server_fields(store: &mut Store, target: &Target, key: &Key, object: &mut Value) {
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        meta::unset(object, field);
    }
    let uid = store.fresh_uid(key);
    meta::set(object, "uid", json!(uid));
    meta::set(object, "creationTimestamp", json!(store.clock.rfc3339()));
    if target.resource.custom {
        meta::set(object, "generation", json!(1));
    }
    if target.resource.namespaced {
        meta::set(object, "namespace", json!(target.key.namespace));
    } else {
        meta::unset(object, "namespace");
    }
    if target.resource.status_subresource {
        meta::set_top(object, "status", None);
    }
    defaults::apply(target.resource, object, &store.clock.rfc3339());
}

fn preconditions_of_update(resource: &Resource, current: &Value, wanted: &Value) -> Result<(), Status> {
    let name = meta::get(current, "name");
    let (had, has) = (meta::get(current, "uid"), meta::get(wanted, "uid"));
    if !has.is_empty() && has != had {
        let why = format!("Precondition failed: UID in precondition: {has}, UID in object meta: {had}");
        return Err(Status::conflict(resource, name, &why));
    }
    let version = meta::get(wanted, "resourceVersion");
    if !version.is_empty() && version != meta::get(current, "resourceVersion") {
        return Err(Status::stale(resource, name));
    }
    let mut causes = Vec::new();
    for field in ["name", "namespace", "creationTimestamp", "deletionTimestamp"] {
        let (had, has) = (meta::get(current, field), meta::get(wanted, field));
        if !has.is_empty() && has != had {
            let path = format!("metadata.{field}");
            causes.push(Cause::invalid(&path, &format!("{has:?}"), "field is immutable"));
        }
    }
    refuse(resource, name, causes)
}

fn preconditions_of_delete(
    resource: &Resource,
    current: &Value,
    preconditions: &Preconditions,
) -> Result<(), Status> {
    let pairs = [
        ("UID", "uid", &preconditions.uid),
        ("ResourceVersion", "resourceVersion", &preconditions.resource_version),
    ];
    for (label, field, wanted) in pairs {
        let is = meta::get(current, field);
        if let Some(wanted) = wanted
            && wanted != is
        {
            let why = format!(
                "Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {is}"
            );
            return Err(Status::conflict(resource, meta::get(current, "name"), &why));
        }
    }
    Ok(())
}

/// Separates the two halves of an object: the main resource writes all but the status, the subresource only
/// the status.
fn merge_written_half(target: &Target, current: &Value, mut wanted: Value) -> Value {
    if target.status {
        let managed = meta::take(&mut wanted, "managedFields").filter(|managed| !managed.is_null());
        restore_all_but_status(current, &mut wanted);
        if let Some(managed) = managed {
            meta::set(&mut wanted, "managedFields", managed);
        }
        return wanted;
    }
    if target.resource.status_subresource {
        meta::set_top(&mut wanted, "status", current.get("status"));
    }
    wanted
}

/// Restores everything but the status. Most of it is equal, and equal values are not copied.
fn restore_all_but_status(current: &Value, wanted: &mut Value) {
    let (Some(current), Some(wanted)) = (current.as_object(), wanted.as_object_mut()) else { return };
    wanted.retain(|field, _| field == "status" || current.contains_key(field));
    for (field, was) in current.iter().filter(|(field, _)| *field != "status") {
        if wanted.get(field) != Some(was) {
            wanted.insert(field.clone(), was.clone());
        }
    }
}

/// Restores the fields that only the server sets, validates (against the schema if `strict`), and increments
/// the generation.
fn complete_update(
    resource: &Resource,
    current: &Value,
    mut next: Value,
    strict: bool,
) -> Result<Value, Status> {
    const SERVER_FIELDS: [&str; 8] = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    meta::copy_all(current, &mut next, &SERVER_FIELDS);
    for field in ["apiVersion", "kind"] {
        meta::set_top(&mut next, field, current.get(field));
    }
    defaults::fill(resource, &mut next);
    // A PUT without managed fields does not reset them.
    if next["metadata"]["managedFields"].is_null() {
        meta::copy(current, &mut next, "managedFields");
    }
    if strict {
        schema::prune(resource, &mut next);
    }
    meta::prune_empty(&mut next);
    // Unchanged fields were validated when they were written.
    if ["labels", "annotations", "finalizers", "ownerReferences"]
        .iter()
        .any(|field| !meta::same(current, &next, field))
    {
        validate::metadata(resource, &next)?;
    }
    if strict {
        schema::check(resource, &next)?;
    }
    refuse_new_finalizers(resource, current, &next)?;
    rules::check(resource, Some(current), &next)?;
    refuse(resource, meta::get(&next, "name"), builtin::causes(resource.plural, current, &next))?;
    if let Some(generation) = current["metadata"]["generation"].as_u64()
        && differs_beyond_metadata(resource, current, &next)
    {
        meta::set(&mut next, "generation", json!(generation + 1));
    }
    Ok(next)
}

fn refuse_new_finalizers(resource: &Resource, current: &Value, next: &Value) -> Result<(), Status> {
    let old = meta::finalizers(current);
    let new: Vec<&str> = meta::finalizers(next).into_iter().filter(|one| !old.contains(one)).collect();
    if !meta::is_terminating(current) || new.is_empty() {
        return Ok(());
    }
    let why = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        new.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
    );
    refuse(resource, meta::get(next, "name"), vec![Cause::forbidden("metadata.finalizers", &why)])
}

fn differs_beyond_metadata(resource: &Resource, current: &Value, next: &Value) -> bool {
    let relevant = |field: &str| field != "metadata" && !(resource.status_subresource && field == "status");
    let (old, new) = (current.as_object().into_iter().flatten(), next.as_object().into_iter().flatten());
    old.filter(|(field, _)| relevant(field)).ne(new.filter(|(field, _)| relevant(field)))
}
