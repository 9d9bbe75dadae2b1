//! Files that are generated from the types and stored in the tree.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::process::ended;

const KEPT: &str = include_str!("../../deploy/crds.yaml");
/// Velero's CRD, for clusters without it.
const BACKUP: &str = include_str!("../../deploy/backup-crd.yaml");

#[test]
fn crd_files_match_program_output() {
    let printed = ended(&["crds"]).with(0).stdout;
    assert!(printed == KEPT, "deploy/crds.yaml is out of date: `stillpoint crds > deploy/crds.yaml`");
    let printed = ended(&["crds", "backups.velero.io"]).with(0).stdout;
    assert!(printed == BACKUP, "deploy/backup-crd.yaml is out of date: `stillpoint crds backups.velero.io`");
}

#[test]
fn cluster_accepts_both_crds() {
    let all: Vec<CustomResourceDefinition> =
        serde_saphyr::from_multiple(&[KEPT, BACKUP].concat()).expect("definitions");
    let names: Vec<_> = all.iter().map(|crd| crd.metadata.name.as_deref().unwrap_or_default()).collect();
    assert_eq!(names, ["groupsnapshots.stillpoint.dev", "backups.velero.io"]);
    for crd in &all {
        let name = crd.metadata.name.as_deref().unwrap_or_default();
        assert_eq!(name, format!("{}.{}", crd.spec.names.plural, crd.spec.group));
        assert_eq!(crd.spec.scope, "Namespaced");
        for version in &crd.spec.versions {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let fields = schema.and_then(|schema| schema.properties.as_ref());
            assert!(
                fields.is_some_and(|fields| fields.contains_key("spec") && fields.contains_key("status")),
                "{name}"
            );
        }
        assert_eq!(crd.spec.versions.iter().filter(|version| version.storage).count(), 1, "{name}");
    }
}

#[test]
fn prints_single_crd_on_request() {
    let one = ended(&["crds", "groupsnapshots.stillpoint.dev"]).with(0).stdout;
    assert_eq!(one, KEPT);
    assert!(
        !KEPT.contains("velero.io/v1\n") && !KEPT.contains("backups.velero.io"),
        "Velero's is not overwritten"
    );
    ended(&["crds", "nothing.stillpoint.dev"]).with(2);
}
