//! Publishes all reasons why groups of a Backup were refused or failed, for users who read them after the
//! Events have expired.
//!
//! | where | content |
//! |---|---|
//! | GroupSnapshot of a run | why it failed ([`super::projection`]) |
//! | GroupSnapshot of a refused group, in state `Refused` | why, and how to fix it; it has no run |
//! | annotation `stillpoint.dev/errors` of the Backup | all of them, those first that have no GroupSnapshot |
//! | annotation `stillpoint.dev/warnings` of the Backup | all warnings |
//!
//! `status.failureReason` has the first two, and names these places.

use std::collections::BTreeMap;

use futures::StreamExt;

use crate::cluster::kinds::{GroupSnapshotBackupRef, GroupSnapshotSpec, GroupSnapshotStatus, JournalHead};
use crate::cluster::observe;
use crate::cluster::project::Shown;
use crate::domain::ids::{ObjectId, StreamId};
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::names;
use crate::domain::problem::Code;
use crate::engine::driver::Context;
use crate::engine::events;
use crate::engine::projection;
use crate::machine::backup::{BackupRun, FailedGroup};

/// State of the GroupSnapshot of a group that has no run.
pub const REFUSED: &str = "Refused";
/// Number of refusals by the API server after which a refused group is not published: its namespace may be
/// terminating. The annotation has the reason.
const TRIES: u32 = 3;
/// Number of GroupSnapshots of one Backup that are written concurrently.
const AT_ONCE: usize = 8;

/// Publishes the refused groups of a Backup. `is_new`: this incarnation accepted the Backup.
pub async fn show_refused(context: &Context, run: &BackupRun, is_new: bool) {
    let refused = run.state.refused().iter().filter(|refused| !refused.group.is_empty()).collect();
    show(context, run, refused, is_new).await;
}

