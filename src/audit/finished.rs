//! Repeats the decision about the end of a Backup, from the ends of its groups.

use super::streams::{Folded, Stream, Streams};
use crate::domain::problem::Code;
use crate::machine::backup::{self, AskedGroup, BackupRun, Ends, Event, FailedGroup, GroupEnd};
use crate::machine::group::GroupRun;
use crate::machine::group::Stage;

/// The result of the comparison.
pub(super) enum Compared {
    /// The same end.
    Same,
    /// The decision now gives another end: that end, and the first difference.
    Different(String, String),
    /// The stream of a group is broken, so the end of the group is unknown.
    Unknown,
}

/// Compares the recorded end of a Backup with the end that follows from the current state of its groups.
pub(super) fn compare(run: &BackupRun, streams: &Streams, recorded: &Event) -> Compared {
    if run.groups.iter().any(|group| streams.get(group.run).is_some_and(|stream| stream.folded.is_none())) {
        return Compared::Unknown;
    }
    let ends: Ends = run.groups.iter().map(|group| end(group, streams.get(group.run))).collect();
    let Some(now) = backup::decide(run, &ends) else {
        let open = run.groups.iter().zip(&ends).find(|(_, end)| end.is_none());
        let why = open.map_or_else(
            || "it has ended already".to_owned(),
            |(group, _)| format!("group {}/{} has not ended", group.namespace, group.group),
        );
        return Compared::Different("unfinished".to_owned(), why);
    };
    let (said, says) = (outline(recorded), outline(&now));
    if said == says { Compared::Same } else { Compared::Different(says, format!("the record says {said}")) }
}

fn end(group: &AskedGroup, stream: Option<&Stream>) -> Option<GroupEnd> {
    match stream.map(|stream| &stream.folded) {
        Some(Some(Folded::Group(run))) => match run.stage {
            Stage::Completed => Some(Ok(Vec::new())),
            Stage::Failed => Some(Err(failed(group, reason(run)))),
            _ => None,
        },
        // The plan of this group never became durable.
        None => Some(Err(failed(group, Code::PlanOutdated))),
        Some(_) => None,
    }
}

fn reason(run: &GroupRun) -> Code {
    run.reason.as_ref().map_or(Code::Internal, |reason| reason.code)
}

fn failed(group: &AskedGroup, code: Code) -> FailedGroup {
    let AskedGroup { namespace, group, .. } = group.clone();
    FailedGroup { namespace, group, code, message: String::new() }
}

/// The phase, and the failed groups with their codes. Messages are left out, because they may have been
/// shortened. Warnings are left out, because they do not affect the decision.
fn outline(event: &Event) -> String {
    match event {
        Event::Accepted { .. } => "accepted".to_owned(),
        Event::Finished { phase, failed, .. } => {
            let one = |group: &FailedGroup| format!(" {}/{} {}", group.namespace, group.group, group.code);
            let failed: String = failed.iter().map(one).collect();
            format!("{}{failed}", phase.name())
        }
    }
}
