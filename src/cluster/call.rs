//! Represents one mutating HTTP request as data, and sends it.

use http::{Method, Request, header};
use kube::Resource;
use serde_json::{Value, json};

use crate::api::{
    Version, VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent,
};
use crate::cluster::changed::Kind;

/// One call that changes an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace; empty for an object of the cluster.
    pub namespace: String,
    pub name: String,
    pub verb: Verb,
}

/// The change to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// POST of this object; `apiVersion`, `kind`, name and namespace are added when it is sent.
    Create(Value),
    /// JSON patch.
    Patch(Vec<Value>),
    /// JSON patch of the status subresource.
    PatchStatus(Vec<Value>),
    /// Background delete of exactly this object.
    Delete {
        uid: String,
        /// Its resourceVersion, if the object must be unchanged.
        resource_version: Option<String>,
    },
}

/// The body of a request and its media type.
type Body = (Value, &'static str);

impl Call {
    /// The request, where the group API is served in `version`.
    pub fn request(&self, version: Version) -> Result<Request<Vec<u8>>, http::Error> {
        let path = format!("{}/{}", self.collection(version), self.name);
        let (method, path, (body, media)): (_, _, Body) = match &self.verb {
            Verb::Create(object) => {
                (Method::POST, self.collection(version), (self.complete(object, version), "application/json"))
            }
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

    fn collection(&self, version: Version) -> String {
        let namespace = Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        match self.kind {
            Kind::Group => VolumeGroupSnapshot::url_path(&version, namespace),
            Kind::GroupContent => VolumeGroupSnapshotContent::url_path(&version, namespace),
            Kind::Snapshot => VolumeSnapshot::url_path(&(), namespace),
            Kind::Content => VolumeSnapshotContent::url_path(&(), namespace),
        }
    }

    fn complete(&self, object: &Value, version: Version) -> Value {
        let (api_version, kind) = match self.kind {
            Kind::Group => type_of::<VolumeGroupSnapshot>(&version),
            Kind::GroupContent => type_of::<VolumeGroupSnapshotContent>(&version),
            Kind::Snapshot => type_of::<VolumeSnapshot>(&()),
            Kind::Content => type_of::<VolumeSnapshotContent>(&()),
        };
        let mut object = object.clone();
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(self.name);
        if !self.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(self.namespace);
        }
        object
    }
}

fn type_of<K: Resource>(dynamic: &K::DynamicType) -> (String, String) {
    (K::api_version(dynamic).into_owned(), K::kind(dynamic).into_owned())
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
        let request = call(Kind::Group, "shop", delete);
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
        let request = call(Kind::GroupContent, "", Verb::Create(json!({"spec": {}})));
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
        let request = call(Kind::Snapshot, "shop", Verb::PatchStatus(vec![]));
        assert_eq!(
            request.uri(),
            "/apis/snapshot.storage.k8s.io/v1/namespaces/shop/volumesnapshots/x/status"
        );
        assert_eq!(request.headers()[header::CONTENT_TYPE], "application/json-patch+json");
    }
}
