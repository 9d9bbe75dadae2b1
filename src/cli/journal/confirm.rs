//! `journal confirm-cluster`: an operator confirms a cluster that went back in time.
//!
//! The command writes the epoch of the bound daemon into the binding. The daemon reads the epoch there,
//! writes it to the journal, and frees storage again. The command works from any machine with a kubeconfig
//! and the permission to patch the ConfigMap.

use std::path::PathBuf;

use serde::Serialize;

use super::on_a_runtime;
use crate::cli::common::{OutputArgs, show};
use crate::cli::output::{Format, exit};
use crate::cluster::binding::{self, Written};
use crate::cluster::{Adapter, client_config};
use crate::domain::problem::{About, Code, Problem};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Path to the kubeconfig file. Defaults to the kubeconfig of the environment
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of Stillpoint
    #[arg(short, long, value_name = "NS", default_value = "stillpoint")]
    namespace: String,
    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn format(&self) -> Format {
        self.output.output
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Confirmed {
    namespace: String,
    journal: String,
    epoch: u64,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let confirmed = on_a_runtime(|| confirm(args))?;
    show(args.format(), &confirmed, |confirmed| {
        let Confirmed { namespace, journal, epoch } = confirmed;
        format!(
            "confirmed for journal {journal}, epoch {epoch}: the daemon in {namespace} frees storage again\n"
        )
    })?;
    Ok(exit::DONE)
}

async fn confirm(args: &Args) -> Result<Confirmed, Problem> {
    let config = client_config(args.kubeconfig.as_deref()).await?;
    let cluster = About::new("Cluster", "", &config.cluster_url.to_string());
    let client = kube::Client::try_from(config)
        .map_err(|error| Problem::new(Code::Usage, cluster, error.to_string(), "check the kubeconfig"))?;
    let adapter = Adapter::connect(client).await?;
    let about = || About::new("ConfigMap", &args.namespace, binding::NAME);
    let Some(object) = adapter.binding(&args.namespace).await? else {
        let fix = "name the namespace of the daemon with --namespace, and start the daemon first";
        return Err(Problem::new(Code::Usage, about(), "the namespace has no binding", fix));
    };
    let fix = "delete the binding; a running daemon makes it again";
    let found = binding::parse(&object).map_err(|why| Problem::new(Code::Usage, about(), why, fix))?;
    let epoch = found.mark.epoch;
    match adapter.confirm_binding(&object, epoch).await? {
        Written::Done => {
            Ok(Confirmed { namespace: args.namespace.clone(), journal: found.journal.to_string(), epoch })
        }
        Written::Lost => {
            let reason = "the binding was changed meanwhile";
            Err(Problem::new(Code::Refused, about(), reason, "run the command again"))
        }
    }
}
