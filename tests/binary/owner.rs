//! One journal has one daemon.

use std::fs;

use serde_json::Value;

use crate::invariants::completed;
use crate::process::{Process, wait};
use crate::stage::Stage;

fn owner(stage: &Stage) -> Option<(u64, u64)> {
    let text = fs::read(stage.journal().join("owner.json")).ok()?;
    let owner: Value = serde_json::from_slice(&text).expect("a whole file");
    Some((owner["pid"].as_u64()?, owner["epoch"].as_u64()?))
}

/// Waits until this daemon owns the journal in this epoch.
fn owns(stage: &Stage, daemon: &Process, epoch: u64) {
    wait("the journal's owner", || (owner(stage) == Some((daemon.id().into(), epoch))).then_some(()));
}

/// Waits until the daemon has logged that it waits for the journal, and which process holds it.
fn waits_for(second: &mut Process, first: &Process) {
    wait("a daemon that waits for the journal", || {
        let said = second.said();
        assert!(second.running() || said.contains("waiting up to"), "it ended without a word: {said}");
        said.contains("waiting up to 10 s").then_some(said)
    })
    .lines()
    .find(|line| line.contains("WARN") && line.contains(&format!("held by pid {} on host ", first.id())))
    .expect("a line that names the holder");
}

#[test]
fn refuses_second_daemon_and_names_owner() {
    let mut stage = Stage::new();
    let mut first = stage.daemon(&[]);
    owns(&stage, &first, 1);
    let mut second = stage.daemon(&[]);
    waits_for(&mut second, &first);
    assert_eq!(second.end(), (Some(4), None), "{}", second.said());
    let said = second.said();
    assert!(said.contains("SP0031") && said.contains(&format!("pid {} ", first.id())), "{said}");
    assert!(first.running(), "the first one goes on");
    assert_eq!(owner(&stage), Some((first.id().into(), 1)), "nothing was written");
}

#[test]
fn waiting_daemon_takes_over_after_owner_dies() {
    let members = 2;
    let mut stage = Stage::new();
    stage.claims(members);
    let mut first = stage.daemon(&["--crash-at", "retain/mid-effects"]);
    owns(&stage, &first, 1);
    let mut second = stage.daemon(&[]);
    waits_for(&mut second, &first);
    stage.backup();
    assert_eq!(first.end(), (None, Some(9)));
    assert_eq!(stage.phase(&mut second), "Completed");
    assert_eq!(owner(&stage), Some((second.id().into(), 2)));
    assert!(second.said().contains("resuming"), "{}", second.said());
    completed(&stage, second, members, false);
}

#[test]
fn sigterm_has_same_effect_as_kill() {
    let members = 2;
    let mut stage = Stage::with_group(members);
    let mut first = stage.daemon(&[]);
    wait("a write", || (stage.writes() > 0).then_some(()));
    let pid = rustix::process::Pid::from_raw(first.id().cast_signed()).expect("an id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a child of ours");
    assert_eq!(first.end(), (Some(128 + 15), None));
    let mut second = stage.daemon(&[]);
    assert_eq!(stage.phase(&mut second), "Completed");
    completed(&stage, second, members, false);
}
