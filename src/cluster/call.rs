//! Converts a call to an HTTP request.

use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::api::Version;
use crate::cluster::objects::info;
use crate::machine::kit::{Call, Verb};

/// The body of a request and its media type.
type Body = (Value, &'static str);

/// A call as an HTTP request.
pub trait ToRequest {
    /// The request, where the group API is served in `version`.
    ///
    /// # Errors
    /// A name has characters that no URL can have.
    fn request(&self, version: Version) -> Result<Request<Vec<u8>>, http::Error>;
}

impl ToRequest for Call {
    fn request(&self, version: Version) -> Result<Request<Vec<u8>>, http::Error> {
        let path = format!("{}/{}", collection(self, version), self.name);
        let (method, path, (body, media)): (_, _, Body) = match &self.verb {
            Verb::Create(object) => (
                Method::POST,
                collection(self, version),
                (complete(self, object, version), "application/json"),
            ),
            Verb::Patch(operations) => {
                (Method::PATCH, path, (json!(operations), "application/json-patch+json"))
            }
            Verb::PatchStatus(operations) => {
                (Method::PATCH, path + "/status", (json!(operations), "application/json-patch+json"))
            }
            Verb::Delete { uid, resource_version } => {
                (Method::DELETE, path, (delete_options(uid, resource_version.as_deref()), "application/json"))
            }
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, media)
            .body(body.to_string().into_bytes())
    }
}

fn collection(call: &Call, version: Version) -> String {
    let namespace = Some(call.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    (info(call.kind).collection)(version, namespace)
}

fn complete(call: &Call, object: &Value, version: Version) -> Value {
    let (api_version, kind) = (info(call.kind).type_of)(version);
    let mut object = object.clone();
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!(call.name);
    if !call.namespace.is_empty() {
        object["metadata"]["namespace"] = json!(call.namespace);
    }
    object
}

fn delete_options(uid: &str, resource_version: Option<&str>) -> Value {
    let mut preconditions = json!({ "uid": uid });
    if let Some(version) = resource_version {
        preconditions["resourceVersion"] = json!(version);
    }
    json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": preconditions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::kit::Kind;

    fn call(kind: Kind, namespace: &str, verb: Verb) -> Request<Vec<u8>> {
        let call = Call { kind, namespace: namespace.to_owned(), name: "x".to_owned(), verb };
        call.request(Version::V1beta2).expect("a request")
    }

    fn body(request: &Request<Vec<u8>>) -> Value {
        serde_json::from_slice(request.body()).expect("JSON")
    }

    #[test]
    fn delete_has_uid_and_optional_version_precondition() {
        let delete = Verb::Delete { uid: "u1".to_owned(), resource_version: Some("7".to_owned()) };
        let request = call(Kind::VolumeGroupSnapshot, "shop", delete);
        assert_eq!(request.method(), Method::DELETE);
        assert_eq!(
            request.uri(),
            "/apis/groupsnapshot.storage.k8s.io/v1beta2/namespaces/shop/volumegroupsnapshots/x"
        );
        let body = body(&request);
        assert_eq!(body["preconditions"], json!({"uid": "u1", "resourceVersion": "7"}));
        assert_eq!(body["propagationPolicy"], "Background");
        assert_eq!(delete_options("u1", None)["preconditions"], json!({"uid": "u1"}));
    }

    #[test]
    fn create_posts_to_collection_of_served_version() {
        let request = call(Kind::VolumeGroupSnapshotContent, "", Verb::Create(json!({"spec": {}})));
        assert_eq!(request.uri(), "/apis/groupsnapshot.storage.k8s.io/v1beta2/volumegroupsnapshotcontents");
        assert_eq!(
            body(&request),
            json!({
                "apiVersion": "groupsnapshot.storage.k8s.io/v1beta2",
                "kind": "VolumeGroupSnapshotContent",
                "metadata": {"name": "x"},
                "spec": {},
            })
        );
    }

    #[test]
    fn a_status_is_patched_through_its_subresource() {
        let request = call(Kind::VolumeSnapshot, "shop", Verb::PatchStatus(vec![]));
        assert_eq!(
            request.uri(),
            "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots/x/status"
        );
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json-patch+json");
    }
}
