//! The stored form of an object.
//!
//! A tree of JSON values is ten times as large as its text. Controllers hold the objects that they work on,
//! so those are stored as trees and shared. Controllers do not hold Events. A large cluster has more Events
//! than other objects; they are written once and rarely read. They are stored as text and parsed on each
//! read. Old states are stored in the same way.
//!
//! A state is serialized once, at the first use of its text. The current state, its watch events and its
//! history entry share that text until it leaves the history. Reads share it if the reply is the whole stored
//! object. A new watch serializes its first events itself.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use serde_json::Value;

use crate::api_server::text;

/// One state of an object.
#[derive(Debug, Clone)]
pub(super) enum StoredObject {
    /// The tree, shared by all readers, and its text, shared by all senders.
    Tree(Arc<Value>, Arc<OnceLock<Bytes>>),
    /// JSON text.
    Text(Bytes),
}

impl StoredObject {
    /// Chooses the stored form by the resource.
    pub fn new(plural: &str, object: &Arc<Value>) -> Self {
        match plural {
            "events" => Self::Text(text_of(object)),
            _ => Self::Tree(object.clone(), Arc::default()),
        }
    }

    /// The same state, stored as text.
    pub fn without_tree(&self) -> Self {
        Self::Text(self.text())
    }

    pub fn text(&self) -> Bytes {
        match self {
            Self::Tree(object, text) => text.get_or_init(|| text_of(object)).clone(),
            Self::Text(text) => text.clone(),
        }
    }

    pub fn tree(&self) -> Arc<Value> {
        match self {
            Self::Tree(object, _) => object.clone(),
            Self::Text(text) => Arc::new(serde_json::from_slice(text).expect("`text_of` wrote it")),
        }
    }

    /// Returns whether this is the same allocation, not a copy.
    pub fn is_same_allocation(&self, object: &Arc<Value>) -> bool {
        matches!(self, Self::Tree(tree, _) if Arc::ptr_eq(tree, object))
    }

    /// Drops the text if it is that of `old`, which is not read any more.
    pub fn drop_shared_text(&mut self, old: &Self) {
        if let (Self::Tree(_, text), Self::Text(of_old)) = (self, old)
            && text.get().is_some_and(|text| text.as_ptr() == of_old.as_ptr())
        {
            *text = Arc::default();
        }
    }
}

/// Serializes the object into an allocation of exactly its size, because the text may live for long.
/// Shrinking a large allocation would leave a gap that no other text fits into.
fn text_of(object: &Value) -> Bytes {
    Bytes::copy_from_slice(&text::of(object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stored_object_round_trips() {
        let event =
            Arc::new(json!({"metadata": {"name": "a\n\"b\""}, "count": 3, "eventTime": null, "list": [1.5]}));
        let stored = StoredObject::new("events", &event);
        assert!(matches!(stored, StoredObject::Text(_)));
        assert_eq!(stored.tree(), event);
        let pvc = StoredObject::new("persistentvolumeclaims", &event);
        assert!(Arc::ptr_eq(&pvc.tree(), &event), "the tree is shared, not copied");
        assert!(pvc.is_same_allocation(&event) && !pvc.is_same_allocation(&stored.tree()));
    }

    #[test]
    fn serializes_state_once_and_shares_the_text() {
        let mut current =
            StoredObject::new("persistentvolumeclaims", &Arc::new(json!({"metadata": {"name": "a"}})));
        let same = |one: &StoredObject, other: &StoredObject| one.text().as_ptr() == other.text().as_ptr();
        let (sent, old) = (current.clone(), current.without_tree());
        assert!(same(&current, &sent) && same(&current, &old));
        current.drop_shared_text(&StoredObject::new("events", &current.tree()));
        assert!(same(&current, &old), "the text belongs to another state");
        current.drop_shared_text(&old);
        assert!(!same(&current, &old), "the text was not dropped");
        assert_eq!(current.text(), old.text());
    }
}
