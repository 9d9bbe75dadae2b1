//! Watch: sends changes as lines of JSON until the client disconnects or the watch times out.
//!
//! - A watch from version N sends every change after N. A watch without a version (or with 0) sends the
//!   existing objects first.
//! - A version that is no longer in the history gives one ERROR event with a 410 and the end of the stream.
//! - An object that enters the selection is ADDED; an object that leaves it is DELETED.
//! - Bookmarks, if allowed, are sent once a minute and at the end. They never contain a version that is still
//!   delayed.
//! - A fault may delay or drop events, or end the stream ([`delayed`]).
//!
//! [`delayed`]: super::delayed

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use crate::api_server::http::accept::ReplyFormat;
use crate::api_server::http::delayed::DelayedChanges;
use crate::api_server::http::faults::StreamEnd;
use crate::api_server::http::route::Place;
use crate::api_server::http::table::{self, Include};
use crate::api_server::http::{Call, JSON, read, reset, respond};
use crate::api_server::selector::Selection;
use crate::api_server::status::Status;
use crate::api_server::store::{Change, ChangeKind, TooOld};
use crate::api_server::stored::StoredObject;
use crate::api_server::{ApiServer, Inner, conversion, meta, text};

const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The timeout without `timeoutSeconds`. The real server chooses one between 30 and 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);
/// The maximum timeout, whatever a client requests.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Marks the bookmark after the initial events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The format of the events.
struct Frames {
    place: Place,
    selection: Selection,
    format: ReplyFormat,
    include: Include,
    /// The columns of a table are sent only with its first event.
    columns_sent: bool,
}

struct Stream {
    server: ApiServer,
    frames: Frames,
    ready: VecDeque<Bytes>,
    changes: UnboundedReceiver<Arc<Change>>,
    delayed: DelayedChanges,
    end: Instant,
    next_bookmark: Option<Instant>,
    ended: bool,
    /// The connection breaks after all events are sent.
    breaks: bool,
}

pub(super) fn watch(server: &ApiServer, call: &Call) -> Result<Response<Body>, Status> {
    let mut selection = read::selection(call)?;
    if let Some(name) = &call.place.name {
        selection = Selection::parse(
            call.place.resource,
            call.place.namespace.as_deref(),
            call.param("labelSelector"),
            &format!("metadata.name={name}"),
        )?;
    }
    let start = Start::of(call)?;
    let frames = Frames {
        place: call.place.clone(),
        selection,
        format: call.format,
        include: read::include(call),
        columns_sent: false,
    };
    let timeout = match call.param("timeoutSeconds").parse::<u64>() {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).min(LONGEST_TIMEOUT),
        _ => DEFAULT_TIMEOUT,
    };
    let now = Instant::now();
    let stream = server.with(|inner| {
        let mut stream = Stream {
            server: server.clone(),
            frames,
            ready: VecDeque::new(),
            changes: inner.store.subscribe(call.place.resource.plural, true),
            delayed: DelayedChanges::new(call.stream.clone()),
            end: now + timeout,
            next_bookmark: call.flag("allowWatchBookmarks").then(|| now + BOOKMARK_INTERVAL),
            ended: false,
            breaks: false,
        };
        stream.begin(inner, &start, read::version_to_read(inner, call));
        stream
    });
    let body = futures::stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((frame, stream))
    });
    Ok(respond(StatusCode::OK, JSON, Body::from_stream(body)))
}

enum Start {
    /// With the existing objects; with a bookmark after them in a streaming list.
    Existing { bookmark: bool },
    /// Now, without the existing objects.
    Now,
    /// After a version.
    After(u64),
}

impl Start {
    fn of(call: &Call) -> Result<Self, Status> {
        let version = read::version_param(call)?.unwrap_or(0);
        Ok(match call.param("sendInitialEvents") {
            "true" | "1" => {
                if call.param("resourceVersionMatch") != "NotOlderThan" {
                    let why = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                    return Err(Status::new(422, "Invalid", why));
                }
                Self::Existing { bookmark: call.flag("allowWatchBookmarks") }
            }
            "" if version == 0 => Self::Existing { bookmark: false },
            _ if version == 0 => Self::Now,
            _ => Self::After(version),
        })
    }
}

impl Stream {
    /// Adds the existing objects and changes up to `seen`, the version that the server has received.
    fn begin(&mut self, inner: &mut Inner, start: &Start, seen: u64) {
        let plural = self.frames.place.resource.plural;
        let now_ns = inner.store.clock.now_ns();
        let sent = match start {
            Start::Now => inner.store.version(),
            Start::After(version) => *version,
            Start::Existing { bookmark } => {
                match inner.store.objects_at(plural, seen) {
                    Ok(objects) => self.send_existing(objects.values(), now_ns),
                    Err(TooOld { oldest }) => return self.expire(seen, oldest),
                }
                if *bookmark && !self.ended {
                    self.ready.push_back(self.frames.bookmark(seen, true));
                }
                seen
            }
        };
        match inner.store.changes_since(plural, sent) {
            Ok(changes) => changes.into_iter().for_each(|change| self.receive(change, now_ns)),
            Err(TooOld { oldest }) => self.expire(sent, oldest),
        }
        self.end_by_fault();
    }

