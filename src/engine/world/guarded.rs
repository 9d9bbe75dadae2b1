//! An object of a list or a watch, or what is known of one that cannot be read: one of them must not stop all others of
//! its kind.
//!
//! As kube's `DeserializeGuard`, which goes by way of two trees and a copy; here it is one tree. Every change that any
//! watch brings passes here.

use std::borrow::Cow;

use kube::Resource;
use kube::core::{ObjectMeta, PartialObjectMeta};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, or one that is not what its kind is.
#[derive(Debug, Clone)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// What is known of an object that cannot be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Its metadata, which can.
    pub metadata: ObjectMeta,
    /// What is wrong with it.
    pub error: String,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tree = Value::deserialize(deserializer)?;
        match K::deserialize(&tree) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let PartialObjectMeta { metadata, .. } =
                    PartialObjectMeta::<K>::deserialize(&tree).map_err(D::Error::custom)?;
                Ok(Self(Err(Unreadable { metadata, error: error.to_string() })))
            }
        }
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::json;

    use super::*;

    fn read(object: Value) -> Result<Guarded<PersistentVolumeClaim>, serde_json::Error> {
        serde_json::from_str(&object.to_string())
    }

    #[test]
    fn one_that_cannot_be_read_keeps_its_name_and_says_why() {
        let whole = read(json!({"metadata": {"name": "a"}, "spec": {"volumeName": "v"}})).expect("read");
        assert_eq!((whole.meta().name.as_deref(), whole.0.is_ok()), (Some("a"), true));
        let broken = read(json!({"metadata": {"name": "b"}, "spec": {"volumeName": 7}})).expect("guarded");
        assert_eq!(broken.meta().name.as_deref(), Some("b"));
        let unreadable = broken.0.expect_err("a number is no name");
        assert!(unreadable.error.contains("expected a string"), "{}", unreadable.error);
        assert!(read(json!({"spec": {"volumeName": 7}})).is_ok(), "metadata is optional to kube");
        assert!(read(json!({"metadata": 7})).is_err(), "nothing is known of it");
    }
}
