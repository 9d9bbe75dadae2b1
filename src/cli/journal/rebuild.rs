//! `journal rebuild --from-cluster`: replaces a lost journal with a new one.
//!
//! Only for a journal that cannot be rebuilt from its index ([`super::rebuild_from_index`]). The command writes
//! every run that is still recorded in the cluster into the new journal, marked as reconstructed. The next start
//! of the daemon rolls these runs back or completes them. The command only reads the cluster.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{DirectoryArgs, on_a_runtime, problems, rebuild_from_index};
use crate::cli::common::show;
use crate::cli::output::{self, exit};
use crate::cluster::{Adapter, client_config};
use crate::domain::problem::{About, Code, Problem};
use crate::domain::time::Timestamp;
use crate::engine::recover_from_cluster::{self, Rebuilt};
use crate::journal::{Head, JournalError, Replacement};
use crate::records::journal_options;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) directory: DirectoryArgs,
    /// Rebuild the runs from labels, receipts and GroupSnapshots in the cluster
    #[arg(long, conflicts_with = "from_index", required_unless_present = "from_index")]
    from_cluster: bool,
    /// Rebuild a damaged log: take the records that it cannot read from its index
    #[arg(long)]
    from_index: bool,
    /// Head that was published elsewhere; the rebuilt log must contain it
    #[arg(long, value_name = "POS:HASH", requires = "from_index")]
    expect_head: Option<Head>,
    /// Continue without records that are neither in the log nor in its index
    #[arg(long, requires = "from_index")]
    accept_loss: bool,
    /// Path to the kubeconfig file. Defaults to the kubeconfig of the environment
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of Stillpoint, which contains the Backups of the runs
    #[arg(short, long, value_name = "NS", default_value = "stillpoint")]
    namespace: String,
}

/// The output of the command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// Epoch of the new journal.
    epoch: u64,
    /// Files that were renamed.
    set_aside: Vec<String>,
    runs: Vec<ShownRun>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownRun {
    run: String,
    namespace: String,
    group: String,
    /// The point at which the run continues; none if the run was left out.
    standing: Option<&'static str>,
    /// The reason why the run was left out.
    left_out: Option<String>,
    seen: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    if args.from_index {
        let DirectoryArgs { journal, .. } = &args.directory;
        let format = args.directory.format();
        return rebuild_from_index::run(journal, format, args.expect_head, args.accept_loss);
    }
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
