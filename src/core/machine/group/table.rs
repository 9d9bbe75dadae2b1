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

/// Version of the table. Recorded with every decision. A replay compares decisions of older versions under
/// [`ALIASES`].
pub const RULES: u16 = 8;

/// Rows of versions 1 to 7 that version 8 merged, each with the row that has its conditions now.
pub const ALIASES: &[(&str, &str)] = &[
    ("created/gone", "early/group-gone"),
    ("relabelled/retain-members", "relabelled/retain-group"),
    ("relabelled/refused-members", "relabelled/refused-group"),
    ("retained/mend-group-policy", "retained/mend-policies"),
    ("retained/refused-policies", "retained/refused"),
    ("release/mend-group-policy", "release/mend-policies"),
    ("release/5-untie-foreign", "release/5-untie"),
    ("release/6-delete-content-kept", "release/6-delete-content"),
    ("release/late-untie", "release/5-untie"),
    ("release/late-clear-foreign", "release/5-clear-foreign"),
    ("release/late-untie-foreign", "release/5-untie"),
    ("release/late-rebuild", "release/5-rebuild"),
    ("release/late-rebuilding", "release/5-rebuilding"),
    ("release/late-clear", "release/5-clear-rebuilt"),
    ("release/late-drop-stub-kept", "release/late-drop-stub"),
    ("release/8-mend-labels-kept", "release/8-mend-labels"),
    ("release/8-drop-replaced-kept", "release/8-drop-replaced"),
    ("release/8-cleaned-kept", "release/8-cleaned"),
    ("release/late-refused", "release/rebuild-refused"),
    ("undo/e-kept-foreign", "undo/e-kept"),
    ("undo/e-untie-foreign", "undo/e-untie"),
    ("undo/e-snapshots-foreign", "undo/e-snapshots"),
    ("undo/e-contents-foreign", "undo/e-contents"),
    ("undo/e-going-foreign", "undo/e-going"),
    ("undo/f-stub-foreign", "undo/f-stub"),
    ("undo/f-import-foreign", "undo/f-import"),
    ("undo/f-importing-foreign", "undo/f-importing"),
    ("undo/f-import-free-foreign", "undo/f-import-free"),
    ("undo/f-late-foreign", "undo/f-late"),
    ("undo/f-failed-foreign", "undo/f-failed"),
    ("undo/f-retry-foreign", "undo/f-retry"),
    ("abandoned/mend-group-policy", "release/mend-policies"),
    ("abandoned/mend-policies", "release/mend-policies"),
    ("abandoned/content-torn", "release/content-torn"),
];

const fn unwind(code: Code) -> Action {
    Action::Unwind { code, transient: false }
}

const fn unwind_and_retry(code: Code) -> Action {
    Action::Unwind { code, transient: true }
}

use kit::Action::{Act, Advance, Finished, StepDown, Wait};

