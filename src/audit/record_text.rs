//! What users read about the records of each machine, where the kit has no words for it.

use super::describe::why;
use super::streams::Folded;
use crate::domain::ids::StreamId;
use crate::domain::ids::StreamKind;
use crate::domain::text::count;
use crate::machine::backup::{self, BackupMachine, BackupPart, BackupPlan, BackupRun, earlier};
use crate::machine::group::event::ReceiptPart;
use crate::machine::group::reconstruct::Reconstructed;
use crate::machine::group::{self, GroupMachine, GroupRun};
use crate::machine::kit::{Machine, Run};

/// A machine whose records users read.
pub(super) trait RecordText: Machine {
    const KIND: StreamKind;
    /// Name of a part in JSON.
    const PART: &'static str;

    /// Namespace and name of the run.
    fn named(plan: &Self::Plan) -> (&str, &str);

    /// The plan, after the word `planned`.
    fn planned(plan: &Self::Plan) -> String;

    fn part(part: &Self::Part) -> String;

    fn reconstructed(found: &Self::Reconstructed) -> String;

    /// How the record of a reconstruction came about.
    fn why_reconstructed(found: &Self::Reconstructed) -> String;

    /// The evidence of a milestone: empty, or a space and the evidence.
    fn evidence(reached: &Self::Reached) -> String;

    /// Name of the member or child that an effect is about.
    fn member(run: &Run<Self>, index: u16) -> Option<&str>;

    /// The run, if the stream is of this machine.
    fn run(folded: &Folded) -> Option<&Run<Self>>;
}

impl RecordText for GroupMachine {
    const KIND: StreamKind = StreamKind::Group;
    const PART: &'static str = "ReceiptPart";

    fn named(plan: &Self::Plan) -> (&str, &str) {
        (&plan.namespace, &plan.group)
    }

    fn planned(plan: &Self::Plan) -> String {
        let (members, backup) = (count(plan.members.len(), "member"), &plan.backup);
        format!("{members} of {} for Backup {}/{}", plan.driver, backup.namespace, backup.name)
    }

    fn part(part: &ReceiptPart) -> String {
        let first = usize::from(part.first) + 1;
        format!("receipt of members {first} to {}", first + part.members.len().saturating_sub(1))
    }

    fn reconstructed(found: &Reconstructed) -> String {
        format!("reconstructed from the cluster as {}: {}", found.standing.name(), found.seen.join(", "))
    }

    fn why_reconstructed(found: &Reconstructed) -> String {
        let seen = found.seen.join(", ");
        format!("the journal was lost, and the run put together again from its cluster, which showed: {seen}")
    }

    fn evidence(reached: &group::Reached) -> String {
        use group::Reached;
        match reached {
            Reached::Created { uid } => format!(" uid {uid}"),
            Reached::Cut { group_handle } => format!(" handle {group_handle}"),
            Reached::VsBound(head) => format!(" receipt of {}", count(usize::from(head.members), "member")),
            Reached::Unwinding(reason) | Reached::Stuck(reason) => {
                format!(" {}", why(reason.code, &reason.message))
            }
            Reached::Cleaned(members) if !members.is_empty() => {
                let names: Vec<&str> = members.iter().map(|member| member.snapshot.name.as_str()).collect();
                format!(" rebuilt {}", names.join(", "))
            }
            _ => String::new(),
        }
    }

    fn member(run: &GroupRun, index: u16) -> Option<&str> {
        run.plan.members.get(usize::from(index)).map(|member| member.claim.as_str())
    }

    fn run(folded: &Folded) -> Option<&GroupRun> {
        match folded {
            Folded::Group(run) => Some(run),
            Folded::Backup(_) => None,
        }
    }
}

impl RecordText for BackupMachine {
    const KIND: StreamKind = StreamKind::Backup;
    const PART: &'static str = "PlanPart";

    fn named(plan: &BackupPlan) -> (&str, &str) {
        (&plan.backup.namespace, &plan.backup.name)
    }

    fn planned(plan: &BackupPlan) -> String {
        format!("the groups by label {}", plan.label_key)
    }

    fn part(part: &BackupPart) -> String {
        let plan = &part.plan;
        let members = count(plan.members.len(), "member");
        format!("plan of group {}/{} with {members}", plan.namespace, plan.group)
    }

    fn reconstructed(found: &earlier::Finished) -> String {
        format!("finished {}", found.phase.name())
    }

    fn why_reconstructed(_: &earlier::Finished) -> String {
        "a Backup ends when the last of its groups has ended".to_owned()
    }

    fn evidence(reached: &backup::Reached) -> String {
        use backup::Reached;
        match reached {
            Reached::Formed(formed) => match formed.refused.len() {
                0 => format!(" {}", count(usize::from(formed.groups), "group")),
                refused => format!(" {}, refused {refused}", count(usize::from(formed.groups), "group")),
            },
            Reached::FormedAgain(formed) => format!(" {}", count(usize::from(formed.groups), "group")),
            Reached::Unwinding(reason) | Reached::Stuck(reason) => {
                format!(" {}", why(reason.code, &reason.message))
            }
            _ => ends(reached.ends()),
        }
    }

    fn member(run: &BackupRun, index: u16) -> Option<&str> {
        run.state.groups.get(usize::from(index)).map(|group| group.group.as_str())
    }

    fn run(folded: &Folded) -> Option<&BackupRun> {
        match folded {
            Folded::Backup(run) => Some(run),
            Folded::Group(_) => None,
        }
    }
}

fn ends(ends: &[backup::RunEnd]) -> String {
    let failed = ends.iter().filter(|end| !end.result.is_completed()).count();
    match (ends.len(), failed) {
        (0, _) => String::new(),
        (all, 0) => format!(" {} ended", count(all, "group")),
        (all, failed) => format!(" {} ended, {failed} failed", count(all, "group")),
    }
}

/// Stream of a group of a Backup by its position.
pub(super) fn group_stream(run: &BackupRun, index: u16) -> Option<StreamId> {
    run.state.groups.get(usize::from(index)).map(|group| group.run)
}
