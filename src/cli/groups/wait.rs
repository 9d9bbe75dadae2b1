//! The lines of `groups describe` that explain why a run waits.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::GroupSnapshotStatus;
use crate::api::stillpoint::{GroupSnapshotBlocker, GroupSnapshotWait};

/// Names and values; none for a run that does not wait.
pub fn lines(status: &GroupSnapshotStatus, now: jiff::Timestamp) -> Vec<(String, String)> {
    let Some(text) = &status.waiting_for else { return Vec::new() };
    let none = GroupSnapshotWait::default();
    let wait = status.waiting.as_ref().unwrap_or(&none);
    let line = |name: &str, value: String| (name.to_owned(), value);
    let mut lines = vec![line("Waiting for", sentence(text, wait, now))];
    if !wait.row.is_empty() {
        lines.push(line("  Step", wait.row.clone()));
    }
    let since = wait.since.as_ref().map(|at| format!("{} ({} ago)", at.0, apart(at.0, now)));
    lines.extend(since.map(|since| line("  Since", since)));
    lines.extend(wait.deadline.as_ref().map(|at| line("  At most until", until(at, now))));
    let untold = |error: &&String| !text.contains(error.as_str());
    let error = wait.last_error.as_ref().filter(untold);
    lines.extend(error.map(|error| line("  Last error", error.clone())));
    lines.extend(wait.objects.iter().filter_map(|object| Some(line("  Object", blocker(object, text)?))));
    lines
}

/// The sentence of the status. For a retry it includes the remaining time.
fn sentence(text: &str, wait: &GroupSnapshotWait, now: jiff::Timestamp) -> String {
    let Some(at) = &wait.next_try else { return text.to_owned() };
    let when = if at.0 > now { format!("in {}", apart(now, at.0)) } else { "now".to_owned() };
    match text.strip_prefix("retry: ") {
        Some(failed) => format!("retry {when}: {failed}"),
        None => format!("{text} (next try {when})"),
    }
}

/// The object that blocks the run, with the details that the sentence lacks; none if there are no such
/// details.
fn blocker(object: &GroupSnapshotBlocker, text: &str) -> Option<String> {
    let place = object.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let mut shown = format!("{} {place}{}", object.kind, object.name);
    if !object.finalizers.is_empty() {
        shown.push_str(&format!(", being deleted, finalizers: {}", object.finalizers.join(", ")));
    }
    if let Some(error) = object.error.as_ref().filter(|error| !text.contains(error.as_str())) {
        shown.push_str(&format!(": {error}"));
    }
    (!text.contains(&shown)).then_some(shown)
}

fn until(at: &Time, now: jiff::Timestamp) -> String {
    match at.0 > now {
        true => format!("{} (in {})", at.0, apart(now, at.0)),
        false => at.0.to_string(),
    }
}

/// The difference between two times in whole seconds. A finer unit would not be exact, because the command
/// reads the clock only once.
fn apart(earlier: jiff::Timestamp, later: jiff::Timestamp) -> String {
    match later.as_second().saturating_sub(earlier.as_second()).max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} m {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: serde_json::Value) -> Vec<String> {
        let status: GroupSnapshotStatus = serde_json::from_value(status).expect("a status");
        let now = "2026-11-30T12:00:00Z".parse().expect("a time");
        lines(&status, now).into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn shows_time_of_next_retry() {
        let refused = "delete VolumeGroupSnapshot shop/x: 403 Forbidden: no";
        let lines = shown(serde_json::json!({
            "waitingFor": format!("retry: {refused}"), "conditions": [],
            "waiting": {
                "row": "release/5-delete-group", "cause": "StepRefused", "detail": refused,
                "since": "2026-11-30T11:58:00Z", "nextTry": "2026-11-30T12:00:32Z",
                "lastError": "403 Forbidden: no",
                "objects": [{"kind": "VolumeGroupSnapshot", "namespace": "shop", "name": "x",
                    "error": "403 Forbidden: no"}],
            },
        }));
        assert_eq!(
            lines,
            [
                &format!("Waiting for: retry in 32 s: {refused}"),
                "  Step: release/5-delete-group",
                "  Since: 2026-11-30T11:58:00Z (2 m 0 s ago)",
            ]
        );
    }

    #[test]
    fn lists_finalizers_of_every_blocking_object() {
        let lines = shown(serde_json::json!({
            "waitingFor": "the snapshot-controller", "conditions": [],
            "waiting": {
                "row": "release/5-group-going", "deadline": "2026-11-30T13:00:00Z", "lastError": "broken",
                "objects": [
                    {"kind": "VolumeGroupSnapshot", "namespace": "shop", "name": "x", "finalizers": ["a.io/keep"]},
                    {"kind": "VolumeSnapshotContent", "name": "c", "error": "broken"},
                ],
            },
        }));
        assert_eq!(
            lines[2..],
            [
                "  At most until: 2026-11-30T13:00:00Z (in 60 m 0 s)",
                "  Last error: broken",
                "  Object: VolumeGroupSnapshot shop/x, being deleted, finalizers: a.io/keep",
                "  Object: VolumeSnapshotContent c: broken",
            ]
        );
        assert_eq!(shown(serde_json::json!({"conditions": []})), Vec::<String>::new());
    }
}
