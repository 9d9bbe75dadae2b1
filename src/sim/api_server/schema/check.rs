//! Validates a value against its schema, with the messages of the API server (`kube-openapi/pkg/validation`).

use serde_json::Value;

use super::structural::{Kind, Path, Schema};
use crate::api_server::status::Cause;

/// Checks an object of the kind. The metadata, which all kinds have, are not checked here.
pub(super) fn object(object: &Value, schema: &Schema, causes: &mut Vec<Cause>) {
    fields(object, schema, &Path::Root, causes);
}

fn fields(object: &Value, schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    let Some(map) = object.as_object() else { return };
    for (name, value) in map {
        if let Some(schema) = schema.properties.get(name).or(schema.values.as_deref()) {
            check(value, schema, &Path::Field(path, name), causes);
        }
    }
    let missing = schema.required.iter().filter(|name| !map.contains_key(*name));
    causes.extend(missing.map(|name| Cause::required(&Path::Field(path, name).to_string())));
}

fn check(value: &Value, schema: &Schema, path: &Path<'_>, causes: &mut Vec<Cause>) {
    if value.is_null() && schema.nullable {
        return;
    }
    if !is_of(value, schema.kind) {
        let quoted = format!("{:?}", type_name(value));
        return causes.push(wrong_type(path, schema.kind.name(), &quoted));
    }
    match value {
        Value::Object(_) => fields(value, schema, path, causes),
        Value::Array(items) => {
            if schema.min_items.is_some_and(|least| (items.len() as u64) < least) {
                let least = schema.min_items.unwrap_or_default();
                let why = format!("{path} in body should have at least {least} items");
                causes.push(Cause::invalid(&path.to_string(), &items.len().to_string(), &why));
            }
            if let Some(schema) = &schema.items {
                for (at, item) in items.iter().enumerate() {
                    check(item, schema, &Path::Item(path, at), causes);
                }
            }
        }
        Value::String(text) => {
            if schema.is_time && text.parse::<jiff::Timestamp>().is_err() {
                causes.push(wrong_type(path, "date-time", &format!("{text:?}")));
            }
            if !schema.one_of.is_empty() && !schema.one_of.contains(text) {
                let supported: Vec<&str> = schema.one_of.iter().map(String::as_str).collect();
                causes.push(Cause::unsupported(&path.to_string(), text, &supported));
            }
        }
        Value::Number(number) => {
            if schema.minimum.is_some_and(|least| number.as_f64().is_some_and(|number| number < least)) {
                let least = schema.minimum.unwrap_or_default();
                let why = format!("{path} in body should be greater than or equal to {least}");
                causes.push(Cause::invalid(&path.to_string(), &number.to_string(), &why));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_of(value: &Value, kind: Kind) -> bool {
    match kind {
        Kind::Any => true,
        Kind::Array => value.is_array(),
        Kind::Boolean => value.is_boolean(),
        Kind::Integer => value.is_i64() || value.is_u64(),
        Kind::Number => value.is_number(),
        Kind::Object => value.is_object(),
        Kind::String => value.is_string(),
    }
}

fn wrong_type(path: &Path<'_>, expected: &str, quoted: &str) -> Cause {
    let message = format!("{path} in body must be of type {expected}: {quoted}");
    let mut cause = Cause::invalid(&path.to_string(), quoted, &message);
    "FieldValueTypeInvalid".clone_into(&mut cause.reason);
    cause
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
