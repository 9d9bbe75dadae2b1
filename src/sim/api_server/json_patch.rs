//! JSON patch as the API server applies it.
//!
//! RFC 6902 with the behaviour of the API server's Go library (`evanphx/json-patch` v4), which clients rely
//! on:
//! - `test` of an absent member against null passes.
//! - `replace` of an absent object member is accepted.
//! - `remove` of an absent path fails, and so does any path through an absent parent.

use serde_json::Value;

/// The reason why a patch was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PatchError {
    /// The value is not a JSON patch.
    Malformed(String),
    /// An operation does not apply, or a test failed.
    Refused(String),
}

/// Applies the operations in order. If one fails, nothing is changed.
pub(super) fn apply(document: &Value, operations: &Value) -> Result<Value, PatchError> {
    let Some(operations) = operations.as_array() else {
        return Err(PatchError::Malformed("a JSON patch is a list of operations".to_owned()));
    };
    let mut document = document.clone();
    for operation in operations {
        perform(&mut document, operation)?;
    }
    Ok(document)
}

fn perform(document: &mut Value, operation: &Value) -> Result<(), PatchError> {
    let path = tokens(operation, "path")?;
    let value = operation.get("value").cloned().unwrap_or(Value::Null);
    match operation["op"].as_str() {
        Some("add") => add(document, &path, value),
        Some("remove") => remove(document, &path).map(|_| ()),
        Some("replace") => replace(document, &path, value),
        Some("test") => test(document, &path, &value),
        Some("move") => {
            let moved = remove(document, &tokens(operation, "from")?)?;
            add(document, &path, moved)
        }
        Some("copy") => {
            let from = tokens(operation, "from")?;
            let (parent, last) = parent(document, &from)?;
            let copied = member(parent, last).cloned().unwrap_or(Value::Null);
            add(document, &path, copied)
        }
        _ => Err(PatchError::Malformed(format!("unexpected kind: {}", operation["op"]))),
    }
}

fn add(document: &mut Value, path: &[String], value: Value) -> Result<(), PatchError> {
    let (parent, last) = parent(document, path)?;
    match parent {
        Value::Object(map) => {
            map.insert(last.to_owned(), value);
            Ok(())
        }
        Value::Array(list) => {
            let at = if last == "-" { Some(list.len()) } else { last.parse().ok() };
            match at.filter(|at| *at <= list.len()) {
                Some(at) => {
                    list.insert(at, value);
                    Ok(())
                }
                None => Err(missing("add", path)),
            }
        }
        _ => Err(missing("add", path)),
    }
}

fn remove(document: &mut Value, path: &[String]) -> Result<Value, PatchError> {
    let (parent, last) = parent(document, path)?;
    let removed = match parent {
        Value::Object(map) => map.remove(last),
        Value::Array(list) => {
            last.parse().ok().filter(|at: &usize| *at < list.len()).map(|at| list.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}

fn replace(document: &mut Value, path: &[String], value: Value) -> Result<(), PatchError> {
    let (parent, last) = parent(document, path)?;
    match parent {
        Value::Object(map) => {
            map.insert(last.to_owned(), value);
            Ok(())
        }
        Value::Array(list) => match last.parse().ok().and_then(|at: usize| list.get_mut(at)) {
            Some(slot) => {
                *slot = value;
                Ok(())
            }
            None => Err(missing("replace", path)),
        },
        _ => Err(missing("replace", path)),
    }
}

fn test(document: &mut Value, path: &[String], expected: &Value) -> Result<(), PatchError> {
    let (parent, last) = parent(document, path)?;
    if member(parent, last).unwrap_or(&Value::Null) == expected {
        Ok(())
    } else {
        Err(PatchError::Refused(format!("testing value /{} failed", path.join("/"))))
    }
}

fn member<'a>(parent: &'a Value, last: &str) -> Option<&'a Value> {
    match parent {
        Value::Object(map) => map.get(last),
        Value::Array(list) => last.parse::<usize>().ok().and_then(|at| list.get(at)),
        _ => None,
    }
}

/// The container of the last token of the path.
fn parent<'a, 'b>(
    document: &'a mut Value,
    path: &'b [String],
) -> Result<(&'a mut Value, &'b str), PatchError> {
    let Some((last, way)) = path.split_last() else {
        return Err(PatchError::Refused("the whole document cannot be addressed".to_owned()));
    };
    let mut current = document;
    for token in way {
        let next = match current {
            Value::Object(map) => map.get_mut(token),
            Value::Array(list) => token.parse::<usize>().ok().and_then(|at| list.get_mut(at)),
            _ => None,
        };
        current = next.ok_or_else(|| missing("patch", path))?;
    }
    Ok((current, last))
}

fn tokens(operation: &Value, field: &str) -> Result<Vec<String>, PatchError> {
    let Some(pointer) = operation[field].as_str() else {
        return Err(PatchError::Malformed(format!("an operation without {field}")));
    };
    let unescape = |token: &str| token.replace("~1", "/").replace("~0", "~");
    Ok(pointer.split('/').skip(1).map(unescape).collect())
}

fn missing(operation: &str, path: &[String]) -> PatchError {
    PatchError::Refused(format!(
        "{operation} operation does not apply: doc is missing path /{}",
        path.join("/")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(document: Value, operations: Value, expected: Option<Value>) {
        assert_eq!(apply(&document, &operations).ok(), expected, "{operations}");
    }

    #[test]
    fn null_test_requires_existing_parent() {
        let document = json!({"metadata": {}});
        check(
            document.clone(),
            json!([{"op": "test", "path": "/metadata/finalizers", "value": null}]),
            Some(document.clone()),
        );
        check(document.clone(), json!([{"op": "test", "path": "/status/name", "value": null}]), None);
        check(document, json!([{"op": "test", "path": "/metadata/uid", "value": "a"}]), None);
    }

    #[test]
    fn accepts_replace_but_not_remove_of_absent_member() {
        check(
            json!({"spec": {}}),
            json!([{"op": "replace", "path": "/spec/a", "value": 1}]),
            Some(json!({"spec": {"a": 1}})),
        );
        check(json!({"spec": {}}), json!([{"op": "remove", "path": "/spec/a"}]), None);
        check(json!({"l": []}), json!([{"op": "replace", "path": "/l/0", "value": 1}]), None);
    }

    #[test]
    fn patches_lists_and_escaped_paths() {
        check(
            json!({"l": [1, 3]}),
            json!([{"op": "add", "path": "/l/1", "value": 2}, {"op": "add", "path": "/l/-", "value": 4}]),
            Some(json!({"l": [1, 2, 3, 4]})),
        );
        check(
            json!({"m": {"a/b": 1}}),
            json!([{"op": "move", "from": "/m/a~1b", "path": "/m/c~0d"}]),
            Some(json!({"m": {"c~d": 1}})),
        );
        check(json!({"l": [1]}), json!([{"op": "remove", "path": "/l/1"}]), None);
    }

    #[test]
    fn failed_operation_rolls_back_earlier_ones() {
        let document = json!({"a": 1});
        let operations =
            json!([{"op": "add", "path": "/b", "value": 2}, {"op": "test", "path": "/a", "value": 2}]);
        assert!(matches!(apply(&document, &operations), Err(PatchError::Refused(_))));
        assert_eq!(
            apply(&document, &json!([{"op": "jump", "path": "/a"}]))
                .err()
                .map(|error| matches!(error, PatchError::Malformed(_))),
            Some(true)
        );
    }
}
