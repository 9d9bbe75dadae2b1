//! `orphans`: what belongs to nothing any more, compared between a journal and a cluster.

use serde_json::json;

use crate::process::{Ended, ended};
use crate::stage::Stage;

const MEMBERS: usize = 2;

fn orphans(stage: &Stage, more: &[&str]) -> Ended {
    let (kubeconfig, journal) = (stage.kubeconfig(), stage.journal());
    let (kubeconfig, journal) = (kubeconfig.display().to_string(), journal.display().to_string());
    ended(&[&["orphans", "--kubeconfig", &kubeconfig, "--journal", &journal], more].concat())
}

fn completed() -> Stage {
    let mut stage = Stage::with_group(MEMBERS);
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Completed");
    daemon.kill();
    stage
}

#[test]
fn members_of_completed_group_are_retained() {
    let stage = completed();
    let shown = orphans(&stage, &["-o", "json"]).with(0).json();
    assert_eq!(shown["counts"], json!({"retained": 3 * MEMBERS}), "snapshots, contents and handles: {shown}");
    assert_eq!(shown["items"], json!([]), "what is retained is counted");
    let all = orphans(&stage, &["--all", "-o", "json"]).with(0).json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3 * MEMBERS));
    let text = orphans(&stage, &[]).with(0).stdout;
    assert_eq!(text, "6 items: 0 orphaned, 0 foreign, 0 owned, 6 retained\n");
}

#[test]
fn storage_of_deleted_members_is_orphaned() {
    let stage = completed();
    // As a user frees it in good faith: the sidecar never deletes a member of a group by itself.
    for content in stage.list("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents") {
        let name = content["metadata"]["name"].as_str().expect("a name");
        let path = format!("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/{name}");
        stage.call("PATCH", &path, Some(json!({"spec": {"deletionPolicy": "Delete"}}))).expect("patched");
    }
    for snapshot in stage.snapshots() {
        let name = snapshot["metadata"]["name"].as_str().expect("a name");
        let path = format!("/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots/{name}");
        stage.call("DELETE", &path, None).expect("deleted");
    }
    crate::process::wait("the contents to go", || {
        let left = stage.list("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents");
        left.is_empty().then_some(())
    });
    assert_eq!(stage.get("/sim/v1/ledger")["physicalSnapshots"], MEMBERS, "nothing was freed");

    let shown = orphans(&stage, &["-o", "json"]).with(3).json();
    assert_eq!(shown["counts"], json!({"orphaned": MEMBERS}));
    for item in shown["items"].as_array().expect("items") {
        assert_eq!(item["kind"], "SnapshotHandle");
        let reason = item["reason"].as_str().expect("a reason");
        assert!(reason.contains("group handle") && reason.contains("docs/groups.md"), "{reason}");
    }
    let text = orphans(&stage, &[]).with(3).stdout;
    assert!(text.contains("orphaned") && text.contains("only the journal knows it"), "{text}");
}

#[test]
fn objects_of_another_journal_and_copies_are_named() {
    let stage = completed();
    let snapshot = stage.snapshots().remove(0);
    let copy = |name: &str, labels: serde_json::Value| {
        let body = json!({
            "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
            "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "spec": {"source": snapshot["spec"]["source"]},
        });
        let path = "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots";
        stage.call("POST", path, Some(body)).expect("created");
    };
    let (run, journal) = ("7f3a0c55-4821-4b5e-9c1d-2f6a7b8c9d0e", "11111111-2222-4333-8444-555555555555");
    copy("copy", json!({"stillpoint.dev/run": run}));
    copy("other", json!({"stillpoint.dev/run": run, "stillpoint.dev/journal": journal}));
    let shown = orphans(&stage, &["-o", "json"]).with(3).json();
    let standing = |name: &str| {
        let items = shown["items"].as_array().expect("items");
        let item = items.iter().find(|item| item["name"] == name).expect("listed");
        (
            item["standing"].clone(),
            item["reason"].as_str().expect("a reason").to_owned(),
            item["command"].clone(),
        )
    };
    let (copied, why, command) = standing("copy");
    assert!(copied == "orphaned" && why.contains("restored a copy"), "{why}");
    assert!(command.is_null(), "a copy may name storage that is in use");
    let (foreign, why, _) = standing("other");
    assert!(foreign == "foreign" && why.contains(journal) && why.contains("bound nowhere"), "{why}");
}
