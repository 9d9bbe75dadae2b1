//! The journal of the first release, as entries and as a directory; and a journal of the current release.

use tempfile::TempDir;

use crate::journal::export::import;
use crate::journal::{Entry, Journal, StreamState};
use crate::records::journal_options;

/// The entries of the journal of the first release.
pub fn fixture() -> Vec<Entry> {
    let text = include_str!("../../../fixtures/journals/0.1.0/journal.jsonl");
    import(text).expect("exported lines")
}

/// Entries whose decisions this release can repeat.
pub fn present() -> Vec<Entry> {
    let text = include_str!("../../../migrations/0003_asked/after/journal.jsonl");
    import(text).expect("exported lines")
}

/// A directory with the records of the first release.
pub fn directory() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (journal, _) = Journal::open_thread(dir.path(), journal_options()).expect("opened");
    for entry in fixture() {
        let append = journal.append(entry.stream, entry.seq - 1, vec![entry.record], StreamState::Finished);
        runtime.block_on(append).expect("appended");
    }
    dir
}
