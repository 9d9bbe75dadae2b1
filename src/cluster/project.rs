//! Writes projections: GroupSnapshot, the status of a Backup, its chosen label key and the epoch that claims
//! it, Events.
//!
//! The content is computed from the journal, is never ahead of it, and affects no decision: if a write is
//! lost, readers miss one update until the next write. This module never writes any other kind.

use http::{Method, Request, header};
use k8s_openapi::api::events::v1::Event;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::SemaphorePermit;

use crate::api::{Backup, BackupStatus, GroupSnapshot, GroupSnapshotSpec, GroupSnapshotStatus};
use crate::cluster::changed::ObjectChange;
use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::cluster::observe;
use crate::domain::ids::{ObjectId, Uid};
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;

const MERGE_PATCH: &str = "application/merge-patch+json";

/// A Kubernetes Event on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeEvent {
    /// API version of the object.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// The object. Its Events are in its namespace.
    pub object: ObjectId,
    /// Whether the type of the Event is `Warning`.
    pub warning: bool,
    /// Machine-readable reason, in CamelCase.
    pub reason: String,
    /// The action, in CamelCase.
    pub action: String,
    /// The message.
    pub note: String,
    /// When it happened.
    pub at: Timestamp,
}

/// A run as it is published.
pub struct Shown<'a> {
    /// Namespace of the GroupSnapshot.
    pub namespace: &'a str,
    pub name: &'a str,
    /// Labels that it is created with.
    pub labels: &'a BTreeMap<String, String>,
    /// The request; written once.
    pub spec: &'a GroupSnapshotSpec,
    /// The current state of the run.
    pub status: &'a GroupSnapshotStatus,
}

/// The annotations that claim a Backup.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Epoch of the daemon.
    pub epoch: u64,
    /// Its journal.
    pub journal: Option<&'a str>,
    /// Version that the Backup must still have.
    pub resource_version: Option<&'a str>,
}

/// A permit to publish one run; dropping it releases the permit.
#[must_use]
pub struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
}

