//! An object as the store keeps it.
//!
//! A tree of JSON values is ten times as large as its text. Controllers hold the objects that they work on anyhow, so
//! those are kept as they are, and shared. Nobody holds an Event: a large cluster has more of them than of anything
//! else, written once and read by a person now and then. They are kept as text, and taken apart when they are read. So
//! are the states of long ago.

use std::sync::Arc;

use serde_json::Value;

use crate::sim::api_server::text;

/// One state of an object.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    /// Shared with all who read it.
    Open(Arc<Value>),
    /// JSON text.
    Packed(Arc<[u8]>),
}

impl Kept {
    /// How an object of the resource is kept.
    pub fn new(plural: &str, object: &Arc<Value>) -> Self {
        match plural {
            "events" => Self::text(object),
            _ => Self::Open(object.clone()),
        }
    }

    /// The same, as text.
    pub fn packed(&self) -> Self {
        match self {
            Self::Open(object) => Self::text(object),
            Self::Packed(_) => self.clone(),
        }
    }

    fn text(object: &Value) -> Self {
        Self::Packed(text::of(object).into())
    }

    /// The object.
    pub fn open(&self) -> Arc<Value> {
        match self {
            Self::Open(object) => object.clone(),
            Self::Packed(text) => Arc::new(serde_json::from_slice(text).expect("it was written by `text`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let event =
            Arc::new(json!({"metadata": {"name": "a\n\"b\""}, "count": 3, "eventTime": null, "list": [1.5]}));
        let kept = Kept::new("events", &event);
        assert!(matches!(kept, Kept::Packed(_)));
        assert_eq!(kept.open(), event);
        let claim = Kept::new("persistentvolumeclaims", &event);
        assert!(Arc::ptr_eq(&claim.open(), &event), "a copy would be as large again");
    }
}
