//! Builds a run of two members and a cluster without faults. Tests then add one fault each.

use std::collections::BTreeMap;

use stillpoint::domain::atomicity::Demand;
use stillpoint::domain::ids::{ObjectId, StreamId, Uid};
use stillpoint::domain::labels;
use stillpoint::domain::observed::{
    ClaimSeen, ContentSeen, CutSeen, DeletionPolicy, GroupContentSeen, GroupSnapshotSeen, NamespaceSeen,
    Observation, Owner, SnapshotSeen,
};
use stillpoint::domain::plan::{BackupRef, Plan, PlannedMember};
use stillpoint::domain::time::{Millis, Timestamp};
use stillpoint::machine::group::Event;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Reached;
use stillpoint::machine::group::Timed;
use stillpoint::machine::group::columns::Column;
use stillpoint::machine::group::view;
use stillpoint::machine::kit::ColumnId as _;
use stillpoint::machine::kit::ColumnValue;
use stillpoint::machine::kit::DecisionRecord;
use stillpoint::machine::kit::View;
use stillpoint::machine::kit::fold;
use stillpoint::machine::kit::{Logic, Next, step};

/// Second `s` of the test clock.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

pub fn plan() -> Plan {
    let member = |claim: &str| PlannedMember {
        claim: claim.to_owned(),
        claim_uid: Uid(format!("uid-{claim}")),
        volume: format!("pv-{claim}"),
        volume_handle: format!("vol-{claim}"),
        spec: None,
    };
    Plan {
        run: StreamId::of_group("uid-backup", "shop", "velero.io/volume-group", "db"),
        backup: BackupRef {
            namespace: "stillpoint".into(),
            name: "nightly".into(),
            uid: "uid-backup".into(),
        },
        namespace: "shop".into(),
        label_key: "velero.io/volume-group".into(),
        group: "db".into(),
        members: vec![member("data"), member("wal")],
        driver: "hostpath.csi.k8s.io".into(),
        group_class: "group-class".into(),
        class: None,
        snapshot_class: "class".into(),
        selector: [("velero.io/volume-group".to_owned(), "db".to_owned())].into(),
        keep_group_name: false,
        max_attempts: 2,
        cut_timeout: Millis::from_secs(600),
        ready_timeout: Millis::from_secs(3600),
        atomicity: Demand::default(),
        planned_at: at(0),
        warnings: Vec::new(),
    }
}

pub fn object(namespace: &str, name: &str) -> ObjectId {
    ObjectId { namespace: namespace.into(), name: name.into(), uid: Uid(format!("uid-{name}")) }
}

/// A run after its plan.
pub fn planned() -> GroupRun {
    folded(vec![])
}

/// A run after its plan and these records, one per second.
pub fn folded(events: Vec<Event>) -> GroupRun {
    let first = Timed { at: at(0), event: Event::Planned(Box::new(plan())) };
    let start = fold(None, &first).expect("a plan begins a run");
    events.into_iter().enumerate().fold(start, |run, (index, event)| {
        fold(Some(run), &Timed { at: at(index as i64 + 1), event }).expect("a legal record")
    })
}

/// A run whose VolumeGroupSnapshot exists.
pub fn created() -> GroupRun {
    let grounds = DecisionRecord { row: "test".into(), rules: 1, view: view_with(|_| {}) };
    let reached = Reached::Created { uid: group().id.uid };
    folded(vec![Event::MilestoneReached { grounds, reached }])
}

/// The records that a run writes next without effects.
pub fn records(run: &GroupRun, seen: &Observation, now: Timestamp) -> Vec<Event> {
    let considered = step(&Logic::default(), run, seen, now).expect("a decision");
    match considered.next {
        Next::Record { events, .. } => events,
        other => panic!("{}: {other:?}", considered.decision.row.id),
    }
}

/// A run with the receipt of the bound members.
pub fn with_receipt() -> GroupRun {
    let (mut run, observation) = (created(), bound());
    while run.state.receipt.is_none() {
        for event in records(&run, &observation, at(9)) {
            run = fold(Some(run), &Timed { at: at(9), event }).expect("a legal record");
        }
    }
    run
}

