//! Computes the wanted object from a patch or a PUT.

use serde_json::Value;

use crate::api_server::status::{Cause, Status};
use crate::api_server::{json_patch, merge, meta};
use crate::resources::Resource;

/// Applies a JSON patch to the current object.
///
/// # Errors
/// 400 if it is not a JSON patch, 422 if it does not apply.
pub(super) fn json(current: &Value, operations: &Value) -> Result<Value, Status> {
    json_patch::apply(current, operations).map_err(|error| match error {
        json_patch::PatchError::Malformed(why) => Status::bad_request(why),
        json_patch::PatchError::Refused(_) => Status::unprocessable(),
    })
}

/// Applies a merge patch to the current object.
pub(super) fn merge(current: &Value, patch: &Value) -> Value {
    let mut next = current.clone();
    merge::merge(&mut next, patch);
    next
}

/// Applies a strategic merge patch to the current object.
pub(super) fn strategic(current: &Value, patch: &Value) -> Value {
    let mut next = current.clone();
    merge::strategic(&mut next, patch);
    next
}

/// Checks whether a PUT may omit the resourceVersion; custom resources require it.
///
/// # Errors
/// 422.
pub(super) fn may_replace(resource: &Resource, object: &Value) -> Result<(), Status> {
    if !resource.custom || !meta::get(object, "resourceVersion").is_empty() {
        return Ok(());
    }
    let cause = Cause::invalid("metadata.resourceVersion", "0", "must be specified for an update");
    Err(Status::invalid(resource, meta::get(object, "name"), vec![cause]))
}
