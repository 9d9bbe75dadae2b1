//! Checks permissions and the Backup name before the first group of a Backup begins.
//!
//! The permissions are reviewed once per incarnation of the daemon. They are reviewed again after a call that
//! was refused with 403, while one is missing, and after [`limits::GRANT_TRUSTED`]. Otherwise a Backup of a
//! small group would make more reviews than writes.
//!
//! While the API server does not answer, the Backup waits and the log says so. Nothing is concluded from a
//! missing answer, nor from a refusal that an API server may give just after its start
//! ([`limits::REFUSAL_DOUBTED`]).

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::access::{self, Need};
use crate::cluster::kinds::Backup;
use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::driver::Context;

/// The last review that found every permission granted that groups need. Clones share it.
#[derive(Clone, Default)]
pub struct Granted(Arc<Mutex<Option<Review>>>);

/// A review without a missing permission.
#[derive(Clone, Copy)]
struct Review {
    at: Timestamp,
    /// Number of calls refused with 403 before the review.
    forbidden: u64,
}

impl Granted {
    /// Whether no event since the last review requires another one.
    fn holds(&self, forbidden: u64, now: Timestamp) -> bool {
        let review = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        review.is_some_and(|review| {
            review.forbidden == forbidden && now < review.at.after(limits::GRANT_TRUSTED)
        })
    }

    fn set(&self, review: Review) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(review);
    }
}

/// Why no group of a Backup in `namespace` can begin, if permissions are missing.
pub async fn missing_permissions(context: &Context, namespace: &str) -> Option<Problem> {
    let (begun, mut tries) = (context.clock.now(), 0);
    if context.granted.holds(context.adapter.forbidden(), begun) {
        return None;
    }
    loop {
        let review = Review { at: context.clock.now(), forbidden: context.adapter.forbidden() };
        let missing = answered(context, "access reviews", || {
            context.adapter.missing_permissions(namespace, Need::Groups)
        })
        .await;
        let problem = match missing {
            Ok(missing) => access::refusal(&missing, namespace),
            Err(problem) => Some(problem),
        };
        let Some(problem) = problem else {
            context.granted.set(review);
            return None;
        };
        tries += 1;
        if doubted(context, begun, tries, &problem).await.is_err() {
            return Some(problem);
        }
    }
}

/// Reports missing permissions once, at the start of the daemon. If none is missing, the review also counts
/// for the first Backups.
pub async fn review_at_start(context: &Context, namespace: &str) {
    let review = Review { at: context.clock.now(), forbidden: context.adapter.forbidden() };
    match context.adapter.missing_permissions(namespace, Need::Shown).await {
        Ok(missing) => {
            if missing.iter().all(|permission| permission.grant.need > Need::Groups) {
                context.granted.set(review);
            }
            match access::refusal(&missing, namespace) {
                Some(problem) => tracing::error!(%problem, "permissions are missing"),
                None => tracing::info!("all permissions are granted"),
            }
        }
        Err(problem) => tracing::warn!(%problem, "cannot review the permissions now"),
    }
}

/// The message that refuses a Backup whose name is also used by a Backup of another namespace.
///
/// Velero considers every VolumeSnapshot that is labelled with the name of one of its Backups to be its own,
/// in any namespace, and deletes it with that Backup (Velero,
/// `pkg/controller/backup_deletion_controller.go`).
pub async fn namesake(context: &Context, backup: &Backup) -> Option<String> {
    let meta = &backup.metadata;
    let (name, own) =
        (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default());
    let namespaces = match answered(context, "Backups of that name", || context.adapter.backups_named(name))
        .await
    {
        Ok(namespaces) => namespaces,
        Err(problem) => {
            // The missing permission refuses the groups of the Backup; that message names it.
            tracing::warn!(backup = %format!("{own}/{name}"), %problem, "cannot look for other Backups of that name");
            return None;
        }
    };
    let other = namespaces.iter().find(|namespace| *namespace != own)?;
    Some(limits::clip(&format!(
        "metadata.name: namespace {other} has a Backup {name} as well, and Velero takes every VolumeSnapshot with \
         that backup name for its own and deletes it with that Backup; create this Backup under another name"
    )))
}

/// Refuses a namespace with a Velero server in it: its Backups belong to Velero.
///
/// # Errors
/// [`Code::VeleroNamespace`].
pub async fn refuse_velero_namespace(context: &Context, namespace: &str) -> Result<(), Problem> {
    let traces = answered(context, "a Velero server", || context.adapter.velero_traces(namespace)).await;
    let traces = match traces {
        Ok(traces) => traces,
        Err(problem) => {
            tracing::warn!(%problem, "cannot look for a Velero server in the namespace");
            return Ok(());
        }
    };
    if let Some(server) = traces.server {
        return Err(Problem::new(
            Code::VeleroNamespace,
            About::new("Namespace", "", namespace),
            format!(
                "Deployment {server} runs a Velero server, and the Backups of the namespace are Velero's"
            ),
            "run Stillpoint in a namespace of its own: --namespace stillpoint",
        ));
    }
    if !traces.locations.is_empty() {
        let locations = traces.locations.join(", ");
        tracing::warn!(namespace, locations, "the namespace has BackupStorageLocations: is it Velero's?");
    }
    Ok(())
}

/// Repeats a call until the API server answers, and for a limited time also while it refuses.
///
/// # Errors
/// `Refused`: the API server continues to refuse.
pub(super) async fn answered<T, F>(context: &Context, what: &str, ask: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let (mut failures, mut refused_since) = (0, None);
    loop {
        match ask().await {
            Err(problem) if problem.code == Code::Unreachable => {
                (failures, refused_since) = (failures + 1, None);
                let pause = limits::backoff(failures);
                tracing::warn!(%problem, what, "waiting {pause} for the API server");
                context.clock.sleep_until(Some(context.clock.now().after(pause))).await;
            }
            Err(problem) if problem.code == Code::Refused => {
                failures += 1;
                let since = *refused_since.get_or_insert_with(|| context.clock.now());
                if doubted(context, since, failures, &problem).await.is_err() {
                    return Err(problem);
                }
            }
            answer => return answer,
        }
    }
}

/// Pauses before a refused call is repeated.
///
/// # Errors
/// The time limit has passed: the refusal is final.
async fn doubted(context: &Context, since: Timestamp, tries: u32, problem: &Problem) -> Result<(), ()> {
    if context.clock.now() >= since.after(limits::REFUSAL_DOUBTED) {
        return Err(());
    }
    let pause = limits::backoff(tries);
    tracing::warn!(%problem, "an API server that has just started refuses everybody: asking again in {pause}");
    context.clock.sleep_until(Some(context.clock.now().after(pause))).await;
    Ok(())
}
