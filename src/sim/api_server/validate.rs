//! Validates `metadata` for every kind, as apimachinery's validation does.

use serde_json::{Map, Value};

use crate::api_server::meta;
use crate::api_server::status::{Cause, Status};
use crate::resources::{NAMESPACES, Resource};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and \
     end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
/// Maximum size of all annotations including their keys, bytes.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Checks that metadata has the shape of `metav1.ObjectMeta`, so that later code need not check it.
///
/// # Errors
/// 400, as for a body that cannot be decoded.
pub(super) fn shape(object: &Value) -> Result<(), Status> {
    let metadata = &object["metadata"];
    let texts = |list: &Value| list.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    let objects = |list: &Value| list.as_array().is_some_and(|items| items.iter().all(Value::is_object));
    let good = |field: &str, is_valid: &dyn Fn(&Value) -> bool| {
        metadata[field].is_null() || is_valid(&metadata[field])
    };
    let wrong = [
        ("", object.is_object() && metadata.is_object()),
        ("labels", good("labels", &Value::is_object)),
        ("annotations", good("annotations", &Value::is_object)),
        ("finalizers", good("finalizers", &texts)),
        ("ownerReferences", good("ownerReferences", &objects)),
        ("managedFields", good("managedFields", &objects)),
    ]
    .into_iter()
    .find(|(_, good)| !good);
    match wrong {
        Some((field, _)) => {
            Err(Status::bad_request(format!("unable to decode metadata {field}: wrong type")))
        }
        None => Ok(()),
    }
}

/// Checks name, labels, annotations, finalizers and owner references.
///
/// # Errors
/// 422 with one cause per violated rule.
pub(super) fn metadata(resource: &Resource, object: &Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    name(resource, meta::get(object, "name"), &mut causes);
    let metadata = &object["metadata"];
    labels(&metadata["labels"], &mut causes);
    annotations(&metadata["annotations"], &mut causes);
    let finalizers = meta::finalizers(object);
    for finalizer in &finalizers {
        qualified_name(finalizer, "metadata.finalizers", &mut causes);
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(Cause::invalid("metadata.finalizers", "\"array\"", why));
    }
    owners(&metadata["ownerReferences"], &mut causes);
    refuse(resource, meta::get(object, "name"), causes)
}

/// Returns 422 if there are causes, else `Ok`.
pub(super) fn refuse(resource: &Resource, name: &str, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid(resource, name, causes)) }
}

/// A DNS subdomain of RFC 1123, which nearly every name must be.
pub(super) fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_dns_label)
}

fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && !name.starts_with('-') && !name.ends_with('-') && name.bytes().all(inner)
}

fn is_word(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.bytes().all(inner) && edge(text.as_bytes().first()) && edge(text.as_bytes().last())
}

fn name(resource: &Resource, name: &str, causes: &mut Vec<Cause>) {
    let (limit, valid, rule) = if resource.plural == NAMESPACES {
        (63, is_dns_label(name), LABEL)
    } else {
        (253, is_subdomain(name), SUBDOMAIN)
    };
    if name.is_empty() {
        let message = "Required value: name or generateName is required".to_owned();
        causes.push(Cause { message, ..Cause::required("metadata.name") });
    } else if name.len() > limit {
        causes.push(too_long("metadata.name", name, limit));
    } else if !valid {
        causes.push(Cause::invalid("metadata.name", &format!("{name:?}"), rule));
    }
}

fn labels(labels: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in entries(labels) {
        qualified_name(key, "metadata.labels", causes);
        let Some(value) = value.as_str() else {
            causes.push(Cause::invalid("metadata.labels", &value.to_string(), "must be a string"));
            continue;
        };
        if value.len() > 63 {
            causes.push(too_long("metadata.labels", value, 63));
        } else if !value.is_empty() && !is_word(value) {
            causes.push(Cause::invalid("metadata.labels", &format!("{value:?}"), LABEL_VALUE));
        }
    }
}

