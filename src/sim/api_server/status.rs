//! The `Status` object: the error replies of the API server.
//!
//! Codes, reasons, details and the text of the messages follow apimachinery's `errors` package, because
//! clients branch on the reason and users search for the message.

use serde::Serialize;
use serde_json::{Value, json};

use crate::resources::Resource;

/// A failed call, in the shape of `metav1.Status`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, for example `NotFound`; empty if Kubernetes gives none.
    pub reason: String,
    /// Human-readable message.
    pub message: String,
    /// The object and the causes.
    pub details: Box<Details>,
}

/// `metav1.StatusDetails`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Plural name of the resource, or the kind in a validation error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// One entry per violated rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Time to wait before the call is repeated, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// `metav1.StatusCause`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// For example `FieldValueInvalid`.
    pub reason: String,
    pub message: String,
    /// Path of the field, for example `spec.source`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Cause {
    /// A value that breaks a rule; `quoted` is the value as the message quotes it.
    pub fn invalid(field: &str, quoted: &str, why: &str) -> Self {
        Self::new("FieldValueInvalid", field, format!("Invalid value: {quoted}: {why}"))
    }

    /// A missing value.
    pub fn required(field: &str) -> Self {
        Self::new("FieldValueRequired", field, "Required value".to_owned())
    }

    /// A change that is not allowed.
    pub fn forbidden(field: &str, why: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// A value outside an enumeration.
    pub fn unsupported(field: &str, value: &str, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let message = format!("Unsupported value: {value:?}: supported values: {}", list.join(", "));
        Self::new("FieldValueNotSupported", field, message)
    }

    fn new(reason: &str, field: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), message, field: field.to_owned() }
    }
}

impl Status {
    /// A status without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: Box::default() }
    }

    /// 404 for an object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified_plural());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    /// 404 for a path that is not served.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409, the name already exists.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified_plural());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    /// 409, a precondition is not met.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified_plural());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 409, the resourceVersion is not the current one.
    pub fn stale(resource: &Resource, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 422, one or more fields are invalid.
    pub fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let lines: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let what = match lines.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let mut status =
            Self::new(422, "Invalid", format!("{} {name:?} is invalid: {what}", resource.qualified_kind()));
        *status.details = Details {
            name: name.to_owned(),
            group: resource.group.to_owned(),
            kind: resource.kind.to_owned(),
            causes,
            retry_after_seconds: None,
        };
        status
    }

    /// 422 without details: the reply to a JSON patch that does not apply.
    pub fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified_plural());
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    /// 410, the requested version is older than the history.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The code with the reason and message of the API server or of its priority and fairness layer.
    pub fn of_code(code: u16, retry_after_seconds: Option<u32>) -> Self {
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden: the request was refused"),
            404 => ("NotFound", "the server could not find the requested resource"),
            409 => ("Conflict", "the server reported a conflict"),
            410 => ("Expired", "The resourceVersion for the provided watch is too old."),
            422 => ("Invalid", "the server rejected our request due to an error in our request"),
            429 => ("TooManyRequests", "Too many requests, please try again later."),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
            _ => ("InternalError", "Internal error occurred"),
        };
        let mut status = Self::new(code, reason, message);
        status.details.retry_after_seconds = retry_after_seconds;
        status
    }

    /// The same status with one more cause.
    pub fn because(mut self, reason: &str, message: &str) -> Self {
        self.details.causes.push(Cause {
            reason: reason.to_owned(),
            message: message.to_owned(),
            field: String::new(),
        });
        self
    }

    /// The object or the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    /// A stale resourceVersion or an unmet precondition; not an existing name.
    pub fn is_conflict(&self) -> bool {
        self.code == 409 && self.reason == "Conflict"
    }

    /// The name already exists.
    pub fn is_already_exists(&self) -> bool {
        self.code == 409 && self.reason == "AlreadyExists"
    }

    /// The JSON of the reply.
    pub fn to_value(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        })
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details.name = name.to_owned();
        self.details.group = resource.group.to_owned();
        self.details.kind = resource.plural.to_owned();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::by_plural;

    #[test]
    fn not_found_and_already_exists_name_plural_resource() {
        let snapshots = by_plural("volumesnapshots").expect("served");
        let value = Status::not_found(snapshots, "a").to_value();
        assert_eq!(value["message"], "volumesnapshots.snapshot.storage.k8s.io \"a\" not found");
        assert_eq!(
            value["details"],
            json!({"name": "a", "group": "snapshot.storage.k8s.io", "kind": "volumesnapshots"})
        );
        assert!(Status::already_exists(snapshots, "a").is_already_exists());
        assert!(!Status::already_exists(snapshots, "a").is_conflict());
    }

    #[test]
    fn invalid_names_the_kind_and_lists_every_cause() {
        let snapshots = by_plural("volumesnapshots").expect("served");
        let causes = vec![Cause::required("spec"), Cause::invalid("spec.x", "\"a\"", "too short")];
        let status = Status::invalid(snapshots, "a", causes);
        assert_eq!(
            status.message,
            "VolumeSnapshot.snapshot.storage.k8s.io \"a\" is invalid: \
             [spec: Required value, spec.x: Invalid value: \"a\": too short]"
        );
        assert_eq!(status.to_value()["details"]["causes"][1]["reason"], "FieldValueInvalid");
    }
}
