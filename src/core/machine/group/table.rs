//! Defines the recovery table of the group machine: (stage × columns) → row. A start uses the same table as a
//! restart.
//!
//! Each change to a row, and each new row, increments [`RULES`]. See [`kit::table`] for the rules of a table.

use std::sync::LazyLock;

use crate::domain::problem::Code;
use crate::machine::group::GroupMachine;
use crate::machine::group::columns::*;
use crate::machine::group::event::{Milestone, Step};
use crate::machine::group::state::Stage;
use crate::machine::group::wait::Waiting;
use crate::machine::kit;
use crate::machine::kit::Row;
use crate::rows;

type Action = kit::Action<GroupMachine>;

/// Version of the table. Recorded with every decision. A replay compares only decisions of the same version.
pub const RULES: u16 = 7;

const fn unwind(code: Code) -> Action {
    Action::Unwind { code, transient: false }
}

const fn unwind_and_retry(code: Code) -> Action {
    Action::Unwind { code, transient: true }
}

use kit::Action::{Act, Advance, Finished, StepDown, Wait};

pub static TABLE: LazyLock<Vec<Row<GroupMachine>>> = LazyLock::new(|| {
    rows! {
        // ---- Planned: the journal has no object of this attempt -----------------------------------------------
        "planned/create" Planned: Group[Absent] Space[Stands | Gone] Content[Absent] Create[Untried | Unknown] Claims[Intact] CutDeadline[Open] Refusals[Few]
            => Act(Step::Create), "the name is computed, so a create of unknown fate is repeated and adopts";
        "planned/adopt" Planned: Group[Ours | Older | Terminating]
            => Advance(Milestone::Created), "the object carries our run: an earlier create happened";
        "planned/foreign" Planned: Group[Foreign]
            => unwind(Code::ForeignObject), "another object has the name";
        "planned/gone" Planned: Group[Absent] Space[Stands | Gone] Create[Happened] Fresh[Yes]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshot, perhaps after its cut began: the next attempt uses another name";
        "planned/cut" Planned: Group[Absent] Space[Stands | Gone] Content[Delete | Retain | DeleteTerminating | RetainTerminating] Create[Untried | Unknown] Fresh[Yes]
            => unwind_and_retry(Code::DeletedByOther), "the create happened, and another client deleted our VolumeGroupSnapshot after its cut began";
        "planned/refused" Planned: Group[Absent] Space[Stands | Gone] Create[Refused]
            => unwind(Code::Refused), "the API server refused the create for good";
        "planned/claims-changed" Planned: Group[Absent] Space[Stands] Content[Absent] Create[Untried | Unknown] Claims[Changed] Fresh[Yes]
            => unwind(Code::PlanOutdated), "a claim went or changed before the cut";
        "planned/namespace-gone" Planned: Group[Absent] Space[Gone] Content[Absent] Create[Untried | Unknown] Claims[Changed]
            => unwind(Code::NamespaceMissing), "the namespace is gone, and its claims with it";
        "planned/too-late" Planned: Group[Absent] Space[Stands | Gone] Content[Absent] Create[Untried | Unknown] Claims[Intact] CutDeadline[Passed] Fresh[Yes]
            => unwind(Code::CutTimeout), "the deadline of the cut passed before the group could be created";
        "planned/tried-enough" Planned: Group[Absent] Space[Stands | Gone] Content[Absent] Create[Untried | Unknown] Claims[Intact] CutDeadline[Open] Refusals[Many]
            => unwind(Code::Refused), "the create failed as often as the limit allows";

        "planned/namespace-going" Planned: Group[Absent] Space[Going]
            => unwind(Code::NamespaceMissing), "the namespace is being deleted, and nothing can be created in it any more";

        // ---- Epochs: a daemon that resumes a run with an existing group claims it before its first write ------
        "any/claim" Created | VSBound | Relabelled | Retained | Unwinding: Group[Older]
            => Act(Step::Claim), "the group was claimed by an earlier life of the daemon";
        "release/claim" Releasing | Abandoned: Group[Older] Blocked[No]
            => Act(Step::Claim), "the group was claimed by an earlier life of the daemon";
        "any/overtaken" Planned | Created | VSBound | Relabelled | Retained | Releasing | Unwinding | Abandoned: Group[Newer]
            => StepDown, "a newer daemon has claimed the group or its Backup: this one must not write again";

        // ---- The namespace is being deleted: before the pivot the group is deleted with it --------------------
        "early/namespace-going" Created | VSBound | Relabelled | Retained: Group[Absent | Foreign | Ours | Terminating] Space[Going]
            => unwind(Code::NamespaceMissing), "the namespace is being deleted, and the snapshots go with it";

        // ---- Created: waits for the cut, then for the members. Evidence comes before deadlines ----------------
        "created/gone" Created: Group[Absent | Foreign | Terminating] Space[Stands | Gone]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshot";
        "created/differs" Created: Group[Ours] Space[Stands | Gone] Progress[Differs]
            => unwind(Code::MembersDiffer), "the controller froze other volumes than the plan: fail closed";
        "created/cut" Created: Group[Ours] Space[Stands | Gone] Progress[Cut | Bound] CutRecorded[No]
            => Advance(Milestone::Cut), "every planned volume has its snapshot handle";
        "created/bound" Created: Group[Ours] Space[Stands | Gone] Progress[Bound] CutRecorded[Yes]
            => Advance(Milestone::VsBound), "group ready, every member ready, bound, and naming the group";
        "created/member-gone" Created: Group[Ours] Space[Stands | Gone] Progress[Cut] CutRecorded[Yes] Loss[Lost | Rebuilding | Hollow] Fresh[Yes]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted or released a member before the receipt, and the controllers never bind it to its group";
        "created/class-gone" Created: Group[Ours] Space[Stands | Gone] Progress[Cut] CutRecorded[Yes] Loss[None] GroupClass[Missing] Fresh[Yes]
            => unwind(Code::GroupClass), "the VolumeGroupSnapshotClass was deleted, without which the controllers never make the members ready";
        "created/class-gone-uncut" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing | Frozen] GroupClass[Missing] Fresh[Yes]
            => unwind(Code::GroupClass), "the VolumeGroupSnapshotClass was deleted, without which the controllers never cut the group";
        "created/wait-ready" Created: Group[Ours] Space[Stands | Gone] Progress[Cut] CutRecorded[Yes] Loss[None] GroupClass[Exists] ReadyDeadline[Open]
            => Wait(Waiting::Ready), "a ready group does not mean ready members";
        "created/ready-too-late" Created: Group[Ours] Space[Stands | Gone] Progress[Cut] CutRecorded[Yes] Loss[None] GroupClass[Exists] ReadyDeadline[Passed] Fresh[Yes]
            => unwind(Code::ReadyTimeout), "the members did not become ready in time";
        "created/unsupported" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing | Frozen] GroupClass[Exists] DriverError[Unsupported]
            => unwind(Code::DriverCannot), "the driver has no group controller";
        "created/error-grace" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing | Frozen] GroupClass[Exists] DriverError[Final] Grace[Open]
            => Wait(Waiting::DriverGrace), "a final error may heal, for a short time";
        "created/error" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing | Frozen] GroupClass[Exists] DriverError[Final] Grace[Passed] Fresh[Yes]
            => unwind(Code::DriverFailed), "the sidecar retries final errors in a hot loop: do not leave it hammering";
        "created/wait-cut" Created: Group[Ours] Space[Stands | Gone] Progress[Frozen] GroupClass[Exists] DriverError[None | Passing] CutDeadline[Open]
            => Wait(Waiting::Cut), "the controllers are at work";
        "created/wait-frozen" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing] GroupClass[Exists] DriverError[None | Passing] CutDeadline[Open] Claims[Intact]
            => Wait(Waiting::Cut), "the controllers are at work";
        "created/claims-changed" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing] GroupClass[Exists] DriverError[None | Passing] CutDeadline[Open] Claims[Changed] Fresh[Yes]
            => unwind(Code::PlanOutdated), "a PVC was deleted or changed before the controller froze the group";
        "created/cut-too-late" Created: Group[Ours] Space[Stands | Gone] Progress[Nothing | Frozen] GroupClass[Exists] DriverError[None | Passing] CutDeadline[Passed] Fresh[Yes]
            => unwind(Code::CutTimeout), "no cut before csiSnapshotTimeout";

        // ---- VSBound: the receipt is durable; members get labels ----------------------------------------------
        "bound/too-far" VSBound: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[None] Atomicity[TooFar]
            => unwind(Code::NotAtomic), "the members are not of one moment, or that is unknown, and the plan requires it: fail closed while everything can be freed";
        "bound/relabel" VSBound: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[None] Atomicity[Accepted] Labels[Missing] Refusals[Few]
            => Act(Step::Relabel), "members carry labels and receipt before anything is retained";
        "bound/relabelled" VSBound: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[None] Atomicity[Accepted] Labels[Complete]
            => Advance(Milestone::Relabelled), "all members carry labels and receipt";
        "bound/refused" VSBound: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[None] Atomicity[Accepted] Labels[Missing] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the labels; the run can still be rolled back";

        // ---- Relabelled: policies -----------------------------------------------------------------------------
        "relabelled/retain-group" Relabelled: Group[Ours] Space[Stands | Gone] Content[Delete] Loss[None] Refusals[Few]
            => Act(Step::Retain), "the group content and every member content have to retain the storage";
        "relabelled/retain-members" Relabelled: Group[Ours] Space[Stands | Gone] Content[Retain] Policies[Delete] Loss[None] Refusals[Few]
            => Act(Step::Retain), "the policy of a member content is a copy: retaining the group's does not change it";
        "relabelled/retained" Relabelled: Group[Ours] Space[Stands | Gone] Content[Retain] Policies[Retain] Loss[None]
            => Advance(Milestone::Retained), "every content retains the storage";
        "relabelled/refused-group" Relabelled: Group[Ours] Space[Stands | Gone] Content[Delete] Loss[None] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
        "relabelled/refused-members" Relabelled: Group[Ours] Space[Stands | Gone] Content[Retain] Policies[Delete] Loss[None] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";

        // ---- VSBound, Relabelled: if another client destroys the group, roll back and cut again ---------------
        "early/group-gone" VSBound | Relabelled: Group[Absent | Foreign | Terminating] Space[Stands | Gone]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshot";
        "early/content-gone" VSBound | Relabelled: Group[Ours] Space[Stands | Gone] Content[Absent | DeleteTerminating | RetainTerminating]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshotContent";
        "early/member-gone" VSBound | Relabelled: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[Lost | Rebuilding | Hollow]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted a member; its storage is freed only with the group";

        // ---- Retained: the last look before the pivot ------------------------------------------------------------------
        "retained/group-gone" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Delete | DeleteTerminating]
            => unwind_and_retry(Code::DeletedByOther), "our VolumeGroupSnapshot was deleted and its content set to Delete: the storage goes with it";
        "retained/gone-policies" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Delete] Refusals[Few]
            => Act(Step::Retain), "a member content was set back to Delete";
        "retained/gone-policies-refused" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Delete] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
        "retained/gone-hollow" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Loss[Hollow]
            => unwind_and_retry(Code::DeletedByOther), "a member lost its content; the run can still be rolled back";
        "retained/gone-class-missing" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Loss[None | Lost | Rebuilding] Class[Missing]
            => unwind(Code::SnapshotClass), "without the VolumeSnapshotClass a rebuilt member never becomes ready";
        "retained/gone-forward" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Loss[None | Lost | Rebuilding] Class[Exists]
            => Act(Step::ClearNames), "our VolumeGroupSnapshot was deleted and the storage is retained: go forward, and rebuild the lost members while the content exists";
        "retained/all-gone" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Absent] Shells[Snapshots | Contents | Leaving] Policies[Retain]
            => Act(Step::ClearNames), "group and content are gone, the storage is retained: only the receipt can save it, so forward";
        "retained/all-undone" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Absent] Shells[Snapshots | Contents | Leaving] Policies[Delete]
            => unwind_and_retry(Code::DeletedByOther), "group and content are gone, and the remaining members were set to Delete: another daemon rolled the run back";
        "retained/nothing-left" Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] Content[Absent] Shells[None]
            => Action::Stick { code: Code::DeletedByOther, advice: "nothing of the group is left in the cluster, although all of it retained the storage: another daemon that undid the run has freed it, anybody else has left it behind. See in the storage whether the handles of the receipt are still there, and abandon the run" },
            "the cluster does not show whether the storage exists: going forward would promise members, a rollback would forget them";
        "retained/content-gone" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Absent]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshotContent; the controller creates it again with the policy of its class";
        "retained/mend-group-policy" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Delete | DeleteTerminating] Refusals[Few]
            => Act(Step::Retain), "another client set the group content back to Delete";
        "retained/mend-policies" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Delete] Refusals[Few]
            => Act(Step::Retain), "another client set a member content back to Delete";
        "retained/mend-labels" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Labels[Missing] Refusals[Few]
            => Act(Step::Relabel), "another client removed labels or the receipt";
        "retained/hollow" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Labels[Complete] Loss[Hollow]
            => unwind_and_retry(Code::DeletedByOther), "a member lost its content; the run can still be rolled back";
        "retained/class-missing" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Labels[Complete] Loss[None | Lost | Rebuilding] Class[Missing]
            => unwind(Code::SnapshotClass), "without the VolumeSnapshotClass the controller never acknowledges the release";
        "retained/pivot" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Labels[Complete] Loss[None | Lost | Rebuilding] Class[Exists]
            => Act(Step::ClearNames), "all conditions hold: from this intent on the run only goes forward, and rebuilds a lost member from its handle";
        "retained/refused" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Delete | DeleteTerminating] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
        "retained/refused-policies" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Delete] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
        "retained/refused-labels" Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] Content[Retain | RetainTerminating] Policies[Retain] Labels[Missing] Refusals[Many]
            => unwind(Code::Refused), "the API server keeps refusing the labels; the run can still be rolled back";

        // ---- Releasing: the eight steps. Policies come first in every state -----------------------------------
        "release/mend-group-policy" Releasing: Blocked[No] Group[Ours | Terminating | Absent | Foreign] Content[Delete | DeleteTerminating]
            => Act(Step::Retain), "a group content under Delete takes the storage with it";
        "release/mend-policies" Releasing: Blocked[No] Group[Ours | Terminating | Absent | Foreign] Content[Retain | RetainTerminating | Absent] Policies[Delete]
            => Act(Step::Retain), "a member content under Delete goes with its snapshot";
        // The group still exists.
        "release/content-torn" Releasing: Blocked[No] Group[Ours] Content[Absent] Policies[Retain]
            => Wait(Waiting::ContentAgain), "the controller makes it again, for the same cut and under the policy of its class: a delete of the group would take the storage along";
        "release/1-clear-names" Releasing: Blocked[No] Group[Ours] Content[Retain | RetainTerminating] Policies[Retain] Names[Mixed | Set]
            => Act(Step::ClearNames), "while a member names the living group, the controller puts the owner back";
        "release/2-detach" Releasing: Blocked[No] Group[Ours] Content[Retain | RetainTerminating] Policies[Retain] Names[Clear] Ties[Tied]
            => Act(Step::Detach), "owner, in-group and as-source out, class in: one patch, so that as-source proves something";
        "release/3-acknowledge" Releasing: Blocked[No] Group[Ours] Content[Retain | RetainTerminating] Policies[Retain] Names[Clear] Ties[Free] Acknowledged[No]
            => Wait(Waiting::Acknowledgement), "as-source comes back once the controller saw the released member";
        "release/5-delete-group" Releasing: Blocked[No] Group[Ours] Content[Retain | RetainTerminating] Policies[Retain] Names[Clear] Ties[Free] Acknowledged[Yes] Fresh[Yes]
            => Act(Step::DeleteGroup), "nothing ties the members to the group any more";
        "release/5-group-going" Releasing: Blocked[No] Group[Terminating] Content[Retain | RetainTerminating | Absent] Policies[Retain]
            => Wait(Waiting::GroupGone), "the members that it deletes are rebuilt afterwards";
        // The group is gone, the content exists: the only simple state for a rebuild.
        "release/5-untie" Releasing: Blocked[No] Group[Absent] Content[Retain | RetainTerminating] Policies[Retain] Ties[Tied]
            => Act(Step::Detach), "an owner that is gone makes the garbage collector delete the member";
        "release/5-clear-foreign" Releasing: Blocked[No] Group[Foreign] Content[Retain | RetainTerminating] Policies[Retain] Ties[Tied] Names[Mixed | Set]
            => Act(Step::ClearNames), "the controller makes any group of that name the owner of a member that names it, again and again";
        "release/5-untie-foreign" Releasing: Blocked[No] Group[Foreign] Content[Retain | RetainTerminating] Policies[Retain] Ties[Tied] Names[Clear]
            => Act(Step::Detach), "a member that another group owns goes with it";
        "release/5-rebuild" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain] Policies[Retain] Ties[Free] Loss[Lost] Refusals[Few] Fresh[Yes]
            => Act(Step::Rebuild), "the storage is retained: content from the handle, snapshot from the content";
        "release/5-rebuilding" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain] Policies[Retain] Ties[Free] Loss[Rebuilding]
            => Wait(Waiting::Rebuilt), "rebuilt members become ready while a content carries the group handle";
        "release/5-clear-rebuilt" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain] Policies[Retain] Ties[Free] Loss[None] KeepName[No] Names[Mixed | Set]
            => Act(Step::ClearNames), "a member that names a group which is gone makes the controller log errors for ever";
        "release/6-delete-content" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain] Policies[Retain] Ties[Free] Loss[None] KeepName[No] Names[Clear] Fresh[Yes]
            => Act(Step::DeleteContent), "all members exist without the group";
        "release/6-delete-content-kept" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain] Policies[Retain] Ties[Free] Loss[None] KeepName[Yes] Fresh[Yes]
            => Act(Step::DeleteContent), "all members exist without the group";
        "release/6-mark" Releasing: Blocked[No] Group[Absent | Foreign] Content[RetainTerminating] Policies[Retain] Ties[Free] Marked[No]
            => Act(Step::MarkContent), "without the annotation the sidecar never lets the content go";
        "release/6-content-going" Releasing: Blocked[No] Group[Absent | Foreign] Content[RetainTerminating] Policies[Retain] Ties[Free] Marked[Yes]
            => Wait(Waiting::ContentGone), "the sidecar takes its finalizer off";
        // Both are gone.
        "release/late-untie" Releasing: Blocked[No] Group[Absent] Content[Absent] Policies[Retain] Ties[Tied]
            => Act(Step::Detach), "an owner that is gone makes the garbage collector delete the member";
        "release/late-clear-foreign" Releasing: Blocked[No] Group[Foreign] Content[Absent] Policies[Retain] Ties[Tied] Names[Mixed | Set]
            => Act(Step::ClearNames), "the controller makes any group of that name the owner of a member that names it";
        "release/late-untie-foreign" Releasing: Blocked[No] Group[Foreign] Content[Absent] Policies[Retain] Ties[Tied] Names[Clear]
            => Act(Step::Detach), "a member that another group owns goes with it";
        "release/late-stub" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[Lost | Rebuilding] Stub[Absent] Refusals[Few]
            => Act(Step::MakeStub), "a member was lost late: rebuilt members need a content that carries the group handle";
        "release/late-rebuild" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[Lost] Stub[Exists] Refusals[Few] Fresh[Yes]
            => Act(Step::Rebuild), "the storage is retained: content from the handle, snapshot from the content";
        "release/late-rebuilding" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[Rebuilding] Stub[Exists]
            => Wait(Waiting::Rebuilt), "the rebuilt members become ready while the stub exists";
        "release/late-clear" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Exists] KeepName[No] Names[Mixed | Set]
            => Act(Step::ClearNames), "a member that names a group which is gone makes the controller log errors for ever";
        "release/late-drop-stub" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Exists] KeepName[No] Names[Clear]
            => Act(Step::DropStub), "the rebuilt members are ready and do not need it any more";
        "release/late-drop-stub-kept" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Exists] KeepName[Yes]
            => Act(Step::DropStub), "the rebuilt members are ready and do not need it any more";
        "release/7-echo" Releasing: Blocked[No] Group[Absent] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Clear | Mixed] Echo[Open]
            => Wait(Waiting::Echo), "a controller whose cache still has the group would own the members again";
        "release/7-restore-names" Releasing: Blocked[No] Group[Absent] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Clear | Mixed] Echo[Passed]
            => Act(Step::RestoreNames), "Velero recognises a member by the name of its group";
        "release/7-clear-foreign" Releasing: Blocked[No] Group[Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Mixed | Set]
            => Act(Step::ClearNames), "the controller makes any group of that name the owner of a member that names it";
        "release/7-name-taken" Releasing: Blocked[No] Group[Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Clear]
            => Action::Stick { code: Code::ForeignObject, advice: "all members are kept; their group's name cannot be put back while another VolumeGroupSnapshot has it, which would own them: delete that one, and the run goes on" },
            "members that name a group are owned by whichever group has that name, and go with it";
        "release/8-mend-labels-kept" Releasing: Blocked[No] Group[Absent] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Set] Labels[Missing]
            => Act(Step::Relabel), "another client removed labels or receipt of a member: nothing else says to which run it belongs";
        "release/8-drop-replaced-kept" Releasing: Blocked[No] Group[Absent] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Set] Labels[Complete] Fresh[Yes] Replaced[Some]
            => Act(Step::DropReplaced), "the replaced content of a rebuilt member still names its storage, and no controller deletes it";
        "release/8-cleaned-kept" Releasing: Blocked[No] Group[Absent] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[Yes] Names[Set] Labels[Complete] Fresh[Yes] Replaced[None]
            => Advance(Milestone::Cleaned), "recorded or rebuilt uid, ready, not terminating, content retained";
        "release/8-mend-labels" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[No] Labels[Missing]
            => Act(Step::Relabel), "another client removed labels or receipt of a member: nothing else says to which run it belongs";
        "release/8-drop-replaced" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[No] Labels[Complete] Fresh[Yes] Replaced[Some]
            => Act(Step::DropReplaced), "the replaced content of a rebuilt member still names its storage, and no controller deletes it";
        "release/8-cleaned" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[None] Stub[Absent] KeepName[No] Labels[Complete] Fresh[Yes] Replaced[None]
            => Advance(Milestone::Cleaned), "recorded or rebuilt uid, ready, not terminating, content retained";
        "release/hollow" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain | Absent] Policies[Retain] Ties[Free] Loss[Hollow]
            => Action::Stick { code: Code::ContentLost, advice: "the storage is retained and its handle is in the receipt: delete the VolumeSnapshot of the member, and it is rebuilt from the handle" },
            "a VolumeSnapshot without content cannot be repaired, and Stillpoint does not delete it";
        "release/rebuild-refused" Releasing: Blocked[No] Group[Absent | Foreign] Content[Retain] Policies[Retain] Ties[Free] Loss[Lost] Refusals[Many]
            => Action::Stick { code: Code::Refused, advice: "the storage is retained and its handles are in the receipt: give back what the API server misses (often the namespace) and resume the run, and the members are rebuilt" },
            "the API server keeps refusing the rebuild, often because the namespace is gone";
        "release/late-refused" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[Lost] Refusals[Many]
            => Action::Stick { code: Code::Refused, advice: "the storage is retained and its handles are in the receipt: give back what the API server misses (often the namespace) and resume the run, and the members are rebuilt" },
            "the API server keeps refusing the rebuild, often because the namespace is gone";
        "release/stub-refused" Releasing: Blocked[No] Group[Absent | Foreign] Content[Absent] Policies[Retain] Ties[Free] Loss[Rebuilding] Stub[Absent] Refusals[Many]
            => Action::Stick { code: Code::Refused, advice: "the storage is retained and its handles are in the receipt: let Stillpoint create VolumeGroupSnapshotContents again and resume the run, and the members become ready" },
            "the API server keeps refusing the stub content";

        // A step is refused, or reverted by another client, again and again.
        "release/refused" Releasing: Group[Absent | Foreign | Ours | Older | Terminating] Blocked[Yes]
            => Action::Stick { code: Code::Refused, advice: "nothing is lost: the storage is retained, and its handles are in the receipt. Let Stillpoint do what the API server refuses (often an admission policy or a webhook), and resume the run; or end it with its storage kept: stillpoint groups abandon" },
            "a step of the release was refused, or reverted by another client, as often as the limits allow";

        // ---- Cleaned ------------------------------------------------------------------------------------------
        "cleaned/complete" Cleaned: => Advance(Milestone::Completed), "handed over: the members are the Backup's items";

        // ---- Unwinding: ends by freeing the storage, independent of the policy of the class -------------------
        "undo/repeat-create" Unwinding: Group[Absent] Content[Absent] Create[Unknown] Refusals[Few]
            => Act(Step::UndoCreate), "a create of unknown fate is repeated, so that there is something certain to delete";
        "undo/a-free" Unwinding: Group[Absent | Foreign | Ours] Content[Delete | Retain | DeleteTerminating | RetainTerminating] Retaining[Some]
            => Act(Step::UndoFree), "a content that retains the storage would leak it";
        "undo/a-free-members" Unwinding: Group[Ours] Content[Absent] Retaining[Some]
            => Act(Step::UndoFree), "a content that retains the storage would leak it";
        "undo/b-protection" Unwinding: Group[Ours] Content[Delete | Retain | DeleteTerminating | RetainTerminating] Retaining[None] Protection[Pending]
            => Wait(Waiting::Protection), "a group that is deleted before its finalizers leaks content and storage";
        "undo/c-delete-bare" Unwinding: Group[Ours] Content[Absent] Retaining[None] Fresh[Yes]
            => Act(Step::UndoDeleteGroup), "a group that was refused never gets a finalizer: do not wait for one";
        "undo/c-delete" Unwinding: Group[Ours] Content[Delete | Retain | DeleteTerminating | RetainTerminating] Retaining[None] Protection[Complete] Fresh[Yes]
            => Act(Step::UndoDeleteGroup), "with Delete everywhere the group takes content, members and storage along";
        "undo/c-going" Unwinding: Group[Terminating] Retaining[None] Content[Absent | Delete | Retain]
            => Wait(Waiting::GroupGone), "the controller deletes content and members";
        "undo/c-freeing" Unwinding: Group[Terminating] Retaining[None] Content[DeleteTerminating | RetainTerminating] DriverError[None | Final | Unsupported]
            => Wait(Waiting::StorageFreed), "the group goes once its content has gone, and that once the driver has freed the storage";
        "undo/c-unanswered" Unwinding: Group[Terminating] Retaining[None] Content[DeleteTerminating | RetainTerminating] DriverError[Passing]
            => Wait(Waiting::DriverAnswer), "the csi-snapshotter keeps a content until it knows whether the driver cut it";
        "undo/c-going-free" Unwinding: Group[Terminating] Retaining[Some]
            => Act(Step::UndoFree), "a group that another client deletes must not leave retained storage behind";
        "undo/d-protection" Unwinding: Group[Absent | Foreign] Content[Delete | Retain] Retaining[None] Protection[Pending]
            => Wait(Waiting::Protection), "a content that is deleted before it has its finalizer takes the handles of its cut with it";
        "undo/d-delete-content" Unwinding: Group[Absent | Foreign] Content[Delete | Retain] Retaining[None] Protection[Complete]
            => Act(Step::UndoDeleteContent), "the controller judges by its cache and may have left the content";
        "undo/d-mark" Unwinding: Group[Absent | Foreign] Content[DeleteTerminating | RetainTerminating] Retaining[None] Marked[No]
            => Act(Step::UndoDeleteContent), "without the annotation the sidecar never frees the storage";
        "undo/d-going" Unwinding: Group[Absent | Foreign] Content[DeleteTerminating | RetainTerminating] Retaining[None] Marked[Yes] DriverError[None | Final | Unsupported]
            => Wait(Waiting::StorageFreed), "the sidecar frees the storage, then the content goes";
        "undo/d-unanswered" Unwinding: Group[Absent | Foreign] Content[DeleteTerminating | RetainTerminating] Retaining[None] Marked[Yes] DriverError[Passing]
            => Wait(Waiting::DriverAnswer), "the csi-snapshotter keeps a content until it knows whether the driver cut it";
        "undo/e-kept" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[Snapshots] Names[Clear] Ties[Free] Retaining[Some]
            => Action::Stick { code: Code::DeletedByOther, advice: "the members stand, and their storage is retained: nothing is deleted. Keep them, or import their storage by its handles into contents of your own, which the run then leaves alone; or delete their VolumeSnapshots and VolumeSnapshotContents when the storage is not wanted any more, and the run goes on and has it freed; or end the run with its storage kept: stillpoint groups abandon --keep-storage" },
            "another daemon or client released the members: a rollback does not decide whether they are needed";
        "undo/e-kept-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Snapshots] Names[Clear] Ties[Free] Retaining[Some]
            => Action::Stick { code: Code::DeletedByOther, advice: "the members stand, and their storage is retained: nothing is deleted. Keep them, or import their storage by its handles into contents of your own, which the run then leaves alone; or delete their VolumeSnapshots and VolumeSnapshotContents when the storage is not wanted any more, and the run goes on and has it freed; or end the run with its storage kept: stillpoint groups abandon --keep-storage" },
            "another daemon or client released the members: a rollback does not decide whether they are needed";
        "undo/e-untie" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[Snapshots | Leaving] Ties[Tied]
            => Act(Step::Detach), "the controller takes the in-group finalizer off only while the member names its group";
        "undo/e-free-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Snapshots | Leaving] Names[Mixed | Set] Retaining[Some]
            => Act(Step::UndoFree), "a member that names the group was not released: it must not look released once its name is cleared";
        "undo/e-clear-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Snapshots | Leaving] Names[Mixed | Set] Retaining[None]
            => Act(Step::ClearNames), "the controller keeps a snapshot that names a group while any group has that name";
        "undo/e-untie-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Snapshots | Leaving] Names[Clear] Ties[Tied]
            => Act(Step::Detach), "the controller takes the in-group finalizer off only while the member names its group";
        "undo/e-snapshots" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[Snapshots] Ties[Free] Retaining[None]
            => Act(Step::UndoDeleteSnapshots), "shells without storage behind them";
        "undo/e-snapshots-named" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[Snapshots] Names[Mixed | Set] Ties[Free] Retaining[Some]
            => Act(Step::UndoDeleteSnapshots), "a member that names the group was not released: its storage was freed with the group's content";
        "undo/e-contents" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[Contents]
            => Act(Step::UndoDeleteContents), "shells without storage behind them";
        "undo/e-going" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[Leaving] Ties[Free]
            => Wait(Waiting::ShellsGone), "the controller retries their deletion by backoff only, up to minutes";
        "undo/e-snapshots-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Snapshots] Names[Clear] Ties[Free] Retaining[None]
            => Act(Step::UndoDeleteSnapshots), "shells without storage behind them";
        "undo/e-contents-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Contents]
            => Act(Step::UndoDeleteContents), "shells without storage behind them";
        "undo/e-going-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[Leaving] Names[Clear] Ties[Free]
            => Wait(Waiting::ShellsGone), "the controller retries their deletion by backoff only, up to minutes";
        "undo/e-unknown" Unwinding: Group[Absent] Content[Absent] Create[Unknown] Refusals[Many] LateWindow[Open]
            => Wait(Waiting::LateContent), "the create could not be repeated: wait for evidence that it happened";
        "undo/e-unknown-failed" Unwinding: Group[Absent] Content[Absent] Create[Unknown] Refusals[Many] LateWindow[Passed] Fresh[Yes]
            => Advance(Milestone::Failed), "nothing came: the create never happened";
        "undo/f-stub" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[None] Stub[Exists]
            => Act(Step::DropStub), "an earlier incarnation of the daemon created it, and no controller deletes it";
        "undo/f-stub-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[None] Stub[Exists]
            => Act(Step::DropStub), "an earlier incarnation of the daemon created it, and no controller deletes it";
        "undo/f-import" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Doubtful] Fresh[Yes]
            => Act(Step::UndoImport), "the content went in another way than by our delete: only the driver knows whether it has the group";
        "undo/f-importing" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[None] Stub[Absent] Import[Asked | Going]
            => Wait(Waiting::StorageFreed), "the csi-snapshotter asks the driver, and frees what the driver has";
        "undo/f-import-free" Unwinding: Group[Absent] Content[Absent] Create[Untried | Refused | Happened] Shells[None] Stub[Absent] Import[Held | Unknown]
            => Act(Step::UndoFreeImport), "a static content that is bound to nothing is freed by its deletion, if the driver has it";
        "undo/f-import-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[None] Stub[Absent] Import[Absent] Storage[Doubtful] Fresh[Yes]
            => Act(Step::UndoImport), "the content went in another way than by our delete: only the driver knows whether it has the group";
        "undo/f-importing-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[None] Stub[Absent] Import[Asked | Going]
            => Wait(Waiting::StorageFreed), "the csi-snapshotter asks the driver, and frees what the driver has";
        "undo/f-import-free-foreign" Unwinding: Group[Foreign] Content[Absent] Shells[None] Stub[Absent] Import[Held | Unknown]
            => Act(Step::UndoFreeImport), "a static content that is bound to nothing is freed by its deletion, if the driver has it";
        "undo/f-never" Unwinding: Group[Absent | Foreign] Content[Absent] Create[Untried | Refused] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] AfterUndo[Fail]
            => Advance(Milestone::Failed), "nothing was ever created";
        "undo/f-never-retry" Unwinding: Group[Absent | Foreign] Content[Absent] Create[Untried | Refused] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] AfterUndo[Retry]
            => Advance(Milestone::Retried), "nothing was ever created, and another attempt may help";
        "undo/f-late" Unwinding: Group[Absent] Content[Absent] Create[Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] LateWindow[Open]
            => Wait(Waiting::LateContent), "a controller that had the group in its cache makes the content late";
        "undo/f-failed" Unwinding: Group[Absent] Content[Absent] Create[Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] LateWindow[Passed] Fresh[Yes] AfterUndo[Fail]
            => Advance(Milestone::Failed), "nothing is left";
        "undo/f-retry" Unwinding: Group[Absent] Content[Absent] Create[Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] LateWindow[Passed] Fresh[Yes] AfterUndo[Retry]
            => Advance(Milestone::Retried), "nothing is left, and another attempt may help";
        "undo/f-late-foreign" Unwinding: Group[Foreign] Content[Absent] Create[Unknown | Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] LateWindow[Open]
            => Wait(Waiting::LateContent), "a controller that had the group in its cache makes the content late";
        "undo/f-failed-foreign" Unwinding: Group[Foreign] Content[Absent] Create[Unknown | Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] LateWindow[Passed] Fresh[Yes] AfterUndo[Fail]
            => Advance(Milestone::Failed), "nothing is left of ours";
        "undo/f-retry-foreign" Unwinding: Group[Foreign] Content[Absent] Create[Unknown | Happened] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] LateWindow[Passed] Fresh[Yes] AfterUndo[Retry]
            => Advance(Milestone::Retried), "nothing is left of ours, and another attempt may help";

        // ---- Abandoned after the pivot: nothing is deleted; ends once the storage is verified as retained -----
        "abandoned/mend-group-policy" Abandoned: Blocked[No] Group[Ours | Terminating | Absent | Foreign] Content[Delete | DeleteTerminating]
            => Act(Step::Retain), "a group content under Delete takes the storage with it";
        "abandoned/mend-policies" Abandoned: Blocked[No] Group[Ours | Terminating | Absent | Foreign] Content[Retain | RetainTerminating | Absent] Policies[Delete]
            => Act(Step::Retain), "a member content under Delete goes with its snapshot";
        "abandoned/content-torn" Abandoned: Blocked[No] Group[Ours] Content[Absent] Policies[Retain]
            => Wait(Waiting::ContentAgain), "the controller creates it again with the policy of the class, and a delete of the group would then free the storage";
        "abandoned/failed" Abandoned: Blocked[No] Group[Ours | Terminating | Absent | Foreign] Content[Retain | RetainTerminating] Policies[Retain] Fresh[Yes]
            => Advance(Milestone::Failed), "every existing content retains the storage, and the receipt names all of it";
        "abandoned/failed-bare" Abandoned: Blocked[No] Group[Terminating | Absent | Foreign] Content[Absent] Policies[Retain] Fresh[Yes]
            => Advance(Milestone::Failed), "every existing content retains the storage, and the receipt names all of it";

        "abandoned/refused" Abandoned: Group[Absent | Foreign | Ours | Older | Terminating] Blocked[Yes]
            => Action::Stick { code: Code::Refused, advice: "let Stillpoint set the deletionPolicy of the contents of this run to Retain, and resume the run; or end it as it is: stillpoint groups abandon --keep-storage, once more" },
            "a content could not be made to retain its storage, as often as the limits allow";

        // ---- Final stages -------------------------------------------------------------------------------------
        "end/rest" Completed | Failed: => Finished, "the run is over";
    }
});

/// The table as a Markdown page.
pub fn page() -> String {
    let mut page = format!(
        "# The recovery table\n\n\
         The table says what a group run does next: for each stage, and for each combination of column values. The \
         daemon uses it after a first start and after a restart. Rows have no order. Exactly one row matches each \
         combination, and a test proves it. A row with *fresh* acts only on a view that was just read from the API \
         server; until then the run reads everything again. Conditions on the clock are in italics. The columns and \
         their values are explained at the end.\n\n\
         This page is generated from the rows (version {RULES}): `UPDATE_FIXTURES=1 cargo test --test core`.\n"
    );
    kit::document::document::<GroupMachine>(&mut page);
    page
}
