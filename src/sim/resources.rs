//! The resources that the embedded cluster serves, and all properties in which they differ.
//!
//! These are deliberate copies: nothing here comes from the API types of the service, so a wrong name there
//! differs from the correct name here and a test fails. Sources: the CRDs of external-snapshotter 8.6 and
//! Velero 1.18, and Kubernetes 1.36 for the built-in kinds.
//!
//! Deliberately not here: behaviour. The modules of the API server validate writes, by plural name.

/// One resource: a kind with its plural name.
#[derive(Debug)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Versions, the preferred one first.
    pub versions: &'static [&'static str],
    pub kind: &'static str,
    pub list_kind: &'static str,
    /// Plural name, as in the path. Unique, except `events`, which two groups serve from one storage.
    pub plural: &'static str,
    pub singular: &'static str,
    /// Short names for the command line.
    pub short_names: &'static [&'static str],
    /// Names for several resources at once, for example `all`.
    pub categories: &'static [&'static str],
    /// The objects belong to a namespace.
    pub namespaced: bool,
    /// `/status` exists, and writes to the main resource ignore `status`.
    pub status_subresource: bool,
    /// Defined by a CustomResourceDefinition: has a generation, has no strategic merge patch, and a PUT must
    /// have a resourceVersion.
    pub custom: bool,
    /// A POST gets a reply, but nothing is stored (access reviews).
    pub create_only: bool,
    /// `status.phase` of a new object.
    pub initial_phase: Option<&'static str>,
    /// Field selectors besides `metadata.name` and `metadata.namespace`, in the core form of the object.
    pub selectable_fields: &'static [&'static str],
    /// Columns of a table after NAME.
    pub columns: &'static [Column],
}

#[derive(Debug)]
pub struct Column {
    /// Heading; kubectl prints it in capitals.
    pub name: &'static str,
    /// `string`, `boolean`, `integer` or `date`; a date is printed as an age.
    pub kind: &'static str,
    /// 0 is always printed, 1 only with `-o wide`.
    pub priority: u8,
    pub cell: Cell,
}

