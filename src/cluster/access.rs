//! Lists the permissions that Stillpoint needs, and checks whether the API server grants them.
//!
//! [`grants`] is the only list: the kinds of objects that effects change bring theirs (`objects`). The review requests its entries, the manifests are tested against it, and the
//! tests of the engine check every call of every scenario against it. A missing permission that is detected
//! after the pivot would leave a group half released. Therefore all permissions, including those of rollback
//! and rebuild, are reviewed before a group begins.
//!
//! Not here: Secrets (the driver's sidecar reads them, Stillpoint only stores their names), pods, and any
//! wildcard.

use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, header};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Resource;
use serde::Deserialize;

use crate::cluster::classify;
use crate::cluster::connect::Adapter;
use crate::domain::labels;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};

/// Number of concurrent reviews.
const WIDTH: usize = 8;
/// Number of further missing permissions that a message names after the first.
const NAMED: usize = 3;

/// Where a permission is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// In every namespace, and for objects of the cluster: a ClusterRole.
    Cluster,
    /// In Stillpoint's own namespace: a Role.
    OwnNamespace,
}

/// Verbs on one resource, as one rule of RBAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural of the resource, with `/status` for the subresource.
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    pub scope: Scope,
    /// The feature that needs it, for the message of a refusal.
    pub purpose: &'static str,
    /// The effect of its absence.
    pub need: Need,
}

/// The part of Stillpoint that a missing permission stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Groups: none begins without it.
    Groups,
    /// The published status of groups.
    Shown,
}

pub(super) const SNAPSHOT: &str = "snapshot.storage.k8s.io";
pub(super) const GROUP: &str = labels::GROUP_SNAPSHOT_API;
/// Verbs on an object that effects create, change and delete.
pub(super) const OBJECT: &[&str] = &["create", "delete", "get", "list", "patch", "watch"];
const CACHED: &[&str] = &["list", "watch"];
const READ: &[&str] = &["get", "list", "watch"];

/// Every permission that Stillpoint uses, and no other.
pub fn grants() -> impl Iterator<Item = &'static Grant> {
    super::objects::GRANTS.iter().chain(OTHERS)
}

/// Permissions on objects that no effect changes.
const OTHERS: &[Grant] = &[
    cluster(GROUP, "volumegroupsnapshotclasses", READ, "the choice of the class"),
    cluster(SNAPSHOT, "volumesnapshotclasses", CACHED, "the choice of the class"),
    cluster("", "namespaces", READ, "forming groups, and binding the journal to the cluster"),
    cluster("", "persistentvolumeclaims", CACHED, "forming groups"),
    cluster("", "persistentvolumes", CACHED, "forming groups"),
    cluster("velero.io", "backups", &["list"], "finding another Backup of the same name"),
    own("velero.io", "backups", &["patch", "watch"], "taking Backups and showing their phase"),
    shown(own("velero.io", "backups/status", &["patch"], "showing the phase of Backups")),
    shown(own("apps", "deployments", &["list"], "refusing a namespace that is Velero's")),
    shown(own("velero.io", "backupstoragelocations", &["list"], "refusing a namespace that is Velero's")),
    shown(cluster(
        "stillpoint.dev",
        "groupsnapshots",
        &["create", "list", "watch"],
        "publishing runs, and reading requests of operators",
    )),
    shown(cluster("stillpoint.dev", "groupsnapshots/status", &["patch"], "showing runs")),
    shown(cluster("events.k8s.io", "events", &["create"], "recording Events")),
    cluster("authorization.k8s.io", "selfsubjectaccessreviews", &["create"], "this review"),
];

