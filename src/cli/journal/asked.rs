//! The journal of a running daemon, as the daemon serves it through `daemon.sock`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::problems;
use crate::domain::problem::{About, Code, Problem};
use crate::engine::socket::{Address, Greeting, PAGE, PATIENCE, Request};
use crate::journal::archive::{self, Prefix, Vouched};
use crate::journal::export::import;
use crate::journal::{ChainProblem, Entry, Head, MAX_PAYLOAD_BYTES, Verification, Verifier};

/// Maximum size of one reply in bytes. Base64 and the other fields need less than twice the size of the
/// payloads.
const ANSWER_BYTES: u64 = (2 * PAGE * MAX_PAYLOAD_BYTES) as u64;

/// The reply of the daemon: all records up to the head that the daemon named first.
#[derive(Debug)]
pub struct Asked {
    /// Process id of the daemon.
    pub pid: u32,
    /// Epoch of the daemon.
    pub epoch: u64,
    /// Head of the daemon's journal.
    pub head: Head,
    /// The records up to that head.
    pub entries: Vec<Entry>,
    /// The archives before these records. The daemon does not read archives for clients.
    pub archives: Prefix,
    /// Copies of records in archives that are missing.
    pub carried: Vec<Entry>,
}

/// Number of requests to a daemon that archives records in the meantime.
const TRIES: u32 = 5;

/// Requests the records from the daemon that has the journal in `dir` open; none if no daemon listens there.
/// Archives are also searched in `elsewhere`.
///
/// # Errors
/// The reply of the daemon is invalid, or the daemon ends in the meantime.
pub fn ask(dir: &Path, elsewhere: Option<&Path>) -> Result<Option<Asked>, Problem> {
    let Ok(address) = Address::of(dir) else { return Ok(None) };
    for _ in 0..TRIES {
        let Ok(first) = UnixStream::connect(address.path()) else { return Ok(None) };
        let asked = pages(&address, first).map_err(|error| broken(dir, &error))?;
        if let Some((Greeting { pid, epoch, .. }, head, entries)) = asked {
            let first = entries.first();
            let cut = first.map_or(head, |first| Head { position: first.position - 1, hash: first.prev });
            let archives =
                Prefix::find(dir, elsewhere, cut).map_err(|error| problems::unreadable(dir, &error))?;
            let carried = archive::carried(&entries, archives.start().position);
            return Ok(Some(Asked { pid, epoch, head, entries, archives, carried }));
        }
    }
    Err(broken(dir, &io::Error::other("it archived records while they were read")))
}

/// The last durable record of the daemon that has the journal in `dir` open; none if the daemon does not
/// answer.
pub fn head(dir: &Path) -> Option<Head> {
    let address = Address::of(dir).ok()?;
    let (greeting, _) = page(UnixStream::connect(address.path()).ok()?, u64::MAX).ok()?;
    greeting.head.parse().ok()
}

/// All pages up to the head that the first page names; none if records were archived between two pages.
fn pages(address: &Address, first: UnixStream) -> io::Result<Option<(Greeting, Head, Vec<Entry>)>> {
    let (greeting, mut entries) = page(first, 1)?;
    let head: Head = greeting.head.parse().map_err(io::Error::other)?;
    while let Some(last) = entries.last()
        && last.position < head.position
    {
        let from = last.position.saturating_add(1);
        let (_, more) = page(UnixStream::connect(address.path())?, from)?;
        match more.first() {
            Some(first) if first.position > from => return Ok(None),
            Some(first) if first.position == from => entries.extend(more),
            _ => break,
        }
    }
    entries.retain(|entry| entry.position <= head.position);
    Ok(Some((greeting, head, entries)))
}

fn page(mut stream: UnixStream, from: u64) -> io::Result<(Greeting, Vec<Entry>)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    writeln!(stream, "{}", serde_json::to_string(&Request { from })?)?;
    let mut answer = BufReader::new(stream.take(ANSWER_BYTES));
    let (mut first, mut rest) = (String::new(), String::new());
    answer.read_line(&mut first)?;
    answer.read_to_string(&mut rest)?;
    let greeting: Greeting = serde_json::from_str(&first)?;
    match greeting.problem {
        Some(problem) => Err(io::Error::other(problem)),
        None => Ok((greeting, import(&rest).map_err(io::Error::other)?)),
    }
}

fn broken(dir: &Path, error: &io::Error) -> Problem {
    Problem::new(
        Code::JournalIo,
        About::new("Journal", "", &dir.display().to_string()),
        format!("the daemon that has it open did not answer through daemon.sock: {error}"),
        "try again; if it stays so, the daemon may be of another release",
    )
}

impl Asked {
    /// All entries in order, archived entries first.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        self.archives.entries().chain(self.entries.iter().cloned().map(Ok))
    }

    /// Verifies the chain up to the head that the daemon named. Checks that the chain contains a head that
    /// was published elsewhere. Passes each valid entry to `each`.
    pub fn verify_each(&self, expected: Option<&Head>, each: &mut dyn FnMut(Entry)) -> Verification {
        let (mut verifier, mut vouched) = (Verifier::new(expected), Vouched::expecting(&self.entries));
        let archived = self.archives.check(&mut vouched, |_, entry| {
            let held = verifier.admit(&entry);
            if held {
                each(entry);
            }
            held
        });
        if let Err(problem) = archived {
            verifier.refuse(problem);
        }
        for entry in &self.entries {
            if !verifier.admit(entry) {
                break;
            }
            vouched.entry(entry);
            each(entry.clone());
        }
        if let Some(problem) = vouched.problem() {
            verifier.refuse(problem);
        }
        verifier.finish(Some(self.head))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;
    use crate::journal::Verdict;

    impl Asked {
        fn verify(&self, expected: Option<&Head>) -> Verification {
            self.verify_each(expected, &mut |_| ())
        }
    }

    fn asked() -> Asked {
        let entries = fixture();
        let head = entries[entries.len() - 1].head();
        let start = Head { position: 0, hash: entries[0].prev };
        let archives = Prefix::find(Path::new("nowhere"), None, start).expect("nothing is archived");
        Asked { pid: 7, epoch: 2, head, entries, archives, carried: vec![] }
    }

    #[test]
    fn verifies_answers_of_daemon_like_a_copy() {
        let whole = asked();
        let verification = whole.verify(Some(&whole.entries[4].head()));
        assert_eq!(
            (verification.verdict, verification.records),
            (Verdict::Intact, whole.entries.len() as u64)
        );
        let mut changed = asked();
        changed.entries[6].record.time_ns += 1;
        let verification = changed.verify(None);
        assert_eq!((verification.verdict, verification.records), (Verdict::Corrupt, 6));
        let mut short = asked();
        short.entries.pop();
        assert_eq!(short.verify(None).verdict, Verdict::CutTail);
        let expect = |position, hash| asked().verify(Some(&Head { position, hash })).verdict;
        assert_eq!(expect(900, [0; 32]), Verdict::CutTail);
        assert_eq!(expect(4, [0; 32]), Verdict::Corrupt);
    }

    #[test]
    fn returns_nothing_without_daemon() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(ask(dir.path(), None).expect("no problem").is_none());
        assert!(ask(&dir.path().join("missing"), None).expect("no problem").is_none());
    }
}