fn annotations(annotations: &Value, causes: &mut Vec<Cause>) {
    let mut total = 0;
    for (key, value) in entries(annotations) {
        qualified_name(&key.to_ascii_lowercase(), "metadata.annotations", causes);
        match value.as_str() {
            Some(text) => total += key.len() + text.len(),
            None => {
                causes.push(Cause::invalid("metadata.annotations", &value.to_string(), "must be a string"))
            }
        }
    }
    if total > ANNOTATIONS_LIMIT {
        let message = format!("Too long: may not be more than {ANNOTATIONS_LIMIT} bytes");
        causes.push(Cause {
            reason: "FieldValueTooLong".to_owned(),
            message,
            field: "metadata.annotations".to_owned(),
        });
    }
}

fn owners(owners: &Value, causes: &mut Vec<Cause>) {
    for (at, owner) in owners.as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::invalid(
                    &format!("metadata.ownerReferences[{at}].{field}"),
                    "\"\"",
                    "must not be empty",
                ));
            }
        }
    }
    let controllers: Vec<&str> = owners
        .as_array()
        .into_iter()
        .flatten()
        .filter(|owner| owner["controller"] == true)
        .map(|owner| owner["name"].as_str().unwrap_or_default())
        .collect();
    if let [first, second, ..] = controllers.as_slice() {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        causes.push(Cause::invalid("metadata.ownerReferences", "\"array\"", &why));
    }
}

/// `[prefix/]name`: a DNS subdomain before the slash, up to 63 characters of a word after it.
pub(super) fn qualified_name(text: &str, field: &str, causes: &mut Vec<Cause>) {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_some_and(|prefix| !is_subdomain(prefix) || prefix.len() > 253) {
        causes.push(Cause::invalid(field, &format!("{text:?}"), &format!("prefix part {SUBDOMAIN}")));
    } else if name.len() > 63 {
        causes.push(Cause::invalid(field, &format!("{text:?}"), "name part must be no more than 63 bytes"));
    } else if !is_word(name) {
        causes.push(Cause::invalid(field, &format!("{text:?}"), QUALIFIED_NAME));
    }
}

/// A string that exceeds the limit of its field.
pub(super) fn too_long(field: &str, value: &str, limit: usize) -> Cause {
    Cause::invalid(field, &format!("{value:?}"), &format!("must be no more than {limit} bytes"))
}

fn entries(map: &Value) -> impl Iterator<Item = (&String, &Value)> {
    map.as_object().into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::by_plural;

    fn check(metadata_value: Value, field: Option<&str>) {
        let resource = by_plural("configmaps").expect("served");
        let found = metadata(resource, &json!({"metadata": metadata_value})).err();
        let first = found.as_ref().map(|status| status.details.causes[0].field.as_str());
        assert_eq!(first, field, "{found:?}");
    }

    #[test]
    fn names_are_subdomains() {
        check(json!({"name": "a-1.b"}), None);
        check(json!({"name": "A"}), Some("metadata.name"));
        check(json!({"name": "a_b"}), Some("metadata.name"));
        check(json!({"name": "-a"}), Some("metadata.name"));
        check(json!({"name": "a".repeat(254)}), Some("metadata.name"));
        check(json!({}), Some("metadata.name"));
    }

    #[test]
    fn label_values_end_at_63_bytes() {
        check(json!({"name": "a", "labels": {"velero.io/x": "v".repeat(63), "y": ""}}), None);
        check(json!({"name": "a", "labels": {"x": "v".repeat(64)}}), Some("metadata.labels"));
        check(json!({"name": "a", "labels": {"x": "-v"}}), Some("metadata.labels"));
        check(json!({"name": "a", "labels": {"X.y/": "v"}}), Some("metadata.labels"));
        check(json!({"name": "a", "labels": {"x": 1}}), Some("metadata.labels"));
    }

    #[test]
    fn object_has_one_controller() {
        let owner = |controller: bool| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": controller});
        check(json!({"name": "a", "ownerReferences": [owner(true), owner(false)]}), None);
        check(
            json!({"name": "a", "ownerReferences": [owner(true), owner(true)]}),
            Some("metadata.ownerReferences"),
        );
        check(
            json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
            Some("metadata.finalizers"),
        );
    }

    #[test]
    fn owner_reference_requires_uid() {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p"});
        check(json!({"name": "a", "ownerReferences": [owner]}), Some("metadata.ownerReferences[0].uid"));
    }
}
