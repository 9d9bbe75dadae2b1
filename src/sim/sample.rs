//! The sample database: namespace `shop` with a database on three volumes, a cache on two, and one volume
//! without a group. `fixtures/objects/sample.yaml` is its only definition; kubectl can apply the same file.

use serde_json::Value;

use super::actors::object;
use super::actors::strings::plural;
use super::api_server::ApiServer;

/// The agent name under which its calls are counted.
const AGENT: &str = "sample";
const SAMPLE: &str = include_str!("../../fixtures/objects/sample.yaml");

/// Creates the objects of the sample. Existing objects are not changed.
pub(super) fn load(api: &ApiServer) {
    let caller = api.caller(AGENT);
    for object in objects() {
        let plural = match object::text(&object, "/kind") {
            Some("Namespace") => plural::NAMESPACES,
            _ => plural::PVCS,
        };
        if let Err(status) = caller.create(plural, object) {
            tracing::debug!(reason = status.message, "left out of the sample");
        }
    }
}

/// The objects, the namespace first. The file is compiled in; a test parses it.
fn objects() -> Vec<Value> {
    serde_saphyr::from_multiple(SAMPLE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_has_two_groups_and_ungrouped_volume() {
        let objects = objects();
        let group = |object: &Value| {
            let labels = object["metadata"].get("labels")?;
            labels["velero.io/volume-group"].as_str().map(str::to_owned)
        };
        let members = |wanted: Option<&str>| -> Vec<&str> {
            let pvcs = objects.iter().filter(|object| object["kind"] == "PersistentVolumeClaim");
            pvcs.filter(|pvc| group(pvc).as_deref() == wanted).map(object::name).collect()
        };
        assert_eq!(members(Some("orders-db")), ["data", "wal", "tablespace"]);
        assert_eq!(members(Some("cache")), ["cache-a", "cache-b"]);
        assert_eq!(members(None), ["scratch"]);
        assert!(
            objects
                .iter()
                .all(|object| object["kind"] == "Namespace" || object::namespace(object) == Some("shop"))
        );
    }
}
