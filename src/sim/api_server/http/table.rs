//! Builds the rows for `kubectl get`.
//!
//! The columns are those of the resource. Dates are printed as the time since then, as in the real server.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api_server::{conversion, meta};
use crate::pointer::At;
use crate::resources::{Cell, Column, Resource};

/// The object that a row carries besides its cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    None,
    Metadata,
    Object,
}

/// Builds a table of objects; `now_ns` is the time in nanoseconds since the Unix epoch.
pub(super) fn table(
    resource: &Resource,
    objects: &[Cow<'_, Value>],
    list_metadata: Value,
    include: Include,
    now_ns: i64,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(resource, object, include, now_ns)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": definitions(resource),
        "rows": rows,
    })
}

fn definitions(resource: &Resource) -> Vec<Value> {
    let is_event = resource.plural == "events";
    let name = json!({"name": "Name", "type": "string", "format": "name",
        "description": "Name must be unique within a namespace.", "priority": u8::from(is_event)});
    let mut definitions: Vec<Value> = resource.columns.iter().map(definition).collect();
    definitions.insert(if is_event { definitions.len() } else { 0 }, name);
    definitions
}

fn definition(column: &Column) -> Value {
    json!({"name": column.name, "type": shown_type(column), "format": "", "description": "",
        "priority": column.priority})
}

/// The column type in the reply. Ages are sent as strings.
fn shown_type(column: &Column) -> &'static str {
    if column.kind == "date" { "string" } else { column.kind }
}

fn row(resource: &Resource, object: &Value, include: Include, now_ns: i64) -> Value {
    let mut cells: Vec<Value> = resource.columns.iter().map(|column| cell(column, object, now_ns)).collect();
    // An Event is identified by its object; its name is the last column and only in `-o wide`.
    let at = if resource.plural == "events" { cells.len() } else { 0 };
    cells.insert(at, json!(meta::get(object, "name")));
    let mut row = Map::new();
    row.insert("cells".to_owned(), Value::Array(cells));
    match include {
        Include::None => None,
        Include::Metadata => row.insert("object".to_owned(), conversion::metadata_only(object)),
        Include::Object => row.insert("object".to_owned(), object.clone()),
    };
    Value::Object(row)
}

fn cell(column: &Column, object: &Value, now_ns: i64) -> Value {
    let at = |path: &str| object.at(path).unwrap_or(&Value::Null);
    let found = match column.cell {
        Cell::Path(path) => at(path).clone(),
        Cell::PathOr(path, absent) => match at(path) {
            Value::Null => return json!(absent),
            value => value.clone(),
        },
        Cell::LastSeen => {
            let times = ["/lastTimestamp", "/firstTimestamp", "/eventTime"];
            match times.iter().map(|path| at(path)).find(|time| !time.is_null()) {
                Some(time) => time.clone(),
                None => return json!("<unknown>"),
            }
        }
        Cell::AccessModes(path) => access_modes(at(path)),
        Cell::Reference(path) => reference(at(path)),
        Cell::ObjectName(path) => object_name(at(path)),
        Cell::Phase if meta::is_terminating(object) => json!("Terminating"),
        Cell::Phase => at("/status/phase").clone(),
        Cell::ReadyContainers => ready_containers(object),
        Cell::Restarts => restarts(object),
        Cell::Count(path) => json!(at(path).as_object().map_or(0, Map::len)),
    };
    match column.kind {
        "date" => found.as_str().map_or(Value::Null, |text| json!(age(text, now_ns))),
        "string" => to_text(found),
        _ => found,
    }
}

/// Converts a value of another type for a column of strings.
fn to_text(value: Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => json!(value.to_string()),
        // The real server prints <none> for an absent cell of a built-in kind, and nothing for a custom one.
        other => other,
    }
}

fn access_modes(modes: &Value) -> Value {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "?",
    };
    let modes: Vec<&str> = modes.as_array().into_iter().flatten().map(short).collect();
    json!(modes.join(","))
}

fn reference(reference: &Value) -> Value {
    match (reference["namespace"].as_str(), reference["name"].as_str()) {
        (Some(namespace), Some(name)) => json!(format!("{namespace}/{name}")),
        _ => json!(""),
    }
}

fn object_name(reference: &Value) -> Value {
    let kind = reference["kind"].as_str().unwrap_or_default().to_lowercase();
    json!(format!("{kind}/{}", reference["name"].as_str().unwrap_or_default()))
}

fn ready_containers(pod: &Value) -> Value {
    let wanted = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = pod["status"]["containerStatuses"].as_array();
    let ready = statuses.into_iter().flatten().filter(|status| status["ready"] == true).count();
    json!(format!("{ready}/{wanted}"))
}

fn restarts(pod: &Value) -> Value {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let count: u64 =
        statuses.into_iter().flatten().filter_map(|status| status["restartCount"].as_u64()).sum();
    json!(count.to_string())
}

/// The time since an RFC 3339 time, in at most two units.
fn age(then: &str, now_ns: i64) -> String {
    let Ok(then) = then.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = now_ns.div_euclid(1_000_000_000) - then.as_second();
    human_duration(seconds)
}

/// apimachinery's `duration.HumanDuration`: the larger the time, the coarser its unit.
fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |major: i64, unit: &str, minor: i64, small: &str| {
        if minor == 0 { format!("{major}{unit}") } else { format!("{major}{unit}{minor}{small}") }
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::by_plural;

    #[test]
    fn ages_lose_precision_as_they_grow() {
        let rows = [(-5, "<invalid>"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (3600, "60m")];
        for (seconds, text) in rows {
            assert_eq!(human_duration(seconds), text);
        }
        assert_eq!(human_duration(3 * 3600 + 60), "3h1m");
        assert_eq!(human_duration(9 * 86_400), "9d");
    }

    #[test]
    fn snapshot_table_has_columns_of_its_crd() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"source": {"persistentVolumeClaimName": "p"}}, "status": {"readyToUse": true}});
        let resource = by_plural("volumesnapshots").expect("served");
        let table = table(resource, &[Cow::Owned(object)], json!({}), Include::Metadata, 61_000_000_000);
        let names: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .expect("columns")
            .iter()
            .filter_map(|column| column["name"].as_str())
            .collect();
        let expected = "Name ReadyToUse SourcePVC SourceSnapshotContent RestoreSize SnapshotClass SnapshotContent CreationTime Age";
        assert_eq!(names.join(" "), expected);
        assert_eq!(table["rows"][0]["cells"], json!(["a", true, "p", null, null, null, null, null, "61s"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }

    #[test]
    fn event_without_last_timestamp_uses_event_time() {
        let age_of = |times: Value| {
            let mut object =
                json!({"metadata": {"name": "a"}, "involvedObject": {"kind": "Backup", "name": "b"}});
            object.as_object_mut().expect("an object").extend(times.as_object().expect("times").clone());
            let resource = by_plural("events").expect("served");
            table(resource, &[Cow::Owned(object)], json!({}), Include::None, 61_000_000_000)["rows"][0]["cells"][0]
                .clone()
        };
        assert_eq!(age_of(json!({"eventTime": "1970-01-01T00:00:01.000000Z"})), "60s");
        assert_eq!(age_of(json!({"lastTimestamp": "1970-01-01T00:00:31Z"})), "30s");
        assert_eq!(age_of(json!({"eventTime": null})), "<unknown>");
    }
}
