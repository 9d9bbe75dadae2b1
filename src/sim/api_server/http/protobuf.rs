//! Decodes bodies in the protobuf encoding of Kubernetes, for the few kinds that kubectl creates in it.
//!
//! `kubectl create namespace|configmap|secret` and `kubectl auth can-i` send only this encoding. A body is
//! the magic number, then `runtime.Unknown` with the type and the raw message. Replies are always JSON, which
//! every client accepts.
//!
//! Deliberately not here: all other kinds; they are refused with 415.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Media type of such a body.
pub(super) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// A message: number, JSON name and type of each decoded field.
type Message = &'static [(u64, &'static str, Field)];

#[derive(Clone, Copy)]
enum Field {
    Text,
    Texts,
    Boolean,
    Nested(Message),
    NestedList(Message),
    /// `map<string, string>`
    TextMap,
    /// `map<string, bytes>`, base64 in JSON
    BytesMap,
}

use Field::{Boolean, BytesMap, Nested, NestedList, Text, TextMap, Texts};

const OWNER_REFERENCE: Message = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Boolean),
    (7, "blockOwnerDeletion", Boolean),
];
const OBJECT_META: Message = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", NestedList(OWNER_REFERENCE)),
    (14, "finalizers", Texts),
];
const NAMESPACE: Message = &[(1, "metadata", Nested(OBJECT_META))];
const CONFIG_MAP: Message = &[
    (1, "metadata", Nested(OBJECT_META)),
    (2, "data", TextMap),
    (3, "binaryData", BytesMap),
    (4, "immutable", Boolean),
];
const SECRET: Message = &[
    (1, "metadata", Nested(OBJECT_META)),
    (2, "data", BytesMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Boolean),
];
const RESOURCE_ATTRIBUTES: Message = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const NON_RESOURCE_ATTRIBUTES: Message = &[(1, "path", Text), (2, "verb", Text)];
const REVIEW_SPEC: Message = &[
    (1, "resourceAttributes", Nested(RESOURCE_ATTRIBUTES)),
    (2, "nonResourceAttributes", Nested(NON_RESOURCE_ATTRIBUTES)),
];
const REVIEW: Message = &[(1, "metadata", Nested(OBJECT_META)), (2, "spec", Nested(REVIEW_SPEC))];

const RULES_REVIEW: Message =
    &[(1, "metadata", Nested(OBJECT_META)), (2, "spec", Nested(&[(1, "namespace", Text)]))];
const SUBJECT_REVIEW: Message = &[(1, "metadata", Nested(OBJECT_META))];

const TYPE_META: Message = &[(1, "apiVersion", Text), (2, "kind", Text)];

fn message_of(kind: &str) -> Option<Message> {
    Some(match kind {
        "Namespace" => NAMESPACE,
        "ConfigMap" => CONFIG_MAP,
        "Secret" => SECRET,
        "SelfSubjectAccessReview" => REVIEW,
        "SelfSubjectRulesReview" => RULES_REVIEW,
        "SelfSubjectReview" => SUBJECT_REVIEW,
        _ => return None,
    })
}

/// The object of a body; `None` if it is malformed or of another kind.
pub(super) fn object(body: &[u8]) -> Option<Value> {
    let unknown = body.strip_prefix(MAGIC)?;
    let mut kind = Value::Null;
    let mut raw: &[u8] = &[];
    for field in Fields(unknown) {
        match field? {
            (1, Wire::Bytes(bytes)) => kind = read(bytes, TYPE_META)?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = read(raw, message_of(kind["kind"].as_str()?)?)?;
    for field in ["apiVersion", "kind"] {
        object[field] = kind[field].clone();
    }
    Some(object)
}

fn read(bytes: &[u8], message: Message) -> Option<Value> {
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some((_, name, kind)) = message.iter().find(|(known, ..)| *known == number) else { continue };
        let slot = object.entry(*name).or_insert(Value::Null);
        match (kind, wire) {
            (Boolean, Wire::Number(number)) => *slot = json!(number != 0),
            (Text, Wire::Bytes(bytes)) => *slot = text(bytes)?,
            (Texts, Wire::Bytes(bytes)) => push(slot, text(bytes)?),
            (Nested(below), Wire::Bytes(bytes)) => *slot = read(bytes, below)?,
            (NestedList(below), Wire::Bytes(bytes)) => push(slot, read(bytes, below)?),
            (TextMap, Wire::Bytes(bytes)) => insert(slot, bytes, text)?,
            (BytesMap, Wire::Bytes(bytes)) => {
                insert(slot, bytes, |bytes| Some(json!(STANDARD.encode(bytes))))?
            }
            _ => return None,
        }
    }
    // Go encodes an absent string as an empty one.
    object.retain(|_, value| !value.is_null() && value != "");
    Some(Value::Object(object))
}

fn text(bytes: &[u8]) -> Option<Value> {
    std::str::from_utf8(bytes).ok().map(|text| json!(text))
}

fn push(slot: &mut Value, item: Value) {
    match slot {
        Value::Array(list) => list.push(item),
        _ => *slot = Value::Array(vec![item]),
    }
}

/// A map is a list of entries with the key as field 1 and the value as field 2.
fn insert(slot: &mut Value, entry: &[u8], value: impl Fn(&[u8]) -> Option<Value>) -> Option<()> {
    let (mut key, mut content) = (String::new(), value(&[])?);
    for field in Fields(entry) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, Wire::Bytes(bytes)) => content = value(bytes)?,
            _ => {}
        }
    }
    if !slot.is_object() {
        *slot = json!({});
    }
    slot[key] = content;
    Some(())
}

enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Iterates over the fields of a message in order. A `None` item is a malformed rest.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.number()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => Wire::Bytes(self.bytes(8)?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.bytes(length)?)
            }
            5 => Wire::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u8::try_from(bytes.len()).expect("short");
        [&[number << 3 | 2, length], bytes].concat()
    }

    fn body(kind: &str, message: &[u8]) -> Vec<u8> {
        let kind = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &kind), field(2, message)].concat()
    }

    #[test]
    fn decodes_config_map_with_labels_and_bytes() {
        let entry = |key: &[u8], value: &[u8]| [field(1, key), field(2, value)].concat();
        let metadata = [field(1, b"a"), field(3, b""), field(11, &entry(b"k", b"v")), field(8, b"")].concat();
        let message =
            [field(1, &metadata), field(2, &entry(b"x", b"1")), field(3, &entry(b"y", b"\xff"))].concat();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"k": "v"}}, "data": {"x": "1"}, "binaryData": {"y": "/w=="}});
        assert_eq!(object(&body("ConfigMap", &message)), Some(expected));
    }

    #[test]
    fn rejects_truncated_or_unknown_protobuf() {
        let whole = body("Namespace", &field(1, &field(1, b"name")));
        assert!(object(&whole).is_some());
        for length in 0..whole.len() {
            let cut = object(&whole[..length]);
            assert!(cut.is_none() || cut.is_some_and(|object| object["metadata"].is_null()), "{length}");
        }
        assert_eq!(object(&body("Pod", &[])), None);
    }
}
