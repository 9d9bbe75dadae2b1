//! `stillpoint drill`: crash-recovery drills on the embedded cluster.

pub mod list;
pub mod points;
mod report;
pub mod run;

use clap::Subcommand;

/// Run crash-recovery drills on the embedded cluster
#[derive(Debug, Subcommand)]
pub(super) enum Drill {
    Run(run::Run),
    List(list::List),
    Points(points::CrashPoints),
}

impl Drill {
    pub(super) async fn execute(self) -> u8 {
        match self {
            Self::Run(run) => run.execute().await,
            Self::List(list) => list.execute(),
            Self::Points(points) => points.execute(),
        }
    }
}
