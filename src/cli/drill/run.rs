//! `stillpoint drill run`: plays drills and says what survived.

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

/// Kills, lies to and interferes with the daemon on the embedded cluster, and checks what is left.
///
/// Every case is played on simulated time, with a disk in memory, on all cores. 0 only if all held; the name of a case
/// that did not repeats it with --case.
#[derive(Debug, Args)]
pub struct Run {
    /// Also pairs of kills for 3 members, and every rival and truth instead of a share of them. Takes long.
    #[arg(long)]
    all: bool,
    /// Also every pair of kills for 1 and 2 members.
    #[arg(long, conflicts_with = "all")]
    pairs: bool,
    /// Only cases with this text in their name.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Exactly this case, as `drill run` names it.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["all", "pairs", "filter", "members", "profile", "seed"])]
    case: Option<Case>,
    /// Source of everything random in the cluster, and of the share that is played.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Sizes of the group.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=128))]
    members: Vec<u16>,
    /// In which way the controllers are slow: plain, slow, stale.
    #[arg(long, value_name = "P")]
    profile: Option<Profile>,
    /// In the table, name only cases that did not hold.
    #[arg(long)]
    brief: bool,
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

impl Run {
    /// Plays and prints.
    pub async fn execute(self) -> u8 {
        let (format, brief) = (self.output, self.brief);
        let began = Instant::now();
        // The cases have runtimes of their own, which must not be entered from this one.
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
        // A closed stdout is no failure.
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

/// What is said while cases are played: what failed at once, and now and then how many there were.
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
