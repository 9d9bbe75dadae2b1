//! `journal rebuild --from-cluster`: a new journal in the place of a lost one.
//!
//! Only for a journal of which neither half can be read. Every run that the cluster still shows is put into the new one,
//! marked as reconstructed: the next start of the daemon undoes or ends it. The cluster is only read.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{DirectoryArgs, on_a_runtime, problems};
use crate::cli::common::show;
use crate::cli::output::{self, exit};
use crate::cluster::{Adapter, client_config};
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::recover_from_cluster::{self, Rebuilt};
use crate::journal::{JournalError, Replacement};
use crate::records::journal_options;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) directory: DirectoryArgs,
    /// Reconstruct runs from labels, receipts and GroupSnapshots. There is no other source.
    #[arg(long, required = true)]
    from_cluster: bool,
    /// Kubeconfig of the cluster; without it that of the environment.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Stillpoint's own namespace, whose Backups asked for the runs.
    #[arg(short, long, value_name = "NS", default_value = "stillpoint")]
    namespace: String,
}

/// What the command prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Epoch of the new journal.
    epoch: u64,
    /// What was renamed.
    set_aside: Vec<String>,
    runs: Vec<ShownRun>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRun {
    run: String,
    namespace: String,
    group: String,
    /// Where it goes on; none if it was left out.
    standing: Option<&'static str>,
    /// Why it was left out.
    left_out: Option<String>,
    seen: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let shown = on_a_runtime(|| rebuilt(args))?;
    show(args.directory.format(), &shown, text)?;
    let complete = shown.runs.iter().all(|run| run.left_out.is_none());
    Ok(if complete { exit::DONE } else { exit::DEGRADED })
}

async fn rebuilt(args: &Args) -> Result<Shown, Problem> {
    let dir = &args.directory.journal;
    let unreadable = |error: JournalError| problems::unreadable(dir, &error);
    Replacement::is_called_for(dir).map_err(unreadable)?;
    let config = client_config(args.kubeconfig.as_deref()).await?;
    let about = About::new("Cluster", "", &config.cluster_url.to_string());
    let client = kube::Client::try_from(config)
        .map_err(|error| Problem::new(Code::Usage, about, error.to_string(), "check the kubeconfig"))?;
    let found = recover_from_cluster::look(&Adapter::connect(client).await?, &args.namespace).await?;
    let anew = Replacement::begin(dir, found.epoch, journal_options()).map_err(unreadable)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
    let runs = recover_from_cluster::record(anew.journal(), uuid::Uuid::new_v4(), &found, at).await?;
    let epoch = anew.journal().epoch();
    let set_aside = anew.put_in_place().map_err(unreadable)?;
    Ok(Shown { epoch, set_aside, runs: runs.into_iter().map(shown).collect() })
}

fn shown(rebuilt: Rebuilt) -> ShownRun {
    let Rebuilt { run, group: (namespace, group), standing, seen } = rebuilt;
    let (standing, left_out) = match standing {
        Ok(standing) => (Some(standing.name()), None),
        Err(why) => (None, Some(why)),
    };
    ShownRun { run: run.to_string(), namespace, group, standing, left_out, seen }
}

fn text(shown: &Shown) -> String {
    let rows = shown.runs.iter().map(|run| {
        let standing = match (&run.standing, &run.left_out) {
            (Some(standing), _) => (*standing).to_owned(),
            (None, why) => format!("left out: {}", why.clone().unwrap_or_default()),
        };
        vec![run.run.clone(), run.namespace.clone(), run.group.clone(), standing]
    });
    let mut text = match shown.runs.len() {
        0 => "the cluster shows no run\n".to_owned(),
        _ => output::table(&["run", "namespace", "group", "reconstructed as"], rows),
    };
    for name in &shown.set_aside {
        text.push_str(&format!("the lost {name} was kept under that name\n"));
    }
    text + &format!("epoch {}: start the daemon, which ends or undoes what is not over\n", shown.epoch)
}
