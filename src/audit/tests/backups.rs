//! A journal with a Backup of the Backup machine: how it reads, and that forged ends are found.

use std::sync::Arc;

use crate::audit::testing::{START, append, backup_ref, plan, script};
use crate::audit::{Row, describe, explain, replay, timeline};
use crate::domain::ids::StreamId;
use crate::domain::problem::Code;
use crate::journal::{Disk, Entry, Head, Journal, MemoryStore};
use crate::machine::backup::{
    BackupMachine, BackupPlan, BackupRun, Event, FormedGroups, GroupResult, GroupSeen, RunEnd, Seen, Timed,
    end_of,
};
use crate::machine::kit::{Logic, Next, Outcome, fold, fold_all, step};
use crate::records::{encode_backup, encode_group};

/// A Backup and its stream.
struct Writer {
    journal: Journal,
    stream: StreamId,
    seq: u64,
    run: Option<BackupRun>,
}

impl Writer {
    async fn write(&mut self, event: Event) {
        let timed = Timed { at: START, event };
        self.run = Some(fold(self.run.take(), &timed).expect("a legal event"));
        append(&self.journal, self.stream, self.seq, encode_backup(&timed).expect("it fits")).await;
        self.seq += 1;
    }

    /// Decides, and records what follows.
    async fn decide(&mut self, seen: &Seen) {
        let run = self.run.as_ref().expect("a run");
        let considered = step(&Logic::<BackupMachine>::default(), run, seen, START).expect("a decision");
        let grounds = considered.grounds();
        match considered.next {
            Next::Record { events, .. } => {
                for event in events {
                    self.write(event).await;
                }
            }
            Next::Act { step, effects } => {
                let marks = effects.iter().map(|(mark, _)| *mark).collect();
                self.write(Event::Intended { grounds, step, marks }).await;
            }
            other => panic!("nothing to record: {other:?}"),
        }
    }
}

/// The journal of a Backup with one group. `records` is what it records about the end of the group; by default,
/// the end.
pub(super) async fn journal(driver_fails: bool, recorded: Option<GroupResult>) -> Vec<Entry> {
    let (journal, _) = Journal::open_task(MemoryStore::open(&Disk::new()).expect("free")).expect("opened");
    let (plan, stream) = (plan(), StreamId::of_backup(&backup_ref().uid.0));
    let mut backup = Writer { journal: journal.clone(), stream, seq: 0, run: None };
    let label_key = plan.label_key.clone();
    let planned = BackupPlan { backup: backup_ref(), label_key, accepted: None };
    backup.write(Event::Planned(Box::new(planned))).await;
    let formed = FormedGroups { plans: vec![Arc::new(plan.clone())], ..FormedGroups::default() };
    let fresh = |groups| Seen { fresh: true, groups, ..Seen::default() };
    backup.decide(&Seen { formed: Some(Arc::new(formed)), ..fresh(vec![]) }).await;
    backup.decide(&fresh(vec![GroupSeen::Absent])).await;
    let records = script(None, driver_fails);
    for (seq, (_, timed)) in records.iter().enumerate() {
        append(&journal, plan.run, seq as u64, encode_group(timed).expect("it fits")).await;
    }
    let done = Outcome::Done { uid: String::new(), resource_version: String::new() };
    let step = crate::machine::backup::Step::StartGroups;
    backup.write(Event::StepCompleted { step, outcomes: vec![done] }).await;
    let run = fold_all(records.iter().map(|(_, timed)| timed)).expect("legal").expect("a run");
    let last =
        journal.stream(plan.run).await.expect("readable").last().map_or(Head::genesis().hash, |e| e.hash);
    let result = recorded.unwrap_or_else(|| end_of(&run));
    let end = RunEnd { index: 0, records: records.len() as u64, hash: last, result };
    backup.decide(&fresh(vec![GroupSeen::Ended(end)])).await;
    journal.entries(1, 1_000).await.expect("readable")
}

#[tokio::test]
async fn backup_reads_as_sentences() {
    let entries = journal(false, None).await;
    let rows = timeline(&entries);
    let own = rows.iter().filter_map(|row| match row {
        Row::Record { name, text, .. } if name == "nightly" => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(
        own.collect::<Vec<_>>(),
        [
            "planned the groups by label velero.io/volume-group",
            "plan of group shop/orders-db with 3 members",
            "reached formed [backup/form] 1 group",
            "intend start-groups [backup/start] 1 effect: StartRun",
            "ended start-groups 1 of 1 done",
            "reached completed [backup/completed] 1 group ended",
        ]
    );
    let last = entries.last().expect("entries");
    let explained = explain(&entries, last.position).expect("explained");
    let decision = explained.decision.expect("a decision");
    assert_eq!((decision.row.as_str(), decision.says.as_str()), ("backup/completed", "completed is reached"));
    assert_eq!(explained.stage.as_deref(), Some("InProgress"));
    let part = explain(&entries, 2).expect("explained").note.expect("a note");
    assert_eq!(
        part,
        "a part, the plan of group shop/orders-db with 3 members: it was decided together with formed at record 3"
    );
}

#[tokio::test]
async fn replay_repeats_decisions_of_backup() {
    for fails in [false, true] {
        let report = replay(&journal(fails, None).await);
        assert!(report.different.is_empty() && report.not_comparable == 0, "{report:#?}");
    }
}

#[tokio::test]
async fn replay_finds_forged_end_of_group() {
    let forged = GroupResult::Completed { warnings: vec![] };
    let entries = journal(true, Some(forged)).await;
    let report = replay(&entries);
    let [difference] = &report.different[..] else { panic!("{report:#?}") };
    assert_eq!(difference.recorded, "completed");
    assert_eq!(difference.why, "it records another end of shop/orders-db than its stream");
    assert_eq!(difference.position, entries.last().expect("entries").position, "{}", describe(&entries[0]));
    let other = GroupResult::Failed { code: Code::Internal, message: String::new() };
    assert_eq!(replay(&journal(true, Some(other)).await).different.len(), 1);
}
