//! Provides events of every shape, with realistic content.

use crate::domain::atomicity::Demand;
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::limits::{MAX_TEXT_BYTES, RECEIPT_PART_MEMBERS};
use crate::domain::plan::{BackupRef, ClaimSpec, GroupClass, Plan, PlannedMember};
use crate::domain::problem::Code;
use crate::domain::receipt::{Provenance, Receipt, ReceiptMember, SecretRef};
use crate::domain::time::{Millis, Timestamp};
use crate::machine::backup::{AskedGroup, FailedGroup, Phase, earlier};
use crate::machine::group::Event;
use crate::machine::group::Reached;
use crate::machine::group::Step;
use crate::machine::group::columns::Column;
use crate::machine::group::effect::EffectKind;
use crate::machine::group::effect::EffectRef;
use crate::machine::group::event::RebuiltMember;
use crate::machine::group::event::ReceiptHead;
use crate::machine::group::event::ReceiptPart;
use crate::machine::kit::Ask;
use crate::machine::kit::ColumnId as _;
use crate::machine::kit::DecisionRecord;
use crate::machine::kit::OperatorRequest;
use crate::machine::kit::Outcome;
use crate::machine::kit::Reason;
use crate::machine::kit::View;
use crate::records::v1::columns::FIRST_RELEASE;

pub const AT: Timestamp = Timestamp(1_767_225_600_123_456_789);

fn uid(number: usize) -> String {
    format!("6e1b6ad2-0a10-4c3e-9d4f-{number:012x}")
}

pub fn backup_ref() -> BackupRef {
    BackupRef { namespace: "stillpoint".into(), name: "nightly".into(), uid: uid(1).as_str().into() }
}

/// A plan whose names have about `length` bytes.
pub fn plan(members: usize, length: usize) -> Plan {
    let stretched = |text: String| format!("{text:x<length$}");
    let member = |index: usize| PlannedMember {
        claim: stretched(format!("data-orders-db-{index}-")),
        claim_uid: uid(100 + index).as_str().into(),
        volume: format!("pvc-{}", uid(100 + index)),
        volume_handle: stretched(format!("csi-vol-{}-", uid(200 + index))),
        spec: None,
    };
    Plan {
        run: StreamId::of_group(&uid(1), "shop", "velero.io/volume-group", "orders-db"),
        backup: backup_ref(),
        namespace: "shop".into(),
        label_key: "velero.io/volume-group".into(),
        group: "orders-db".into(),
        members: (0..members).map(member).collect(),
        driver: "hostpath.csi.k8s.io".into(),
        group_class: "csi-hostpath-groupsnapclass".into(),
        class: None,
        snapshot_class: "csi-hostpath-snapclass".into(),
        selector: [("velero.io/volume-group".into(), "orders-db".into())].into(),
        keep_group_name: true,
        max_attempts: 2,
        cut_timeout: Millis(600_000),
        ready_timeout: Millis(14_400_000),
        atomicity: Demand::UNRECORDED,
        planned_at: AT,
        warnings: vec!["predicted 4 m 54 s".into()],
    }
}

fn object(namespace: &str, name: String, number: usize) -> ObjectId {
    ObjectId { namespace: namespace.into(), name, uid: uid(number).as_str().into() }
}

pub fn receipt(plan: &Plan) -> Vec<ReceiptMember> {
    let member = |(index, planned): (usize, &PlannedMember)| ReceiptMember {
        claim: planned.claim.clone(),
        volume_handle: planned.volume_handle.clone(),
        snapshot_handle: format!("{}-snap", planned.volume_handle),
        snapshot: object("shop", format!("snapshot-{}", uid(index).repeat(2)), 300 + index),
        content: object("", format!("snapcontent-{}", uid(index).repeat(2)), 400 + index),
        created_at: (index != 1).then_some(Timestamp(AT.0 + index as i64)),
        restore_size: (index != 2).then_some(10 << 30),
        volume_mode: (index != 3).then(|| "Filesystem".to_owned()),
    };
    plan.members.iter().enumerate().map(member).collect()
}

pub fn grounds(row: &str, members: usize) -> DecisionRecord {
    let mut view = View::blank::<Column>();
    // Columns that were added later have their first value here, as in records of the first release.
    let released = view.seen.iter_mut().zip(View::columns::<Column>()).enumerate().take(FIRST_RELEASE.into());
    released.for_each(|(at, (seen, column))| *seen = (at % column.values().len()) as u8);
    view.members = (0..members).map(|index| (index * 37 % 1024) as u16).collect();
    view.error_since = Some(Timestamp(AT.0 - 5_000_000_000));
    DecisionRecord { row: row.into(), rules: 1, view }
}

pub fn intended(step: Step, members: usize) -> Event {
    let group = EffectRef { kind: EffectKind::SetGroupContentPolicy, member: None };
    let member = |index: usize| EffectRef { kind: EffectKind::SetContentPolicy, member: Some(index as u16) };
    let marks = std::iter::once(group).chain((0..members).map(member)).collect();
    Event::Intended { grounds: grounds("relabelled/retain-group", members), step, marks }
}

pub fn ended(outcomes: usize, message: &str) -> Event {
    let outcome = |index: usize| match index % 3 {
        0 => Outcome::Done { uid: uid(index), resource_version: (4_000_000 + index).to_string() },
        1 => Outcome::Determinate { code: 422, message: message.to_owned() },
        _ => Outcome::Indeterminate { message: message.to_owned() },
    };
    Event::StepCompleted { step: Step::Retain, outcomes: (0..outcomes).map(outcome).collect() }
}

pub fn all_failed(outcomes: usize) -> Event {
    let outcome = Outcome::Determinate { code: 403, message: "ä".repeat(MAX_TEXT_BYTES / 2) };
    Event::StepCompleted { step: Step::Rebuild, outcomes: vec![outcome; outcomes] }
}