pub(super) const fn cluster(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Grant {
    Grant { group, resource, verbs, scope: Scope::Cluster, purpose, need: Need::Groups }
}

pub(super) const fn own(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Grant {
    Grant { group, resource, verbs, scope: Scope::OwnNamespace, purpose, need: Need::Groups }
}

const fn shown(grant: Grant) -> Grant {
    Grant { need: Need::Shown, ..grant }
}

/// One verb on one resource: the subject of one review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The grant that it belongs to.
    pub grant: &'static Grant,
    pub verb: &'static str,
}

impl Permission {
    /// In the syntax of `kubectl auth can-i`:
    /// `patch volumesnapshots.snapshot.storage.k8s.io --subresource=status`.
    pub fn words(&self) -> String {
        let (plural, subresource) = self.grant.parts();
        let dot = if self.grant.group.is_empty() { "" } else { "." };
        let below = subresource.map(|name| format!(" --subresource={name}")).unwrap_or_default();
        format!("{} {plural}{dot}{}{below}", self.verb, self.grant.group)
    }
}

impl Grant {
    /// Plural and subresource.
    pub fn parts(&self) -> (&'static str, Option<&'static str>) {
        match self.resource.split_once('/') {
            Some((plural, subresource)) => (plural, Some(subresource)),
            None => (self.resource, None),
        }
    }
}

/// Every permission, in the order of the table.
pub fn permissions() -> impl Iterator<Item = Permission> {
    grants().flat_map(|grant| grant.verbs.iter().map(move |verb| Permission { grant, verb }))
}

impl Adapter {
    /// The permissions that the API server does not grant, in the order of the table. Permissions on kinds
    /// that it does not serve are left out. `own_namespace` is Stillpoint's own. Permissions of a need beyond
    /// `most` are not reviewed.
    ///
    /// # Errors
    /// `Unreachable`: nothing is known then.
    pub async fn missing_permissions(
        &self,
        own_namespace: &str,
        most: Need,
    ) -> Result<Vec<Permission>, Problem> {
        let served = self.served().group_version.is_some();
        let asked = permissions().filter(|permission| permission.grant.need <= most);
        let asked = asked.filter(|permission| served || permission.grant.group != GROUP);
        let answers = futures::stream::iter(asked)
            .map(|permission| async move {
                self.is_allowed(&permission, own_namespace).await.map(|yes| (permission, yes))
            })
            .buffered(WIDTH);
        let answers: Vec<(Permission, bool)> = answers.try_collect().await?;
        Ok(answers.into_iter().filter(|(_, allowed)| !allowed).map(|(permission, _)| permission).collect())
    }

    /// A 403 for the review itself counts as an answer: the permission to create reviews is missing.
    async fn is_allowed(&self, permission: &Permission, own_namespace: &str) -> Result<bool, Problem> {
        let about = || About::new("SelfSubjectAccessReview", "", "");
        let path = SelfSubjectAccessReview::url_path(&(), None);
        let body = serde_json::to_vec(&review(permission, own_namespace)).map_err(kube::Error::SerdeError);
        let request = body.and_then(|body| {
            Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(header::CONTENT_TYPE, "application/json")
                .body(body)
                .map_err(kube::Error::HttpError)
        });
        let request = request.map_err(|error| classify::problem(&error, about()))?;
        match self.send::<Reviewed>(request).await {
            Ok(answer) => Ok(answer.status.is_some_and(|status| status.allowed)),
            Err(error) => match classify::problem(&error, about()) {
                problem if problem.code == Code::Refused => {
                    Ok(permission.grant.resource != "selfsubjectaccessreviews")
                }
                problem => Err(problem),
            },
        }
    }
}

/// The fields of the answer to a review that are used.
#[derive(Deserialize)]
struct Reviewed {
    status: Option<ReviewedStatus>,
}

#[derive(Deserialize)]
struct ReviewedStatus {
    allowed: bool,
}

fn review(permission: &Permission, own_namespace: &str) -> SelfSubjectAccessReview {
    let (plural, subresource) = permission.grant.parts();
    let namespace = (permission.grant.scope == Scope::OwnNamespace).then(|| own_namespace.to_owned());
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(permission.verb.to_owned()),
                group: Some(permission.grant.group.to_owned()),
                resource: Some(plural.to_owned()),
                subresource: subresource.map(str::to_owned),
                namespace,
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    }
}

/// Why no group begins while these permissions are missing; `None` when none is.
pub fn refusal(missing: &[Permission], own_namespace: &str) -> Option<Problem> {
    let (first, rest) = missing.split_first()?;
    let everywhere = first.grant.scope == Scope::Cluster;
    let place =
        if everywhere { "in the cluster".to_owned() } else { format!("in namespace {own_namespace}") };
    let mut reason =
        format!("the API server does not allow it to Stillpoint {place}; {} needs it", first.grant.purpose);
    if !rest.is_empty() {
        let names: Vec<String> = rest.iter().take(NAMED).map(Permission::words).collect();
        let more = rest.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        reason.push_str(&format!("; also missing: {}{more}", names.join(", ")));
    }
    let flag = if everywhere { "-A".to_owned() } else { format!("-n {own_namespace}") };
    let fix = format!(
        "apply deploy/rbac.yaml, check with `kubectl auth can-i {} {flag}` as Stillpoint's service account, and \
         create the Backup again",
        first.words()
    );
    let about = About::new("Permission", "", &first.words());
    Some(Problem::new(Code::PermissionsMissing, about, limits::clip(&reason), fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(resource: &str, verb: &str) -> Permission {
        permissions()
            .find(|permission| permission.grant.resource == resource && permission.verb == verb)
            .expect("in the table")
    }

    #[test]
    fn permissions_are_unique_and_without_wildcards() {
        let mut seen = std::collections::BTreeSet::new();
        for permission in permissions() {
            let key =
                (permission.grant.group, permission.grant.resource, permission.verb, permission.grant.scope);
            assert!(seen.insert(key), "{key:?} twice");
            assert!(![permission.grant.group, permission.grant.resource, permission.verb].contains(&"*"));
            assert_ne!(permission.grant.resource, "secrets");
        }
    }

    #[test]
    fn checks_cluster_permissions_in_all_namespaces() {
        let spec = review(&permission("volumesnapshots/status", "patch"), "stillpoint").spec;
        let asked = spec.resource_attributes.expect("a resource");
        assert_eq!(
            (asked.resource.as_deref(), asked.subresource.as_deref()),
            (Some("volumesnapshots"), Some("status"))
        );
        assert_eq!((asked.namespace, asked.group.as_deref()), (None, Some("snapshot.storage.k8s.io")));
        let own = review(&permission("backups", "watch"), "stillpoint").spec.resource_attributes;
        assert_eq!(own.expect("a resource").namespace.as_deref(), Some("stillpoint"));
    }

    #[test]
    fn missing_permission_names_verb_resource_and_fix() {
        assert_eq!(refusal(&[], "stillpoint"), None);
        let problem =
            refusal(&[permission("volumesnapshots/status", "patch")], "stillpoint").expect("a refusal");
        assert_eq!(
            problem.to_string(),
            "SP0021 Permission patch volumesnapshots.snapshot.storage.k8s.io --subresource=status: the API server does not \
             allow it to Stillpoint in the cluster; the release of members needs it; apply deploy/rbac.yaml, check \
             with `kubectl auth can-i patch volumesnapshots.snapshot.storage.k8s.io --subresource=status -A` as \
             Stillpoint's service account, and create the Backup again"
        );
        let all: Vec<Permission> = permissions().collect();
        let problem = refusal(&all, "stillpoint").expect("a refusal");
        assert!(problem.reason.ends_with(&format!(" and {} more", all.len() - 1 - NAMED)), "{problem}");
    }
}
