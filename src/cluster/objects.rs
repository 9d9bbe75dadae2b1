//! Lists the kinds of objects that effects change, one row for each: API type, version, cache and permissions.
//!
//! The core has the enum ([`Kind`]) and the paths of fields in its patches. A new kind is one row here and one
//! variant there.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;

use super::access::{GROUP, Grant, OBJECT, SNAPSHOT, cluster, own};
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
    /// API group and plural.
    pub resource: fn() -> (String, String),
}

macro_rules! kinds {
    ($($kind:ident: $type:ty, |$version:ident| $dynamic:expr, $read:expr, [$($grant:expr),+];)+) => {
        /// The permissions on objects that effects change.
        pub(super) const GRANTS: &[Grant] = &[$($($grant),+),+];

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
        |text| changed::object(Kind::VolumeGroupSnapshot, text, ObjectChange::Group),
        [cluster(GROUP, "volumegroupsnapshots", OBJECT, "the cut, its claim by a new epoch, and its undo")];
    VolumeGroupSnapshotContent: VolumeGroupSnapshotContent, |version| version,
        |text| changed::object(Kind::VolumeGroupSnapshotContent, text, ObjectChange::GroupContent),
        [cluster(GROUP, "volumegroupsnapshotcontents", OBJECT, "retaining, release, undo and rebuild")];
    VolumeSnapshot: VolumeSnapshot, |_version| (),
        |text| changed::object(Kind::VolumeSnapshot, text, ObjectChange::Snapshot),
        [
            cluster(SNAPSHOT, "volumesnapshots", OBJECT, "release, undo and rebuild of members"),
            cluster(SNAPSHOT, "volumesnapshots/status", &["patch"], "the release of members")
        ];
    VolumeSnapshotContent: VolumeSnapshotContent, |_version| (),
        |text| changed::object(Kind::VolumeSnapshotContent, text, ObjectChange::Content),
        [cluster(SNAPSHOT, "volumesnapshotcontents", OBJECT, "retaining, undo and rebuild of members")];
    ConfigMap: ConfigMap, |_version| (), |_| Ok(ObjectChange::Uncached),
        [own("", "configmaps", &["create", "get", "list", "patch", "watch"], "binding the journal to the cluster")];
}

/// The plural of a kind, as in URLs.
pub fn plural(kind: Kind) -> String {
    (info(kind).resource)().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_of_kind_are_on_its_resource() {
        let of_kind = |kind: &Kind| (info(*kind).resource)();
        let kinds: Vec<_> = Kind::ALL.iter().map(of_kind).collect();
        for grant in GRANTS {
            let plural = grant.resource.trim_end_matches("/status");
            assert!(kinds.contains(&(grant.group.to_owned(), plural.to_owned())), "{grant:?}");
        }
        for (group, plural) in &kinds {
            assert!(GRANTS.iter().any(|grant| grant.group == group && grant.resource == plural), "{plural}");
        }
    }

    #[test]
    fn kinds_have_their_names_in_manifests() {
        for kind in Kind::ALL {
            assert_eq!((info(*kind).type_of)(Version::default()).1, kind.name());
        }
    }
}
