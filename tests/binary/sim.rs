//! `stillpoint sim`: a cluster for any client.

use std::fs;

use kube::config::Kubeconfig;

use crate::process::{Process, ended, wait};
use crate::stage::{Stage, client};

#[test]
fn kubeconfig_is_complete_once_it_is_readable() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kubeconfig");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // In the second iteration the path contains the kubeconfig of a cluster that was killed.
    for _ in 0..2 {
        let before = fs::read_to_string(&path).ok();
        let _sim = Process::start("sim", dir.path(), &["sim", "--kubeconfig", &path.display().to_string()]);
        let text = wait("a new kubeconfig", || {
            fs::read_to_string(&path).ok().filter(|text| before.as_ref() != Some(text))
        });
        let kubeconfig = Kubeconfig::from_yaml(&text).expect("a whole kubeconfig");
        assert_eq!(kubeconfig.current_context.as_deref(), Some("stillpoint-sim"));
        // Without a retry: once the kubeconfig can be read, the cluster answers.
        let version = runtime.block_on(async { client(kubeconfig).await.apiserver_version().await });
        version.expect("an answer");
    }
    let left: Vec<_> =
        fs::read_dir(dir.path()).expect("the directory").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 2, "kubeconfig and log, no draft: {left:?}");
}

#[test]
fn serves_sample_and_only_requested_versions() {
    let stage = Stage::of(&["--sample", "--groupsnapshot-version", "v1beta2,v1beta1"]);
    let claims = stage.list("/api/v1/namespaces/shop/persistentvolumeclaims");
    assert_eq!(claims.len(), 6);
    let group = stage.get("/apis/groupsnapshot.storage.k8s.io");
    let served: Vec<_> = group["versions"]
        .as_array()
        .expect("versions")
        .iter()
        .map(|version| version["version"].as_str())
        .collect();
    assert_eq!(served, [Some("v1beta2"), Some("v1beta1")]);
    assert_eq!(stage.get("/sim/v1/ledger")["physicalSnapshots"], 0);
}

#[test]
fn reports_kubeconfig_that_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("missing/kubeconfig").display().to_string();
    let error = ended(&["sim", "--kubeconfig", &path]).with(2).stderr;
    assert!(error.contains(&path), "{error}");
}
