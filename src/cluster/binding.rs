//! Reads and writes the binding object: the ConfigMap `stillpoint-journal` in the daemon's namespace, which
//! names the journal that may write.
//!
//! The binding is written through the API for projections, but it is not a projection: a daemon writes
//! nothing else before it. Every write names the uid and the values that it replaces, so that of two daemons
//! one fails. [`crate::domain::binding`] defines the meaning of the fields.

use std::collections::BTreeMap;

use http::{Method, Request, header};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Resource;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::domain::binding::{Binding, BindingMark, BindingState};
use crate::domain::ids::Uid;
use crate::domain::labels;
use crate::domain::problem::{About, Code, Problem};
use crate::machine::kit::Entry;
use crate::machine::kit::Patch;

/// Name of the ConfigMap.
pub const NAME: &str = "stillpoint-journal";
/// The namespace whose uid serves as the uid of the cluster.
const CLUSTER_NAMESPACE: &str = "kube-system";

const JOURNAL: &str = "journal";
const CLUSTER: &str = "cluster";
const EPOCH: &str = "epoch";
const HEAD: &str = "head";
const SUPERSEDES: &str = "supersedes";
const NO_FREE: &str = "noFree";
const CONFIRM: &str = "confirm";

/// The content of a binding to be written.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The journal, its cluster, and the journals that it supersedes.
    pub state: &'a BindingState,
    pub cluster: &'a Uid,
    /// The new mark.
    pub mark: BindingMark,
}

/// The result of a write.
#[derive(Debug, Clone)]
pub enum Written {
    /// The write was applied.
    Done,
    /// Another write was faster: the binding has to be read again.
    Lost,
}

/// Whether a ConfigMap is the binding.
pub fn is_binding(object: &ConfigMap) -> bool {
    object.metadata.name.as_deref() == Some(NAME)
}

/// Parses the binding.
///
/// # Errors
/// A field is missing or malformed: the field and its expected value.
pub fn parse(object: &ConfigMap) -> Result<Binding, String> {
    let empty = BTreeMap::new();
    let data = object.data.as_ref().unwrap_or(&empty);
    let field = |name: &str| data.get(name).map(String::as_str).ok_or(format!("data.{name} is missing"));
    let malformed = |name: &str, what: &str| format!("data.{name} is not {what}");
    let (position, hash) = head(field(HEAD)?).ok_or_else(|| malformed(HEAD, "POSITION:HASH"))?;
    let epoch = field(EPOCH)?.parse().map_err(|_| malformed(EPOCH, "a number"))?;
    Ok(Binding {
        journal: field(JOURNAL)?.parse().map_err(|_| malformed(JOURNAL, "a UUID"))?,
        cluster: Uid(field(CLUSTER)?.to_owned()),
        mark: BindingMark { epoch, position, hash },
        no_free: data.get(NO_FREE).is_some_and(|value| value == "true"),
    })
}

/// The epoch for which an operator confirmed the cluster.
pub fn confirmed(object: &ConfigMap) -> Option<u64> {
    object.data.as_ref()?.get(CONFIRM)?.parse().ok()
}

fn head(text: &str) -> Option<(u64, [u8; 32])> {
    let head: crate::journal::Head = text.parse().ok()?;
    Some((head.position, head.hash))
}

