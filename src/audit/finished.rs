//! Repeats the decision about the end of a Backup, from the ends of its groups.

use super::record_text::group_stream;
use super::streams::{Folded, Stream, Streams};
use crate::domain::problem::Code;
use crate::machine::backup::earlier::{self, Finished};
use crate::machine::backup::{BackupRun, FailedGroup, GroupResult, RunEnd, end_of};
use crate::machine::kit::Stage as _;

/// The result of the comparison.
pub(super) enum Compared {
    /// The same end.
    Same,
    /// The decision now gives another end: that end, and the first difference.
    Different(String, String),
    /// The stream of a group is broken, so the end of the group is unknown.
    Unknown,
}

/// Compares the end of a Backup, as an earlier release recorded it, with the end that follows from the current
/// state of its groups.
pub(super) fn compare(run: &BackupRun, streams: &Streams, recorded: &Finished) -> Compared {
    let groups = &run.state.groups;
    if groups.iter().any(|group| streams.get(group.run).is_some_and(|stream| stream.folded.is_none())) {
        return Compared::Unknown;
    }
    let mut results = Vec::new();
    for group in groups {
        match result(streams.get(group.run)) {
            Some(result) => results.push(result),
            None => {
                let why = format!("group {}/{} has not ended", group.namespace, group.group);
                return Compared::Different("unfinished".to_owned(), why);
            }
        }
    }
    let (said, says) = (outline(recorded), outline(&earlier::end(run, results)));
    if said == says { Compared::Same } else { Compared::Different(says, format!("the record says {said}")) }
}

/// The first end that a Backup recorded and that is not the end of the run; none if all agree. Runs that the
/// replay does not have are left out.
pub(super) fn disagreement(run: &BackupRun, streams: &Streams, ends: &[RunEnd]) -> Option<String> {
    ends.iter().filter(|end| end.records > 0).find_map(|end| {
        let stream = streams.get(group_stream(run, end.index)?)?;
        let same = result(Some(stream)).is_some_and(|result| code(&result) == code(&end.result));
        let why = format!("it records another end of {}/{} than its stream", stream.namespace, stream.name);
        (!same && stream.folded.is_some()).then_some(why)
    })
}

/// How the run of a group ended; none while it has not.
fn result(stream: Option<&Stream>) -> Option<GroupResult> {
    match stream.map(|stream| &stream.folded) {
        Some(Some(Folded::Group(run))) => run.stage.is_final().then(|| end_of(run)),
        // The plan of this group never became durable.
        None => Some(GroupResult::never_planned()),
        Some(_) => None,
    }
}

/// The code of a failure; none if the group completed. Messages may have been shortened.
fn code(result: &GroupResult) -> Option<Code> {
    match result {
        GroupResult::Completed { .. } => None,
        GroupResult::Failed { code, .. } => Some(*code),
    }
}

/// The phase, and the failed groups with their codes. Messages are left out, because they may have been
/// shortened. Warnings are left out, because they do not affect the decision.
fn outline(Finished { phase, failed, .. }: &Finished) -> String {
    let one = |group: &FailedGroup| format!(" {}/{} {}", group.namespace, group.group, group.code);
    let failed: String = failed.iter().map(one).collect();
    format!("{}{failed}", phase.name())
}