    fn send_existing<'a>(&mut self, objects: impl Iterator<Item = &'a Arc<Value>>, now_ns: i64) {
        for object in objects {
            if self.frames.selection.matches(object) && !self.ended && self.delayed.should_send() {
                self.ready.push_back(self.frames.event("ADDED", object, None, now_ns));
                self.end_by_fault();
            }
        }
    }

    fn expire(&mut self, wanted: u64, oldest: u64) {
        let status = Status::expired(format!("too old resource version: {wanted} ({oldest})"));
        self.ready.push_back(line("ERROR", &status.to_value()));
        self.ended = true;
    }

    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(Ok(frame));
            }
            if self.ended {
                return std::mem::take(&mut self.breaks).then(|| Err(reset()));
            }
            let deadlines = [self.next_bookmark, self.delayed.next_due(), Some(self.end)];
            let deadline = deadlines.into_iter().flatten().min().unwrap_or(self.end);
            tokio::select! {
                biased;
                change = self.changes.recv() => match change {
                    Some(change) => {
                        let now_ns = self.server.with(|inner| inner.store.clock.now_ns());
                        self.receive(change, now_ns);
                    }
                    None => self.ended = true,
                },
                () = tokio::time::sleep_until(deadline) => self.tick(),
            }
        }
    }

    /// Sends due changes, a bookmark, or the end.
    fn tick(&mut self) {
        let now = Instant::now();
        // Nothing changes while the lock is held, so a bookmark comes after all events up to its version and
        // before all others.
        let (version, now_ns, missed) = self.server.clone().with(|inner| {
            let missed: Vec<_> = std::iter::from_fn(|| self.changes.try_recv().ok()).collect();
            (inner.store.version(), inner.store.clock.now_ns(), missed)
        });
        for change in missed {
            self.receive(change, now_ns);
        }
        self.send_due(now_ns);
        self.ended |= now >= self.end;
        let timely = self.next_bookmark.is_some_and(|bookmark| now >= bookmark.min(self.end));
        if timely && !self.breaks {
            self.next_bookmark = Some(now + BOOKMARK_INTERVAL);
            let known = self.delayed.first_version().map_or(version, |first| first.saturating_sub(1));
            self.ready.push_back(self.frames.bookmark(known, false));
        }
    }

    fn receive(&mut self, change: Arc<Change>, now_ns: i64) {
        self.delayed.push(change);
        self.send_due(now_ns);
    }

    fn send_due(&mut self, now_ns: i64) {
        while !self.ended
            && let Some(change) = self.delayed.pop_due(Instant::now())
        {
            if let Some(frame) = self.frames.change(&change, now_ns)
                && self.delayed.should_send()
            {
                self.ready.push_back(frame);
                self.end_by_fault();
            }
        }
    }

    /// Ends the stream if the fault requires it.
    fn end_by_fault(&mut self) {
        let Some(end) = self.delayed.stream_end().filter(|_| !self.ended) else { return };
        self.ended = true;
        match end {
            StreamEnd::Close => {}
            StreamEnd::Break => self.breaks = true,
            StreamEnd::Gone => {
                let status = Status::expired("The resourceVersion for the provided watch is too old.");
                self.ready.push_back(line("ERROR", &status.to_value()));
            }
        }
    }
}

impl Frames {
    /// Converts the change into an event of this selection, if it is one.
    fn change(&mut self, change: &Change, now_ns: i64) -> Option<Bytes> {
        let (object, previous) = (change.object.tree(), change.previous.as_ref().map(StoredObject::tree));
        let was = previous.as_ref().is_some_and(|previous| self.selection.matches(previous));
        let is = change.kind != ChangeKind::Deleted && self.selection.matches(&object);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(self.event("ADDED", &object, Some(&change.object), now_ns)),
            (true, true) => Some(self.event("MODIFIED", &object, Some(&change.object), now_ns)),
            (true, false) => Some(match (previous, change.kind) {
                // The last state that belonged to the selection, with the version of the change.
                (Some(previous), ChangeKind::Modified) => {
                    let mut last = Arc::unwrap_or_clone(previous);
                    meta::copy(&object, &mut last, "resourceVersion");
                    self.event("DELETED", &last, None, now_ns)
                }
                _ => self.event("DELETED", &object, Some(&change.object), now_ns),
            }),
        }
    }

    /// Builds one event; `shared` is the stored form of the object, if it is in the store.
    fn event(&mut self, kind: &str, stored: &Value, shared: Option<&StoredObject>, now_ns: i64) -> Bytes {
        let object = conversion::to_version(self.place.resource, self.place.version, stored);
        let object = match self.format {
            ReplyFormat::Table => Cow::Owned(self.row(object, now_ns)),
            ReplyFormat::Metadata => Cow::Owned(conversion::metadata_only(&object)),
            ReplyFormat::Plain | ReplyFormat::Discovery(_) => match (&object, shared) {
                (Cow::Borrowed(_), Some(shared)) => return line_of(kind, &shared.text()),
                _ => object,
            },
        };
        line(kind, &object)
    }

    fn row(&mut self, object: Cow<'_, Value>, now_ns: i64) -> Value {
        let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
        let mut table = table::table(self.place.resource, &[object], version, self.include, now_ns);
        if std::mem::replace(&mut self.columns_sent, true) {
            table["columnDefinitions"] = Value::Null;
        }
        table
    }

    fn bookmark(&self, version: u64, end_of_initial_events: bool) -> Bytes {
        let resource = self.place.resource;
        let (kind, api_version) = match self.format {
            ReplyFormat::Table => ("Table", "meta.k8s.io/v1".to_owned()),
            ReplyFormat::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            ReplyFormat::Plain | ReplyFormat::Discovery(_) => {
                (resource.kind, resource.api_version(self.place.version))
            }
        };
        let mut metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if end_of_initial_events {
            metadata["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
        }
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    line_of(kind, &text::of(object))
}

/// Builds one event line. The type comes first, as in the real server, so that a reader knows the type of the
/// object before it parses it.
fn line_of(kind: &str, object: &[u8]) -> Bytes {
    let head = format!(r#"{{"type":"{kind}","object":"#);
    Bytes::from([head.as_bytes(), object, b"}\n"].concat())
}
