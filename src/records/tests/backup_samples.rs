//! Events of the Backup machine.

use std::sync::Arc;

use super::samples::{backup_ref, failed, plan};
use crate::domain::problem::Code;
use crate::machine::backup::columns::Column;
use crate::machine::backup::event::{Ended, FormedAgain};
use crate::machine::backup::seen::Start;
use crate::machine::backup::{self, BackupPlan, GroupResult, Phase, Reached, RunEnd, earlier, fixed};
use crate::machine::kit::{Ask, DecisionRecord, OperatorRequest, Outcome, Reason, View};

/// Ends of that many groups, the odd ones failed, with this text.
pub fn ends(groups: u16, text: &str) -> Vec<RunEnd> {
    let result = |index: u16| match index % 2 {
        0 => GroupResult::Completed { warnings: vec![text.to_owned()] },
        _ => GroupResult::Failed { code: Code::DriverFailed, message: text.to_owned() },
    };
    let end = |index: u16| RunEnd { index, records: 20, hash: [7; 32], result: result(index) };
    (0..groups).map(end).collect()
}

/// An event of every shape of the Backup machine.
pub fn backup_events() -> Vec<backup::Event> {
    let view = View { members: vec![0, 7], ..View::blank::<Column>() };
    let grounds = |row: &str| DecisionRecord { row: row.into(), rules: 1, view: view.clone() };
    let plans = [Arc::new(plan(2, 40))];
    let (parts, formed) = fixed(&plans, vec![failed(3, "refused".into())], vec!["careful".into()]);
    let again = FormedAgain { groups: 1, hash: formed.hash, ends: ends(1, "changed") };
    let reached = |row, reached| backup::Event::MilestoneReached { grounds: grounds(row), reached };
    let ended = || Ended { ends: ends(2, "45.0 s apart") };
    let reason = Reason { code: Code::Internal, message: "why".into(), transient: false };
    let done = Outcome::Done { uid: String::new(), resource_version: String::new() };
    let refused = Outcome::Determinate { code: 409, message: "another plan".into() };
    let plan =
        BackupPlan { backup: backup_ref(), label_key: "velero.io/volume-group".into(), accepted: None };
    let mut events = vec![backup::Event::Planned(Box::new(plan))];
    events.extend(parts.into_iter().map(backup::Event::Part));
    events.extend([
        reached("backup/form", Reached::Formed(formed)),
        reached("backup/form-again", Reached::FormedAgain(again)),
        backup::Event::Intended {
            grounds: grounds("backup/start"),
            step: backup::Step::StartGroups,
            marks: vec![Start { index: 0 }, Start { index: 1 }],
        },
        backup::Event::StepCompleted { step: backup::Step::StartGroups, outcomes: vec![done, refused] },
        reached("backup/ends", Reached::GroupsEnded(ended())),
        reached("backup/completed", Reached::Completed(ended())),
        reached("backup/partially-failed", Reached::PartiallyFailed(ended())),
        reached("backup/failed", Reached::Failed(ended())),
        reached("backup/failed", Reached::Unwinding(reason.clone())),
        reached("backup/failed", Reached::Stuck(reason)),
        backup::Event::RequestReceived(OperatorRequest {
            ask: Ask::Resume,
            request: "7f3a0c55-48213".into(),
            by: "alice@desk".into(),
        }),
        backup::Event::Reconstructed(Box::new(earlier::Finished {
            phase: Phase::PartiallyFailed,
            failed: vec![failed(1, "why".into())],
            warnings: vec!["careful".into()],
        })),
    ]);
    events
}
