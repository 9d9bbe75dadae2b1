//! Says which records stay in the live journal: what an open stream refers to, and what a holding stream needs.

use uuid::Uuid;

use super::{Decoded, decode, kind};
use crate::journal::{Options, Record};
use crate::machine::backup::earlier::Event;
use crate::machine::backup::{self, Timed};
use crate::machine::group::{self, Reached};

/// Options to open a journal of Stillpoint. The groups of a Backup that has not ended stay in the live journal,
/// because the Backup needs their ends when it resumes. So do the receipts of groups whose storage is not known
/// to be freed, and the list of runs of their Backup.
pub fn journal_options() -> Options {
    Options { links, keeps, ..Options::default() }
}

/// Whether a record is a part of a receipt, or of the list of runs of a Backup. A record that cannot be decoded
/// stays.
fn keeps(record: &Record) -> bool {
    match record.kind {
        kind::GROUP_PLANNED
        | kind::GROUP_RECEIPT_PART
        | kind::GROUP_RECONSTRUCTED
        | kind::BACKUP_ACCEPTED
        | kind::BACKUP_FINISHED
        | kind::BACKUP_PLANNED
        | kind::BACKUP_PART
        | kind::BACKUP_REACHED => true,
        kind::GROUP_REACHED => match decode(record) {
            Ok(Decoded::Group(group::Timed {
                event: group::Event::MilestoneReached { reached, .. },
                ..
            })) => {
                matches!(&reached, Reached::VsBound(_))
                    || matches!(&reached, Reached::Cleaned(rebuilt) if !rebuilt.is_empty())
            }
            _ => true,
        },
        _ => false,
    }
}

/// The groups of a Backup: all of them in a record of an earlier release, one in the part with its plan.
fn links(record: &Record) -> Vec<Uuid> {
    if !matches!(record.kind, kind::BACKUP_ACCEPTED | kind::BACKUP_PART) {
        return vec![];
    }
    match decode(record) {
        Ok(Decoded::EarlierBackup { event: Event::Accepted { groups, .. }, .. }) => {
            groups.iter().map(|group| group.run.0).collect()
        }
        Ok(Decoded::Backup(Timed { event: backup::Event::Part(part), .. })) => vec![part.plan.run.0],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::StreamId;
    use crate::domain::plan::BackupRef;
    use crate::domain::time::Timestamp;
    use crate::machine::backup::AskedGroup;
    use crate::records::encode_earlier_backup;

    #[test]
    fn journal_and_core_share_the_stream_namespace() {
        let expected = Uuid::new_v5(&crate::domain::ids::STREAM_NAMESPACE, b"journal");
        assert_eq!(crate::journal::repair::stream(), expected);
    }

    #[test]
    fn an_accepted_backup_refers_to_its_groups() {
        let runs = [1, 2].map(|number| StreamId(Uuid::from_u128(number)));
        let asked = |run| AskedGroup { namespace: "shop".to_owned(), group: "db".to_owned(), run };
        let accepted = Event::Accepted {
            backup: BackupRef { namespace: "velero".to_owned(), name: "nightly".to_owned(), uid: "u".into() },
            label_key: "app".to_owned(),
            groups: runs.map(asked).to_vec(),
            refused: vec![],
            warnings: vec![],
        };
        let mut record = encode_earlier_backup(&accepted, Timestamp(1)).expect("it fits");
        let links = journal_options().links;
        assert_eq!(links(&record), runs.map(|run| run.0));
        record.payload.truncate(3);
        assert!(links(&record).is_empty(), "a record that cannot be read refers to no stream");
    }

    #[test]
    fn plan_of_group_refers_to_its_run() {
        let plan = crate::records::tests::samples::plan(2, 40);
        let run = plan.run;
        let part = backup::BackupPart { part: 0, index: 0, plan: std::sync::Arc::new(plan) };
        let timed = Timed { at: Timestamp(1), event: backup::Event::Part(part) };
        let record = crate::records::encode_backup(&timed).expect("it fits");
        assert_eq!((journal_options().links)(&record), [run.0]);
    }
}
