//! Drives one Backup from its object to its end.
//!
//! | module | contents |
//! |---|---|
//! | `acceptance` | whose a new Backup is, whether it is valid, and who claims it |
//! | `forming` | forms its groups |
//! | `driven` | what the machine of a Backup observes and publishes |
//! | `projection` | its status, Events and annotations |

mod acceptance;
mod driven;
mod forming;
mod projection;

use std::sync::Arc;

use tracing::Instrument;

use crate::cluster::kinds::Backup;
use crate::domain::ids::StreamId;
use crate::domain::problem::Problem;
use crate::engine::deleted_backup;
use crate::engine::driver::{Context, Driver, journal_problem};
use crate::engine::runs::fold_backup;
use crate::journal::JournalError;
use crate::machine::backup::BackupMachine;
use crate::machine::kit::Stage as _;

pub use acceptance::refuse_malformed;

/// Processes one Backup until it ends. `object` is `None` when only the journal still knows the Backup.
///
/// # Errors
/// The journal cannot be read or written, or a newer daemon took over: the daemon ends.
pub async fn take(context: Context, stream: StreamId, object: Option<Arc<Backup>>) -> Result<(), Problem> {
    let entries = match context.journal.stream(stream).await {
        Err(error @ JournalError::ArchiveMissing { .. }) => {
            acceptance::archived_elsewhere(&context, stream, object.as_deref(), &error);
            return Ok(());
        }
        entries => entries.map_err(|error| journal_problem(stream, &error))?,
    };
    let (driver, is_new) = match (fold_backup(stream, &entries)?, object.as_deref()) {
        (Some(run), _) if run.stage.is_final() => {
            projection::project_ended(&context, &run).await?;
            return projection::project_end(&context, &run).await;
        }
        (Some(run), object) => {
            acceptance::claim(&context, &run, object).await;
            (Driver::resume(context.clone(), run, entries.len() as u64), false)
        }
        (None, Some(object)) => match acceptance::accept(&context, object).await {
            Some(plan) => (Driver::plan(context.clone(), plan).await?, true),
            None => return Ok(()),
        },
        (None, None) => return Ok(()),
    };
    drive(&context, driver, object.as_deref(), is_new).await
}

/// Drives a Backup and its projection. It returns when both have ended.
async fn drive(
    context: &Context,
    driver: Driver<BackupMachine>,
    object: Option<&Backup>,
    is_new: bool,
) -> Result<(), Problem> {
    let backup = driver.plan_of().backup.clone();
    let stream = StreamId::of_backup(&backup.uid.0);
    let span = tracing::info_span!("backup", run = %stream, backup = backup.name);
    let driven = deleted_backup::noticed(context, &backup, Box::pin(driver.run()));
    let projected = Box::pin(async {
        // The run publishes its first state in its first poll.
        tokio::task::yield_now().await;
        match context.backups.follow(stream) {
            Some(published) => projection::follow(context, object, published, is_new).await,
            None => Ok(()),
        }
    });
    let (run, ()) = futures::future::try_join(driven, projected).instrument(span).await?;
    context.backups.forget(stream);
    for group in &run.state.groups {
        context.status_board.forget(group.run);
        context.runs.forget(group.run);
    }
    Ok(())
}
