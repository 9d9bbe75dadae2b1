//! Decodes list pages and watch events from their text. One object that cannot be decoded must not block all
//! others of its kind.
//!
//! An object is decoded in place, without a tree and without a copy of its text, whatever the order of its
//! fields. Every watch event and every list page passes through this module.

use std::borrow::Cow;
use std::io;

use futures::AsyncBufRead;
use futures::io::AsyncBufReadExt;
use kube::Resource;
use kube::core::metadata::PartialObjectMeta;
use kube::core::watch::Bookmark;
use kube::core::{ListMeta, Status};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cluster::observe;
use crate::domain::ids::ObjectId;
use crate::domain::limits;

/// A decoded object, or an object that does not match its kind.
pub type Read<K> = Result<K, Unreadable>;

/// Identity of an object that cannot be decoded, and the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id: the metadata can be decoded.
    pub id: ObjectId,
    /// Its resourceVersion, from which a watch can continue.
    pub version: Option<String>,
    pub error: String,
}

pub enum WatchEvent<K> {
    /// An object was added or changed.
    Applied(Read<K>),
    /// An object was deleted.
    Deleted(Read<K>),
    /// A resourceVersion from which a watch can continue.
    Bookmark(Bookmark),
    /// The watch ended with this status.
    Error(Status),
}

