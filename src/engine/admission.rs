//! What is asked of the cluster before the first group of a Backup begins: our rights, and the name.
//!
//! While the API server does not answer, the Backup waits, and says so in the log. Nothing is concluded from silence.

use std::future::Future;

use crate::cluster::access::{self, Need};
use crate::cluster::kinds::Backup;
use crate::domain::limits;
use crate::domain::problem::{Code, Problem};
use crate::engine::runner::Tools;

/// Why no group of a Backup in `namespace` can begin, if rights are missing.
pub async fn missing_rights(tools: &Tools, namespace: &str) -> Option<Problem> {
    let missing =
        answered(tools, "access reviews", || tools.adapter.missing_rights(namespace, Need::Groups)).await;
    match missing {
        Ok(missing) => access::refusal(&missing, namespace),
        Err(problem) => Some(problem),
    }
}

/// Says once, at the start of the daemon, what is missing. Backups are reviewed again, each for itself.
pub async fn review_at_start(tools: &Tools, namespace: &str) {
    match tools.adapter.missing_rights(namespace, Need::Shown).await {
        Ok(missing) => match access::refusal(&missing, namespace) {
            Some(problem) => tracing::error!(%problem, "rights are missing"),
            None => tracing::info!("all rights are granted"),
        },
        Err(problem) => tracing::warn!(%problem, "cannot review the rights now"),
    }
}

/// The sentence that refuses a Backup whose name a Backup of another namespace has.
///
/// Velero takes every VolumeSnapshot that is labelled with the name of one of its Backups for its own, in whatever
/// namespace it is, and deletes it with that Backup (Velero, `pkg/controller/backup_deletion_controller.go`).
pub async fn namesake(tools: &Tools, backup: &Backup) -> Option<String> {
    let meta = &backup.metadata;
    let (name, own) =
        (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref().unwrap_or_default());
    let namespaces = match answered(tools, "Backups of that name", || tools.adapter.backups_named(name)).await
    {
        Ok(namespaces) => namespaces,
        Err(problem) => {
            // The missing right refuses its groups; which is said there.
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

/// Asks until the API server answers.
async fn answered<T, F>(tools: &Tools, what: &str, ask: impl Fn() -> F) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let mut failures = 0;
    loop {
        match ask().await {
            Err(problem) if problem.code == Code::Unreachable => {
                failures += 1;
                let pause = limits::backoff(failures);
                tracing::warn!(%problem, what, "waiting {pause} for the API server");
                tools.clock.sleep_until(Some(tools.clock.now().after(pause))).await;
            }
            answer => return answer,
        }
    }
}
