//! `stillpoint drill run`: runs drills and reports the result.

use std::time::{Duration, Instant};

use clap::Args;

use super::report;
use crate::cli::output::{self, Format, data, exit, talk};
use crate::domain::problem::{About, Code, Problem};
use crate::domain::text::count;
use crate::drill::campaign::{Campaign, Wanted};
use crate::drill::pool;
use crate::drill::runner::CaseResult;
use crate::drill::scenario::{Case, Profile};

/// Run drills: crash the daemon, inject wrong replies and concurrent changes, and check the result
///
/// Every case runs on simulated time with an in-memory disk. Cases run in parallel on all cores. The exit
/// code is 0 only if all cases held. To repeat a failed case, pass its name to --case.
#[derive(Debug, Args)]
pub struct Run {
    /// Run all cases: also pairs of crashes for 3 members, and every disruption and reply fault instead of a
    /// sample. Takes a long time
    #[arg(long)]
    all: bool,
    /// Also run every pair of crashes for 1 and 2 members
    #[arg(long, conflicts_with = "all")]
    pairs: bool,
    /// Run only the cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Run only the case with this name, as printed by `drill run`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["all", "pairs", "filter", "members", "profile", "seed"])]
    case: Option<Case>,
    /// Seed for the randomness of the cluster and for the sample of cases
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Group sizes, as a comma-separated list
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=128))]
    members: Vec<u16>,
    /// Timing profile of the controllers: plain, slow or stale
    #[arg(long, value_name = "P")]
    profile: Option<Profile>,
    /// Omit the cases that held from the table
    #[arg(long)]
    brief: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Run {
    pub async fn execute(self) -> u8 {
        let (format, brief) = (self.output, self.brief);
        let began = Instant::now();
        // Each case has its own runtime, which cannot be entered from this runtime.
        let played = tokio::task::spawn_blocking(move || self.play()).await;
        let campaign = match played {
            Ok(campaign) => campaign,
            Err(error) => {
                let fix = "this is a defect of Stillpoint: report it";
                let problem = Problem::new(Code::Internal, About::default(), error.to_string(), fix);
                return output::report(&problem, format.is_document());
            }
        };
        let end = report::End::of(&campaign, began.elapsed());
        let text = match format.document(&end) {
            Ok(document) => document.unwrap_or_else(|| report::text(&end, brief)),
            Err(problem) => return output::report(&problem, format.is_document()),
        };
        // A closed stdout is not an error.
        let _ = data(&text);
        if end.all_held() { exit::DONE } else { exit::FAILED }
    }

    fn play(self) -> Campaign {
        if let Some(case) = &self.case {
            return Campaign { played: vec![pool::play_alone(case)] };
        }
        let usual = Wanted::usual(self.seed);
        let wanted = match (self.all, self.pairs) {
            (true, _) => Wanted::all(self.seed),
            (_, true) => Wanted { pair_share: 1, ..usual },
            _ => usual,
        };
        let members: Vec<usize> = self.members.iter().map(|count| usize::from(*count)).collect();
        let members = if members.is_empty() { wanted.members.clone() } else { members };
        let disturbed = if self.members.is_empty() { wanted.disturbed.clone() } else { members.clone() };
        let wanted = Wanted { members, disturbed, profile: self.profile, filter: self.filter, ..wanted };
        let progress = Progress::default();
        Campaign::play(&wanted, &|played| progress.tell(played))
    }
}

/// Progress on stderr: each failure at once, and the number of finished cases from time to time.
struct Progress {
    began: Instant,
    counts: std::sync::Mutex<(u64, u64)>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { began: Instant::now(), counts: std::sync::Mutex::default() }
    }
}

impl Progress {
    const EVERY: u64 = 500;

    fn tell(&self, played: &CaseResult) {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        counts.0 += 1;
        counts.1 += u64::from(!played.held());
        if !played.held() {
            talk(&format!("broken: {}", played.case));
        }
        if counts.0.is_multiple_of(Self::EVERY) {
            let took: Duration = self.began.elapsed();
            talk(&format!("{}, {} broken, {} s", count(counts.0, "case"), counts.1, took.as_secs()));
        }
    }
}
