//! Lists the kinds of objects that effects change, one row for each: API type, version and cache.
//!
//! The core has the enum ([`Kind`]) and the paths of fields in its patches. A new kind is one row here, one variant
//! there, and its permissions in [`access::GRANTS`](super::access::GRANTS), which a test compares with this list.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;

use super::changed::{self, ObjectChange};
use crate::api::{
    Version, VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent,
};
use crate::machine::kit::Kind;

/// The API type, the version and the cache of a kind.
pub(super) struct KindInfo {
    /// Path of a collection; `None` is the cluster.
    pub collection: fn(Version, Option<&str>) -> String,
    /// `apiVersion` and `kind`.
    pub type_of: fn(Version) -> (String, String),
    /// Decodes the object of an answer, for its cache.
    pub read: fn(&str) -> Result<ObjectChange, serde_json::Error>,
    #[cfg(test)]
    pub resource: fn() -> (String, String),
}

macro_rules! kinds {
    ($($kind:ident: $type:ty, |$version:ident| $dynamic:expr, $read:expr;)+) => {
        /// The row of a kind.
        pub(super) fn info(kind: Kind) -> KindInfo {
            match kind {
                $(Kind::$kind => KindInfo {
                    collection: |$version, namespace| <$type>::url_path(&$dynamic, namespace),
                    type_of: |$version| {
                        let dynamic = $dynamic;
                        (<$type>::api_version(&dynamic).into_owned(), <$type>::kind(&dynamic).into_owned())
                    },
                    read: $read,
                    #[cfg(test)]
                    resource: || {
                        let $version = Version::default();
                        let dynamic = $dynamic;
                        (<$type>::group(&dynamic).into_owned(), <$type>::plural(&dynamic).into_owned())
                    },
                }),+
            }
        }
    };
}

kinds! {
    VolumeGroupSnapshot: VolumeGroupSnapshot, |version| version,
        |text| changed::object(Kind::VolumeGroupSnapshot, text, ObjectChange::Group);
    VolumeGroupSnapshotContent: VolumeGroupSnapshotContent, |version| version,
        |text| changed::object(Kind::VolumeGroupSnapshotContent, text, ObjectChange::GroupContent);
    VolumeSnapshot: VolumeSnapshot, |_version| (),
        |text| changed::object(Kind::VolumeSnapshot, text, ObjectChange::Snapshot);
    VolumeSnapshotContent: VolumeSnapshotContent, |_version| (),
        |text| changed::object(Kind::VolumeSnapshotContent, text, ObjectChange::Content);
    ConfigMap: ConfigMap, |_version| (), |_| Ok(ObjectChange::Uncached);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::access::GRANTS;

    #[test]
    fn every_kind_with_cache_has_its_permissions() {
        for kind in Kind::ALL.iter().filter(|kind| **kind != Kind::ConfigMap) {
            let (group, plural) = (info(*kind).resource)();
            let grant = GRANTS.iter().find(|grant| (grant.group, grant.resource) == (&*group, &*plural));
            let grant = grant.unwrap_or_else(|| panic!("no permission on {plural}.{group}"));
            for verb in ["create", "delete", "get", "list", "patch", "watch"] {
                assert!(grant.verbs.contains(&verb), "{verb} {plural}.{group}");
            }
        }
    }

    #[test]
    fn kinds_have_their_names_in_manifests() {
        for kind in Kind::ALL {
            assert_eq!((info(*kind).type_of)(Version::default()).1, kind.name());
        }
    }
}
