//! Defines the columns of the recovery table: small enums, each for one fact about the cluster, the journal
//! or the clock.
//!
//! A [`Columns`] holds one value for each column. Values of *seen* columns come from the view and are
//! recorded with every decision. Values of *known* columns come from the folded journal. Values of *clock*
//! columns come from journal, view and time. A replay therefore needs only the recorded view and the recorded
//! time, and computes all other values again.

use serde::{Deserialize, Serialize};

macro_rules! columns {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident { $($(#[doc = $vdoc:literal])* $value:ident),+ $(,)? })+) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
            pub enum $name { $($(#[doc = $vdoc])* $value),+ }
        )+

        /// The name of a column.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Column { $($(#[doc = $doc])* $name),+ }

        impl Column {
            /// All columns, in the order of a recorded view.
            pub const ALL: &'static [Column] = &[$(Column::$name),+];

            /// The names of the column's values.
            pub fn values(self) -> &'static [&'static str] {
                match self { $(Column::$name => &[$(stringify!($value)),+]),+ }
            }

            /// Documentation of the column and of each of its values, for users.
            pub fn meanings(self) -> (&'static str, &'static [&'static str]) {
                match self { $(Column::$name => (concat!($($doc),*), &[$(concat!($($vdoc),*)),+])),+ }
            }

            /// Where the value comes from.
            pub fn source(self) -> Source {
                match self { $(Column::$name => Source::$kind),+ }
            }

            /// The name of the column.
            pub fn name(self) -> &'static str {
                match self { $(Column::$name => stringify!($name)),+ }
            }
        }

        $(
            impl ColumnValue for $name {
                const COLUMN: Column = Column::$name;
                fn ordinal(self) -> u8 { self as u8 }
            }
        )+
    };
}

/// Where the value of a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the observation, by way of the view.
    Seen,
    /// From the folded journal.
    Known,
    /// From the folded journal, the view and the time.
    Clock,
}

/// A value of one column.
pub trait ColumnValue: Copy {
    /// The column.
    const COLUMN: Column;
    /// Position among the values of the column.
    fn ordinal(self) -> u8;
}

columns! {
    /// The object under the name of this attempt's VolumeGroupSnapshot.
    Seen Group {
        /// There is none.
        Absent,
        /// It is not ours: another uid than recorded, or no label of this run.
        Foreign,
        /// Ours, claimed by our epoch.
        Ours,
        /// Ours, claimed by an older epoch: claim it before writing.
        Older,
        /// A newer epoch has claimed it, or its Backup: this daemon has been overtaken.
        Newer,
        /// Ours, being deleted.
        Terminating,
    }
    /// The VolumeGroupSnapshotContent of this VolumeGroupSnapshot.
    Seen Content {
        /// There is none.
        Absent,
        /// Policy Delete.
        Delete,
        /// Policy Retain.
        Retain,
        /// Being deleted under Delete: the storage is about to go.
        DeleteTerminating,
        /// Being deleted under Retain.
        RetainTerminating,
    }
    /// Whether the content carries what lets the sidecar finish a deletion.
    Seen Marked {
        /// The being-deleted annotation is there.
        Yes,
        /// It is not.
        No,
    }
    /// Whether VolumeGroupSnapshot and content carry their bound-protection finalizers.
    Seen Protection {
        /// Both do, or the one that is missing does not exist, or can get none without its class.
        Complete,
        /// One does not yet: deleting now would leak.
        Pending,
    }
    /// How far the cut is.
    Seen Progress {
        /// Nothing is frozen.
        Nothing,
        /// The content froze exactly the planned volumes.
        Frozen,
        /// The content froze other volumes than planned.
        Differs,
        /// The group has its handle, and every planned volume a snapshot handle.
        Cut,
        /// Also the group is ready, and every member is ready, names the group and is bound.
        Bound,
    }
    /// The error that the driver reports for the group.
    Seen DriverError {
        /// It reports none.
        None,
        /// One that may pass: Canceled, DeadlineExceeded, Unavailable, ResourceExhausted, Aborted.
        Passing,
        /// Any other.
        Final,
        /// Unimplemented: the driver cannot cut groups.
        Unsupported,
    }
    /// Labels and receipt on the members.
    Seen Labels {
        /// On all.
        Complete,
        /// Missing on some.
        Missing,
    }
    /// Deletion policies of the members' contents, and the receipt beside them.
    Seen Policies {
        /// All Retain, with receipt.
        Retain,
        /// Some Delete, or without receipt.
        Delete,
    }
    /// Whether members were lost since the cut. Before the receipt those that the controller has not made yet are not lost.
    Seen Loss {
        /// All are there, ready, bound, with their recorded or rebuilt uid; before the receipt: none is known to be lost;
        /// behind the pivot also: their namespace goes, and each has a content that keeps its storage.
        None,
        /// Some are gone, being deleted, or replaced; before the receipt: so that the cut can never be bound.
        Lost,
        /// The lost ones are being rebuilt and are not ready yet.
        Rebuilding,
        /// A member stands, but its content is gone or being deleted.
        Hollow,
    }
    /// `status.volumeGroupSnapshotName` of the members.
    Seen Names {
        /// On none.
        Clear,
        /// On some.
        Mixed,
        /// On all.
        Set,
    }
    /// What ties members to the group: owner reference, in-group finalizer, missing class.
    Seen Ties {
        /// Nothing ties any of them.
        Free,
        /// Some are tied by one of these.
        Tied,
    }
    /// The as-source finalizer: it comes back once the controller has seen the released member.
    Seen Acknowledged {
        /// On all.
        Yes,
        /// Not yet on some.
        No,
    }
    /// Whether the observation was read from the API server itself after our last write.
    Seen Fresh {
        /// It was.
        Yes,
        /// It comes from the caches.
        No,
    }
    /// The claims of the plan.
    Seen Claims {
        /// All exist, with the planned uid and volume, and none is being deleted.
        Intact,
        /// One is gone, going, or another one than planned.
        Changed,
    }
    /// The VolumeSnapshotClass of the release.
    Seen Class {
        /// It stands in the cluster.
        Exists,
        /// It is gone: the release would wait for ever.
        Missing,
    }
    /// Contents of the run, group and members, that still retain the storage.
    Seen Retaining {
        /// Not one: a delete of the group frees all storage.
        None,
        /// At least one: a delete now would leak its storage.
        Some,
    }
    /// What is left of the members while a run is undone.
    Seen Shells {
        /// Nothing is left.
        None,
        /// VolumeSnapshots that nobody is deleting yet.
        Snapshots,
        /// Only VolumeSnapshotContents that nobody is deleting yet.
        Contents,
        /// Only what is being deleted.
        Leaving,
    }
    /// The stub content.
    Seen Stub {
        /// There is none.
        Absent,
        /// It stands, and carries the group handle.
        Exists,
    }
    /// The unbound content under Delete, by which an undo has storage freed whose own content is gone.
    Seen Import {
        /// There is none.
        Absent,
        /// The driver has not said yet whether it has the group.
        Asked,
        /// The driver has the group: a delete of the import frees it.
        Held,
        /// The driver does not know the group: there is nothing to be freed.
        Unknown,
        /// It is being deleted.
        Going,
    }
    /// Whether somebody else has imported the storage of the run, by a handle of its receipt.
    Seen Taken {
        /// Nobody has.
        No,
        /// Somebody has: it is not ours to be freed.
        Yes,
    }
    /// The VolumeGroupSnapshotClass: until the members are ready the controllers need it.
    Seen GroupClass {
        /// It stands in the cluster.
        Exists,
        /// It is gone.
        Missing,
    }
    /// The namespace of the group.
    Seen Space {
        /// It stands.
        Stands,
        /// It is being deleted, and everything in it.
        Going,
        /// It is not known: gone, or so new that the caches have not heard of it.
        Gone,
    }
    /// VolumeSnapshotContents of which a rebuilt member has taken the place, when it is ready.
    Seen Replaced {
        /// There is none.
        None,
        /// One stands, for a VolumeSnapshot that is gone.
        Some,
    }
    /// What the journal knows about the create of this attempt.
    Known Create {
        /// Never tried.
        Untried,
        /// Tried; it may have happened.
        Unknown,
        /// Refused for good; it certainly did not happen.
        Refused,
        /// It happened: the uid is recorded.
        Happened,
    }
    /// Whether the cut is recorded.
    Known CutRecorded {
        /// The journal says when the group was cut.
        Yes,
        /// It does not say so yet.
        No,
    }
    /// What a complete undo leads to.
    Known AfterUndo {
        /// Another attempt.
        Retry,
        /// Failure.
        Fail,
    }
    /// Whether the names are to be put back into the released members.
    Known KeepName {
        /// They are put back at the end.
        Yes,
        /// They stay cleared.
        No,
    }
    /// Failures in a row of the step that is asked for; or repetitions, where somebody keeps undoing it.
    Known Refusals {
        /// Fewer than the limits: the step is tried again after its pause.
        Few,
        /// As many as the limits: the run is undone, or stuck where it cannot be.
        Many,
    }
    /// Whether the members were cut close enough to each other, by the creation times in the receipt.
    Known Atomicity {
        /// They were, or the plan does not require it.
        Accepted,
        /// They were not, or that is unknown, and the plan requires it.
        TooFar,
    }
    /// The same behind the pivot, of the steps for which nothing else is to be done then.
    Known Blocked {
        /// It has not failed as often as the limits allow.
        No,
        /// It has.
        Yes,
    }
    /// What is known of the storage of a run that is undone.
    Clock Storage {
        /// There is no receipt; it was deleted through its content or an import, by us and under Delete; or somebody else
        /// has imported it.
        Settled,
        /// It has a receipt, and its content went in another way: whether the driver freed it is not known.
        Doubtful,
    }
    /// `csiSnapshotTimeout` of this attempt.
    Clock CutDeadline {
        /// Not yet.
        Open,
        /// It has passed: no cut is waited for any more.
        Passed,
    }
    /// `itemOperationTimeout` of this attempt.
    Clock ReadyDeadline {
        /// Not yet.
        Open,
        /// It has passed: readiness is not waited for any more.
        Passed,
    }
    /// The grace that a final error of the driver gets.
    Clock Grace {
        /// Not yet over.
        Open,
        /// It is over: the group is undone.
        Passed,
    }
    /// The time that an undo looks for a content which comes late.
    Clock LateWindow {
        /// Not yet over.
        Open,
        /// It is over: nothing came; or the controller itself took the content along with its group, and makes none.
        Passed,
    }
    /// The time that a cache of a controller may still have a group which is gone.
    Clock Echo {
        /// Not yet over.
        Open,
        /// It is over: every cache was told, or listed anew.
        Passed,
    }
}

/// One value for each column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Columns(Vec<u8>);

impl Columns {
    /// All columns at their first value.
    pub fn new() -> Self {
        Self(vec![0; Column::ALL.len()])
    }

    /// Sets the value of a column.
    pub fn set<V: ColumnValue>(&mut self, value: V) {
        self.set_ordinal(V::COLUMN, value.ordinal());
    }

    /// Sets the value of a column by its position. Panics if the column has no such position.
    pub fn set_ordinal(&mut self, column: Column, ordinal: u8) {
        assert!(usize::from(ordinal) < column.values().len(), "{} has no value {ordinal}", column.name());
        self.0[column as usize] = ordinal;
    }

    /// Position of the value of a column.
    pub fn ordinal(&self, column: Column) -> u8 {
        self.0[column as usize]
    }

    /// Whether a column has this value.
    pub fn is<V: ColumnValue>(&self, value: V) -> bool {
        self.ordinal(V::COLUMN) == value.ordinal()
    }

    /// The name of the value of a column.
    pub fn value_name(&self, column: Column) -> &'static str {
        column.values()[usize::from(self.ordinal(column))]
    }
}