fn data(wanted: &Wanted<'_>) -> BTreeMap<&'static str, String> {
    let Wanted { state, cluster, mark } = wanted;
    let BindingMark { epoch, position, hash } = *mark;
    let supersedes: Vec<String> = state.supersedes.iter().map(Uuid::to_string).collect();
    [
        (JOURNAL, state.journal.to_string()),
        (CLUSTER, cluster.to_string()),
        (EPOCH, epoch.to_string()),
        (HEAD, crate::journal::Head { position, hash }.to_string()),
        (SUPERSEDES, supersedes.join(",")),
    ]
    .into()
}

fn entries(journal: Uuid) -> BTreeMap<String, String> {
    [
        (labels::JOURNAL.to_owned(), journal.to_string()),
        // A backup tool that restores the object elsewhere would bind another cluster.
        (labels::EXCLUDE_FROM_BACKUP.to_owned(), "true".to_owned()),
    ]
    .into()
}

impl Adapter {
    /// Uid of the cluster: that of its namespace `kube-system`.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn cluster_uid(&self) -> Result<Uid, Problem> {
        let namespace = self.get::<Namespace>(&(), "", CLUSTER_NAMESPACE).await?;
        let uid = namespace.and_then(|namespace| namespace.metadata.uid);
        uid.map(Uid).ok_or_else(|| {
            let about = About::new("Namespace", "", CLUSTER_NAMESPACE);
            let fix = "every cluster has it: check what the kubeconfig points to";
            Problem::new(Code::BindingRefused, about, "the cluster has no such namespace", fix)
        })
    }

    /// The binding of a namespace, read from the API server.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    pub async fn binding(&self, namespace: &str) -> Result<Option<ConfigMap>, Problem> {
        self.get::<ConfigMap>(&(), namespace, NAME).await
    }

    /// Creates the binding of a namespace.
    ///
    /// # Errors
    /// `Unreachable` (the write may have been applied) or `Refused`.
    pub async fn create_binding(&self, namespace: &str, wanted: &Wanted<'_>) -> Result<Written, Problem> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": NAME, "namespace": namespace, "labels": entries(wanted.state.journal) },
            "data": data(wanted),
        });
        let collection = ConfigMap::url_path(&(), Some(namespace));
        done(self.write::<ConfigMap>(Method::POST, &collection, &object).await, namespace)
    }

    /// Replaces the content of the binding, if it is unchanged since it was `seen`.
    ///
    /// # Errors
    /// `Unreachable` (the write may have been applied) or `Refused`.
    pub async fn renew_binding(&self, seen: &ConfigMap, wanted: &Wanted<'_>) -> Result<Written, Problem> {
        let meta = &seen.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let operations = renewal(seen, wanted);
        self.patch_binding(namespace, operations).await
    }

    /// Writes an operator's confirmation of the cluster for the start of that epoch.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`, the latter also where the binding is gone or of another epoch by now.
    pub async fn confirm_binding(&self, seen: &ConfigMap, epoch: u64) -> Result<Written, Problem> {
        let namespace = seen.metadata.namespace.as_deref().unwrap_or_default();
        let patch = Patch::of(seen.metadata.uid.as_deref().unwrap_or_default())
            .test("/data/epoch", epoch.to_string())
            .add("/data/confirm", epoch.to_string());
        self.patch_binding(namespace, patch.into_operations()).await
    }

    async fn patch_binding(&self, namespace: &str, operations: Vec<Value>) -> Result<Written, Problem> {
        let path = format!("{}/{NAME}", ConfigMap::url_path(&(), Some(namespace)));
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json-patch+json")
            .body(json!(operations).to_string().into_bytes())
            .map_err(kube::Error::HttpError);
        let answer = match request {
            Ok(request) => self.send::<ConfigMap>(request).await,
            Err(error) => Err(error),
        };
        done(answer, namespace)
    }
}

fn renewal(seen: &ConfigMap, wanted: &Wanted<'_>) -> Vec<Value> {
    let meta = &seen.metadata;
    let uid = meta.uid.as_deref().unwrap_or_default();
    let labels = Entry { seen: meta.labels.clone(), write: entries(wanted.state.journal) };
    let patch = Patch::of(uid)
        .test("/metadata/resourceVersion", meta.resource_version.clone())
        .entries("/metadata/labels", &labels);
    let patch = if seen.data.is_none() { patch.add("/data", json!({})) } else { patch };
    let fields = data(wanted).into_iter();
    fields.fold(patch, |patch, (field, value)| patch.add(&format!("/data/{field}"), value)).into_operations()
}

/// A patch that returns 404: the binding was deleted meanwhile.
fn done(answer: Result<ConfigMap, kube::Error>, namespace: &str) -> Result<Written, Problem> {
    match answer {
        Ok(_) => Ok(Written::Done),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(Written::Lost),
        Err(error) => Err(classify::problem(&error, About::new("ConfigMap", namespace, NAME))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(state: &BindingState) -> ConfigMap {
        let mark = BindingMark { epoch: 3, position: 40, hash: [7; 32] };
        let wanted = Wanted { state, cluster: &Uid::from("cluster-1"), mark };
        let data = data(&wanted).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        ConfigMap { data: Some(data), ..ConfigMap::default() }
    }

    #[test]
    fn written_binding_round_trips() {
        let state =
            BindingState { supersedes: vec![Uuid::from_u128(9)], ..BindingState::new(Uuid::from_u128(5)) };
        let read = parse(&wanted(&state)).expect("readable");
        assert_eq!((read.journal, read.cluster), (Uuid::from_u128(5), Uid::from("cluster-1")));
        assert_eq!(read.mark, BindingMark { epoch: 3, position: 40, hash: [7; 32] });
        assert!(!read.no_free);
    }

    #[test]
    fn malformed_field_is_named() {
        let state = BindingState::new(Uuid::from_u128(5));
        for (field, value) in [("journal", "x"), ("epoch", "-1"), ("head", "1:zz")] {
            let mut object = wanted(&state);
            object.data.as_mut().expect("data").insert(field.to_owned(), value.to_owned());
            let error = parse(&object).expect_err(field);
            assert!(error.contains(field), "{error}");
            object.data.as_mut().expect("data").remove(field);
            assert!(parse(&object).expect_err(field).contains("missing"));
        }
    }
}
