//! Generates a long journal of real records: the Backup and the group of the first release, killed once,
//! repeated.
//!
//! Each repetition has its own Backup and run, with their own ids in their records. A replay therefore folds
//! and decides as it would for a cluster with that many Backups.

use std::path::Path;

use futures::future::join_all;
use stillpoint::domain::ids::{StreamId, Uid};
use stillpoint::journal::{Journal, Record, StreamState, export};
use stillpoint::machine::backup::earlier;
use stillpoint::machine::group::Event;
use stillpoint::machine::group::Timed;
use stillpoint::records::journal_options;
use stillpoint::records::{Decoded, decode, encode_earlier_backup, encode_group};

/// Records of one Backup and its group.
struct Template {
    accepted: Decoded,
    planned: Decoded,
    /// Records that follow the plan, and that are the same in every run.
    rest: Vec<Record>,
    finished: Record,
}

fn template() -> Template {
    let text = include_str!("../../fixtures/journals/0.1.0/journal.jsonl");
    let mut records: Vec<Record> =
        export::import(text).expect("exported lines").into_iter().map(|entry| entry.record).collect();
    let finished = records.pop().expect("the end of the Backup");
    let rest = records.split_off(2);
    let [accepted, planned] = [0, 1].map(|at: usize| decode(&records[at]).expect("a known record"));
    Template { accepted, planned, rest, finished }
}

/// Returns the number of records of one Backup with its group.
pub fn records_of_one() -> usize {
    template().rest.len() + 3
}

impl Template {
    /// Returns the records of repetition `number`: of its Backup, of its run, and the end of its Backup.
    fn records(&self, number: usize) -> (StreamId, StreamId, [Vec<Record>; 3]) {
        let uid = Uid(format!("5f0c2b1e-7a34-4c56-9b9e-{number:012x}"));
        let (Decoded::EarlierBackup { event, at }, Decoded::Group(planned)) = (&self.accepted, &self.planned)
        else {
            panic!("a Backup and then its plan");
        };
        let Event::Planned(plan) = &planned.event else { panic!("a plan") };
        let mut plan = plan.clone();
        let run = StreamId::of_group(&uid.0, &plan.namespace, &plan.label_key, &plan.group);
        plan.run = run;
        plan.backup.uid = uid.clone();
        let mut event = event.clone();
        if let earlier::Event::Accepted { backup, groups, .. } = &mut event {
            backup.uid = uid.clone();
            groups.iter_mut().for_each(|group| group.run = run);
        }
        let accepted = encode_earlier_backup(&event, *at).expect("it fits");
        let planned = encode_group(&Timed { at: planned.at, event: Event::Planned(plan) }).expect("it fits");
        let of_run = std::iter::once(planned).chain(self.rest.iter().cloned()).collect();
        (StreamId::of_backup(&uid.0), run, [vec![accepted], of_run, vec![self.finished.clone()]])
    }
}

/// Fills a new journal with at least `records` records. Returns their number.
pub async fn fill(dir: &Path, records: usize) -> u64 {
    let template = template();
    let (journal, _) = Journal::open_thread(dir, journal_options()).expect("a new journal");
    let all: Vec<usize> = (0..records.div_ceil(records_of_one())).collect();
    let one = |number: usize| {
        let (backup, run, [accepted, of_run, finished]) = template.records(number);
        let journal = journal.clone();
        async move {
            journal.append(backup, 0, accepted, StreamState::Open).await.expect("appended");
            journal.append(run, 0, of_run, StreamState::Finished).await.expect("appended");
            journal.append(backup, 1, finished, StreamState::Finished).await.expect("appended");
        }
    };
    for some in all.chunks(64) {
        join_all(some.iter().map(|number| one(*number))).await;
    }
    journal.head().position
}