#[derive(Debug)]
pub struct Page<K> {
    /// Version of the whole list, and its continue token.
    pub metadata: ListMeta,
    pub items: Vec<Read<K>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Items<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// Decodes one line of a watch.
///
/// # Errors
/// The line is not an event, or not even the metadata of its object can be decoded.
pub fn event<K: Resource + DeserializeOwned>(line: &[u8]) -> Result<WatchEvent<K>, serde_json::Error> {
    let Line { kind, object } = match serde_json::from_slice(line) {
        Ok(line) => line,
        // A refusal is a bare Status, without an event around it.
        Err(error) => return serde_json::from_slice(line).map(WatchEvent::Error).map_err(|_| error),
    };
    Ok(match &*kind {
        "DELETED" => WatchEvent::Deleted(read(object)?),
        "BOOKMARK" => WatchEvent::Bookmark(serde_json::from_str(object.get())?),
        "ERROR" => WatchEvent::Error(serde_json::from_str(object.get())?),
        _ => WatchEvent::Applied(read(object)?),
    })
}

/// Decodes one page of a list.
///
/// # Errors
/// The text is not a list, or not even the metadata of one of its objects can be decoded.
pub fn page<K: Resource + DeserializeOwned>(text: &str) -> Result<Page<K>, serde_json::Error> {
    let Items { metadata, items } = serde_json::from_str(text)?;
    let items = items.into_iter().flatten().map(read).collect::<Result<_, _>>()?;
    Ok(Page { metadata, items })
}

fn read<K: Resource + DeserializeOwned>(object: &RawValue) -> Result<Read<K>, serde_json::Error> {
    match serde_json::from_str::<K>(object.get()) {
        Ok(mut object) => {
            // Managed fields are two thirds of an object, and Stillpoint never reads them.
            object.meta_mut().managed_fields = None;
            Ok(Ok(object))
        }
        Err(error) => {
            let known: PartialObjectMeta<K> = serde_json::from_str(object.get())?;
            Ok(Err(Unreadable {
                id: observe::id(&known.metadata),
                version: known.metadata.resource_version,
                error: limits::clip(&format!("{}{}", field::<K>(object.get()), reason(&error))),
            }))
        }
    }
}

/// The field that cannot be decoded, with a colon; empty if the error does not concern a single field of the
/// spec or status.
fn field<K: DeserializeOwned>(object: &str) -> String {
    let Ok(object @ Value::Object(_)) = serde_json::from_str::<Value>(object) else { return String::new() };
    let with = |part: &str, fields: Value| {
        let mut object = object.clone();
        ["spec", "status"].iter().for_each(|part| object[*part] = json!({}));
        object[part] = fields;
        serde_json::from_value::<K>(object)
    };
    for part in ["spec", "status"].into_iter().filter(|part| with(part, json!({})).is_ok()) {
        for (name, value) in object[part].as_object().into_iter().flatten() {
            if with(part, json!({ (name): value })).is_err() {
                return format!("{part}.{name}: ");
            }
        }
    }
    String::new()
}

/// The error without the position in a text that the user never sees.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// Reads the next line; returns false at the end of the watch.
///
/// # Errors
/// The connection broke, unless it ended in the middle of a chunk: proxies and API servers often end a watch
/// that way.
pub async fn line(from: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    match from.read_until(b'\n', line).await {
        // A line without a newline at its end is truncated.
        Ok(_) => Ok(line.last() == Some(&b'\n')),
        Err(error) if is_end(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_end(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref().map(io::Error::kind);
        if kind == Some(io::ErrorKind::UnexpectedEof)
            || error.to_string().contains("unexpected EOF during chunk")
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    use super::*;

    fn claim(line: &str) -> Result<WatchEvent<PersistentVolumeClaim>, serde_json::Error> {
        event(line.as_bytes())
    }

    #[test]
    fn undecodable_object_keeps_name_and_error() {
        let whole = claim(r#"{"type":"ADDED","object":{"metadata":{"name":"a"},"spec":{"volumeName":"v"}}}"#);
        assert!(
            matches!(whole, Ok(WatchEvent::Applied(Ok(object))) if object.metadata.name.as_deref() == Some("a"))
        );
        let broken = r#"{"metadata":{"name":"b","resourceVersion":"7"},"spec":{"volumeName":7}}"#;
        let told = claim(&format!(r#"{{"type":"DELETED","object":{broken}}}"#)).expect("told");
        let WatchEvent::Deleted(Err(unreadable)) = told else { panic!("a number is no name") };
        assert_eq!((&*unreadable.id.name, unreadable.version.as_deref()), ("b", Some("7")));
        assert_eq!(unreadable.error, "spec.volumeName: invalid type: integer `7`, expected a string");
        let list =
            format!(r#"{{"metadata":{{"resourceVersion":"9"}},"items":[{broken},{{"metadata":{{}}}}]}}"#);
        let page = page::<PersistentVolumeClaim>(&list).expect("a list");
        assert_eq!(page.metadata.resource_version.as_deref(), Some("9"));
        assert_eq!(page.items.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
        assert!(claim(r#"{"type":"ADDED","object":{"metadata":7}}"#).is_err(), "not even its metadata");
    }

    #[test]
    fn decodes_watch_events_in_any_field_order() {
        let turned = claim(r#"{"object":{"spec":{},"metadata":{"name":"a"}},"type":"MODIFIED"}"#);
        assert!(
            matches!(turned, Ok(WatchEvent::Applied(Ok(object))) if object.metadata.name.as_deref() == Some("a"))
        );
        let mark = r#"{"type":"BOOKMARK","object":{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"resourceVersion":"12","creationTimestamp":null}}}"#;
        assert!(
            matches!(claim(mark), Ok(WatchEvent::Bookmark(mark)) if mark.metadata.resource_version == "12")
        );
        let status = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old","reason":"Expired","code":410}"#;
        for line in [status.to_owned(), format!(r#"{{"type":"ERROR","object":{status}}}"#)] {
            assert!(matches!(claim(&line), Ok(WatchEvent::Error(status)) if status.code == 410), "{line}");
        }
        assert!(
            page::<PersistentVolumeClaim>(r#"{"metadata":{},"items":null}"#).expect("empty").items.is_empty()
        );
        assert!(claim("half a li").is_err());
    }

    #[tokio::test]
    async fn watch_ends_after_last_complete_line() {
        let mut from: &[u8] = b"one\ntwo\nthr";
        let (mut read, mut lines) = (Vec::new(), Vec::new());
        while line(&mut from, &mut read).await.expect("no error") {
            lines.push(String::from_utf8_lossy(&read).into_owned());
        }
        assert_eq!(lines, ["one\n", "two\n"]);
    }
}
