//! The manifests in `deploy/` match the code: permissions, arguments, CRDs, ports.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use stillpoint::cluster::access::{self, Scope};

use crate::root;

type Permissions = BTreeSet<(String, String, String)>;

fn text(file: &str) -> String {
    fs::read_to_string(root().join("deploy").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn documents(file: &str) -> Vec<Value> {
    let text = text(file);
    let documents = text.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    documents
        .filter(|part| !part.trim().is_empty())
        .map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{file}: {error}")))
        .collect()
}

fn of_kind(file: &str, kind: &str) -> Value {
    let found = documents(file).into_iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("{file} has no {kind}"))
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned))
}

fn granted(kind: &str) -> Permissions {
    let role = of_kind("rbac.yaml", kind);
    let mut permissions = Permissions::new();
    for rule in role["rules"].as_array().expect("rules") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let key = (verb, group.clone(), resource.clone());
                    assert!(permissions.insert(key.clone()), "{kind}: {key:?} twice");
                }
            }
        }
    }
    permissions
}

fn table(scope: Scope) -> Permissions {
    let of_scope = access::permissions().filter(|right| right.grant.scope == scope);
    let owned = |right: access::Permission| {
        (right.verb.to_owned(), right.grant.group.to_owned(), right.grant.resource.to_owned())
    };
    of_scope.map(owned).collect()
}

#[test]
fn roles_grant_exactly_the_permission_table() {
    assert_eq!(granted("ClusterRole"), table(Scope::Cluster));
    assert_eq!(granted("Role"), table(Scope::OwnNamespace));
}

#[test]
fn roles_are_bound_to_pod_service_account() {
    let pod = of_kind("statefulset.yaml", "StatefulSet")["spec"]["template"]["spec"].take();
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        let binding = of_kind("rbac.yaml", kind);
        assert_eq!(binding["roleRef"]["kind"], kind.trim_end_matches("Binding"));
        assert_eq!(binding["subjects"][0]["name"], pod["serviceAccountName"]);
        assert_eq!(binding["subjects"][0]["namespace"], "stillpoint");
    }
}

#[test]
fn pod_arguments_match_the_command() {
    let pod = of_kind("statefulset.yaml", "StatefulSet")["spec"]["template"]["spec"].take();
    let args = texts(&pod["containers"][0]["args"]);
    let line: Vec<String> = std::iter::once("stillpoint".to_owned()).chain(args).collect();
    let command = stillpoint::cli::command();
    let matches = command.try_get_matches_from(&line).unwrap_or_else(|error| panic!("{error}"));
    let (name, run) = matches.subcommand().expect("a command");
    assert_eq!((name, run.get_one::<String>("namespace").map(String::as_str)), ("run", Some("stillpoint")));
    let listen = run.get_one::<std::net::SocketAddr>("metrics_listen").expect("an address");
    assert!(listen.ip().is_unspecified(), "the kubelet asks from outside the pod");
    assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], listen.port());
    let journal = run.get_one::<std::path::PathBuf>("journal").expect("a directory");
    let mount = pod["containers"][0]["volumeMounts"][0]["mountPath"].as_str().expect("a mount");
    assert!(
        journal.starts_with(mount) && journal.as_path() != std::path::Path::new(mount),
        "lost+found is there"
    );
}

#[test]
fn single_restricted_pod_owns_the_journal() {
    let set = of_kind("statefulset.yaml", "StatefulSet");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(set["spec"]["replicas"], 1);
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"][0], "ReadWriteOncePod");
    assert_eq!(set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"], "Retain");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a period");
    assert!(grace >= 1, "with 0 the API server forgets a Pod before its process has ended");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    let service = of_kind("service.yaml", "Service");
    assert_eq!(service["metadata"]["name"], set["spec"]["serviceName"]);
    assert_eq!(service["spec"]["selector"], set["spec"]["selector"]["matchLabels"]);
}

#[test]
fn crds_match_the_types() {
    let names = |crds: &[Value]| -> Vec<String> {
        crds.iter().map(|crd| crd["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let generated: Vec<Value> =
        stillpoint::api::crds().iter().map(|crd| serde_json::to_value(crd).expect("JSON")).collect();
    let mut deployed = documents("crds.yaml");
    deployed.extend(documents("backup-crd.yaml"));
    assert_eq!(names(&deployed), names(&generated));
    assert!(deployed == generated, "write the output of `stillpoint crds [backups.velero.io]` into deploy/");
}

/// Not applied: Velero's definition, which is created only where it is absent, and what makes the image.
const BESIDE: [&str; 3] = ["kustomization.yaml", "backup-crd.yaml", "Containerfile"];

#[test]
fn image_runs_program_as_pod_expects() {
    let text = text("Containerfile");
    let pod = of_kind("statefulset.yaml", "StatefulSet")["spec"]["template"]["spec"].take();
    let user = format!("USER {0}:{0}", pod["securityContext"]["runAsUser"]);
    assert!(text.contains(&user), "{user}");
    assert!(text.contains("ENTRYPOINT [\"/usr/local/bin/stillpoint\"]"), "the pod gives arguments alone");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let oldest = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    let built_with =
        text.split("rust:").nth(1).and_then(|rest| rest.split('-').next()).expect("an image of Rust");
    let number = |version: &str| -> Vec<u32> {
        version.trim_matches('"').split('.').map(|part| part.parse().expect("a number")).collect()
    };
    assert!(number(built_with) >= number(oldest), "{built_with} builds nothing that needs {oldest}");
}

#[test]
fn kustomization_applies_every_manifest() {
    let applied: BTreeSet<String> =
        texts(&of_kind("kustomization.yaml", "Kustomization")["resources"]).collect();
    let files = fs::read_dir(root().join("deploy")).expect("deploy");
    let there: BTreeSet<String> = files
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .filter(|name| !BESIDE.contains(&name.as_str()))
        .collect();
    assert_eq!(applied, there);
}