impl Adapter {
    /// Waits until one more run may be published.
    pub async fn turn_to_show(&self) -> Turn<'_> {
        // The semaphore is never closed. Without a permit the write is merely not counted.
        Turn { _permit: self.inner.projections.acquire().await.ok() }
    }

    /// Publishes a run: creates the GroupSnapshot if it is missing, then writes its status. Returns its uid.
    /// For a run that `is_new`, the create comes first, without a check for an existing object.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`, or `NamespaceMissing` where the namespace is gone or being deleted.
    pub async fn project_group_snapshot(
        &self,
        _turn: Turn<'_>,
        shown: &Shown<'_>,
        is_new: bool,
    ) -> Result<Uid, Problem> {
        let Shown { namespace, name, labels, spec, status } = shown;
        let about = About::new("GroupSnapshot", namespace, name);
        let collection = GroupSnapshot::url_path(&(), Some(namespace));
        let patch = StatusOf { status };
        let path = at(&collection, name, self.served().group_snapshot_status);
        if !is_new {
            match self.write::<Written>(Method::PATCH, &path, &patch).await {
                Ok(object) => return Ok(object.metadata.uid),
                Err(error) if classify::is_missing(&error) => {}
                Err(error) => return Err(classify::problem(&error, about)),
            }
        }
        let mut marked = (*labels).clone();
        marked.extend(self.inner.journal.get().map(|id| (labels::JOURNAL.to_owned(), id.clone())));
        let object = json!({
            "apiVersion": GroupSnapshot::api_version(&()),
            "kind": GroupSnapshot::kind(&()),
            "metadata": { "name": name, "namespace": namespace, "labels": marked },
            "spec": spec,
        });
        match self.write::<Written>(Method::POST, &collection, &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 409 => {}
            Err(error) if classify::is_without_namespace(&error) => {
                let fix = "what became of the run is shown in its Backup and in the journal";
                return Err(Problem::new(Code::NamespaceMissing, about, classify::message(&error), fix));
            }
            Err(error) => return Err(classify::problem(&error, about)),
        }
        let written = self.write::<Written>(Method::PATCH, &path, &patch).await;
        written.map(|object| object.metadata.uid).map_err(|error| classify::problem(&error, about))
    }

    /// Refuses a Backup that cannot be decoded: phase and reason, and no times, so that a repetition changes
    /// nothing.
    ///
    /// # Errors
    /// As [`Adapter::project_backup`].
    pub async fn project_malformed(&self, backup: &ObjectId, reason: &str) -> Result<(), Problem> {
        let status = json!({ "phase": "FailedValidation", "validationErrors": [reason] });
        let patch = json!({ "metadata": { "uid": backup.uid }, "status": status });
        let collection = Backup::url_path(&(), Some(&backup.namespace));
        let path = at(&collection, &backup.name, self.served().backup_status);
        let written = self.write::<Written>(Method::PATCH, &path, &patch).await;
        let about = About::new("Backup", &backup.namespace, &backup.name);
        written.map(|_| ()).map_err(|error| classify::problem(&error, about))
    }

    /// Writes the result of a Backup; `None` fields remain unchanged. Returns the Backup after the write.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`, the latter also where the Backup is gone or another one has its name.
    pub async fn project_backup(
        &self,
        backup: &ObjectId,
        status: &BackupStatus,
    ) -> Result<ObjectChange, Problem> {
        self.merge_backup(backup, json!({ "status": status }), self.served().backup_status).await
    }

    /// Claims a Backup for a start of the daemon: an older daemon that is still alive reads the claim, and
    /// stops.
    ///
    /// # Errors
    /// As [`Adapter::project_backup`]; also `Refused` where the Backup has changed since the version in
    /// `claim`.
    pub async fn claim_backup(&self, backup: &ObjectId, claim: &Claim<'_>) -> Result<ObjectChange, Problem> {
        let mut annotations = json!({ (labels::EPOCH): claim.epoch.to_string() });
        if let Some(journal) = claim.journal {
            annotations[labels::JOURNAL] = json!(journal);
        }
        let mut patch = json!({ "metadata": { "annotations": annotations } });
        if let Some(version) = claim.resource_version {
            patch["metadata"]["resourceVersion"] = json!(version);
        }
        self.merge_backup(backup, patch, false).await
    }

    /// Writes the label key that was chosen for a Backup into its spec, as Velero does.
    ///
    /// # Errors
    /// As [`Adapter::project_backup`].
    pub async fn project_label_key(&self, backup: &ObjectId, key: &str) -> Result<ObjectChange, Problem> {
        self.merge_backup(backup, json!({ "spec": { "volumeGroupSnapshotLabelKey": key } }), false).await
    }

    /// Writes Stillpoint's annotations on a Backup; others remain unchanged.
    ///
    /// # Errors
    /// As [`Adapter::project_backup`].
    pub async fn project_annotations(
        &self,
        backup: &ObjectId,
        annotations: &BTreeMap<&str, String>,
    ) -> Result<ObjectChange, Problem> {
        self.merge_backup(backup, json!({ "metadata": { "annotations": annotations } }), false).await
    }

    /// Creates an Event. Its name is computed from its content, so that a repeated one is the same Event.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn project_event(&self, event: &KubeEvent) -> Result<(), Problem> {
        let object = event_object(event);
        let collection = Event::url_path(&(), Some(&event.object.namespace));
        match self.write::<Written>(Method::POST, &collection, &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
            Err(error) => {
                let about = About::new("Event", &event.object.namespace, &event.reason);
                Err(classify::problem(&error, about))
            }
        }
    }

    /// A merge patch that carries the uid; the API server refuses it for any other object of that name.
    async fn merge_backup(
        &self,
        backup: &ObjectId,
        mut patch: Value,
        status: bool,
    ) -> Result<ObjectChange, Problem> {
        patch["metadata"]["uid"] = json!(backup.uid);
        let collection = Backup::url_path(&(), Some(&backup.namespace));
        let path = at(&collection, &backup.name, status);
        match self.write::<Backup>(Method::PATCH, &path, &patch).await {
            Ok(mut object) => {
                object.metadata.managed_fields = None;
                Ok(ObjectChange::Backup(Arc::new(object)))
            }
            Err(error) => {
                Err(classify::problem(&error, About::new("Backup", &backup.namespace, &backup.name)))
            }
        }
    }

    pub(super) async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, kube::Error> {
        let media = if method == Method::PATCH { MERGE_PATCH } else { "application/json" };
        let body = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, media)
            .body(body)
            .map_err(kube::Error::HttpError)?;
        self.send(request).await
    }
}

