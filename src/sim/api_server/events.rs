//! Validates new Events.
//!
//! Source: Kubernetes 1.36, `ValidateEventCreate` and `legacyValidateEvent`
//! (`pkg/apis/core/validation/events.go`). Events are stored in the format of the core group. The field names
//! in messages are those of that format, as in the source.

use serde_json::Value;

use crate::api_server::status::{Cause, Status};
use crate::api_server::validate::{qualified_name, refuse};
use crate::api_server::{meta, validate};
use crate::resources::Resource;

/// Maximum length of `reason`, `action` and `reportingInstance`, bytes.
const WORD_LIMIT: usize = 128;
/// Maximum length of the message, bytes.
const NOTE_LIMIT: usize = 1024;

/// Checks a new Event; other kinds pass.
///
/// # Errors
/// 422 with one cause per violated rule.
pub(super) fn check(resource: &Resource, event: &Value) -> Result<(), Status> {
    if resource.plural != "events" {
        return Ok(());
    }
    let mut causes = Vec::new();
    namespace(event, &mut causes);
    // An Event of the core group without `eventTime` has the legacy format, which has no further rules.
    if resource.group == "events.k8s.io" || !event["eventTime"].is_null() {
        of_the_newer_kind(event, &mut causes);
    }
    if resource.group == "events.k8s.io" {
        only_newer_fields(event, &mut causes);
    }
    refuse(resource, meta::get(event, "name"), causes)
}

/// An Event must be in the namespace of its object, or in `default` for a cluster-scoped object.
fn namespace(event: &Value, causes: &mut Vec<Cause>) {
    let own = meta::get(event, "namespace");
    let other = event["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let agree = if other.is_empty() { ["", "default", "kube-system"].contains(&own) } else { own == other };
    if !agree {
        let why = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &format!("{other:?}"), why));
    }
}

fn of_the_newer_kind(event: &Value, causes: &mut Vec<Cause>) {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let controller = text("reportingComponent");
    if controller.is_empty() {
        causes.push(Cause::required("reportingController"));
    } else {
        qualified_name(controller, "reportingController", causes);
    }
    for field in ["reportingInstance", "action", "reason"] {
        match text(field) {
            "" => causes.push(Cause::required(field)),
            text if text.len() > WORD_LIMIT => causes.push(validate::too_long(field, text, WORD_LIMIT)),
            _ => {}
        }
    }
    if text("message").len() > NOTE_LIMIT {
        causes.push(validate::too_long("message", text("message"), NOTE_LIMIT));
    }
}

fn only_newer_fields(event: &Value, causes: &mut Vec<Cause>) {
    if event["eventTime"].as_str().is_none_or(|time| time.parse::<jiff::Timestamp>().is_err()) {
        causes.push(Cause::required("eventTime"));
    }
    let kind = event["type"].as_str().unwrap_or_default();
    if !["Normal", "Warning"].contains(&kind) {
        causes.push(Cause::invalid("type", &format!("{kind:?}"), "has invalid value: "));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if !event[field].is_null() {
            causes.push(Cause::invalid(field, &event[field].to_string(), "must be unset"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::RESOURCES;

    fn check_event(group: &str, change: impl Fn(&mut Value), expected: &[&str]) {
        let is_event = |one: &&Resource| one.plural == "events" && one.group == group;
        let resource = RESOURCES.iter().find(is_event).expect("served");
        let mut event = json!({
            "metadata": {"name": "e", "namespace": "shop"},
            "involvedObject": {"kind": "Backup", "namespace": "shop", "name": "b"},
            "eventTime": "2026-11-20T18:03:04.123456Z", "type": "Normal", "reason": "Cut", "action": "Create",
            "message": "n", "reportingComponent": "stillpoint.dev/stillpoint", "reportingInstance": "s",
        });
        change(&mut event);
        let failed = check(resource, &event).err();
        let causes = failed.into_iter().flat_map(|status| status.details.causes);
        assert_eq!(causes.map(|cause| cause.field).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn newer_event_kind_requires_complete_short_fields() {
        let newer = "events.k8s.io";
        check_event(newer, |_| {}, &[]);
        check_event(newer, |event| event["action"] = json!(""), &["action"]);
        check_event(newer, |event| event["reason"] = json!("r".repeat(129)), &["reason"]);
        check_event(newer, |event| event["message"] = json!("m".repeat(1025)), &["message"]);
        check_event(newer, |event| event["reportingComponent"] = json!("a b"), &["reportingController"]);
        check_event(newer, |event| event["eventTime"] = json!("now"), &["eventTime"]);
        check_event(newer, |event| event["type"] = json!("Error"), &["type"]);
        check_event(newer, |event| event["count"] = json!(1), &["count"]);
        check_event(
            newer,
            |event| event["involvedObject"]["namespace"] = json!("x"),
            &["involvedObject.namespace"],
        );
    }

    #[test]
    fn older_event_kind_requires_fewer_fields() {
        let older = |event: &mut Value| {
            *event = json!({"metadata": {"name": "e", "namespace": "shop"}, "count": 1, "type": "Other",
                "involvedObject": {"namespace": "shop"}});
        };
        check_event("", older, &[]);
    }
}
