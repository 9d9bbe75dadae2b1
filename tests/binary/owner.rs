//! One journal has one daemon.

use std::fs;

use serde_json::Value;

use crate::invariants::completed;
use crate::process::{Process, wait};
use crate::stage::Stage;

/// Threads of a daemon that has begun to open its journal: the first, and the one that opens it.
const OPENING: usize = 2;

fn owner(stage: &Stage) -> Option<(u64, u64)> {
    let text = fs::read(stage.journal().join("owner.json")).ok()?;
    let owner: Value = serde_json::from_slice(&text).expect("a whole file");
    Some((owner["pid"].as_u64()?, owner["epoch"].as_u64()?))
}

/// Waits until this daemon has the journal in this epoch.
fn owns(stage: &Stage, daemon: &Process, epoch: u64) {
    wait("the journal's owner", || (owner(stage) == Some((daemon.id().into(), epoch))).then_some(()));
}

/// Waits until the daemon opens its journal, which it says only when it has it.
fn opening(daemon: &Process) {
    let tasks = format!("/proc/{}/task", daemon.id());
    wait("a daemon that opens its journal", || {
        fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() >= OPENING).then_some(())
    });
}

#[test]
fn a_second_daemon_is_refused_and_told_who_has_it() {
    let mut stage = Stage::new();
    let mut first = stage.daemon(&[]);
    owns(&stage, &first, 1);
    let mut second = stage.daemon(&[]);
    assert_eq!(second.end(), (Some(4), None), "{}", second.said());
    let said = second.said();
    assert!(said.contains("SP0031") && said.contains(&format!("pid {} ", first.id())), "{said}");
    assert!(first.running(), "the first one goes on");
    assert_eq!(owner(&stage), Some((first.id().into(), 1)), "nothing was written");
}

#[test]
fn a_second_daemon_that_waits_while_the_first_dies_takes_over() {
    let members = 2;
    let mut stage = Stage::new();
    stage.claims(members);
    let mut first = stage.daemon(&["--crash-at", "retain/mid-effects"]);
    owns(&stage, &first, 1);
    let mut second = stage.daemon(&[]);
    opening(&second);
    stage.backup();
    assert_eq!(first.end(), (None, Some(9)));
    assert_eq!(stage.phase(&mut second), "Completed");
    assert_eq!(owner(&stage), Some((second.id().into(), 2)));
    assert!(second.said().contains("resuming"), "{}", second.said());
    completed(&stage, second, members, false);
}

#[test]
fn being_told_to_end_is_as_being_killed() {
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