/// Publishes groups of a Backup that have no run.
pub async fn show(context: &Context, run: &BackupRun, groups: Vec<&FailedGroup>, is_new: bool) {
    let mut shown = Vec::new();
    for refused in groups {
        shown.push(show_one(context, run, refused, is_new));
    }
    futures::stream::iter(shown).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn show_one(context: &Context, run: &BackupRun, refused: &FailedGroup, is_new: bool) {
    let id =
        StreamId::of_group(&run.plan.backup.uid.0, &refused.namespace, &run.plan.label_key, &refused.group);
    // A run that was recovered from the cluster, or planned in an earlier incarnation, publishes itself.
    if !context.journal.stream(id).await.is_ok_and(|entries| entries.is_empty()) {
        return;
    }
    let name = names::refused_group_projection(&refused.group, id);
    let (spec, status) = (spec(run, refused), status(context, run, refused));
    let shown = Shown {
        namespace: &refused.namespace,
        name: &name,
        // Without the label of a run: there is none.
        labels: &projection::backup_labels(&run.plan.backup),
        spec: &spec,
        status: &status,
    };
    let (mut failures, mut refusals) = (0_u32, 0);
    loop {
        let turn = context.adapter.turn_to_show().await;
        let problem =
            match context.adapter.project_group_snapshot(turn, &shown, is_new && failures == 0).await {
                Ok(uid) => {
                    let object = ObjectId { namespace: refused.namespace.clone(), name, uid };
                    let note = format!("{} {}", refused.code, refused.message);
                    let event = events::of_run(&object, true, REFUSED, &note, run.accepted_at());
                    return context.recorder.record(event);
                }
                Err(problem) => problem,
            };
        tracing::warn!(%problem, "cannot show a refused group in a GroupSnapshot");
        failures = failures.saturating_add(1);
        refusals += u32::from(problem.code == Code::Refused);
        // If the namespace is gone, the annotation of the Backup has the reason.
        if problem.code == Code::NamespaceMissing || refusals >= TRIES {
            return;
        }
        context.clock.pause(failures).await;
    }
}

fn spec(run: &BackupRun, refused: &FailedGroup) -> GroupSnapshotSpec {
    GroupSnapshotSpec {
        backup_ref: Some(GroupSnapshotBackupRef {
            namespace: run.plan.backup.namespace.clone(),
            name: run.plan.backup.name.clone(),
            uid: run.plan.backup.uid.to_string(),
        }),
        label_key: run.plan.label_key.clone(),
        group: refused.group.clone(),
        ..GroupSnapshotSpec::default()
    }
}

fn status(context: &Context, run: &BackupRun, refused: &FailedGroup) -> GroupSnapshotStatus {
    let (head, at) = (context.journal.head(), observe::api_time(run.accepted_at()));
    GroupSnapshotStatus {
        state: Some(REFUSED.to_owned()),
        start_time: at.clone(),
        completion_time: at,
        code: Some(refused.code.to_string()),
        message: Some(refused.message.clone()),
        journal: Some(JournalHead {
            position: i64::try_from(head.position).unwrap_or(i64::MAX),
            hash: head.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }),
        ..GroupSnapshotStatus::default()
    }
}

/// The annotations that a Backup ends with; none if there are no errors and no warnings.
pub fn annotations(run: &BackupRun) -> BTreeMap<&'static str, String> {
    // A namespace that does not exist has no GroupSnapshot.
    let (shown, bare): (Vec<_>, Vec<_>) =
        run.state.failed.iter().partition(|failed| !failed.group.is_empty());
    let errors: Vec<String> = bare.into_iter().chain(shown).map(FailedGroup::to_string).collect();
    let elsewhere =
        format!("kubectl get groupsnapshots -A -l {}={} -o wide", labels::BACKUP_UID, run.plan.backup.uid);
    [(labels::ERRORS, lines(&errors, &elsewhere)), (labels::WARNINGS, lines(&run.state.warnings, &elsewhere))]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

/// As many lines as an annotation holds. The last one states how many more there are, and where.
fn lines(all: &[String], elsewhere: &str) -> String {
    const LAST: usize = 256;
    let mut text = String::new();
    for (index, line) in all.iter().enumerate() {
        if text.len() + line.len() + LAST > limits::MAX_ANNOTATION_BYTES {
            return format!("{text}\nand {} more: {elsewhere}", all.len() - index);
        }
        if index > 0 {
            text.push('\n');
        }
        // A message of a driver may have several lines.
        text.push_str(&line.replace('\n', " "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::BackupRef;
    use crate::domain::time::Timestamp;
    use crate::machine::backup::BackupPlan;
    use crate::machine::backup::state::Accepted;

    fn run(failed: Vec<FailedGroup>, warnings: &[&str]) -> BackupRun {
        let backup =
            BackupRef { namespace: "stillpoint".into(), name: "nightly".into(), uid: "uid-1".into() };
        let warnings = warnings.iter().map(|warning| (*warning).to_owned()).collect();
        let accepted = Some(Accepted { groups: vec![], refused: failed, warnings });
        BackupRun::new(BackupPlan { backup, label_key: "app".into(), accepted }, Timestamp(1))
    }

    fn failed(namespace: &str, group: &str, message: &str) -> FailedGroup {
        let (namespace, group) = (namespace.to_owned(), group.to_owned());
        FailedGroup { namespace, group, code: Code::ClaimUnfit, message: message.to_owned() }
    }

    #[test]
    fn annotations_have_one_line_per_reason() {
        let run = run(vec![failed("shop", "db", "one\ntwo"), failed("gone", "", "missing")], &["careful"]);
        let all = annotations(&run);
        assert_eq!(all[labels::ERRORS], "SP0004 namespace gone: missing\nSP0004 group shop/db: one two");
        assert_eq!(all[labels::WARNINGS], "careful");
        assert_eq!(annotations(&self::run(vec![], &[])), BTreeMap::new());
    }

    #[test]
    fn annotations_are_bounded_and_count_the_rest() {
        let many = (0..256).map(|index| failed("shop", &format!("g{index}"), &"m".repeat(400))).collect();
        let text = annotations(&run(many, &[]))[labels::ERRORS].clone();
        assert!(text.len() <= limits::MAX_ANNOTATION_BYTES, "{}", text.len());
        let last = text.lines().last().expect("a line");
        let listed = text.lines().count() - 1;
        let rest =
            format!("and {} more: kubectl get groupsnapshots -A -l velero.io/backup-uid=uid-1", 256 - listed);
        assert!(last.starts_with(&rest), "{last}");
    }
}
