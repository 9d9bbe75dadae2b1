//! Measures the time of a daemon from its start to its first resumed step, and the resources that it needs
//! for that.
//!
//! Ignored by default: `cargo test --release --test binary recovery -- --ignored --nocapture`. Its runs are
//! in the state VSBound, each with three members and a receipt. The cluster contains none of their objects,
//! so that lists are short and the first step of each run is a rollback. Times are taken from the daemon's
//! log.

use std::path::Path;

use futures::future::join_all;
use jiff::Timestamp;
use stillpoint::domain::atomicity::Demand;
use stillpoint::domain::ids::{ObjectId, StreamId, Uid};
use stillpoint::domain::plan::{BackupRef, Plan, PlannedMember};
use stillpoint::domain::receipt::{Receipt, ReceiptMember};
use stillpoint::domain::time::{Millis, Timestamp as Time};
use stillpoint::journal::{Journal, Record, StreamState};
use stillpoint::machine::group::Event;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::event::ReceiptHead;
use stillpoint::machine::group::event::ReceiptPart;
use stillpoint::machine::group::reconstruct::Reconstructed;
use stillpoint::machine::group::reconstruct::Standing;
use stillpoint::records;
use stillpoint::records::journal_options;

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
        spec: None,
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
        class: None,
        snapshot_class: "csi-hostpath-snapclass".to_owned(),
        selector: [("velero.io/volume-group".to_owned(), format!("orders-db-{number}"))].into(),
        keep_group_name: false,
        max_attempts: 1,
        cut_timeout: Millis(600_000),
        ready_timeout: Millis(14_400_000),
        atomicity: Demand::default(),
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
        provenance: None,
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
        Event::Part(ReceiptPart { first: 0, members }),
        Event::Reconstructed(Box::new(found)),
    ];
    let encode = |event| records::encode_group(&Timed { at: Time(1), event }).expect("it fits");
    events.into_iter().map(encode).collect()
}

fn written(dir: &Path, runs: usize) {
    let (journal, _) = Journal::open_thread(dir, journal_options()).expect("opened");
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

/// Times of the first and the last line of a log that contain this word.
fn times(said: &str, word: &str) -> (Timestamp, Timestamp) {
    let mut lines = said.lines().filter(|line| line.contains(word));
    let at = |line: &str| line.split_whitespace().next().and_then(|time| time.parse().ok());
    let first =
        lines.next().unwrap_or_else(|| panic!("no line with {word}: {}", &said[..said.len().min(500)]));
    let last = lines.next_back().unwrap_or(first);
    [first, last].map(|line| at(line).expect("a line begins with its time")).into()
}

/// Peak memory in MiB.
fn peak(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
}

/// Processor time so far, in ms. It is comparable even on a machine with other load.
fn processor(process: &Process) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    let fields: Vec<i64> =
        stat.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
    // After the name: the state, then numbers. User and system time are the 11th and 12th of these fields, in
    // units of 10 ms.
    fields.get(10..12).map_or(0, |times| times.iter().sum::<i64>() * 10)
}

#[test]
#[ignore = "figures"]
fn recovery() {
    println!("times in ms from the start of the process, without the lists; memory in MiB");
    println!("unfinished  journal open  lists  first step  all resumed  processor  memory");
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
        let (processor, peak) = (processor(&daemon), peak(&daemon));
        let [(open, _), (serving, _), (resuming, resumed), (step, _)] =
            ["journal open", "serving", " resuming", "unwinding"].map(|word| times(&said, word));
        let ms = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64() * 1e3;
        let apart = ms(started, serving);
        println!(
            "{runs:>10}  {:>12.0}  {:>5.0}  {:>10.0}  {:>11.0}  {processor:>9}  {peak:>6}",
            ms(started, open),
            ms(serving, resuming),
            apart + ms(resuming, step),
            apart + ms(resuming, resumed),
        );
    }
}

/// Runs are resumed a few at a time, and all runs are resumed in the end.
#[test]
fn resumes_more_runs_than_fit_at_once() {
    const RUNS: usize = 150;
    let mut stage = Stage::new();
    written(&stage.journal(), RUNS);
    let mut daemon = stage.daemon(&[]);
    let said = wait("every run to be undone", || {
        assert!(daemon.running(), "{:?}", daemon.end());
        let said = daemon.said();
        (said.matches(" unwinding").count() >= RUNS).then_some(said)
    });
    assert_eq!(said.matches(" resuming").count(), RUNS);
}