fn reached(reached: Reached) -> Event {
    Event::MilestoneReached { grounds: grounds("created/bound", 4), reached }
}

/// A run that rebuilt all of its members.
pub fn cleaned(members: usize) -> Event {
    let name = |index: usize| format!("sp-{}-r{index:012x}", uid(index).repeat(2));
    let member = |index: usize| RebuiltMember {
        index: index as u16,
        snapshot: object("shop", name(index), 600 + index),
        content: object("", name(index), 700 + index),
    };
    let reached = Reached::Cleaned((0..members).map(member).collect());
    Event::MilestoneReached { grounds: grounds("release/8-cleaned", members), reached }
}

/// The records of a receipt.
pub fn receipt_records(plan: &Plan) -> Vec<Event> {
    let members = receipt(plan);
    let parts = members.chunks(RECEIPT_PART_MEMBERS).enumerate().map(|(part, members)| {
        let first = (part * RECEIPT_PART_MEMBERS) as u16;
        Event::Part(ReceiptPart { first, members: members.to_vec() })
    });
    let head = ReceiptHead {
        group_handle: "f5d1c3a2-group".into(),
        group_snapshot: object("shop", plan.group_snapshot_name(1), 500),
        group_content: object("", format!("groupsnapcontent-{}", uid(500)), 501),
        secret: Some(SecretRef { namespace: "storage".into(), name: "csi".into() }),
        members: members.len() as u16,
        hash: Receipt::hash(&members),
        provenance: None,
    };
    parts.chain([reached(Reached::VsBound(Box::new(head)))]).collect()
}

/// An event of every shape of the group machine.
pub fn group_events(members: usize) -> Vec<Event> {
    let plan = plan(members, 40);
    let reason = Reason { code: Code::DriverFailed, message: "rpc error".into(), transient: true };
    let mut events = vec![
        Event::Planned(Box::new(plan.clone())),
        intended(Step::Retain, members),
        ended(members + 1, "admission webhook denied the request"),
        reached(Reached::Created { uid: uid(500).as_str().into() }),
        reached(Reached::Cut { group_handle: "f5d1c3a2-group".into() }),
        reached(Reached::Unwinding(reason)),
        reached(Reached::Completed),
    ];
    events.extend(receipt_records(&plan));
    events.push(cleaned(members));
    let (request, by) = ("7f3a0c55-48213".into(), "alice@desk".into());
    events.push(Event::RequestReceived(OperatorRequest { ask: Ask::Abandon, request, by }));
    events
}

/// The events that have a second version, with content that the first cannot express.
pub fn later_versions(members: usize) -> (Event, earlier::Event) {
    let atomicity = Demand { max_skew: Millis(2_500), required: true };
    let plan = Event::Planned(Box::new(Plan { atomicity, ..plan(members, 40) }));
    let warnings = vec!["group shop/orders-db: the driver cut the members 45.0 s apart".into()];
    (plan, finished(Phase::Completed, vec![], warnings))
}

/// The plan and the closing record of a receipt in their third version.
pub fn third_versions(members: usize) -> [Event; 2] {
    let secret = |name: &str| SecretRef { namespace: "storage".into(), name: name.into() };
    let mut planned = plan(members, 40);
    let class =
        GroupClass { uid: uid(2).as_str().into(), get_secret: Some(secret("${volumegroupsnapshot.name}")) };
    planned.class = Some(class);
    for (index, member) in planned.members.iter_mut().enumerate() {
        let labels = [("app", "orders"), ("velero.io/volume-group", "orders-db")];
        member.spec = (index != 1).then(|| ClaimSpec {
            storage_class: (index != 2).then(|| "csi-hostpath-sc".to_owned()),
            requested: Some("10Gi".into()),
            access_modes: vec!["ReadWriteOnce".into()],
            volume_mode: Some("Filesystem".into()),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        });
    }
    let mut bound = receipt_records(&planned).pop().expect("the closing record");
    if let Event::MilestoneReached { reached: Reached::VsBound(head), .. } = &mut bound {
        head.provenance = Some(Provenance {
            class_uid: Some(uid(2).as_str().into()),
            get_secret: Some(secret("csi-get")),
            created_at: Some(AT),
            journal: Some(uid(3)),
            cluster: Some(uid(4)),
        });
    }
    [Event::Planned(Box::new(planned)), bound]
}

pub fn failed(index: usize, message: String) -> FailedGroup {
    let (namespace, group) = ("n".repeat(63), format!("{index:g<63}"));
    FailedGroup { namespace, group, code: Code::TooManyMembers, message }
}

pub fn finished(phase: Phase, failed: Vec<FailedGroup>, warnings: Vec<String>) -> earlier::Event {
    earlier::Event::Finished(earlier::Finished { phase, failed, warnings })
}

pub fn accepted(groups: usize, refused: usize, message: &str) -> earlier::Event {
    let group = |index: usize| AskedGroup {
        namespace: "n".repeat(63),
        group: format!("{index:g<63}"),
        run: StreamId::of_backup(&index.to_string()),
    };
    earlier::Event::Accepted {
        backup: backup_ref(),
        label_key: "velero.io/volume-group".into(),
        groups: (0..groups).map(group).collect(),
        refused: (0..refused).map(|index| failed(index, message.to_owned())).collect(),
        warnings: vec!["a Velero server runs in namespace velero".into()],
    }
}

/// An event of every shape of a Backup in the releases in which it was no machine.
pub fn earlier_events() -> Vec<earlier::Event> {
    let failed = vec![failed(3, "130 members, at most 128".into())];
    vec![accepted(2, 1, "refused"), finished(Phase::PartiallyFailed, failed, vec![])]
}
