//! Parses the path of a request.

use crate::api_server::Inner;
use crate::resources::{NAMESPACES, RESOURCES, Resource};

/// The meaning of a path.
#[derive(Debug)]
pub(super) enum Route {
    Health,
    Version,
    /// `/api`
    Core,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1` or `/apis/<group>/<version>`
    GroupVersion(String, String),
    /// `/openapi/v3`
    OpenApi,
    /// `/openapi/v3/api/v1` or `/openapi/v3/apis/<group>/<version>`
    OpenApiOf(String, String),
    Place(Place),
}

/// A collection or an object, in one version.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub resource: &'static Resource,
    pub version: &'static str,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub status: bool,
}

/// Parses a path; `None` if it is not served.
pub(super) fn parse(inner: &Inner, path: &str) -> Option<Route> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    Some(match segments.as_slice() {
        ["readyz" | "livez" | "healthz", ..] => Route::Health,
        ["version"] => Route::Version,
        ["openapi", "v3"] => Route::OpenApi,
        ["openapi", "v3", "api", version] => Route::OpenApiOf(String::new(), (*version).to_owned()),
        ["openapi", "v3", "apis", group, version] => {
            Route::OpenApiOf((*group).to_owned(), (*version).to_owned())
        }
        ["api"] => Route::Core,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::GroupVersion(String::new(), (*version).to_owned()),
        ["apis", group, version] => Route::GroupVersion((*group).to_owned(), (*version).to_owned()),
        ["api", version, rest @ ..] => Route::Place(place(inner, "", version, rest)?),
        ["apis", group, version, rest @ ..] => Route::Place(place(inner, group, version, rest)?),
        _ => return None,
    })
}

fn place(inner: &Inner, group: &str, version: &str, rest: &[&str]) -> Option<Place> {
    let (namespace, rest) = match rest {
        // Two segments are the namespace itself; `/status` is its subresource.
        [NAMESPACES, _] | [NAMESPACES, _, "status"] => (None, rest),
        [NAMESPACES, namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        _ => (None, rest),
    };
    let (plural, name, status) = match rest {
        [plural] => (plural, None, false),
        [plural, name] => (plural, Some((*name).to_owned()), false),
        [plural, name, "status"] => (plural, Some((*name).to_owned()), true),
        _ => return None,
    };
    let resource = RESOURCES.iter().find(|one| one.group == group && one.plural == *plural)?;
    let version = inner.versions(resource).into_iter().find(|served| *served == version)?;
    let misplaced = namespace.is_some() && !resource.namespaced
        || name.is_some() && namespace.is_none() && resource.namespaced
        || status && !resource.status_subresource;
    (!misplaced).then_some(Place { resource, version, namespace, name, status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_server::{ApiServer, ApiServerConfig};
    use crate::clock::SimClock;

    fn found(path: &str) -> Option<(&'static str, Option<String>, Option<String>, bool)> {
        let config = ApiServerConfig {
            seed: 1,
            clock: SimClock::new(0),
            groupsnapshot_versions: vec!["v1beta2".to_owned()],
        };
        match ApiServer::new(config).with(|inner| parse(inner, path)) {
            Some(Route::Place(place)) => {
                Some((place.resource.plural, place.namespace, place.name, place.status))
            }
            _ => None,
        }
    }

    #[test]
    fn routes_collections_objects_and_subresources() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found("/api/v1/namespaces"), Some(("namespaces", None, None, false)));
        assert_eq!(found("/api/v1/namespaces/n"), Some(("namespaces", None, some("n"), false)));
        assert_eq!(found("/api/v1/namespaces/n/status"), Some(("namespaces", None, some("n"), true)));
        assert_eq!(found("/api/v1/namespaces/n/pods"), Some(("pods", some("n"), None, false)));
        assert_eq!(found("/api/v1/pods"), Some(("pods", None, None, false)));
        let snapshots = "/apis/snapshot.storage.k8s.io/v1/namespaces/n/volumesnapshots/a/status";
        assert_eq!(found(snapshots), Some(("volumesnapshots", some("n"), some("a"), true)));
    }

    #[test]
    fn unserved_path_is_not_found() {
        assert_eq!(found("/api/v1/pods/a"), None, "a namespaced object without its namespace");
        assert_eq!(found("/api/v1/namespaces/n/persistentvolumes"), None);
        assert_eq!(found("/apis/velero.io/v1/namespaces/n/backups/a/status"), None, "no such subresource");
        assert_eq!(
            found("/apis/groupsnapshot.storage.k8s.io/v1/volumegroupsnapshots"),
            None,
            "not configured"
        );
        assert!(found("/apis/groupsnapshot.storage.k8s.io/v1beta2/volumegroupsnapshots").is_some());
    }
}