/// A merge patch of a status.
#[derive(Serialize)]
struct StatusOf<'a, S> {
    status: &'a S,
}

/// The metadata of an answer of which nothing else is used.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    metadata: WrittenMeta,
}

#[derive(Deserialize)]
#[serde(default)]
struct WrittenMeta {
    uid: Uid,
}

impl Default for WrittenMeta {
    fn default() -> Self {
        Self { uid: Uid(String::new()) }
    }
}

fn at(collection: &str, name: &str, status: bool) -> String {
    format!("{collection}/{name}{}", if status { "/status" } else { "" })
}

fn event_object(event: &KubeEvent) -> Value {
    let object = &event.object;
    let said = format!("{}\n{}\n{}\n{}", object.uid, event.reason, event.action, event.note);
    let hash = blake3::hash(said.as_bytes()).to_hex();
    let name: String = object.name.chars().take(200).collect();
    let name = name.trim_end_matches(['.', '-']);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": format!("{name}.{}", &hash[..16]), "namespace": object.namespace },
        "eventTime": micro_time(event.at),
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "action": event.action,
        "note": limits::clip_to(&event.note, limits::MAX_NOTE_BYTES),
        "reportingController": "stillpoint.dev/stillpoint",
        "reportingInstance": "stillpoint",
        "regarding": {
            "apiVersion": event.api_version,
            "kind": event.kind,
            "namespace": object.namespace,
            "name": object.name,
            "uid": object.uid,
        },
    })
}

/// A time with the microseconds that MicroTime requires.
fn micro_time(at: Timestamp) -> Option<String> {
    observe::api_time(at).map(|time| format!("{:.6}", time.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> KubeEvent {
        KubeEvent {
            api_version: "velero.io/v1".to_owned(),
            kind: "Backup".to_owned(),
            object: ObjectId { namespace: "stillpoint".into(), name: "nightly".into(), uid: Uid::from("u1") },
            warning: true,
            reason: "GroupFailed".to_owned(),
            action: "Unwind".to_owned(),
            note: "the driver failed".to_owned(),
            at: Timestamp(1_700_000_000_123_456_789),
        }
    }

    #[test]
    fn event_names_object_and_is_deduplicated() {
        let first = event_object(&notice());
        assert_eq!(first["eventTime"], "2023-11-14T22:13:20.123456Z");
        assert_eq!((&first["type"], &first["regarding"]["uid"]), (&json!("Warning"), &json!("u1")));
        let later = KubeEvent { at: Timestamp(0), ..notice() };
        assert_eq!(event_object(&later)["metadata"], first["metadata"]);
        let other = KubeEvent { note: "the cut did not come in time".to_owned(), ..notice() };
        assert_ne!(event_object(&other)["metadata"], first["metadata"]);
        assert!(first["metadata"]["name"].as_str().expect("a name").starts_with("nightly."));
    }

    #[test]
    fn status_patch_sends_null_for_removed_fields() {
        let status =
            GroupSnapshotStatus { state: Some("Created".to_owned()), ..GroupSnapshotStatus::default() };
        let patch = serde_json::to_value(&status).expect("JSON");
        assert_eq!(patch["state"], "Created");
        assert!(
            patch["waitingFor"].is_null() && patch.as_object().expect("object").contains_key("waitingFor")
        );
    }
}
