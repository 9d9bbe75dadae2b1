//! Records Events of the actors: posts them in the background and increments the count of repeated ones, as
//! client-go's recorder does.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::client::Client;
use super::object;
use super::strings::plural;
use super::tasks::Tasks;
use crate::clock::SimClock;

/// Maximum number of Events that are stored to count repetitions. Beyond it, repeated Events are posted as
/// new ones.
const MAX_POSTED: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// Records the Events of an actor. A lost Event is not an error.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::UnboundedSender<PendingEvent>,
}

struct PendingEvent {
    object: Value,
    severity: Severity,
    reason: &'static str,
    message: String,
}

impl Recorder {
    /// Creates a recorder that posts through `client` under the name `component`.
    pub(crate) fn start(tasks: &mut Tasks, client: Client, clock: SimClock, component: &'static str) -> Self {
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut poster = Poster { client, clock, component, posted: BTreeMap::new(), count: 0 };
        tasks.spawn(async move {
            while let Some(event) = events.recv().await {
                poster.post(event).await;
            }
        });
        Self { sender }
    }

    /// Records an Event about the object.
    pub(crate) fn event(
        &self,
        object: &Value,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let reference = json!({
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "name": object::name(object),
            "namespace": object::namespace(object),
            "resourceVersion": object["metadata"]["resourceVersion"],
            "uid": object::uid(object),
        });
        // The receiver is dropped only after the actors have been stopped.
        let _ =
            self.sender.send(PendingEvent { object: reference, severity, reason, message: message.into() });
    }
}

/// The fields that make two Events equal: uid of the object, severity, reason, message.
type EventKey = (String, Severity, &'static str, String);

/// Namespace and name.
type ObjectKey = (String, String);

struct Poster {
    client: Client,
    clock: SimClock,
    component: &'static str,
    /// The stored Event, and how often it was posted.
    posted: BTreeMap<EventKey, (ObjectKey, u64)>,
    /// Number of Events created, used in their names.
    count: i64,
}

impl Poster {
    async fn post(&mut self, event: PendingEvent) {
        let uid = event.object["uid"].as_str().unwrap_or_default().to_owned();
        let key = (uid, event.severity, event.reason, event.message.clone());
        let now = self.clock.rfc3339();
        if let Some(((namespace, name), count)) = self.posted.get_mut(&key) {
            *count += 1;
            let posted = json!({"metadata": {"namespace": namespace, "name": name}});
            let operations = json!([
                {"op": "replace", "path": "/count", "value": *count},
                {"op": "replace", "path": "/lastTimestamp", "value": now},
            ]);
            if self.client.patch(plural::EVENTS, &posted, operations).await.is_ok() {
                return;
            }
        }
        if self.posted.len() >= MAX_POSTED {
            self.posted.clear();
        }
        self.count += 1;
        let body = self.body(&event, &now);
        if let Ok(created) = self.client.create(plural::EVENTS, body).await {
            let namespace = object::namespace(&created).unwrap_or_default().to_owned();
            self.posted.insert(key, ((namespace, object::name(&created).to_owned()), 1));
        }
    }

    fn body(&self, event: &PendingEvent, now: &str) -> Value {
        let name = event.object["name"].as_str().unwrap_or_default();
        let namespace = event.object["namespace"].as_str().unwrap_or("default");
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{name}.{:016x}", self.clock.now_ns().wrapping_add(self.count)),
                "namespace": namespace,
            },
            "involvedObject": event.object,
            "reason": event.reason,
            "message": event.message,
            "type": match event.severity {
                Severity::Normal => "Normal",
                Severity::Warning => "Warning",
            },
            "source": {"component": self.component},
            "reportingComponent": self.component,
            "reportingInstance": "",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "eventTime": null,
        })
    }
}
