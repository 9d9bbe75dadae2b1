//! Defines the columns of the recovery table of a group run.

use crate::columns;

columns! {
    /// The object under the name of this attempt's VolumeGroupSnapshot.
    Seen Group {
        /// There is none.
        Absent,
        /// Another uid than the recorded one, or without the label of this run.
        Foreign,
        /// Ours, claimed by our epoch.
        Ours,
        /// Ours, claimed by an older epoch: claim it before writing.
        Older,
        /// A newer epoch claimed it or its Backup: a newer daemon took over.
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
    /// The being-deleted annotation of the content, without which the csi-snapshotter does not finish a deletion.
    Seen Marked {
        /// Present, or there is no content.
        Yes,
        /// Missing.
        No,
    }
    /// Whether VolumeGroupSnapshot and content carry their bound-protection finalizers.
    Seen Protection {
        /// Both do; an object that does not exist, or that gets no finalizer without its class, counts as protected.
        Complete,
        /// One does not yet: a delete now would leak storage.
        Pending,
    }
    /// Progress of the cut.
    Seen Progress {
        /// Nothing is frozen.
        Nothing,
        /// The content froze exactly the planned volumes.
        Frozen,
        /// The content froze other volumes than planned.
        Differs,
        /// The group has its handle, and every planned volume a snapshot handle.
        Cut,
        /// In addition, the group is ready, and every member is ready, bound, and names the group.
        Bound,
    }
    /// The error that the driver reports for the group.
    Seen DriverError {
        /// It reports none.
        None,
        /// A transient one: Canceled, DeadlineExceeded, Unavailable, ResourceExhausted, Aborted.
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
    /// Members that were lost since the cut. Before the receipt, a member that the controller has not created yet is not lost.
    Seen Loss {
        /// All exist, ready and bound, with their recorded or rebuilt uid. Before the receipt: none is known to be lost. After
        /// the pivot in a namespace that is being deleted: each has a content that retains its storage.
        None,
        /// Some are gone, being deleted, or replaced. Before the receipt: the group can never be bound.
        Lost,
        /// The lost ones are being rebuilt and are not ready yet.
        Rebuilding,
        /// A VolumeSnapshot exists, and its content is gone or being deleted.
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
    /// Ownership by the group: owner reference, in-group finalizer, or a missing class name.
    Seen Ties {
        /// No member has any of them.
        Free,
        /// Some members have one of them.
        Tied,
    }
    /// The as-source finalizer. The controller adds it again when it has seen the released member.
    Seen Acknowledged {
        /// On all.
        Yes,
        /// Not yet on some.
        No,
    }
    /// Whether the observation was read from the API server after the last write of the run.
    Seen Fresh {
        /// Read from the API server.
        Yes,
        /// Taken from the caches.
        No,
    }
    /// The PVCs of the plan.
    Seen Claims {
        /// All exist, with the planned uid and volume, and none is being deleted.
        Intact,
        /// One is gone, being deleted, or not the planned one.
        Changed,
    }
    /// The VolumeSnapshotClass of the release.
    Seen Class {
        /// It exists.
        Exists,
        /// It is gone: the release would never end.
        Missing,
    }
    /// Contents of the run, group and members, that still retain the storage.
    Seen Retaining {
        /// None: a delete of the group frees all storage.
        None,
        /// At least one: a delete now would leak its storage.
        Some,
    }
    /// Objects of members that are left during a rollback.
    Seen Shells {
        /// Nothing is left.
        None,
        /// VolumeSnapshots that are not being deleted.
        Snapshots,
        /// Only VolumeSnapshotContents that are not being deleted.
        Contents,
        /// Only objects that are being deleted.
        Leaving,
    }
    /// The stub content, which carries the group handle while members are rebuilt.
    Seen Stub {
        /// There is none.
        Absent,
        /// It exists.
        Exists,
    }
    /// The unbound content with policy Delete, by which a rollback frees storage after its own content is gone.
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
    /// Whether another client imported the storage of the run, by a handle of its receipt.
    Seen Taken {
        /// No client did.
        No,
        /// A client did: the run does not free the storage.
        Yes,
    }
    /// The VolumeGroupSnapshotClass, which the controllers need until the members are ready.
    Seen GroupClass {
        /// It exists.
        Exists,
        /// It is gone.
        Missing,
    }
    /// The namespace of the group.
    Seen Space {
        /// It exists.
        Stands,
        /// It is being deleted, with everything in it.
        Going,
        /// Unknown: gone, or too new for the caches.
        Gone,
    }
    /// VolumeSnapshotContents that a ready, rebuilt member has replaced.
    Seen Replaced {
        /// There is none.
        None,
        /// One exists, for a VolumeSnapshot that is gone.
        Some,
    }
    /// Whether the cut is recorded.
    Known CutRecorded {
        /// The cut is recorded.
        Yes,
        /// The cut is not recorded yet.
        No,
    }
    /// What follows a complete rollback.
    Known AfterUndo {
        /// Another attempt.
        Retry,
        /// Failure.
        Fail,
    }
    /// Consecutive failures of the next step, or repetitions, if another client keeps reverting it.
    Known Refusals {
        /// Below the limits: the step is tried again after its pause.
        Few,
        /// At the limits: the run is rolled back, or stuck if it cannot be.
        Many,
    }
    /// Whether the members were cut close enough to each other, by the creation times in the receipt.
    Known Atomicity {
        /// They were, or the plan does not require it.
        Accepted,
        /// They were not, or that is unknown, and the plan requires it.
        TooFar,
    }
    /// The same after the pivot, for steps without another row.
    Known Blocked {
        /// The next step failed less often than the limits allow.
        No,
        /// The next step failed as often as the limits allow.
        Yes,
    }
    /// The create of this attempt.
    Derived Create {
        /// Never tried.
        Untried,
        /// Tried; it may have happened, and no other object has its name.
        Unknown,
        /// Refused permanently; it did not happen.
        Refused,
        /// It happened: the uid is recorded. Or it may have happened, and another object has its name.
        Happened,
    }
    /// Whether a rollback knows that the storage is freed.
    Derived Storage {
        /// There is no receipt; or Stillpoint deleted the storage through its content or an import, with policy Delete; or
        /// another client imported it.
        Settled,
        /// There is a receipt, and the content went in another way: the driver may or may not have freed the storage.
        Doubtful,
    }
    /// The deletionPolicy Retain on the contents of the run, group and members, and the receipt beside it.
    Derived Retention {
        /// On every content that exists.
        Complete,
        /// Missing on at least one.
        Missing,
    }
    /// The content that carries the group handle. Rebuilt members become ready only while one exists.
    Derived Carrier {
        /// The VolumeGroupSnapshotContent.
        Content,
        /// The VolumeGroupSnapshotContent, which is being deleted.
        Terminating,
        /// The stub content. The VolumeGroupSnapshotContent is gone.
        Stub,
        /// Neither exists.
        None,
    }
    /// Whether members name their group while another object has its name. The controller makes that object their owner.
    Derived NameClash {
        /// No member names the group, or no other object has its name.
        No,
        /// Some members do.
        Yes,
    }
    /// The name of the group in the released members: it is put back (`--keep-group-name`) or stays cleared.
    Derived GroupName {
        /// It stays cleared, and no member has it.
        Cleared,
        /// It stays cleared, and some members have it.
        Unwanted,
        /// It is put back, and some members lack it.
        Missing,
        /// It is put back, and all members have it.
        Restored,
        /// It is put back, but another object has the name.
        Taken,
    }
    /// `csiSnapshotTimeout` of this attempt.
    Clock CutDeadline {
        /// The deadline is in the future.
        Open,
        /// The deadline passed: the run does not wait for a cut any more.
        Passed,
    }
    /// `itemOperationTimeout` of this attempt.
    Clock ReadyDeadline {
        /// The deadline is in the future.
        Open,
        /// The deadline passed: the run does not wait for readiness any more.
        Passed,
    }
    /// The grace period of a final driver error.
    Clock Grace {
        /// The period lasts.
        Open,
        /// The period is over: the group is rolled back.
        Passed,
    }
    /// The time in which a rollback looks for a late VolumeGroupSnapshotContent.
    Clock LateWindow {
        /// The time lasts.
        Open,
        /// The time is over without a content; or the controller deleted the content with its group, and creates none.
        Passed,
    }
    /// The time in which the cache of a controller may still contain the deleted group.
    Clock Echo {
        /// The time lasts.
        Open,
        /// The time is over: every controller has received the delete, or listed again.
        Passed,
    }
}
