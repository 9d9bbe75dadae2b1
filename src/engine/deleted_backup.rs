//! Reports that a Backup is deleted while its groups run.
//!
//! The groups continue: an unfinished run is safe only at its end. Their snapshots are retained, because the
//! deletion does not prove that the user wants to lose them; a Backup is deleted with its namespace, too. The
//! daemon therefore reports the deletion on the GroupSnapshot of each run, by an Event and in the log. No run
//! waits for the Backup.

use std::convert::Infallible;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cluster::kinds::GroupSnapshotStatus;
use crate::cluster::observe;
use crate::cluster::project::KubeEvent;
use crate::domain::ids::ObjectId;
use crate::domain::plan::BackupRef;
use crate::domain::time::Timestamp;
use crate::engine::cache::{Cache, IndexKey};
use crate::engine::driver::Context;
use crate::engine::events;

/// Type and reason of the condition, and reason of the Event.
const NAME: &str = "BackupDeleted";

/// Returns once the Backup was deleted, or is being deleted.
pub async fn deleted(cache: &Cache, backup: &BackupRef) {
    let changes = cache.subscribe_to_keys(&[IndexKey::BackupOf(backup.uid.0.clone())]);
    while !cache.backup_is_deleted(backup) {
        changes.changed().await;
    }
}

/// Does the work of a Backup, and logs if the Backup is deleted meanwhile.
pub async fn noticed<T>(context: &Context, backup: &BackupRef, work: impl Future<Output = T>) -> T {
    let noticed = async {
        deleted(&context.cache, backup).await;
        tracing::warn!("{}", message(backup));
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        biased;
        done = work => done,
        never = noticed => match never {},
    }
}

/// Adds the condition to the status of a run that continues.
pub fn show(status: &mut GroupSnapshotStatus, backup: &BackupRef, since: Timestamp) {
    let message = message(backup);
    let condition = observe::api_time(since).map(|time| Condition {
        type_: NAME.to_owned(),
        status: "True".to_owned(),
        reason: NAME.to_owned(),
        message: message.clone(),
        last_transition_time: time,
        observed_generation: None,
    });
    status.conditions.extend(condition);
    status.message.get_or_insert(message);
}

/// The Event on the GroupSnapshot.
pub fn notice(backup: &BackupRef, shown: &ObjectId, at: Timestamp) -> KubeEvent {
    events::of_run(shown, true, NAME, &message(backup), at)
}

fn message(backup: &BackupRef) -> String {
    format!(
        "Backup {}/{} was deleted while its groups run: they go on to their end, and the snapshots of completed groups \
         are kept and never freed by Stillpoint; docs/groups.md, \"When a Backup is deleted\", says how to free them",
        backup.namespace, backup.name
    )
}
