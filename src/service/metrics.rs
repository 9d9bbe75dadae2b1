//! Defines the names, units and labels of `/metrics`.
//!
//! The engine's metrics feed counters and histograms. Gauges are read from the health of the daemon at each
//! scrape. This module sends no requests to the cluster. Units are in the names. Labels have few values each:
//! a label never holds a run, a Backup or a namespace.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::domain::time::Timestamp;
use crate::engine::health::Health;
use crate::engine::run_status::RunStatus;
use crate::engine::telemetry::{Metric, MetricsSink};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WaitsFor {
    waiting_for: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HeldUp {
    waiting_for: String,
    cause: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Phase {
    phase: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refusal {
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Step {
    step: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Effect {
    kind: String,
    outcome: String,
}

/// All metrics of one incarnation of the daemon.
pub struct Metrics {
    registry: Registry,
    runs: Family<State, Gauge>,
    waiting: Family<WaitsFor, Gauge>,
    waiting_since: Family<WaitsFor, Gauge>,
    held_up: Family<HeldUp, Gauge>,
    finished: Family<Outcome, Counter>,
    backups: Family<Phase, Counter>,
    backups_refused: Family<Refusal, Counter>,
    groups_refused: Family<Refusal, Counter>,
    steps: Family<Step, Histogram>,
    effects: Family<Effect, Counter>,
    appends: Histogram,
    position: Gauge<u64, AtomicU64>,
    epoch: Gauge<u64, AtomicU64>,
    events_dropped: Counter,
}

/// A step is one call or the calls of all members: milliseconds to minutes.
fn step_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        // A sync of a disk: 0.1 ms to seconds.
        let appends = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("stillpoint"),
            runs: Family::default(),
            waiting: Family::default(),
            waiting_since: Family::default(),
            held_up: Family::default(),
            finished: Family::default(),
            backups: Family::default(),
            backups_refused: Family::default(),
            groups_refused: Family::default(),
            steps: Family::new_with_constructor(step_buckets),
            effects: Family::default(),
            appends,
            position: Gauge::default(),
            epoch: Gauge::default(),
            events_dropped: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "The release that runs", build);
        to.register("runs", "Runs that are under way, by state", self.runs.clone());
        to.register("runs_waiting", "Runs that wait, by what they wait for", self.waiting.clone());
        let help = "Unix time since which the oldest of these runs waits, by what they wait for";
        to.register_with_unit("runs_waiting_since", help, Unit::Seconds, self.waiting_since.clone());
        let help = "Runs that wait longer than usual, by what they wait for and by what holds them up";
        to.register("runs_held_up", help, self.held_up.clone());
        to.register("runs_finished", "Runs that ended in this life, by result", self.finished.clone());
        to.register("backups_finished", "Backups that ended in this life, by phase", self.backups.clone());
        let help = "Backups that were refused as a whole, by error code";
        to.register("backups_refused", help, self.backups_refused.clone());
        let help = "Groups of accepted Backups that were refused, by error code";
        to.register("groups_refused", help, self.groups_refused.clone());
        let help = "Time of a step, from before its intent to its durable outcome";
        to.register_with_unit("step_duration", help, Unit::Seconds, self.steps.clone());
        to.register("effects", "Effects that were tried, by kind and outcome", self.effects.clone());
        let help = "Time until records are durable";
        to.register_with_unit("journal_append_duration", help, Unit::Seconds, self.appends.clone());
        let help = "Position of the last durable record of the journal";
        to.register("journal_head_position", help, self.position.clone());
        to.register("journal_epoch", "Epoch of this life of the daemon", self.epoch.clone());
        let help = "Events that were dropped because the queue was full or the API server did not take them";
        to.register("events_dropped", help, self.events_dropped.clone());
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// A value cannot be written, which is a defect.
    pub fn text(&self, health: &Health) -> Result<String, fmt::Error> {
        self.set_runs(&health.runs());
        if let Some((epoch, position)) = health.journal() {
            self.epoch.set(epoch);
            self.position.set(position);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Sets the gauges of runs. The gauge of a state without runs is removed; it does not remain at its last
    /// value.
    fn set_runs(&self, runs: &[Arc<RunStatus>]) {
        let mut states = BTreeMap::<&'static str, i64>::new();
        let mut waits = BTreeMap::<&'static str, (i64, Timestamp)>::new();
        let mut held_up = BTreeMap::<(&'static str, &'static str), i64>::new();
        for run_status in runs {
            *states.entry(run_status.run.state_name()).or_default() += 1;
            let Some(wait) = &run_status.waiting else { continue };
            let (count, since) = waits.entry(wait.what).or_insert((0, wait.since));
            (*count, *since) = (*count + 1, wait.since.min(*since));
            if let Some(cause) = wait.cause {
                *held_up.entry((wait.what, cause.name())).or_default() += 1;
            }
        }
        self.runs.clear();
        for (state, count) in states {
            self.runs.get_or_create(&State { state: state.to_owned() }).set(count);
        }
        self.waiting.clear();
        self.waiting_since.clear();
        for (waiting_for, (count, since)) in waits {
            let label = WaitsFor { waiting_for: waiting_for.to_owned() };
            self.waiting.get_or_create(&label).set(count);
            self.waiting_since.get_or_create(&label).set(since.0.div_euclid(1_000_000_000));
        }
        self.held_up.clear();
        for ((waiting_for, cause), count) in held_up {
            let label = HeldUp { waiting_for: waiting_for.to_owned(), cause: cause.to_owned() };
            self.held_up.get_or_create(&label).set(count);
        }
    }
}

impl MetricsSink for Metrics {
    fn record(&self, metric: Metric) {
        match metric {
            Metric::BackupRefused(code) => {
                self.backups_refused.get_or_create(&Refusal { code: code.to_string() }).inc();
            }
            Metric::GroupRefused(code) => {
                self.groups_refused.get_or_create(&Refusal { code: code.to_string() }).inc();
            }
            Metric::BackupEnded(phase) => {
                self.backups.get_or_create(&Phase { phase: phase.to_owned() }).inc();
            }
            Metric::RunEnded(result) => {
                self.finished.get_or_create(&Outcome { result: result.to_owned() }).inc();
            }
            // A row may match many times a second while a run waits. Only the resulting steps are counted.
            Metric::Decided(_) => {}
            Metric::Step { step, took } => {
                self.steps.get_or_create(&Step { step: step.to_owned() }).observe(took.as_secs_f64());
            }
            Metric::Effect { kind, outcome } => {
                let labels = Effect { kind: kind.to_owned(), outcome: outcome.to_owned() };
                self.effects.get_or_create(&labels).inc();
            }
            Metric::Appended { took } => self.appends.observe(took.as_secs_f64()),
            Metric::EventDropped => {
                self.events_dropped.inc();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::problem::Code;
    use std::time::Duration;

    #[test]
    fn counts_delayed_runs_by_cause() {
        use crate::machine::group::GroupRun;
        use crate::machine::kit::WaitReport;
        let metrics = Metrics::new();
        let run = Arc::new(GroupRun::new(crate::audit::testing::plan(), Timestamp(0)));
        let run_status = |since: i64| {
            let report =
                WaitReport::unreadable("release/4-look", false, "503", Timestamp(since * 1_000_000_000), 1);
            let (waiting, head) = (Some(Arc::new(report)), crate::journal::Head::genesis());
            Arc::new(RunStatus { run: run.clone(), waiting, ready: None, head })
        };
        metrics.set_runs(&[run_status(70), run_status(50)]);
        let mut text = String::new();
        encode(&mut text, &metrics.registry).expect("a text");
        let what = "waiting_for=\"the API server to answer reads\"";
        for line in [
            format!("stillpoint_runs_waiting{{{what}}} 2"),
            format!("stillpoint_runs_waiting_since_seconds{{{what}}} 50"),
            format!("stillpoint_runs_held_up{{{what},cause=\"ReadsFail\"}} 2"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        metrics.set_runs(&[]);
        let mut text = String::new();
        encode(&mut text, &metrics.registry).expect("a text");
        assert!(!text.contains(what), "what no run waits for vanishes: {text}");
    }

    #[test]
    fn each_metric_has_name_with_unit() {
        let metrics = Metrics::new();
        let events = [
            Metric::BackupRefused(Code::InvalidBackup),
            Metric::GroupRefused(Code::PermissionsMissing),
            Metric::BackupEnded("Completed"),
            Metric::RunEnded("Failed"),
            Metric::Step { step: "retain", took: Duration::from_millis(20) },
            Metric::Effect { kind: "detachMember", outcome: "done" },
            Metric::Appended { took: Duration::from_millis(2) },
            Metric::EventDropped,
        ];
        events.into_iter().for_each(|metric| metrics.record(metric));
        let text = metrics.text(&Health::default()).expect("a text");
        for line in [
            "stillpoint_backups_refused_total{code=\"SP0002\"} 1",
            "stillpoint_groups_refused_total{code=\"SP0021\"} 1",
            "stillpoint_backups_finished_total{phase=\"Completed\"} 1",
            "stillpoint_runs_finished_total{result=\"Failed\"} 1",
            "stillpoint_step_duration_seconds_sum{step=\"retain\"} 0.02",
            "stillpoint_step_duration_seconds_bucket{le=\"0.02\",step=\"retain\"} 1",
            "stillpoint_effects_total{kind=\"detachMember\",outcome=\"done\"} 1",
            "stillpoint_journal_append_duration_seconds_count 1",
            "stillpoint_events_dropped_total 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
