//! Serves the journal on `daemon.sock` while the daemon holds it.
//!
//! The store has no read-only open, so readers of the journal of a running daemon send requests here.
//!
//! # What it promises
//! - The socket is read-only. It answers with pages of at most [`PAGE`] records, so that the writer is never
//!   blocked for long. It serves at most [`CONNECTIONS`] connections at a time, each with one request within
//!   [`PATIENCE`].
//! - The socket has mode 0600 and is in the journal's directory. The socket of a dead daemon is replaced.
//! - A daemon that cannot open the socket logs this and continues: only readers depend on it.
//!
//! # One request
//! A line `{"from":N}`. The answer is a line with a [`Greeting`] and one line in the format of
//! `journal export` for each record from position N on. Then the connection ends. A page that is not empty
//! may be followed by another.
//!
//! Not here: the clients, which are the commands of `stillpoint journal`.

use std::convert::Infallible;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::journal::export::ExportedRecord;
use crate::journal::{Journal, JournalError};

/// Largest number of records in one answer.
pub const PAGE: usize = 256;
/// Largest number of concurrent connections.
pub const CONNECTIONS: usize = 4;
/// Time limit of one request and its answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

const NAME: &str = "daemon.sock";
const REQUEST_BYTES: u64 = 256;
/// Longest path of a socket that every system accepts.
const PATH_BYTES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Position of the first record.
    pub from: u64,
}

/// The first line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Process id of the daemon.
    pub pid: u32,
    /// Epoch of this start of the daemon.
    pub epoch: u64,
    /// The last record that is on disk, as `POSITION:HASH`.
    pub head: String,
    /// Why there are no records, if there is an error.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Path of the socket of a journal. A path that is too long for a socket is reached through the open
/// directory.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    _dir: Option<File>,
}

impl Address {
    /// The address for the journal in `dir`.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn of(dir: &Path) -> io::Result<Self> {
        Self::named(dir, NAME)
    }

    fn named(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        if path.as_os_str().len() <= PATH_BYTES {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(dir)?;
        Ok(Self { path: format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).into(), _dir: Some(dir) })
    }

    /// The path to bind or to connect to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Answers until the daemon ends. Without a socket it waits for ever.
pub async fn serve(dir: PathBuf, journal: Journal) -> Infallible {
    match bind(&dir) {
        Ok(listener) => accept(listener, journal).await,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "no daemon.sock: the journal can be read only once the daemon has ended");
            std::future::pending().await
        }
    }
}

