//! Entries folded into the runs that they belong to.
//!
//! A record breaks its stream if it cannot be decoded or cannot follow the records before it. A broken stream
//! keeps its name and stores the position and the reason. Later records of the stream are counted and not
//! folded. Other streams are not affected.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::record_text::RecordText;
use crate::domain::ids::{StreamId, StreamKind};
use crate::domain::time::Timestamp;
use crate::journal::Entry;
use crate::machine::backup::{BackupMachine, BackupRun};
use crate::machine::group::{GroupMachine, GroupRun};
use crate::machine::kit::{self, Machine, Run, Stage as _, Timed};
use crate::records::{self, Decoded, WireError, decode};

/// Defines the folded state of a stream: a run of one of the machines.
macro_rules! folded {
    ($($variant:ident: $machine:ty),+ $(,)?) => {
        /// The folded state of a stream.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Folded {
            $($variant(Box<Run<$machine>>)),+
        }

        impl Folded {
            fn fold(folded: Option<Self>, decoded: Decoded) -> Result<Self, String> {
                match (folded, decoded) {
                    $(
                        (None, Decoded::$variant(timed)) => next(None, &timed).map(Self::$variant),
                        (Some(Self::$variant(run)), Decoded::$variant(timed)) => {
                            next(Some(*run), &timed).map(Self::$variant)
                        }
                    )+
                    (None, earlier) => Self::fold_earlier(None, earlier),
                    (Some(Self::Backup(run)), earlier) => Self::fold_earlier(Some(*run), earlier),
                    _ => Err(MIXED.to_owned()),
                }
            }

            /// The state as users read it.
            fn state(&self) -> &'static str {
                match self {
                    $(Self::$variant(run) => run.state_name()),+
                }
            }

            /// The stage, for users.
            pub(super) fn stage(&self) -> String {
                match self {
                    $(Self::$variant(run) => format!("{:?}", run.stage)),+
                }
            }

            fn is_over(&self) -> bool {
                match self {
                    $(Self::$variant(run) => run.stage.is_final()),+
                }
            }

            fn named(&self) -> (StreamKind, &str, &str) {
                match self {
                    $(Self::$variant(run) => {
                        let (namespace, name) = <$machine as RecordText>::named(&run.plan);
                        (<$machine as RecordText>::KIND, namespace, name)
                    }),+
                }
            }
        }
    };
}

folded! { Group: GroupMachine, Backup: BackupMachine }

const MIXED: &str = "a record of another kind of stream";

fn next<M: Machine>(run: Option<Run<M>>, timed: &Timed<M>) -> Result<Box<Run<M>>, String> {
    kit::fold(run, timed).map(Box::new).map_err(|error| error.to_string())
}

impl Folded {
    fn fold_earlier(run: Option<BackupRun>, decoded: Decoded) -> Result<Self, String> {
        let timed = decoded.into_backup().ok_or(MIXED)?;
        next(run, &timed).map(Self::Backup)
    }
}

impl Serialize for Folded {
    /// The fields of a Backup are those of the first release.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Group(run) => serializer.serialize_newtype_variant("Folded", 0, "group", &**run),
            Self::Backup(run) => {
                let (plan, state) = (&run.plan, &run.state);
                let fields = serde_json::json!({
                    "backup": plan.backup,
                    "label_key": plan.label_key,
                    "accepted_at": run.accepted_at(),
                    "groups": state.groups,
                    "failed": state.failed,
                    "warnings": state.warnings,
                    "finished": state.finished,
                });
                serializer.serialize_newtype_variant("Folded", 1, "backup", &fields)
            }
        }
    }
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
        let folded = Folded::fold(self.folded.take(), decoded)?;
        if self.kind.is_none() {
            let (kind, namespace, name) = folded.named();
            (self.kind, self.namespace, self.name) = (Some(kind), namespace.to_owned(), name.to_owned());
        }
        self.folded = Some(folded);
        Ok(())
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
        self.folded.as_ref().map_or("Broken", Folded::state)
    }

    /// The attempt of a group run.
    pub fn attempt(&self) -> Option<u32> {
        self.group().map(|run| run.attempt)
    }

    /// The time at which the stream ended; none while work is left.
    pub fn ended(&self) -> Option<Timestamp> {
        self.folded.as_ref().is_some_and(Folded::is_over).then_some(self.last)
    }
}
