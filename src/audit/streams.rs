//! Entries folded into the runs that they belong to.
//!
//! A record breaks its stream if it cannot be decoded or cannot follow the records before it. A broken stream
//! keeps its name and stores the position and the reason. Later records of the stream are counted and not
//! folded. Other streams are not affected.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::ids::{StreamId, StreamKind};
use crate::domain::time::Timestamp;
use crate::journal::Entry;
use crate::machine::backup::{self, BackupRun};
use crate::machine::group::GroupRun;
use crate::machine::group::Timed;
use crate::machine::kit;
use crate::machine::kit::Stage as _;
use crate::records;
use crate::records::{Decoded, WireError, decode};

/// The folded state of a stream.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Folded {
    Group(Box<GroupRun>),
    Backup(Box<BackupRun>),
}

/// The point at which a stream stopped folding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Position of the record.
    pub position: u64,
    /// The reason.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub id: StreamId,
    /// Kind of the stream; none if its first record is of an unknown kind.
    pub kind: Option<StreamKind>,
    /// Namespace of the PVCs, or of the Backup.
    pub namespace: String,
    /// Label value of the group, or name of the Backup.
    pub name: String,
    /// Number of records.
    pub records: u64,
    /// Time of the first record.
    pub started: Timestamp,
    /// Time of the last record.
    pub last: Timestamp,
    /// The folded state; none if the stream is broken.
    pub folded: Option<Folded>,
    /// The point at which the stream is broken.
    pub broken: Option<Broken>,
}

/// All streams of a journal.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    by_id: BTreeMap<StreamId, Stream>,
    order: Vec<StreamId>,
}

impl Streams {
    /// Folds entries, in the order of the journal.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut streams = Self::default();
        for entry in entries {
            streams.admit(entry, decode(&entry.record));
        }
        streams
    }

    /// Adds the next entry with its decoded record. Returns the point at which the stream is broken, if it
    /// is.
    pub fn admit(&mut self, entry: &Entry, decoded: Result<Decoded, WireError>) -> Option<&Broken> {
        if records::text(&entry.record).is_some() {
            // A note of the journal about itself does not belong to a run.
            return None;
        }
        let order = &mut self.order;
        let stream = self.by_id.entry(StreamId(entry.stream)).or_insert_with(|| {
            order.push(StreamId(entry.stream));
            Stream::new(entry)
        });
        stream.records += 1;
        stream.last = Timestamp(entry.record.time_ns);
        if stream.broken.is_some() {
            return None;
        }
        let folded = decoded.map_err(|error| error.to_string()).and_then(|decoded| stream.fold(decoded));
        if let Err(why) = folded {
            stream.folded = None;
            stream.broken = Some(Broken { position: entry.position, why });
        }
        stream.broken.as_ref()
    }

    /// Drops the data of a run that has ended, except its end, which the end of its Backup depends on.
    pub(super) fn forget_ended(&mut self, id: StreamId) {
        if let Some(Stream { folded: Some(Folded::Group(run)), .. }) = self.by_id.get_mut(&id)
            && run.stage.is_final()
        {
            (run.state.receipt, run.state.parts, run.timeline) = (None, Vec::new(), Vec::new());
            let plan = Arc::make_mut(&mut run.plan);
            (plan.members, plan.warnings) = (Vec::new(), Vec::new());
        }
    }

    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.by_id.get(&id)
    }

    /// All streams, in the order of their first records.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.order.iter().filter_map(|id| self.by_id.get(id))
    }
}

impl Stream {
    fn new(entry: &Entry) -> Self {
        let at = Timestamp(entry.record.time_ns);
        Self {
            id: StreamId(entry.stream),
            kind: None,
            namespace: String::new(),
            name: String::new(),
            records: 0,
            started: at,
            last: at,
            folded: None,
            broken: None,
        }
    }

    fn fold(&mut self, decoded: Decoded) -> Result<(), String> {
        let folded = match (self.folded.take(), decoded) {
            (None, Decoded::Group(timed)) => Self::fold_group(None, &timed)?,
            (Some(Folded::Group(run)), Decoded::Group(timed)) => Self::fold_group(Some(*run), &timed)?,
            (None, Decoded::Backup { event, at }) => Self::fold_backup(None, &event, at)?,
            (Some(Folded::Backup(run)), Decoded::Backup { event, at }) => {
                Self::fold_backup(Some(*run), &event, at)?
            }
            (Some(_), _) => return Err("a record of another kind of stream".to_owned()),
        };
        if self.kind.is_none() {
            (self.kind, self.namespace, self.name) = named(&folded);
        }
        self.folded = Some(folded);
        Ok(())
    }

    fn fold_group(run: Option<GroupRun>, timed: &Timed) -> Result<Folded, String> {
        let run = kit::fold(run, timed).map_err(|error| error.to_string())?;
        Ok(Folded::Group(Box::new(run)))
    }

    fn fold_backup(run: Option<BackupRun>, event: &backup::Event, at: Timestamp) -> Result<Folded, String> {
        let run = backup::fold(run, event, at).map_err(|error| error.to_string())?;
        Ok(Folded::Backup(Box::new(run)))
    }

    /// The group run that the stream folds to.
    pub fn group(&self) -> Option<&GroupRun> {
        match &self.folded {
            Some(Folded::Group(run)) => Some(run),
            _ => None,
        }
    }

    /// The state as users read it.
    pub fn state(&self) -> &'static str {
        match &self.folded {
            None => "Broken",
            Some(Folded::Group(run)) => run.state_name(),
            Some(Folded::Backup(run)) => run.finished.map_or("InProgress", |(phase, _)| phase.name()),
        }
    }

    /// The attempt of a group run.
    pub fn attempt(&self) -> Option<u32> {
        self.group().map(|run| run.attempt)
    }

    /// The time at which the stream ended; none while work is left.
    pub fn ended(&self) -> Option<Timestamp> {
        match &self.folded {
            None => None,
            Some(Folded::Group(run)) => run.stage.is_final().then_some(self.last),
            Some(Folded::Backup(run)) => run.finished.map(|(_, at)| at),
        }
    }
}

fn named(folded: &Folded) -> (Option<StreamKind>, String, String) {
    match folded {
        Folded::Group(run) => (Some(StreamKind::Group), run.plan.namespace.clone(), run.plan.group.clone()),
        Folded::Backup(run) => {
            (Some(StreamKind::Backup), run.backup.namespace.clone(), run.backup.name.clone())
        }
    }
}