pub fn group() -> GroupSnapshotSeen {
    GroupSnapshotSeen {
        id: object("shop", &plan().group_snapshot_name(1)),
        resource_version: "10".into(),
        run: Some(plan().run.to_string()),
        epoch: Some(1),
        journal: None,
        bound_content: Some("group-content".into()),
        ready: true,
        terminating: false,
        protected: true,
        finalizers: Vec::new(),
        error: None,
    }
}

pub fn group_content() -> GroupContentSeen {
    GroupContentSeen {
        id: object("", "group-content"),
        resource_version: "11".into(),
        group_uid: Some(group().id.uid),
        policy: DeletionPolicy::Delete,
        volume_handles: vec!["vol-wal".into(), "vol-data".into()],
        group_handle: Some("group-handle".into()),
        created_at: None,
        cuts: ["data", "wal"].map(cut).into(),
        error: None,
        terminating: false,
        protected: true,
        finalizers: Vec::new(),
        marked_deleted: false,
        secret: None,
        labels: None,
        annotations: None,
    }
}

fn cut(claim: &str) -> CutSeen {
    CutSeen {
        volume_handle: format!("vol-{claim}"),
        snapshot_handle: format!("snap-{claim}"),
        created_at: Some(at(5)),
        restore_size: Some(1 << 30),
    }
}

pub fn snapshot(claim: &str) -> SnapshotSeen {
    SnapshotSeen {
        id: object("shop", &format!("vs-{claim}")),
        resource_version: "12".into(),
        claim: Some(claim.into()),
        bound_content: Some(format!("vsc-{claim}")),
        ready: true,
        group_name: Some(group().id.name),
        error: None,
        class: None,
        owners: vec![owner()],
        finalizers: vec![labels::IN_GROUP_PROTECTION.into(), labels::AS_SOURCE_PROTECTION.into()],
        terminating: false,
        labels: None,
        annotations: None,
        created_at: Some(at(5)),
    }
}

pub fn owner() -> Owner {
    Owner {
        api_version: "groupsnapshot.storage.k8s.io/v1".into(),
        kind: "VolumeGroupSnapshot".into(),
        name: group().id.name,
        uid: group().id.uid,
        controller: None,
        block_owner_deletion: None,
    }
}

pub fn content(claim: &str) -> ContentSeen {
    ContentSeen {
        id: object("", &format!("vsc-{claim}")),
        resource_version: "13".into(),
        policy: DeletionPolicy::Delete,
        volume_handle: Some(format!("vol-{claim}")),
        snapshot_handle: Some(format!("snap-{claim}")),
        group_handle: Some("group-handle".into()),
        snapshot_namespace: "shop".into(),
        snapshot_name: format!("vs-{claim}"),
        snapshot_uid: Some(Uid(format!("uid-vs-{claim}"))),
        ready: true,
        created_at: Some(at(5)),
        restore_size: Some(1 << 30),
        volume_mode: Some("Filesystem".into()),
        error: None,
        finalizers: Vec::new(),
        terminating: false,
        labels: None,
        annotations: None,
    }
}

/// All members are cut, bound and ready.
pub fn bound() -> Observation {
    let claim = |name: &str| ClaimSeen {
        id: ObjectId { uid: Uid(format!("uid-{name}")), ..object("shop", name) },
        volume: Some(format!("pv-{name}")),
        terminating: false,
    };
    Observation {
        epoch: 1,
        journal: None,
        overtaken: false,
        fresh: true,
        group: Some(group()),
        content: Some(group_content()),
        stub: None,
        import: None,
        taken: false,
        snapshots: vec![snapshot("data"), snapshot("wal")],
        contents: vec![content("data"), content("wal")],
        claims: vec![claim("data"), claim("wal")],
        class_exists: true,
        namespace: Some(NamespaceSeen::default()),
        ..Observation::default()
    }
}

/// The value of a column in the view of a run.
pub fn seen(run: &GroupRun, observation: &Observation, column: Column) -> &'static str {
    let view = view(run, observation);
    let named: BTreeMap<&str, &str> = view.named::<Column>().into_iter().collect();
    named.get(column.name()).copied().unwrap_or("no such column")
}

/// A view with these values. All other columns have their first value.
pub fn view_with(set: impl FnOnce(&mut View)) -> View {
    let mut view = View::blank::<Column>();
    set(&mut view);
    view
}

/// The name of a value, as in views.
pub fn name<V: ColumnValue>(value: V) -> &'static str {
    V::COLUMN.values()[usize::from(value.ordinal())]
}
