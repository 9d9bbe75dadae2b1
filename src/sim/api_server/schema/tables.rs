//! The fields of the snapshot and group snapshot kinds, whose CRDs belong to external-snapshotter.
//!
//! Source: its CRDs of 8.6 (`client/config/crd`), reduced to the fields that a client or an actor writes.
//! Required fields, enumerations and CEL rules are in `rules`.

use std::collections::BTreeMap;

use super::structural::{Kind, Schema};

#[derive(Clone, Copy)]
enum Type {
    Text,
    Boolean,
    Integer,
    /// An RFC 3339 time.
    Time,
    /// Any value, kept unchanged.
    Open,
    Object(Fields),
    /// A list of objects.
    Objects(Fields),
    /// A list of strings.
    Texts,
}

type Fields = &'static [(&'static str, Type)];

use Type::{Boolean, Integer, Object, Objects, Open, Text, Texts, Time};

const ERROR: Type = Object(&[("time", Time), ("message", Text)]);
const REFERENCE: Type = Object(&[
    ("apiVersion", Text),
    ("fieldPath", Text),
    ("kind", Text),
    ("name", Text),
    ("namespace", Text),
    ("resourceVersion", Text),
    ("uid", Text),
]);

const VOLUME_SNAPSHOT: Fields = &[
    (
        "spec",
        Object(&[
            ("source", Object(&[("persistentVolumeClaimName", Text), ("volumeSnapshotContentName", Text)])),
            ("volumeSnapshotClassName", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("boundVolumeSnapshotContentName", Text),
            ("creationTime", Time),
            ("readyToUse", Boolean),
            ("restoreSize", Open),
            ("error", ERROR),
            ("volumeGroupSnapshotName", Text),
        ]),
    ),
];

const VOLUME_SNAPSHOT_CONTENT: Fields = &[
    (
        "spec",
        Object(&[
            ("volumeSnapshotRef", REFERENCE),
            ("deletionPolicy", Text),
            ("driver", Text),
            ("volumeSnapshotClassName", Text),
            ("source", Object(&[("volumeHandle", Text), ("snapshotHandle", Text)])),
            ("sourceVolumeMode", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("snapshotHandle", Text),
            ("creationTime", Integer),
            ("restoreSize", Integer),
            ("readyToUse", Boolean),
            ("error", ERROR),
            ("volumeGroupSnapshotHandle", Text),
        ]),
    ),
];

const CLASS: Fields = &[("driver", Text), ("parameters", Open), ("deletionPolicy", Text)];

const VOLUME_GROUP_SNAPSHOT: Fields = &[
    (
        "spec",
        Object(&[
            ("source", Object(&[("selector", SELECTOR), ("volumeGroupSnapshotContentName", Text)])),
            ("volumeGroupSnapshotClassName", Text),
        ]),
    ),
    (
        "status",
        Object(&[
            ("boundVolumeGroupSnapshotContentName", Text),
            ("creationTime", Time),
            ("readyToUse", Boolean),
            ("error", ERROR),
        ]),
    ),
];

const VOLUME_GROUP_SNAPSHOT_CONTENT: Fields = &[
    (
        "spec",
        Object(&[
            ("volumeGroupSnapshotRef", REFERENCE),
            ("deletionPolicy", Text),
            ("driver", Text),
            ("volumeGroupSnapshotClassName", Text),
            (
                "source",
                Object(&[
                    ("volumeHandles", Texts),
                    (
                        "groupSnapshotHandles",
                        Object(&[("volumeGroupSnapshotHandle", Text), ("volumeSnapshotHandles", Texts)]),
                    ),
                ]),
            ),
        ]),
    ),
    (
        "status",
        Object(&[
            ("volumeGroupSnapshotHandle", Text),
            ("creationTime", Time),
            ("readyToUse", Boolean),
            ("error", ERROR),
            // Only in v1beta1; the newer versions have the other list.
            ("volumeSnapshotHandlePairList", Objects(&[("volumeHandle", Text), ("snapshotHandle", Text)])),
            (
                "volumeSnapshotInfoList",
                Objects(&[
                    ("volumeHandle", Text),
                    ("snapshotHandle", Text),
                    ("creationTime", Integer),
                    ("readyToUse", Boolean),
                    ("restoreSize", Integer),
                ]),
            ),
        ]),
    ),
];

const SELECTOR: Type = Object(&[
    ("matchLabels", Open),
    ("matchExpressions", Objects(&[("key", Text), ("operator", Text), ("values", Texts)])),
]);

/// The schema of a kind; `None` for a kind without a table.
pub(super) fn of(plural: &str) -> Option<Schema> {
    let fields = match plural {
        "volumesnapshots" => VOLUME_SNAPSHOT,
        "volumesnapshotcontents" => VOLUME_SNAPSHOT_CONTENT,
        "volumesnapshotclasses" | "volumegroupsnapshotclasses" => CLASS,
        "volumegroupsnapshots" => VOLUME_GROUP_SNAPSHOT,
        "volumegroupsnapshotcontents" => VOLUME_GROUP_SNAPSHOT_CONTENT,
        _ => return None,
    };
    Some(object(fields))
}

fn object(fields: Fields) -> Schema {
    let properties: BTreeMap<String, Schema> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), schema(*kind))).collect();
    Schema { properties, ..Schema::of(Kind::Object) }
}

fn schema(kind: Type) -> Schema {
    match kind {
        Text => Schema::of(Kind::String),
        Boolean => Schema::of(Kind::Boolean),
        Integer => Schema::of(Kind::Integer),
        Time => Schema { is_time: true, ..Schema::of(Kind::String) },
        Open => Schema { preserves_unknown: true, ..Schema::of(Kind::Any) },
        Object(below) => object(below),
        Objects(below) => Schema { items: Some(Box::new(object(below))), ..Schema::of(Kind::Array) },
        Texts => Schema { items: Some(Box::new(Schema::of(Kind::String))), ..Schema::of(Kind::Array) },
    }
}