pub static TABLE: LazyLock<Vec<Row<GroupMachine>>> = LazyLock::new(|| {
    rows! {
        // ---- Several stages: epochs, the namespace, and a group that another client deletes before the pivot ----------
        "any/claim" Created | VSBound | Relabelled | Retained | Unwinding: Group[Older]
            => Act(Step::Claim), "the group was claimed by an earlier life of the daemon";
        "any/overtaken" Planned | Created | VSBound | Relabelled | Retained | Releasing | Unwinding | Abandoned: Group[Newer]
            => StepDown, "a newer daemon has claimed the group or its Backup: this one must not write again";
        "early/namespace-going" Created | VSBound | Relabelled | Retained: Group[Absent | Foreign | Ours | Terminating] Space[Going]
            => unwind(Code::NamespaceMissing), "the namespace is being deleted, and the snapshots go with it";
        "early/group-gone" Created | VSBound | Relabelled: Group[Absent | Foreign | Terminating] Space[Stands | Gone]
            => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshot";

        // ---- Planned: the journal has no object of this attempt -------------------------------------------------------
        "planned/adopt" Planned: Group[Ours | Older | Terminating]
            => Advance(Milestone::Created), "the object carries our run: an earlier create happened";
        "planned/foreign" Planned: Group[Foreign]
            => unwind(Code::ForeignObject), "another object has the name";
        when Planned: Group[Absent] {
            "planned/namespace-going": Space[Going]
                => unwind(Code::NamespaceMissing), "the namespace is being deleted, and nothing can be created in it any more";
            when Space[Stands | Gone] {
                "planned/gone": Create[Happened] Fresh[Yes]
                    => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshot, perhaps after its cut began: the next attempt uses another name";
                "planned/refused": Create[Refused]
                    => unwind(Code::Refused), "the API server refused the create for good";
                "planned/cut": Create[Untried | Unknown] Content[Delete | Retain | DeleteTerminating | RetainTerminating] Fresh[Yes]
                    => unwind_and_retry(Code::DeletedByOther), "the create happened, and another client deleted our VolumeGroupSnapshot after its cut began";
                when Create[Untried | Unknown] Content[Absent] Claims[Intact] {
                    "planned/too-late": CutDeadline[Passed] Fresh[Yes]
                        => unwind(Code::CutTimeout), "the deadline of the cut passed before the group could be created";
                    "planned/create": CutDeadline[Open] Refusals[Few]
                        => Act(Step::Create), "the name is computed, so a create of unknown fate is repeated and adopts";
                    "planned/tried-enough": CutDeadline[Open] Refusals[Many]
                        => unwind(Code::Refused), "the create failed as often as the limit allows";
                }
            }
            when Create[Untried | Unknown] Content[Absent] Claims[Changed] {
                "planned/claims-changed": Space[Stands] Fresh[Yes]
                    => unwind(Code::PlanOutdated), "a claim went or changed before the cut";
                "planned/namespace-gone": Space[Gone]
                    => unwind(Code::NamespaceMissing), "the namespace is gone, and its claims with it";
            }
        }

        // ---- Created: waits for the cut, then for the members. Evidence comes before deadlines ------------------------
        when Created: Group[Ours] Space[Stands | Gone] {
            "created/differs": Progress[Differs]
                => unwind(Code::MembersDiffer), "the controller froze other volumes than the plan: fail closed";
            "created/cut": Progress[Cut | Bound] CutRecorded[No]
                => Advance(Milestone::Cut), "every planned volume has its snapshot handle";
            "created/bound": Progress[Bound] CutRecorded[Yes]
                => Advance(Milestone::VsBound), "group ready, every member ready, bound, and naming the group";
            when Progress[Cut] CutRecorded[Yes] {
                "created/member-gone": Loss[Lost | Rebuilding | Hollow] Fresh[Yes]
                    => unwind_and_retry(Code::DeletedByOther), "another client deleted or released a member before the receipt, and the controllers never bind it to its group";
                "created/class-gone": Loss[None] GroupClass[Missing] Fresh[Yes]
                    => unwind(Code::GroupClass), "the VolumeGroupSnapshotClass was deleted, without which the controllers never make the members ready";
                "created/wait-ready": Loss[None] GroupClass[Exists] ReadyDeadline[Open]
                    => Wait(Waiting::Ready), "a ready group does not mean ready members";
                "created/ready-too-late": Loss[None] GroupClass[Exists] ReadyDeadline[Passed] Fresh[Yes]
                    => unwind(Code::ReadyTimeout), "the members did not become ready in time";
            }
            when Progress[Nothing | Frozen] {
                "created/class-gone-uncut": GroupClass[Missing] Fresh[Yes]
                    => unwind(Code::GroupClass), "the VolumeGroupSnapshotClass was deleted, without which the controllers never cut the group";
                when GroupClass[Exists] {
                    "created/unsupported": DriverError[Unsupported]
                        => unwind(Code::DriverCannot), "the driver has no group controller";
                    "created/error-grace": DriverError[Final] Grace[Open]
                        => Wait(Waiting::DriverGrace), "a final error may heal, for a short time";
                    "created/error": DriverError[Final] Grace[Passed] Fresh[Yes]
                        => unwind(Code::DriverFailed), "the sidecar retries final errors in a hot loop: do not leave it hammering";
                    "created/cut-too-late": DriverError[None | Passing] CutDeadline[Passed] Fresh[Yes]
                        => unwind(Code::CutTimeout), "no cut before csiSnapshotTimeout";
                }
            }
            when GroupClass[Exists] DriverError[None | Passing] CutDeadline[Open] {
                "created/wait-cut": Progress[Frozen]
                    => Wait(Waiting::Cut), "the controllers are at work";
                "created/wait-frozen": Progress[Nothing] Claims[Intact]
                    => Wait(Waiting::Cut), "the controllers are at work";
                "created/claims-changed": Progress[Nothing] Claims[Changed] Fresh[Yes]
                    => unwind(Code::PlanOutdated), "a PVC was deleted or changed before the controller froze the group";
            }
        }

        // ---- VSBound, Relabelled: the receipt is durable. If another client destroys the group, roll back and cut again
        when VSBound | Relabelled: Group[Ours] Space[Stands | Gone] {
            "early/content-gone": Content[Absent | DeleteTerminating | RetainTerminating]
                => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshotContent";
            "early/member-gone": Content[Delete | Retain] Loss[Lost | Rebuilding | Hollow]
                => unwind_and_retry(Code::DeletedByOther), "another client deleted a member; its storage is freed only with the group";
        }
        when VSBound: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[None] {
            "bound/too-far": Atomicity[TooFar]
                => unwind(Code::NotAtomic), "the members are not of one moment, or that is unknown, and the plan requires it: fail closed while everything can be freed";
            when Atomicity[Accepted] {
                "bound/relabel": Labels[Missing] Refusals[Few]
                    => Act(Step::Relabel), "members carry labels and receipt before anything is retained";
                "bound/refused": Labels[Missing] Refusals[Many]
                    => unwind(Code::Refused), "the API server keeps refusing the labels; the run can still be rolled back";
                "bound/relabelled": Labels[Complete]
                    => Advance(Milestone::Relabelled), "all members carry labels and receipt";
            }
        }
        when Relabelled: Group[Ours] Space[Stands | Gone] Content[Delete | Retain] Loss[None] {
            "relabelled/retain-group": Retention[Missing] Refusals[Few]
                => Act(Step::Retain), "the group content and every member content have to retain the storage: the policy of a member content is a copy";
            "relabelled/refused-group": Retention[Missing] Refusals[Many]
                => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
            "relabelled/retained": Retention[Complete]
                => Advance(Milestone::Retained), "every content retains the storage";
        }

        // ---- Retained: the last look before the pivot -----------------------------------------------------------------
        when Retained: Group[Ours] Space[Stands | Gone] Fresh[Yes] {
            "retained/content-gone": Content[Absent]
                => unwind_and_retry(Code::DeletedByOther), "another client deleted our VolumeGroupSnapshotContent; the controller creates it again with the policy of its class";
            when Content[Delete | Retain | DeleteTerminating | RetainTerminating] {
                "retained/mend-policies": Retention[Missing] Refusals[Few]
                    => Act(Step::Retain), "another client set the group content or a member content back to Delete";
                "retained/refused": Retention[Missing] Refusals[Many]
                    => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
                "retained/mend-labels": Retention[Complete] Labels[Missing] Refusals[Few]
                    => Act(Step::Relabel), "another client removed labels or the receipt";
                "retained/refused-labels": Retention[Complete] Labels[Missing] Refusals[Many]
                    => unwind(Code::Refused), "the API server keeps refusing the labels; the run can still be rolled back";
                when Retention[Complete] Labels[Complete] {
                    "retained/hollow": Loss[Hollow]
                        => unwind_and_retry(Code::DeletedByOther), "a member lost its content; the run can still be rolled back";
                    "retained/class-missing": Loss[None | Lost | Rebuilding] Class[Missing]
                        => unwind(Code::SnapshotClass), "without the VolumeSnapshotClass the controller never acknowledges the release";
                    "retained/pivot": Loss[None | Lost | Rebuilding] Class[Exists]
                        => Act(Step::ClearNames), "all conditions hold: from this intent on the run only goes forward, and rebuilds a lost member from its handle";
                }
            }
        }
        when Retained: Group[Absent | Foreign | Terminating] Space[Stands | Gone] Fresh[Yes] {
            "retained/group-gone": Content[Delete | DeleteTerminating]
                => unwind_and_retry(Code::DeletedByOther), "our VolumeGroupSnapshot was deleted and its content set to Delete: the storage goes with it";
            when Content[Retain | RetainTerminating] {
                "retained/gone-policies": Retention[Missing] Refusals[Few]
                    => Act(Step::Retain), "a member content was set back to Delete";
                "retained/gone-policies-refused": Retention[Missing] Refusals[Many]
                    => unwind(Code::Refused), "the API server keeps refusing the policy; the run can still be rolled back";
                "retained/gone-hollow": Retention[Complete] Loss[Hollow]
                    => unwind_and_retry(Code::DeletedByOther), "a member lost its content; the run can still be rolled back";
                "retained/gone-class-missing": Retention[Complete] Loss[None | Lost | Rebuilding] Class[Missing]
                    => unwind(Code::SnapshotClass), "without the VolumeSnapshotClass a rebuilt member never becomes ready";
                "retained/gone-forward": Retention[Complete] Loss[None | Lost | Rebuilding] Class[Exists]
                    => Act(Step::ClearNames), "our VolumeGroupSnapshot was deleted and the storage is retained: go forward, and rebuild the lost members while the content exists";
            }
            when Content[Absent] {
                "retained/all-gone": Shells[Snapshots | Contents | Leaving] Retention[Complete]
                    => Act(Step::ClearNames), "group and content are gone, the storage is retained: only the receipt can save it, so forward";
                "retained/all-undone": Shells[Snapshots | Contents | Leaving] Retention[Missing]
                    => unwind_and_retry(Code::DeletedByOther), "group and content are gone, and the remaining members were set to Delete: another daemon rolled the run back";
                "retained/nothing-left": Shells[None]
                    => Action::Stick { code: Code::DeletedByOther, advice: "nothing of the group is left in the cluster, although all of it retained the storage: another daemon that undid the run has freed it, anybody else has left it behind. See in the storage whether the handles of the receipt are still there, and abandon the run" },
                    "the cluster does not show whether the storage exists: going forward would promise members, a rollback would forget them";
            }
        }

        // ---- Releasing, Abandoned: the group is behind the pivot. Policies come first ---------------------------------
        when Releasing | Abandoned: Blocked[No] {
            "release/claim": Group[Older]
                => Act(Step::Claim), "the group was claimed by an earlier life of the daemon";
            "release/mend-policies": Group[Absent | Foreign | Ours | Terminating] Retention[Missing]
                => Act(Step::Retain), "a content under Delete takes storage with it: the group content all of it, a member content that of its snapshot";
            "release/content-torn": Group[Ours] Retention[Complete] Carrier[Stub | None]
                => Wait(Waiting::ContentAgain), "the controller makes it again, for the same cut and under the policy of its class: a delete of the group would take the storage along";
        }

        // ---- Releasing: the eight steps -------------------------------------------------------------------------------
        when Releasing: Blocked[No] Retention[Complete] {
            when Group[Ours] Carrier[Content | Terminating] {
                "release/1-clear-names": Names[Mixed | Set]
                    => Act(Step::ClearNames), "while a member names the living group, the controller puts the owner back";
                "release/2-detach": Names[Clear] Ties[Tied]
                    => Act(Step::Detach), "owner, in-group and as-source out, class in: one patch, so that as-source proves something";
                "release/3-acknowledge": Names[Clear] Ties[Free] Acknowledged[No]
                    => Wait(Waiting::Acknowledgement), "as-source comes back once the controller saw the released member";
                "release/5-delete-group": Names[Clear] Ties[Free] Acknowledged[Yes] Fresh[Yes]
                    => Act(Step::DeleteGroup), "nothing ties the members to the group any more";
            }
            "release/5-group-going": Group[Terminating]
                => Wait(Waiting::GroupGone), "the members that it deletes are rebuilt afterwards";

            // The group is gone. First nothing may own a member.
            when Group[Absent | Foreign] Ties[Tied] {
                "release/5-clear-foreign": NameClash[Yes]
                    => Act(Step::ClearNames), "the controller makes any group of that name the owner of a member that names it, again and again";
                "release/5-untie": NameClash[No]
                    => Act(Step::Detach), "a member is deleted with the group that owns it, and by the garbage collector if that is already gone";
            }
            when Group[Absent | Foreign] Ties[Free] {
                // Lost members are rebuilt while a content carries the group handle.
                when Carrier[Content | Stub] {
                    "release/5-rebuild": Loss[Lost] Refusals[Few] Fresh[Yes]
                        => Act(Step::Rebuild), "the storage is retained: content from the handle, snapshot from the content";
                    "release/5-rebuilding": Loss[Rebuilding]
                        => Wait(Waiting::Rebuilt), "rebuilt members become ready while a content carries the group handle";
                    "release/5-clear-rebuilt": Loss[None] GroupName[Unwanted]
                        => Act(Step::ClearNames), "a member that names a group which is gone makes the controller log errors for ever";
                }
                "release/late-stub": Carrier[None] Loss[Lost | Rebuilding] Refusals[Few]
                    => Act(Step::MakeStub), "a member was lost late: rebuilt members need a content that carries the group handle";
                "release/stub-refused": Carrier[None] Loss[Rebuilding] Refusals[Many]
                    => Action::Stick { code: Code::Refused, advice: "the storage is retained and its handles are in the receipt: let Stillpoint create VolumeGroupSnapshotContents again and resume the run, and the members become ready" },
                    "the API server keeps refusing the stub content";
                when Carrier[Content | Stub | None] {
                    "release/rebuild-refused": Loss[Lost] Refusals[Many]
                        => Action::Stick { code: Code::Refused, advice: "the storage is retained and its handles are in the receipt: give back what the API server misses (often the namespace) and resume the run, and the members are rebuilt" },
                        "the API server keeps refusing the rebuild, often because the namespace is gone";
                    "release/hollow": Loss[Hollow]
                        => Action::Stick { code: Code::ContentLost, advice: "the storage is retained and its handle is in the receipt: delete the VolumeSnapshot of the member, and it is rebuilt from the handle" },
                        "a VolumeSnapshot without content cannot be repaired, and Stillpoint does not delete it";
                }
                // All members exist: the content goes, or the stub that stood in for it.
                when Loss[None] GroupName[Cleared | Missing | Restored | Taken] {
                    "release/6-delete-content": Carrier[Content] Fresh[Yes]
                        => Act(Step::DeleteContent), "all members exist without the group";
                    "release/late-drop-stub": Carrier[Stub]
                        => Act(Step::DropStub), "the rebuilt members are ready and do not need it any more";
                }
                when Carrier[Terminating] {
                    "release/6-mark": Marked[No]
                        => Act(Step::MarkContent), "without the annotation the sidecar never lets the content go";
                    "release/6-content-going": Marked[Yes]
                        => Wait(Waiting::ContentGone), "the sidecar takes its finalizer off";
                }
                // Group and content are gone, all members exist.
                when Carrier[None] Loss[None] {
                    "release/7-echo": GroupName[Missing] Echo[Open]
                        => Wait(Waiting::Echo), "a controller whose cache still has the group would own the members again";
                    "release/7-restore-names": GroupName[Missing] Echo[Passed]
                        => Act(Step::RestoreNames), "Velero recognises a member by the name of its group";
                    "release/7-clear-foreign": GroupName[Taken] Names[Mixed | Set]
                        => Act(Step::ClearNames), "the controller makes any group of that name the owner of a member that names it";
                    "release/7-name-taken": GroupName[Taken] Names[Clear]
                        => Action::Stick { code: Code::ForeignObject, advice: "all members are kept; their group's name cannot be put back while another VolumeGroupSnapshot has it, which would own them: delete that one, and the run goes on" },
                        "members that name a group are owned by whichever group has that name, and go with it";
                    when GroupName[Cleared | Unwanted | Restored] {
                        "release/8-mend-labels": Labels[Missing]
                            => Act(Step::Relabel), "another client removed labels or receipt of a member: nothing else says to which run it belongs";
                        "release/8-drop-replaced": Labels[Complete] Fresh[Yes] Replaced[Some]
                            => Act(Step::DropReplaced), "the replaced content of a rebuilt member still names its storage, and no controller deletes it";
                        "release/8-cleaned": Labels[Complete] Fresh[Yes] Replaced[None]
                            => Advance(Milestone::Cleaned), "recorded or rebuilt uid, ready, not terminating, content retained";
                    }
                }
            }
        }
        // A step is refused, or reverted by another client, again and again.
        "release/refused" Releasing: Group[Absent | Foreign | Ours | Older | Terminating] Blocked[Yes]
            => Action::Stick { code: Code::Refused, advice: "nothing is lost: the storage is retained, and its handles are in the receipt. Let Stillpoint do what the API server refuses (often an admission policy or a webhook), and resume the run; or end it with its storage kept: stillpoint groups abandon" },
            "a step of the release was refused, or reverted by another client, as often as the limits allow";

        // ---- Abandoned after the pivot: nothing is deleted; ends once the storage is verified as retained -------------
        when Abandoned: Blocked[No] Retention[Complete] Fresh[Yes] {
            "abandoned/failed": Group[Absent | Foreign | Ours | Terminating] Carrier[Content | Terminating]
                => Advance(Milestone::Failed), "every existing content retains the storage, and the receipt names all of it";
            "abandoned/failed-bare": Group[Absent | Foreign | Terminating] Carrier[Stub | None]
                => Advance(Milestone::Failed), "every existing content retains the storage, and the receipt names all of it";
        }
        "abandoned/refused" Abandoned: Group[Absent | Foreign | Ours | Older | Terminating] Blocked[Yes]
            => Action::Stick { code: Code::Refused, advice: "let Stillpoint set the deletionPolicy of the contents of this run to Retain, and resume the run; or end it as it is: stillpoint groups abandon --keep-storage, once more" },
            "a content could not be made to retain its storage, as often as the limits allow";

        // ---- Unwinding: ends by freeing the storage, independent of the policy of the class ---------------------------
        // First, everything under Delete.
        when Unwinding: Retaining[Some] {
            "undo/a-free": Group[Absent | Foreign | Ours] Content[Delete | Retain | DeleteTerminating | RetainTerminating]
                => Act(Step::UndoFree), "a content that retains the storage would leak it";
            "undo/a-free-members": Group[Ours] Content[Absent]
                => Act(Step::UndoFree), "a content that retains the storage would leak it";
            "undo/c-going-free": Group[Terminating]
                => Act(Step::UndoFree), "a group that another client deletes must not leave retained storage behind";
        }
        // Then the group, which takes its content along.
        when Unwinding: Group[Ours] Retaining[None] {
            "undo/c-delete-bare": Content[Absent] Fresh[Yes]
                => Act(Step::UndoDeleteGroup), "a group that was refused never gets a finalizer: do not wait for one";
            when Content[Delete | Retain | DeleteTerminating | RetainTerminating] {
                "undo/b-protection": Protection[Pending]
                    => Wait(Waiting::Protection), "a group that is deleted before its finalizers leaks content and storage";
                "undo/c-delete": Protection[Complete] Fresh[Yes]
                    => Act(Step::UndoDeleteGroup), "with Delete everywhere the group takes content, members and storage along";
            }
        }
        when Unwinding: Group[Terminating] Retaining[None] {
            "undo/c-going": Content[Absent | Delete | Retain]
                => Wait(Waiting::GroupGone), "the controller deletes content and members";
            when Content[DeleteTerminating | RetainTerminating] {
                "undo/c-freeing": DriverError[None | Final | Unsupported]
                    => Wait(Waiting::StorageFreed), "the group goes once its content has gone, and that once the driver has freed the storage";
                "undo/c-unanswered": DriverError[Passing]
                    => Wait(Waiting::DriverAnswer), "the csi-snapshotter keeps a content until it knows whether the driver cut it";
            }
        }
        // The group is gone: its content.
        when Unwinding: Group[Absent | Foreign] Retaining[None] {
            when Content[Delete | Retain] {
                "undo/d-protection": Protection[Pending]
                    => Wait(Waiting::Protection), "a content that is deleted before it has its finalizer takes the handles of its cut with it";
                "undo/d-delete-content": Protection[Complete]
                    => Act(Step::UndoDeleteContent), "the controller judges by its cache and may have left the content";
            }
            when Content[DeleteTerminating | RetainTerminating] {
                "undo/d-mark": Marked[No]
                    => Act(Step::UndoDeleteContent), "without the annotation the sidecar never frees the storage";
                "undo/d-going": Marked[Yes] DriverError[None | Final | Unsupported]
                    => Wait(Waiting::StorageFreed), "the sidecar frees the storage, then the content goes";
                "undo/d-unanswered": Marked[Yes] DriverError[Passing]
                    => Wait(Waiting::DriverAnswer), "the csi-snapshotter keeps a content until it knows whether the driver cut it";
            }
        }
        // Group and content are gone: a create of unknown fate.
        when Unwinding: Group[Absent | Foreign] Content[Absent] Create[Unknown] {
            "undo/repeat-create": Refusals[Few]
                => Act(Step::UndoCreate), "a create of unknown fate is repeated, so that there is something certain to delete";
            "undo/e-unknown": Refusals[Many] LateWindow[Open]
                => Wait(Waiting::LateContent), "the create could not be repeated: wait for evidence that it happened";
            "undo/e-unknown-failed": Refusals[Many] LateWindow[Passed] Fresh[Yes]
                => Advance(Milestone::Failed), "nothing came: the create never happened";
        }
        // The objects of the members.
        when Unwinding: Group[Absent | Foreign] Content[Absent] Create[Untried | Refused | Happened] {
            when Shells[Snapshots | Leaving] NameClash[Yes] {
                "undo/e-free-foreign": Retaining[Some]
                    => Act(Step::UndoFree), "a member that names the group was not released: it must not look released once its name is cleared";
                "undo/e-clear-foreign": Retaining[None]
                    => Act(Step::ClearNames), "the controller keeps a snapshot that names a group while any group has that name";
            }
            "undo/e-untie": Shells[Snapshots | Leaving] NameClash[No] Ties[Tied]
                => Act(Step::Detach), "the controller takes the in-group finalizer off only while the member names its group";
            when Shells[Snapshots] NameClash[No] Ties[Free] {
                "undo/e-kept": Names[Clear] Retaining[Some]
                    => Action::Stick { code: Code::DeletedByOther, advice: "the members stand, and their storage is retained: nothing is deleted. Keep them, or import their storage by its handles into contents of your own, which the run then leaves alone; or delete their VolumeSnapshots and VolumeSnapshotContents when the storage is not wanted any more, and the run goes on and has it freed; or end the run with its storage kept: stillpoint groups abandon --keep-storage" },
                    "another daemon or client released the members: a rollback does not decide whether they are needed";
                "undo/e-snapshots-named": Names[Mixed | Set] Retaining[Some]
                    => Act(Step::UndoDeleteSnapshots), "a member that names the group was not released: its storage was freed with the group's content";
                "undo/e-snapshots": Retaining[None]
                    => Act(Step::UndoDeleteSnapshots), "shells without storage behind them";
            }
            "undo/e-going": Shells[Leaving] NameClash[No] Ties[Free]
                => Wait(Waiting::ShellsGone), "the controller retries their deletion by backoff only, up to minutes";
            "undo/e-contents": Shells[Contents]
                => Act(Step::UndoDeleteContents), "shells without storage behind them";
            "undo/f-stub": Shells[None] Stub[Exists]
                => Act(Step::DropStub), "an earlier incarnation of the daemon created it, and no controller deletes it";
            when Shells[None] Stub[Absent] {
                "undo/f-import": Import[Absent] Storage[Doubtful] Fresh[Yes]
                    => Act(Step::UndoImport), "the content went in another way than by our delete: only the driver knows whether it has the group";
                "undo/f-importing": Import[Asked | Going]
                    => Wait(Waiting::StorageFreed), "the csi-snapshotter asks the driver, and frees what the driver has";
                "undo/f-import-free": Import[Held | Unknown]
                    => Act(Step::UndoFreeImport), "a static content that is bound to nothing is freed by its deletion, if the driver has it";
            }
        }
        // Nothing is left.
        when Unwinding: Group[Absent | Foreign] Content[Absent] Shells[None] Stub[Absent] Import[Absent] Storage[Settled] {
            "undo/f-never": Create[Untried | Refused] AfterUndo[Fail]
                => Advance(Milestone::Failed), "nothing was ever created";
            "undo/f-never-retry": Create[Untried | Refused] AfterUndo[Retry]
                => Advance(Milestone::Retried), "nothing was ever created, and another attempt may help";
            "undo/f-late": Create[Happened] LateWindow[Open]
                => Wait(Waiting::LateContent), "a controller that had the group in its cache makes the content late";
            "undo/f-failed": Create[Happened] LateWindow[Passed] Fresh[Yes] AfterUndo[Fail]
                => Advance(Milestone::Failed), "nothing is left of ours";
            "undo/f-retry": Create[Happened] LateWindow[Passed] Fresh[Yes] AfterUndo[Retry]
                => Advance(Milestone::Retried), "nothing is left of ours, and another attempt may help";
        }

        // ---- The end --------------------------------------------------------------------------------------------------
        "cleaned/complete" Cleaned: => Advance(Milestone::Completed), "handed over: the members are the Backup's items";
        "end/rest" Completed | Failed: => Finished, "the run is over";
    }
});
