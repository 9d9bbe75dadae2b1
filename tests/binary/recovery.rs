//! How long a daemon takes from its start to its first resumed step, and what it needs for that, in figures.
//!
//! Ignored by default: `cargo test --release --test binary recovery -- --ignored --nocapture`. Its runs stand as
//! VSBound, three members each with their receipt; the cluster has nothing of them, so that the lists are short and the
//! first step of each is to be undone. Times are those of the daemon's log.

use std::path::Path;

use futures::future::join_all;
use jiff::Timestamp;
use stillpoint::domain::ids::{ObjectId, StreamId, Uid};
use stillpoint::domain::plan::{BackupRef, Plan, PlannedMember};
use stillpoint::domain::receipt::{Receipt, ReceiptMember};
use stillpoint::domain::time::{Millis, Timestamp as Time};
use stillpoint::journal::{Journal, Options, Record, StreamState, wire};
use stillpoint::machine::group::event::ReceiptHead;
use stillpoint::machine::group::reconstruct::{Reconstructed, Standing};
use stillpoint::machine::group::{Event, Timed};

use crate::process::{Process, wait};
use crate::stage::Stage;

const MEMBERS: usize = 3;

fn object(name: String) -> ObjectId {
    ObjectId { namespace: "shop".to_owned(), uid: Uid(format!("uid-of-{name}")), name }
}

fn plan(number: usize) -> Plan {
    let group = format!("orders-db-{number}");
    let member = |index: usize| PlannedMember {
        claim: format!("{group}-{index}"),
        claim_uid: Uid(format!("6e1b6ad2-0a10-4c3e-{number:04x}-{index:012x}")),
        volume: format!("pvc-6e1b6ad2-0a10-4c3e-{number:04x}-{index:012x}"),
        volume_handle: format!("csi-vol-6e1b6ad2-0a10-4c3e-{number:04x}-{index:012x}"),
    };
    Plan {
        run: StreamId::of_group("figures", "shop", "velero.io/volume-group", &group),
        backup: BackupRef {
            namespace: "stillpoint".to_owned(),
            name: "nightly".to_owned(),
            uid: "figures".into(),
        },
        namespace: "shop".to_owned(),
        label_key: "velero.io/volume-group".to_owned(),
        members: (0..MEMBERS).map(member).collect(),
        group,
        driver: "hostpath.csi.k8s.io".to_owned(),
        group_class: "csi-hostpath-groupsnapclass".to_owned(),
        snapshot_class: "csi-hostpath-snapclass".to_owned(),
        selector: [("velero.io/volume-group".to_owned(), format!("orders-db-{number}"))].into(),
        keep_group_name: false,
        max_attempts: 1,
        cut_timeout: Millis(600_000),
        ready_timeout: Millis(14_400_000),
        planned_at: Time(0),
        warnings: vec![],
    }
}

/// The records of one run that is bound.
fn records(plan: &Plan) -> Vec<Record> {
    let member = |planned: &PlannedMember| ReceiptMember {
        claim: planned.claim.clone(),
        volume_handle: planned.volume_handle.clone(),
        snapshot_handle: format!("{}-snap", planned.volume_handle),
        snapshot: object(format!("snapshot-{}", planned.volume_handle)),
        content: object(format!("snapcontent-{}", planned.volume_handle)),
        created_at: Some(Time(1)),
        restore_size: Some(1 << 30),
        volume_mode: Some("Filesystem".to_owned()),
    };
    let members: Vec<ReceiptMember> = plan.members.iter().map(member).collect();
    let head = ReceiptHead {
        group_handle: format!("group-{}", plan.run),
        group_snapshot: object(plan.group_snapshot_name(1)),
        group_content: object(format!("groupsnapcontent-{}", plan.run)),
        secret: None,
        members: members.len() as u16,
        hash: Receipt::hash(&members),
    };
    let found = Reconstructed {
        standing: Standing::Bound,
        attempt: 1,
        group_uid: Some(head.group_snapshot.uid.clone()),
        receipt: Some(head),
        seen: vec![],
    };
    let events = [
        Event::Planned(Box::new(plan.clone())),
        Event::ReceiptPart { first: 0, members },
        Event::Reconstructed(Box::new(found)),
    ];
    let encode = |event| wire::encode_group(&Timed { at: Time(1), event }).expect("it fits");
    events.into_iter().map(encode).collect()
}

fn written(dir: &Path, runs: usize) {
    let (journal, _) = Journal::open_thread(dir, Options::default()).expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for some in (0..runs).collect::<Vec<_>>().chunks(64) {
        let all = some.iter().map(|number| {
            let plan = plan(*number);
            journal.append(plan.run, 0, records(&plan), StreamState::Open)
        });
        let appended = runtime.block_on(join_all(all));
        assert!(appended.iter().all(Result::is_ok));
    }
}

/// Time of the first line of a log that has this word.
fn at(said: &str, word: &str) -> Option<Timestamp> {
    let line = said.lines().find(|line| line.contains(word))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory(process: &Process, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("?").trim().to_owned()
}

#[test]
#[ignore = "figures"]
fn recovery() {
    println!(
        "unfinished  start to journal open  lists   to the first step  start to it, lists apart  peak memory"
    );
    for runs in [1, 1_000, 10_000] {
        let stage = Stage::new();
        written(&stage.journal(), runs);
        let (kubeconfig, journal) =
            (stage.kubeconfig().display().to_string(), stage.journal().display().to_string());
        let started = Timestamp::now();
        let args = ["run", "--kubeconfig", &kubeconfig, "--journal", &journal];
        let daemon = Process::start("daemon", stage.dir.path(), &args);
        let said = wait("all runs to be resumed", || {
            let said = daemon.said();
            (said.matches(" resuming").count() == runs && said.contains("unwinding")).then_some(said)
        });
        let time =
            |word: &str| at(&said, word).unwrap_or_else(|| panic!("no line with {word}: {}", &said[..500]));
        let (open, serving, resuming, step) =
            (time("journal open"), time("serving"), time("resuming"), time("unwinding"));
        let ms = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64() * 1e3;
        println!(
            "{runs:>10}  {:>18.0} ms  {:>4.0} ms  {:>12.0} ms  {:>18.0} ms  {}",
            ms(started, open),
            ms(serving, resuming),
            ms(resuming, step),
            ms(started, serving) + ms(resuming, step),
            memory(&daemon, "VmHWM:"),
        );
    }
}
