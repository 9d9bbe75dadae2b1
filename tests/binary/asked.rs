//! `groups resume` and `groups abandon`: from the command line over HTTP to the journal, and back.

use crate::process::{Ended, ended, wait};
use crate::stage::Stage;

const SIGKILL: i32 = 9;
const MEMBERS: usize = 2;

/// A run whose daemon was killed at that point, and the name of its GroupSnapshot.
fn killed_at(point: &str) -> (Stage, String) {
    let mut stage = Stage::with_group(MEMBERS);
    let mut daemon = stage.daemon(&["--crash-at", point]);
    assert_eq!(daemon.end(), (None, Some(SIGKILL)));
    let shown = stage.list("/apis/stillpoint.dev/v1alpha1/namespaces/shop/groupsnapshots");
    let name = shown[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    (stage, name)
}

fn groups(stage: &Stage, args: &[&str]) -> Ended {
    let kubeconfig = stage.kubeconfig().display().to_string();
    ended(&[&["groups"], args, &["--kubeconfig", &kubeconfig]].concat())
}

fn error(ended: &Ended) -> String {
    ended.json()["error"]["code"].as_str().expect("a code").to_owned()
}

#[test]
fn abandons_run_after_pivot_and_rejects_bad_requests() {
    let (mut stage, name) = killed_at("clear-names/after-intent");
    let sure = groups(&stage, &["abandon", &name]).with(2).stderr;
    assert!(sure.contains("cannot be reverted") && sure.contains("--yes"), "{sure}");
    let nowhere = groups(&stage, &["resume", "nowhere", "-o", "json"]).with(2);
    assert_eq!(error(&nowhere), "SP0050");
    // The daemon is dead: the request stays pending, and a second request is refused.
    let waiting = groups(&stage, &["abandon", &name, "--yes", "--timeout", "0", "-o", "json"]).with(3).json();
    assert_eq!((&waiting["name"], &waiting["answered"]), (&name.as_str().into(), &serde_json::Value::Null));
    let second = groups(&stage, &["resume", &name, "-o", "json"]).with(1);
    assert_eq!(error(&second), "SP0024");
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Failed");
    let again = groups(&stage, &["abandon", &name, "--yes", "-o", "json"]).with(1);
    assert_eq!(error(&again), "SP0024");
    let described = groups(&stage, &["describe", &name]).with(0).stdout;
    println!("{described}");
    assert!(described.contains("SP0023") && described.contains("Answered:       abandon by "), "{described}");
    assert_eq!(stage.get("/sim/v1/ledger")["physicalSnapshots"], MEMBERS);
    daemon.kill();
    let journal = stage.journal().display().to_string();
    let shown = ended(&["journal", "show", "--journal", &journal]).with(0).stdout;
    println!("{shown}");
    assert!(shown.contains("asked to abandon by "), "{shown}");
    let replayed = ended(&["journal", "replay", "--journal", &journal, "-o", "json"]).with(0).json();
    assert_eq!(replayed["different"], serde_json::json!([]));
}

#[test]
fn resumed_run_that_is_not_stuck_completes() {
    let (mut stage, name) = killed_at("retained/after-record");
    groups(&stage, &["resume", &name, "--timeout", "0"]).with(3);
    let mut daemon = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut daemon), "Completed");
    let described = groups(&stage, &["describe", &name]).with(0).stdout;
    assert!(described.contains("the run was not stuck but Retained"), "{described}");
}

#[test]
fn running_daemon_replies_while_command_waits() {
    let mut stage = Stage::with_group(MEMBERS);
    // The csi-snapshotter is stopped and does not cut the group: the run waits, before its pivot.
    let stopped = serde_json::json!({"actor": "csi-snapshotter", "do": "stop"});
    stage.call("POST", "/sim/v1/faults", Some(stopped)).expect("a fault");
    let mut daemon = stage.daemon(&[]);
    let state = |stage: &Stage| (stage.state() == "Created").then_some(());
    wait("a group that is created", || state(&stage));
    let shown = stage.list("/apis/stillpoint.dev/v1alpha1/namespaces/shop/groupsnapshots");
    let name = shown[0]["metadata"]["name"].as_str().expect("a name").to_owned();
    let answer = groups(&stage, &["resume", &name, "-o", "json"]).with(0).json();
    let message = answer["answered"]["message"].as_str().expect("a sentence");
    assert!(message.starts_with("the run was not stuck but Created"), "{message}");
    let answer = groups(&stage, &["abandon", &name, "--yes"]).with(0).stdout;
    assert!(answer.contains("asked to abandon: the run is undone to a clean cluster"), "{answer}");
    let twice = groups(&stage, &["abandon", &name, "--yes", "-o", "json"]).with(1);
    assert_eq!(error(&twice), "SP0024");
    assert!(daemon.running());
}
