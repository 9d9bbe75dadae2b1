//! Reads every frame of a damaged log that can be read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::super::envelope;
use super::super::record::Head;
use super::super::store::StreamState;
use super::{frame, load, segment};

/// The readable part of a log. It is held in memory: a log is small, because archives take its beginning.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// The head before the first record, if the header of the first segment can be read.
    pub start: Option<Head>,
    /// The records at their positions, with the states of their streams. They may have gaps.
    pub records: BTreeMap<u64, (StreamState, Vec<u8>)>,
    /// The highest position that a header or a frame names.
    pub reached: u64,
    /// The highest epoch that a frame names.
    pub epoch: u64,
}

/// Reads the log in `dir`. Empty if there is none.
pub(crate) fn salvage(dir: &Path) -> io::Result<Salvage> {
    let mut salvage = Salvage::default();
    for (index, number) in segment::list(dir)?.into_iter().enumerate() {
        let bytes = load(&segment::path(dir, number))?;
        if let Ok(header) = segment::decode(&bytes) {
            salvage.reached = salvage.reached.max(header.after.position);
            salvage.start = salvage.start.or((index == 0).then_some(header.after));
        }
        salvage.frames(&bytes);
    }
    Ok(salvage)
}

impl Salvage {
    fn frames(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(next) = bytes.get(at..).and_then(frame::find) {
            at += next;
            match frame::decode(&bytes[at..]) {
                Some((frame, length)) => {
                    self.frame(&frame);
                    at += length;
                }
                None => at += 1,
            }
        }
    }

    fn frame(&mut self, frame: &frame::Frame<'_>) {
        self.reached = self.reached.max(frame.head.position);
        self.epoch = self.epoch.max(frame.epoch);
        for (state, bytes) in &frame.records {
            if let Ok(entry) = envelope::open(bytes) {
                self.records.insert(entry.position, (*state, bytes.to_vec()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::fault_injection::FaultHook;
    use super::super::super::testing::batches;
    use super::super::LogWriter;
    use super::*;

    #[test]
    fn reads_frames_around_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        assert!(salvage(&dir.path().join("none")).expect("readable").records.is_empty());
        let mut log = LogWriter::begin(&path, Head::genesis(), 700, FaultHook::default()).expect("begun");
        let batches = batches(9);
        batches.iter().for_each(|batch| log.append(batch).expect("appended"));
        let first = segment::path(&path, 1);
        let mut bytes = fs::read(&first).expect("readable");
        bytes[segment::HEADER_BYTES + 70] ^= 1;
        fs::write(&first, bytes).expect("written");
        let found = salvage(&path).expect("readable");
        assert_eq!(found.start, Some(Head::genesis()));
        assert_eq!((found.reached, found.epoch), (9, 1));
        assert_eq!(found.records.keys().copied().collect::<Vec<_>>(), (2..=9).collect::<Vec<_>>());
        assert_eq!(found.records[&9].1, batches[8].records[0].envelope);

        fs::write(&first, [0; 40]).expect("written");
        let found = salvage(&path).expect("readable");
        assert_eq!((found.start, found.reached), (None, 9));
    }
}
