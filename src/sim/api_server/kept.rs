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
pub(super) enum Kept {
    /// The tree, shared by all readers, and its text, shared by all senders.
    Open(Arc<Value>, Arc<OnceLock<Bytes>>),
    /// JSON text.
    Packed(Bytes),
}

impl Kept {
    /// Chooses the stored form by the resource.
    pub fn new(plural: &str, object: &Arc<Value>) -> Self {
        match plural {
            "events" => Self::Packed(text_of(object)),
            _ => Self::Open(object.clone(), Arc::default()),
        }
    }

    /// The same state, stored as text.
    pub fn packed(&self) -> Self {
        Self::Packed(self.text())
    }

    pub fn text(&self) -> Bytes {
        match self {
            Self::Open(object, text) => text.get_or_init(|| text_of(object)).clone(),
            Self::Packed(text) => text.clone(),
        }
    }

    pub fn open(&self) -> Arc<Value> {
        match self {
            Self::Open(object, _) => object.clone(),
            Self::Packed(text) => {
                Arc::new(serde_json::from_slice(text).expect("it was written by `text_of`"))
            }
        }
    }

    /// Returns whether this is the same allocation, not a copy.
    pub fn is(&self, object: &Arc<Value>) -> bool {
        matches!(self, Self::Open(kept, _) if Arc::ptr_eq(kept, object))
    }

    /// Drops the text if it is that of `old`, which is not read any more.
    pub fn let_go(&mut self, old: &Self) {
        if let (Self::Open(_, text), Self::Packed(of_old)) = (self, old)
            && text.get().is_some_and(|text| text.as_ptr() == of_old.as_ptr())
        {
            *text = Arc::default();
        }
    }
}

/// Serializes the object into an allocation of exactly its size, because the text may be kept for long.
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
        let kept = Kept::new("events", &event);
        assert!(matches!(kept, Kept::Packed(_)));
        assert_eq!(kept.open(), event);
        let claim = Kept::new("persistentvolumeclaims", &event);
        assert!(Arc::ptr_eq(&claim.open(), &event), "a copy would be as large again");
        assert!(claim.is(&event) && !claim.is(&kept.open()));
    }

    #[test]
    fn serializes_state_once_and_shares_the_text() {
        let mut present = Kept::new("persistentvolumeclaims", &Arc::new(json!({"metadata": {"name": "a"}})));
        let same = |one: &Kept, other: &Kept| one.text().as_ptr() == other.text().as_ptr();
        let (told, old) = (present.clone(), present.packed());
        assert!(same(&present, &told) && same(&present, &old));
        present.let_go(&Kept::new("events", &present.open()));
        assert!(same(&present, &old), "the text of another state is not its own");
        present.let_go(&old);
        assert!(!same(&present, &old), "it was kept");
        assert_eq!(present.text(), old.text());
    }
}
