//! Progress of the demo on stderr: one line for each milestone, and on a terminal also the current wait.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::demo::sample::{BACKUP, OWN_NAMESPACE};
use crate::cli::output::{style, talk};
use crate::domain::ids::StreamId;
use crate::domain::text::count;
use crate::engine::run_status::{RunStatus, StatusBoard};
use crate::machine::group::Milestone;
use crate::machine::kit::Stage as _;
use crate::sim::api_server::Caller;

/// The runs that the demo followed, by stream.
pub type Seen = BTreeMap<StreamId, Followed>;

/// One run, followed to its end.
#[derive(Clone)]
pub struct Followed {
    /// The last published status.
    pub run_status: Arc<RunStatus>,
    /// The reasons for waiting with the total time of each, in the order in which they first occurred.
    pub waited: Vec<(&'static str, Duration)>,
    /// When `run_status` was published.
    at: Instant,
}

impl Followed {
    fn new(run_status: Arc<RunStatus>) -> Self {
        Self { run_status, waited: Vec::new(), at: Instant::now() }
    }

    /// Stores the next status. The time since the last status counts as waiting for the reason that the last
    /// status gives.
    fn go_on(&mut self, run_status: Arc<RunStatus>) {
        let (now, waiting) = (Instant::now(), self.run_status.waiting.as_ref().map(|wait| wait.what));
        let took = now - self.at;
        if let Some(what) = waiting {
            match self.waited.iter_mut().find(|(known, _)| *known == what) {
                Some((_, sum)) => *sum += took,
                None => self.waited.push((what, took)),
            }
        }
        (self.run_status, self.at) = (run_status, now);
    }
}

/// Prints the progress of the runs until the Backup has ended.
pub async fn follow(hand: &Caller, status_board: StatusBoard) -> Seen {
    let mut screen = Screen::new();
    let mut changes = status_board.changes();
    let mut backups = hand.watch("backups");
    loop {
        status_board.all().into_iter().for_each(|run_status| screen.show(run_status));
        if has_ended(hand) {
            return screen.finish();
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = backups.next() => {}
        }
    }
}

fn has_ended(hand: &Caller) -> bool {
    let backup = hand.get("backups", Some(OWN_NAMESPACE), BACKUP).unwrap_or_default();
    backup["status"]["completionTimestamp"].is_string()
}

struct Screen {
    bars: Option<MultiProgress>,
    groups: BTreeMap<StreamId, (usize, ProgressBar)>,
    seen: Seen,
}

impl Screen {
    fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { bars, groups: BTreeMap::new(), seen: Seen::new() }
    }

    fn show(&mut self, run_status: Arc<RunStatus>) {
        let run = &run_status.run;
        let id = run.plan.run;
        if !self.groups.contains_key(&id) {
            let bar = self.bar();
            let members = count(run.plan.members.len(), "member");
            self.say(&format!("{}  planned, {members}", name(&run_status)));
            self.groups.insert(id, (0, bar));
        }
        let (told, bar) = self.groups.get(&id).cloned().unwrap_or((0, ProgressBar::hidden()));
        for passed in &run.timeline[told..] {
            let since = passed.at.since(run.plan.planned_at);
            self.say(&format!("{}  {:<10}  +{since}", name(&run_status), word(passed.milestone)));
        }
        match &run_status.waiting {
            Some(wait) => bar.set_message(format!("{}  waits for {}", name(&run_status), wait.text())),
            None => bar.set_message(format!("{}  {}", name(&run_status), run.state_name())),
        }
        if run.stage.is_final() {
            bar.finish_and_clear();
        }
        self.groups.insert(id, (run.timeline.len(), bar));
        self.seen.entry(id).or_insert_with(|| Followed::new(run_status.clone())).go_on(run_status);
    }

    fn bar(&self) -> ProgressBar {
        let Some(bars) = &self.bars else { return ProgressBar::hidden() };
        let bar = bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| talk(line)),
            None => talk(line),
        }
    }

    fn finish(self) -> Seen {
        self.groups.values().for_each(|(_, bar)| bar.finish_and_clear());
        self.seen
    }
}

fn name(run_status: &RunStatus) -> String {
    style::bold(&format!(
        "{:<16}",
        format!("{}/{}", run_status.run.plan.namespace, run_status.run.plan.group)
    ))
}

/// The name of a milestone: the five states as they are spelled, everything else in lower case.
fn word(milestone: Milestone) -> &'static str {
    match milestone {
        Milestone::Created => "Created",
        Milestone::VsBound => "VSBound",
        Milestone::Relabelled => "Relabelled",
        Milestone::Retained => "Retained",
        Milestone::Cleaned => "Cleaned",
        other => other.name(),
    }
}