/// The socket appears under its name only after its mode restricts connections to its owner.
fn bind(dir: &Path) -> io::Result<UnixListener> {
    let (draft, address) = (Address::named(dir, "daemon.sock.tmp")?, Address::of(dir)?);
    match fs::remove_file(draft.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(draft.path())?;
    fs::set_permissions(draft.path(), Permissions::from_mode(0o600))?;
    fs::rename(draft.path(), address.path())?;
    Ok(listener)
}

async fn accept(listener: UnixListener, journal: Journal) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(tokio::time::timeout(PATIENCE, answer(stream, journal.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "daemon.sock");
                    tokio::time::sleep(PATIENCE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection. A client that disconnects is not an error.
async fn answer(mut stream: UnixStream, journal: Journal) {
    let mut line = String::new();
    let read = BufReader::new((&mut stream).take(REQUEST_BYTES)).read_line(&mut line).await;
    let request = read.and_then(|_| Ok(serde_json::from_str::<Request>(&line)?));
    let text = match request {
        Ok(request) => page(&journal, request).await,
        Err(error) => greeting(&journal, Some(format!("not a request: {error}"))),
    };
    drop(stream.write_all(text.as_bytes()).await);
    drop(stream.shutdown().await);
}

async fn page(journal: &Journal, Request { from }: Request) -> String {
    // The head first: one of the pages contains the record that it names.
    let head = greeting(journal, None);
    match journal.entries(from, PAGE).await {
        Ok(entries) => {
            entries.iter().map(ExportedRecord::from).fold(head, |text, sealed| text + &line(&sealed))
        }
        Err(error) => greeting(journal, Some(chained(&error))),
    }
}

fn greeting(journal: &Journal, problem: Option<String>) -> String {
    let (epoch, head) = (journal.epoch(), journal.head().to_string());
    line(&Greeting { pid: std::process::id(), epoch, head, problem })
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn chained(error: &JournalError) -> String {
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::StreamId;
    use crate::journal::export::import;
    use crate::journal::{Disk, MemoryStore, Record, StreamState, chain};

    async fn served(dir: &Path, records: usize) -> Journal {
        let store = MemoryStore::open(&Disk::new()).expect("free");
        let (journal, _) = Journal::open_task(store).expect("opened");
        let record =
            |number: usize| Record { kind: 1, version: 1, time_ns: 0, payload: vec![number as u8; 9] };
        let records = (0..records).map(record).collect();
        journal.append(StreamId::of_backup("x"), 0, records, StreamState::Open).await.expect("appended");
        let listener = bind(dir).expect("bound");
        tokio::spawn(accept(listener, journal.clone()));
        journal
    }

    async fn ask(dir: &Path, request: &str) -> String {
        let address = Address::of(dir).expect("a directory");
        let mut stream = UnixStream::connect(address.path()).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    fn parse(text: &str) -> (Greeting, Vec<crate::journal::Entry>) {
        let (greeting, rest) = text.split_once('\n').expect("a first line");
        (serde_json::from_str(greeting).expect("a greeting"), import(rest).expect("records"))
    }

    #[tokio::test]
    async fn pages_cover_the_whole_journal() {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = served(dir.path(), PAGE + 3).await;
        let (greeting, mut entries) = parse(&ask(dir.path(), "{\"from\":1}\n").await);
        assert_eq!((greeting.epoch, greeting.head), (1, journal.head().to_string()));
        assert_eq!(entries.len(), PAGE);
        let (_, rest) = parse(&ask(dir.path(), &format!("{{\"from\":{}}}\n", PAGE + 1)).await);
        entries.extend(rest);
        assert_eq!(chain::check(entries).map(|verified| verified.head), Ok(journal.head()));
        let (_, none) = parse(&ask(dir.path(), "{\"from\":9999}\n").await);
        assert_eq!(none, []);
    }

    #[tokio::test]
    async fn rejects_invalid_request_with_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let _journal = served(dir.path(), 1).await;
        for request in ["", "{}\n", "{\"from\":-1}\n", "GET / HTTP/1.1\r\n", &"x".repeat(100_000)] {
            let address = Address::of(dir.path()).expect("a directory");
            let mut stream = UnixStream::connect(address.path()).await.expect("it listens");
            // The rest of a request that is too long is not read.
            drop(stream.write_all(request.as_bytes()).await);
            drop(stream.shutdown().await);
            let mut bytes = Vec::new();
            drop(stream.read_to_end(&mut bytes).await);
            let text = String::from_utf8(bytes).expect("text");
            assert!(text.is_empty() || parse(&text).0.problem.is_some(), "{text}");
        }
        assert_eq!(parse(&ask(dir.path(), "{\"from\":1}\n").await).1.len(), 1, "it still answers");
    }

    #[tokio::test]
    async fn replaces_stale_socket_with_owner_only_permissions() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(bind(dir.path()).expect("bound"));
        assert!(std::os::unix::net::UnixStream::connect(dir.path().join(NAME)).is_err(), "nobody listens");
        let _journal = served(dir.path(), 1).await;
        let mode = fs::metadata(dir.path().join(NAME)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(parse(&ask(dir.path(), "{\"from\":1}\n").await).1.len(), 1);
    }

    #[tokio::test]
    async fn accepts_long_socket_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let long = dir.path().join("d".repeat(120));
        fs::create_dir(&long).expect("created");
        let _journal = served(&long, 1).await;
        assert_eq!(parse(&ask(&long, "{\"from\":1}\n").await).1.len(), 1);
    }
}
