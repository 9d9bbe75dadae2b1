//! Reads and writes an operator's request to a run: a label and two annotations on its GroupSnapshot.
//!
//! | on the GroupSnapshot | content |
//! |---|---|
//! | label `stillpoint.dev/request` | the action: `resume`, `abandon` or `abandon-keep-storage` |
//! | annotation `stillpoint.dev/request-id` | the id of the request, so that it is answered once |
//! | annotation `stillpoint.dev/request-by` | the name of the user, as the request states it |
//!
//! [`Adapter::ask`] writes them with the permissions of the user, from any machine with a kubeconfig; the
//! daemon never writes them. The daemon reads them through a watch with a label selector, journals the
//! request, and publishes its id in `status.answered`; it removes nothing. So no request is applied twice,
//! wherever a process is killed.
//!
//! Not here: the effect of a request on a run (`machine::group::fold`).

use http::Method;
use kube::Resource;
use kube::core::{ObjectMeta, PartialObjectMeta};
use serde_json::{Value, json};

use crate::api::GroupSnapshot;
use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::problem::{About, Problem};
use crate::machine::kit::Ask;
use crate::machine::kit::OperatorRequest;

/// The watched objects: the metadata of GroupSnapshots that carry a request.
pub type Asking = PartialObjectMeta<GroupSnapshot>;

/// Longest id of a request, in bytes; a longer one is truncated.
const MAX_ID_BYTES: usize = 64;

/// The request on a GroupSnapshot.
///
/// # Errors
/// A sentence for the log: Stillpoint does not know the request, or it has no id.
pub fn read(meta: &ObjectMeta) -> Option<Result<OperatorRequest, String>> {
    let wanted = meta.labels.as_ref()?.get(labels::REQUEST)?;
    let annotation = |key: &str| {
        meta.annotations.as_ref().and_then(|all| all.get(key)).filter(|value| !value.is_empty()).cloned()
    };
    let known: Vec<&str> = Ask::ALL.iter().map(|ask| ask.name()).collect();
    let Some(ask) = Ask::ALL.iter().copied().find(|ask| ask.name() == wanted) else {
        return Some(Err(format!("label {} is {wanted:?}, not {}", labels::REQUEST, known.join(", "))));
    };
    let Some(mut request) = annotation(labels::REQUEST_ID) else {
        return Some(Err(format!(
            "label {} stands without annotation {}",
            labels::REQUEST,
            labels::REQUEST_ID
        )));
    };
    request.truncate((0..=MAX_ID_BYTES).rev().find(|at| request.is_char_boundary(*at)).unwrap_or(0));
    let by = annotation(labels::REQUEST_BY).map_or_else(|| "unknown".to_owned(), |by| limits::clip(&by));
    Some(Ok(OperatorRequest { ask, request, by }))
}

impl Adapter {
    /// Writes a request on a GroupSnapshot, if it is unchanged since it was read: same uid, same version.
    ///
    /// # Errors
    /// `Unreachable`, or `Refused`: it has changed in between, or the user lacks the permission to patch it.
    pub async fn ask(&self, run: &GroupSnapshot, asked: &OperatorRequest) -> Result<(), Problem> {
        let (namespace, name) = (
            run.metadata.namespace.as_deref().unwrap_or_default(),
            run.metadata.name.as_deref().unwrap_or_default(),
        );
        let path = format!("{}/{name}", GroupSnapshot::url_path(&(), Some(namespace)));
        let written = self.write::<Value>(Method::PATCH, &path, &patch(&run.metadata, asked)).await;
        written
            .map(|_| ())
            .map_err(|error| classify::problem(&error, About::new("GroupSnapshot", namespace, name)))
    }
}

fn patch(meta: &ObjectMeta, asked: &OperatorRequest) -> Value {
    json!({ "metadata": {
        "uid": meta.uid,
        "resourceVersion": meta.resource_version,
        "labels": { labels::REQUEST: asked.ask.name() },
        "annotations": { labels::REQUEST_ID: asked.request, labels::REQUEST_BY: asked.by },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(patch: &Value) -> ObjectMeta {
        serde_json::from_value(patch["metadata"].clone()).expect("metadata")
    }

    fn asked() -> OperatorRequest {
        OperatorRequest { ask: Ask::Abandon, request: "4711".to_owned(), by: "alice@desk".to_owned() }
    }

    #[test]
    fn request_round_trips_through_annotations() {
        let patch = patch(&ObjectMeta { uid: Some("u".to_owned()), ..ObjectMeta::default() }, &asked());
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(read(&meta(&patch)), Some(Ok(asked())));
        assert_eq!(read(&ObjectMeta::default()), None);
    }

    #[test]
    fn invalid_request_is_explained_in_one_sentence() {
        let mut patch = patch(&ObjectMeta::default(), &asked());
        patch["metadata"]["labels"][labels::REQUEST] = "explode".into();
        let error = read(&meta(&patch)).expect("a label").expect_err("no such request");
        assert_eq!(
            error,
            "label stillpoint.dev/request is \"explode\", not resume, abandon, abandon-keep-storage"
        );
        patch["metadata"]["labels"][labels::REQUEST] = "resume".into();
        patch["metadata"]["annotations"] = json!({});
        let error = read(&meta(&patch)).expect("a label").expect_err("no id");
        assert!(error.ends_with("without annotation stillpoint.dev/request-id"), "{error}");
    }

    #[test]
    fn accepts_missing_name_and_overlong_id() {
        let mut patch = patch(&ObjectMeta::default(), &asked());
        patch["metadata"]["annotations"] = json!({ labels::REQUEST_ID: "ä".repeat(400) });
        let read = read(&meta(&patch)).expect("a label").expect("a request");
        assert_eq!((read.request.len(), read.by.as_str()), (MAX_ID_BYTES, "unknown"));
    }
}
