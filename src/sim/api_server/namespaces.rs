//! The lifecycle of a namespace.
//!
//! Objects cannot be created in a namespace that does not exist or is being deleted. A deleted namespace is
//! removed when it is empty.
//!
//! The contents are deleted in the same call as the namespace; in a real cluster the namespace controller
//! needs some seconds for it.

use crate::api_server::meta;
use crate::api_server::status::Status;
use crate::api_server::store::{Key, Store};
use crate::api_server::write::{self, Preconditions, Target};
use crate::resources::{NAMESPACES, Resource, by_plural};

pub(super) fn key(name: &str) -> Key {
    Key { plural: NAMESPACES, namespace: String::new(), name: name.to_owned() }
}

/// Checks whether an object may be created in its namespace.
///
/// # Errors
/// 404 without the namespace, 403 while it is being deleted.
pub(super) fn check_create(store: &Store, resource: &Resource, object: &Key) -> Result<(), Status> {
    if !resource.namespaced {
        return Ok(());
    }
    let Some(namespace) = store.get(&key(&object.namespace)) else {
        return Err(by_plural(NAMESPACES).map_or_else(Status::no_such_path, |namespaces| {
            Status::not_found(namespaces, &object.namespace)
        }));
    };
    if meta::is_terminating(&namespace) {
        let why = format!(
            "unable to create new content in namespace {} because it is being terminated",
            object.namespace
        );
        let detail = format!("namespace {} is being terminated", object.namespace);
        return Err(Status::forbidden(resource, &object.name, &why).because("NamespaceTerminating", &detail));
    }
    Ok(())
}

/// Deletes all objects in the namespace, then the namespace if it is empty.
pub(super) fn delete_contents(store: &mut Store, name: &str) {
    for key in store.keys_in(name) {
        if let Some(resource) = by_plural(key.plural) {
            let target = Target { resource, key, status: false, dry_run: false };
            // NotFound means that an earlier delete has removed it.
            let _ = write::delete(store, &target, &Preconditions::default());
        }
    }
    remove_if_terminating_and_empty(store, name);
}

/// Removes the namespace of a removed object, if the namespace is being deleted and now empty.
pub(super) fn remove_if_empty(store: &mut Store, removed: &Key) {
    if !removed.namespace.is_empty() {
        remove_if_terminating_and_empty(store, &removed.namespace);
    }
}

fn remove_if_terminating_and_empty(store: &mut Store, name: &str) {
    let Some(resource) = by_plural(NAMESPACES) else { return };
    let Some(namespace) = store.get(&key(name)) else { return };
    if meta::is_terminating(&namespace) && write::is_removable(resource, store, &namespace) {
        store.remove(key(name), (*namespace).clone());
    }
}
