//! The journal of a living daemon, as it answers through `daemon.sock`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::problems;
use crate::domain::problem::{About, Code, Problem};
use crate::engine::socket::{Address, Greeting, PAGE, PATIENCE, Request};
use crate::journal::archive::{Checkpoint, Prefix, Vouched};
use crate::journal::export::import;
use crate::journal::{ChainProblem, Entry, Head, MAX_PAYLOAD_BYTES, Verification, Verifier};

/// Bytes of one answer, at most: base64 and the other fields make less than twice the payloads.
const ANSWER_BYTES: u64 = (2 * PAGE * MAX_PAYLOAD_BYTES) as u64;

/// What the daemon answered: everything up to the head that it named first.
#[derive(Debug)]
pub struct Asked {
    /// Its process id.
    pub pid: u32,
    /// Its epoch.
    pub epoch: u64,
    /// Its head.
    pub head: Head,
    /// The records up to there.
    pub entries: Vec<Entry>,
    /// The archives in front of them, which the daemon does not read for others.
    pub archives: Prefix,
    /// What is carried forward of archives that are not here.
    pub carried: Result<Vec<Entry>, ChainProblem>,
}

/// How often a daemon is asked again that archived records meanwhile.
const TRIES: u32 = 5;

/// Asks the daemon that has the journal in `dir` open; none if no daemon listens there. Archives are looked for in
/// `elsewhere` as well.
///
/// # Errors
/// The daemon answers what is no answer, or ends meanwhile.
pub fn ask(dir: &Path, elsewhere: Option<&Path>) -> Result<Option<Asked>, Problem> {
    let Ok(address) = Address::of(dir) else { return Ok(None) };
    for tried in 1..=TRIES {
        let Ok(first) = UnixStream::connect(address.path()) else { return Ok(None) };
        let asked = pages(&address, first).map_err(|error| broken(dir, &error))?;
        if let Some((Greeting { pid, epoch, .. }, head, entries)) = asked {
            let first = entries.first();
            let cut = first.map_or(head, |first| Head { position: first.position - 1, hash: first.prev });
            let archives =
                Prefix::find(dir, elsewhere, cut).map_err(|error| problems::unreadable(dir, &error))?;
            let newest = entries.iter().rev().find_map(|entry| Checkpoint::of(&entry.record));
            let carried = archives.carried(dir, newest.as_ref());
            if carried.is_err() && tried < TRIES {
                continue;
            }
            return Ok(Some(Asked { pid, epoch, head, entries, archives, carried }));
        }
    }
    Err(broken(dir, &io::Error::other("it archived records while they were read")))
}

/// The last record that the daemon which has the journal in `dir` open has on disk; none if it does not answer.
pub fn head(dir: &Path) -> Option<Head> {
    let address = Address::of(dir).ok()?;
    let (greeting, _) = page(UnixStream::connect(address.path()).ok()?, u64::MAX).ok()?;
    greeting.head.parse().ok()
}

/// All pages up to the head that the first one names; none if records were archived between two of them.
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
    /// Every entry in order, archived ones first.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry, ChainProblem>> {
        self.archives.entries().chain(self.entries.iter().cloned().map(Ok))
    }

    /// Checks the chain up to the head that the daemon named, and that it contains a head published elsewhere; hands out
    /// each entry that held.
    pub fn verify_each(&self, expected: Option<&Head>, each: &mut dyn FnMut(Entry)) -> Verification {
        let (mut verifier, mut vouched) = (Verifier::new(expected), Vouched::default());
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
        let carried = self.carried.as_ref().err().filter(|_| self.archives.start().position > 0);
        if let Some(problem) = vouched.problem().or(carried.cloned()) {
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
        Asked { pid: 7, epoch: 2, head, entries, archives, carried: Ok(vec![]) }
    }

    #[test]
    fn what_a_daemon_answers_is_checked_like_a_copy() {
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
    fn without_a_daemon_nobody_answers() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(ask(dir.path(), None).expect("no problem").is_none());
        assert!(ask(&dir.path().join("missing"), None).expect("no problem").is_none());
    }
}