/// The source of the value of a table cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// A JSON pointer into the object.
    Path(&'static str),
    /// A JSON pointer, and a text for an absent value.
    PathOr(&'static str, &'static str),
    /// The last occurrence of an Event. Those of events.k8s.io have only `eventTime` (`printEvent` of the API
    /// server).
    LastSeen,
    /// The access modes in the list under the pointer: `RWO`, `RWX`, ...
    AccessModes(&'static str),
    /// `namespace/name` of the object reference under the pointer.
    Reference(&'static str),
    /// `kind/name` of the object reference under the pointer, in lower case.
    ObjectName(&'static str),
    /// Phase, or `Terminating`.
    Phase,
    /// Ready containers of a pod, `1/1`.
    ReadyContainers,
    /// Restarts of a pod's containers.
    Restarts,
    /// Number of entries of the map under the pointer.
    Count(&'static str),
}

const fn column(name: &'static str, kind: &'static str, cell: Cell) -> Column {
    Column { name, kind, priority: 0, cell }
}

const fn text(name: &'static str, path: &'static str) -> Column {
    column(name, "string", Cell::Path(path))
}

const fn wide(name: &'static str, path: &'static str) -> Column {
    Column { name, kind: "string", priority: 1, cell: Cell::Path(path) }
}

const AGE: Column = column("Age", "date", Cell::Path("/metadata/creationTimestamp"));
const READY_TO_USE: Column = column("ReadyToUse", "boolean", Cell::Path("/status/readyToUse"));
const CREATION_TIME: Column = column("CreationTime", "date", Cell::Path("/status/creationTime"));

const BUILT_IN: Resource = Resource {
    group: "",
    versions: &["v1"],
    kind: "",
    list_kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    status_subresource: false,
    custom: false,
    create_only: false,
    initial_phase: None,
    selectable_fields: &[],
    columns: &[AGE],
};

const CUSTOM: Resource = Resource { custom: true, ..BUILT_IN };
const SNAPSHOT: Resource = Resource { group: "snapshot.storage.k8s.io", ..CUSTOM };
const GROUP_SNAPSHOT: Resource =
    Resource { group: "groupsnapshot.storage.k8s.io", versions: &["v1", "v1beta2", "v1beta1"], ..CUSTOM };

/// Plural name of namespaces, which contain other objects.
pub const NAMESPACES: &str = "namespaces";
/// The group whose served versions are configured.
pub const GROUP_SNAPSHOT_GROUP: &str = "groupsnapshot.storage.k8s.io";

/// Every resource, in the order of discovery.
pub static RESOURCES: &[Resource] = &[
    Resource {
        kind: "Namespace",
        list_kind: "NamespaceList",
        plural: NAMESPACES,
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        status_subresource: true,
        initial_phase: Some("Active"),
        columns: &[column("Status", "string", Cell::Path("/status/phase")), AGE],
        ..BUILT_IN
    },
    Resource {
        kind: "PersistentVolume",
        list_kind: "PersistentVolumeList",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short_names: &["pv"],
        namespaced: false,
        status_subresource: true,
        initial_phase: Some("Pending"),
        columns: &[
            text("Capacity", "/spec/capacity/storage"),
            column("Access Modes", "string", Cell::AccessModes("/spec/accessModes")),
            text("Reclaim Policy", "/spec/persistentVolumeReclaimPolicy"),
            column("Status", "string", Cell::Phase),
            column("Claim", "string", Cell::Reference("/spec/claimRef")),
            text("StorageClass", "/spec/storageClassName"),
            column(
                "VolumeAttributesClass",
                "string",
                Cell::PathOr("/spec/volumeAttributesClassName", "<unset>"),
            ),
            text("Reason", "/status/reason"),
            AGE,
            wide("VolumeMode", "/spec/volumeMode"),
        ],
        ..BUILT_IN
    },
    Resource {
        kind: "PersistentVolumeClaim",
        list_kind: "PersistentVolumeClaimList",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        status_subresource: true,
        initial_phase: Some("Pending"),
        columns: &[
            column("Status", "string", Cell::Phase),
            text("Volume", "/spec/volumeName"),
            text("Capacity", "/status/capacity/storage"),
            column("Access Modes", "string", Cell::AccessModes("/status/accessModes")),
            text("StorageClass", "/spec/storageClassName"),
            column(
                "VolumeAttributesClass",
                "string",
                Cell::PathOr("/spec/volumeAttributesClassName", "<unset>"),
            ),
            AGE,
            wide("VolumeMode", "/spec/volumeMode"),
        ],
        ..BUILT_IN
    },
    Resource {
        kind: "Pod",
        list_kind: "PodList",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        status_subresource: true,
        initial_phase: Some("Pending"),
        selectable_fields: &["spec.nodeName", "spec.serviceAccountName", "status.phase", "status.podIP"],
        columns: &[
            column("Ready", "string", Cell::ReadyContainers),
            column("Status", "string", Cell::Phase),
            column("Restarts", "string", Cell::Restarts),
            AGE,
            Column { name: "IP", kind: "string", priority: 1, cell: Cell::PathOr("/status/podIP", "<none>") },
            Column {
                name: "Node",
                kind: "string",
                priority: 1,
                cell: Cell::PathOr("/spec/nodeName", "<none>"),
            },
        ],
        ..BUILT_IN
    },
    Resource {
        kind: "ConfigMap",
        list_kind: "ConfigMapList",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        columns: &[column("Data", "integer", Cell::Count("/data")), AGE],
        ..BUILT_IN
    },
    Resource {
        kind: "Secret",
        list_kind: "SecretList",
        plural: "secrets",
        singular: "secret",
        selectable_fields: &["type"],
        columns: &[text("Type", "/type"), column("Data", "integer", Cell::Count("/data")), AGE],
        ..BUILT_IN
    },
    Resource {
        group: "apps",
        kind: "Deployment",
        list_kind: "DeploymentList",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        status_subresource: true,
        ..BUILT_IN
    },
    Resource { ..EVENTS },
    Resource { group: "events.k8s.io", ..EVENTS },
    Resource {
        group: "storage.k8s.io",
        kind: "StorageClass",
        list_kind: "StorageClassList",
        plural: "storageclasses",
        singular: "storageclass",
        short_names: &["sc"],
        namespaced: false,
        columns: &[
            text("Provisioner", "/provisioner"),
            text("ReclaimPolicy", "/reclaimPolicy"),
            text("VolumeBindingMode", "/volumeBindingMode"),
            column("AllowVolumeExpansion", "string", Cell::PathOr("/allowVolumeExpansion", "false")),
            AGE,
        ],
        ..BUILT_IN
    },
    Resource {
        group: "coordination.k8s.io",
        kind: "Lease",
        list_kind: "LeaseList",
        plural: "leases",
        singular: "lease",
        columns: &[text("Holder", "/spec/holderIdentity"), AGE],
        ..BUILT_IN
    },
    Resource {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        list_kind: "CustomResourceDefinitionList",
        plural: "customresourcedefinitions",
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        namespaced: false,
        status_subresource: true,
        columns: &[text("Created At", "/metadata/creationTimestamp")],
        ..BUILT_IN
    },
    Resource {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        list_kind: "SelfSubjectAccessReviewList",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        namespaced: false,
        create_only: true,
        ..BUILT_IN
    },
    Resource {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        list_kind: "SelfSubjectRulesReviewList",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        namespaced: false,
        create_only: true,
        ..BUILT_IN
    },
    Resource {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        list_kind: "SelfSubjectReviewList",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        namespaced: false,
        create_only: true,
        ..BUILT_IN
    },
    Resource {
        kind: "VolumeSnapshot",
        list_kind: "VolumeSnapshotList",
        plural: "volumesnapshots",
        singular: "volumesnapshot",
        short_names: &["vs"],
        status_subresource: true,
        columns: &[
            READY_TO_USE,
            text("SourcePVC", "/spec/source/persistentVolumeClaimName"),
            text("SourceSnapshotContent", "/spec/source/volumeSnapshotContentName"),
            text("RestoreSize", "/status/restoreSize"),
            text("SnapshotClass", "/spec/volumeSnapshotClassName"),
            text("SnapshotContent", "/status/boundVolumeSnapshotContentName"),
            CREATION_TIME,
            AGE,
        ],
        ..SNAPSHOT
    },
    Resource {
        kind: "VolumeSnapshotContent",
        list_kind: "VolumeSnapshotContentList",
        plural: "volumesnapshotcontents",
        singular: "volumesnapshotcontent",
        short_names: &["vsc", "vscs"],
        namespaced: false,
        status_subresource: true,
        columns: &[
            READY_TO_USE,
            column("RestoreSize", "integer", Cell::Path("/status/restoreSize")),
            text("DeletionPolicy", "/spec/deletionPolicy"),
            text("Driver", "/spec/driver"),
            text("VolumeSnapshotClass", "/spec/volumeSnapshotClassName"),
            text("VolumeSnapshot", "/spec/volumeSnapshotRef/name"),
            text("VolumeSnapshotNamespace", "/spec/volumeSnapshotRef/namespace"),
            AGE,
        ],
        ..SNAPSHOT
    },
    Resource {
        kind: "VolumeSnapshotClass",
        list_kind: "VolumeSnapshotClassList",
        plural: "volumesnapshotclasses",
        singular: "volumesnapshotclass",
        short_names: &["vsclass", "vsclasses"],
        namespaced: false,
        columns: &[text("Driver", "/driver"), text("DeletionPolicy", "/deletionPolicy"), AGE],
        ..SNAPSHOT
    },
    Resource {
        kind: "VolumeGroupSnapshot",
        list_kind: "VolumeGroupSnapshotList",
        plural: "volumegroupsnapshots",
        singular: "volumegroupsnapshot",
        short_names: &["vgs"],
        status_subresource: true,
        columns: &[
            READY_TO_USE,
            text("VolumeGroupSnapshotClass", "/spec/volumeGroupSnapshotClassName"),
            text("VolumeGroupSnapshotContent", "/status/boundVolumeGroupSnapshotContentName"),
            CREATION_TIME,
            AGE,
        ],
        ..GROUP_SNAPSHOT
    },
    Resource {
        kind: "VolumeGroupSnapshotContent",
        list_kind: "VolumeGroupSnapshotContentList",
        plural: "volumegroupsnapshotcontents",
        singular: "volumegroupsnapshotcontent",
        short_names: &["vgsc", "vgscs"],
        namespaced: false,
        status_subresource: true,
        columns: &[
            READY_TO_USE,
            text("DeletionPolicy", "/spec/deletionPolicy"),
            text("Driver", "/spec/driver"),
            text("VolumeGroupSnapshotClass", "/spec/volumeGroupSnapshotClassName"),
            text("VolumeGroupSnapshotNamespace", "/spec/volumeGroupSnapshotRef/namespace"),
            text("VolumeGroupSnapshot", "/spec/volumeGroupSnapshotRef/name"),
            AGE,
        ],
        ..GROUP_SNAPSHOT
    },
    Resource {
        kind: "VolumeGroupSnapshotClass",
        list_kind: "VolumeGroupSnapshotClassList",
        plural: "volumegroupsnapshotclasses",
        singular: "volumegroupsnapshotclass",
        short_names: &["vgsclass", "vgsclasses"],
        namespaced: false,
        columns: &[text("Driver", "/driver"), text("DeletionPolicy", "/deletionPolicy"), AGE],
        ..GROUP_SNAPSHOT
    },
    Resource {
        group: "velero.io",
        kind: "Backup",
        list_kind: "BackupList",
        plural: "backups",
        singular: "backup",
        columns: &[text("Status", "/status/phase"), AGE],
        ..CUSTOM
    },
    Resource {
        group: "velero.io",
        kind: "BackupStorageLocation",
        list_kind: "BackupStorageLocationList",
        plural: "backupstoragelocations",
        singular: "backupstoragelocation",
        short_names: &["bsl"],
        columns: &[text("Phase", "/status/phase"), AGE],
        ..CUSTOM
    },
    Resource {
        group: "velero.io",
        versions: &["v2alpha1"],
        kind: "DataUpload",
        list_kind: "DataUploadList",
        plural: "datauploads",
        singular: "dataupload",
        columns: &[
            text("Status", "/status/phase"),
            column("Started", "date", Cell::Path("/status/startTimestamp")),
            column("Bytes Done", "integer", Cell::Path("/status/progress/bytesDone")),
            column("Total Bytes", "integer", Cell::Path("/status/progress/totalBytes")),
            text("Storage Location", "/spec/backupStorageLocation"),
            AGE,
            text("Node", "/status/node"),
        ],
        ..CUSTOM
    },
    Resource {
        group: "stillpoint.dev",
        versions: &["v1alpha1"],
        kind: "GroupSnapshot",
        list_kind: "GroupSnapshotList",
        plural: "groupsnapshots",
        singular: "groupsnapshot",
        short_names: &["gsnap"],
        status_subresource: true,
        columns: &[
            text("State", "/status/state"),
            text("Members", "/status/members"),
            column("Skew", "integer", Cell::Path("/status/skewMs")),
            text("Backup", "/spec/backupRef/name"),
            AGE,
            wide("Waiting", "/status/waitingFor"),
        ],
        ..CUSTOM
    },
];

const EVENTS: Resource = Resource {
    kind: "Event",
    list_kind: "EventList",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    selectable_fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    columns: &[
        column("Last Seen", "date", Cell::LastSeen),
        text("Type", "/type"),
        text("Reason", "/reason"),
        column("Object", "string", Cell::ObjectName("/involvedObject")),
        text("Message", "/message"),
        wide("Count", "/count"),
    ],
    ..BUILT_IN
};

/// The resource with a plural name; `events` is the one of the core group.
pub fn by_plural(plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.plural == plural)
}

impl Resource {
    /// `group/version`, or only the version in the core group.
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// `plural.group`, or only the plural in the core group, as in error messages.
    pub fn qualified_plural(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Kind.group`, or only the kind in the core group, as in validation errors.
    pub fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn resource_rows_are_unique_and_complete() {
        let mut seen = BTreeSet::new();
        for resource in RESOURCES {
            assert!(seen.insert((resource.group, resource.plural)), "{} twice", resource.qualified_plural());
            assert!(
                !resource.kind.is_empty() && !resource.singular.is_empty() && !resource.versions.is_empty()
            );
            assert_eq!(resource.list_kind, format!("{}List", resource.kind));
        }
    }

    #[test]
    fn backup_has_no_status_subresource() {
        assert!(!by_plural("backups").is_some_and(|resource| resource.status_subresource));
        assert!(by_plural("volumesnapshots").is_some_and(|resource| resource.status_subresource));
    }

    #[test]
    fn resource_names_outside_core_include_group() {
        let vgs = by_plural("volumegroupsnapshots").expect("served");
        assert_eq!(vgs.qualified_plural(), "volumegroupsnapshots.groupsnapshot.storage.k8s.io");
        assert_eq!(vgs.api_version("v1beta1"), "groupsnapshot.storage.k8s.io/v1beta1");
        assert_eq!(by_plural("pods").expect("served").api_version("v1"), "v1");
    }
}
