//! Appends frames to the last segment.
//!
//! A segment gets its name only after its header is on disk. The directory is synced before the first frame
//! is written. So a segment with a bad header is damage and never the result of a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::envelope;
use super::super::fault_injection::{Call, FaultHook};
use super::super::record::Head;
use super::super::room;
use super::super::store::{Batch, StoreError};
use super::segment::{self, HEADER_BYTES, Header};
use super::{LogSummary, Tail, frame, list};

/// Size from which on a segment gets a successor, in bytes.
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;

/// The file with the blocks that are reserved for the next segment. It stands beside the log.
fn reserved(log: &Path) -> PathBuf {
    log.with_file_name("reserved")
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Number of the last segment.
    pub segment: u64,
    /// Offset behind its last whole frame, in bytes.
    pub offset: u64,
}

/// Appends to the log.
pub(crate) struct LogWriter {
    dir: PathBuf,
    file: File,
    end: End,
    head: Head,
    tail: Tail,
    segment_bytes: u64,
    faults: FaultHook,
}

impl LogWriter {
    /// Begins a log in `dir` and creates the directory. `after` is the head before its first record.
    pub fn begin(dir: &Path, after: Head, segment_bytes: u64, faults: FaultHook) -> io::Result<LogWriter> {
        fs::create_dir_all(dir)?;
        sync_parent(dir)?;
        room::reserve(&reserved(dir), segment_bytes);
        let file = create(dir, Header { number: 1, after }, &faults)?;
        room::reserve(&reserved(dir), segment_bytes);
        let end = End { segment: 1, offset: HEADER_BYTES as u64 };
        let (dir, tail) = (dir.to_owned(), Tail::default());
        Ok(LogWriter { dir, file, end, head: after, tail, segment_bytes, faults })
    }

    /// Continues at the end that a previous read found, and makes durable what it read. Torn bytes behind the
    /// end are truncated.
    ///
    /// SUBTLE: a read does not show what is on disk. 1. A daemon writes a frame and dies before its sync, or
    /// the sync fails. 2. The next read gets the frame from the page cache. 3. A sync alone does not write
    /// pages that the kernel believes to be clean. So the last segment is written again before the sync.
    /// Earlier segments were synced before the last one was begun.
    pub fn resume(
        dir: &Path,
        summary: &LogSummary,
        segment_bytes: u64,
        faults: FaultHook,
    ) -> io::Result<LogWriter> {
        let LogSummary { end, head, tail, .. } = *summary;
        let file = OpenOptions::new().read(true).write(true).open(segment::path(dir, end.segment))?;
        room::fill(&file, segment_bytes);
        let mut bytes = vec![0; usize::try_from(end.offset).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        faults.run(
            Call::LogSettle,
            |error| error,
            || {
                file.write_all_at(&bytes, 0)?;
                if summary.torn.is_some() {
                    file.set_len(end.offset)?;
                }
                file.sync_all()?;
                File::open(dir)?.sync_all()
            },
        )?;
        room::reserve(&reserved(dir), segment_bytes);
        let dir = dir.to_owned();
        Ok(LogWriter { dir, file, end, head, tail, segment_bytes, faults })
    }

    /// Writes a batch. After the next [`sync`](LogWriter::sync) it is on disk. It is stored completely or
    /// not at all.
    pub fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.end.offset >= self.segment_bytes {
            self.succeed()?;
        }
        let failed = |error| StoreError::io("write the log", &error);
        let bytes = frame::encode(batch);
        let end = self.end.offset + bytes.len() as u64;
        self.faults.run(Call::LogWrite, failed, || {
            self.file.write_all_at(&bytes, self.end.offset).map_err(failed)
        })?;
        (self.end.offset, self.head) = (end, batch.meta.head);
        let first = batch.records.first().and_then(|record| envelope::open(&record.envelope).ok());
        self.tail.add(batch.records.len() as u64, first.map(|entry| entry.record.time_ns));
        Ok(())
    }

    /// Number of the last segment.
    pub fn segment(&self) -> u64 {
        self.end.segment
    }

    /// The contents of the last segment.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// Ends the last segment and begins the next.
    pub fn succeed(&mut self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("begin a segment of the log", &error);
        let header = Header { number: self.end.segment + 1, after: self.head };
        // A segment with a successor must be whole.
        self.sync()?;
        self.file = create(&self.dir, header, &self.faults).map_err(failed)?;
        self.end = End { segment: header.number, offset: HEADER_BYTES as u64 };
        self.tail = Tail::default();
        room::reserve(&reserved(&self.dir), self.segment_bytes);
        Ok(())
    }

    /// Removes the segments that end with record `through` or before. The last segment stays.
    pub fn release(&mut self, through: u64) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("remove a segment of the log", &error);
        let segments = list::segments(&self.dir).map_err(failed)?;
        let ended = |pair: &&[list::Segment]| pair[1].after.position <= through;
        let ended: Vec<_> = segments.windows(2).take_while(ended).map(|pair| &pair[0].path).collect();
        if ended.is_empty() {
            return Ok(());
        }
        self.faults.run(Call::LogRelease, failed, || {
            // The oldest first, so that the rest has no gap.
            ended.iter().try_for_each(fs::remove_file).map_err(failed)?;
            File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
        })
    }

    /// Returns once all appended batches are on disk.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("sync the log", &error);
        self.faults.run(Call::LogSync, failed, || self.file.sync_data().map_err(failed))
    }
}

fn create(dir: &Path, header: Header, faults: &FaultHook) -> io::Result<File> {
    let path = segment::path(dir, header.number);
    let draft = path.with_extension("seg.tmp");
    faults.run(
        Call::LogCreate,
        |error| error,
        || {
            let mut file = match fs::rename(reserved(dir), &draft) {
                Ok(()) => OpenOptions::new().write(true).open(&draft)?,
                Err(_) => File::create(&draft)?,
            };
            file.write_all(&segment::encode(&header))?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(dir)?.sync_all()
        },
    )?;
    OpenOptions::new().write(true).open(path)
}

/// Syncs the parent directory of `path`, so that the entry of `path` is durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
