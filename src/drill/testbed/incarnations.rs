//! Runs incarnations of the daemon on a testbed: their start, injected changes, and their end.
//!
//! A kill drops the engine without another poll and discards every byte that was not synced.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Notify;
use uuid::Uuid;

use super::{End, Testbed};
use crate::cluster::Adapter;
use crate::domain::ids::STREAM_NAMESPACE;
use crate::domain::problem::Problem;
use crate::drill::wire::Wire;
use crate::engine::binding::BindingOptions;
use crate::engine::crash_points::{CrashPoints, Verdict};
use crate::engine::{Config, Engine};
use crate::journal::{Disk, Journal, MemoryStore};
use crate::machine::kit::Point;
use crate::sim::Cluster;

/// Longer than any deadline of a Backup, in simulated seconds: a run that has not ended by then never ends.
const PATIENCE: u64 = 6 * 3600;

impl Testbed {
    /// Runs one incarnation until the Backup ends, the daemon ends itself, or the daemon is killed at
    /// `crash_at`.
    pub async fn run_daemon(&self, crash_at: Option<Point>) -> End {
        let killed = Arc::new(Notify::new());
        let signal = killed.clone();
        let points = match crash_at {
            None => CrashPoints::none(),
            Some(wanted) => CrashPoints::ask(move |point| {
                if point == wanted {
                    signal.notify_one();
                    return Verdict::Halt;
                }
                Verdict::GoOn
            }),
        };
        self.run_daemon_with(points, killed).await
    }

    /// Runs one incarnation and calls `act` once, at the first pass of `at`. Kills the daemon at `crash_at`.
    pub async fn run_daemon_acting(
        &self,
        at: Point,
        act: impl Fn(&Cluster) + Send + Sync + 'static,
        crash_at: Option<Point>,
    ) -> End {
        let killed = Arc::new(Notify::new());
        let (signal, cluster) = (killed.clone(), self.cluster.clone());
        let done = std::sync::atomic::AtomicBool::new(false);
        let points = CrashPoints::ask(move |point| {
            if point == at && !done.swap(true, std::sync::atomic::Ordering::SeqCst) {
                act(&cluster);
            }
            if Some(point) == crash_at {
                signal.notify_one();
                return Verdict::Halt;
            }
            Verdict::GoOn
        });
        self.run_daemon_with(points, killed).await
    }

    /// Runs one incarnation with these points; `killed` ends it.
    pub async fn run_daemon_with(&self, points: CrashPoints, killed: Arc<Notify>) -> End {
        self.run_daemon_to(points, killed, |testbed| testbed.ended().map(End::Phase)).await
    }

    /// Runs one incarnation until `ended` returns an end; `killed` ends it earlier.
    pub async fn run_daemon_to(
        &self,
        points: CrashPoints,
        killed: Arc<Notify>,
        ended: impl Fn(&Self) -> Option<End>,
    ) -> End {
        let came = async {
            // Checked once a second: a finished daemon may wait, and every check has a cost.
            for _ in 0..PATIENCE {
                if let Some(end) = ended(self) {
                    return end;
                }
                self.pass(1).await;
            }
            End::Hung
        };
        let life = self.life(points);
        let end = tokio::select! {
            biased;
            () = killed.notified() => End::Killed,
            problem = life => End::Problem(problem),
            end = came => end,
        };
        // The kill: bytes that were not synced are lost, and the writer of this incarnation with them.
        self.disk.crash();
        end
    }

    /// Returns the id of a start. Each start has its own, and each repetition of a drill has the same ones.
    fn start_id(&self, agent: &str) -> Uuid {
        let started = self.starts.fetch_add(1, Ordering::Relaxed);
        Uuid::new_v5(&STREAM_NAMESPACE, format!("start {agent} {started}").as_bytes())
    }

    /// Runs one incarnation until the condition holds.
    ///
    /// # Panics
    /// The daemon ends itself, or the condition does not become true in time.
    pub async fn run_daemon_until(&self, points: CrashPoints, what: impl Fn(&Self) -> bool) {
        let came = tokio::select! {
            biased;
            problem = self.life(points) => panic!("the daemon ended: {problem}"),
            came = self.comes(what) => came,
        };
        self.disk.crash();
        if !came {
            panic!("it never came to be\n{}", self.shown().await);
        }
    }

    /// Returns a client as a daemon on `disk` has it: with the daemon's permissions only, and with every call
    /// recorded.
    pub fn client(&self, disk: &Disk, agent: &'static str) -> kube::Client {
        let wire = Wire {
            rbac: self.rbac.clone(),
            calls: self.calls.clone(),
            cluster: self.cluster.clone(),
            clock: self.clock,
            disk: disk.clone(),
            agent,
        };
        wire.client()
    }

    /// Runs one incarnation without an end condition. Returns why it ended itself. Dropping the future kills
    /// it.
    pub async fn life(&self, points: CrashPoints) -> Problem {
        self.life_on(&self.disk, "stillpoint/test", points).await
    }

    /// Runs one incarnation on another disk and under its own User-Agent.
    pub async fn life_on(&self, disk: &Disk, agent: &'static str, points: CrashPoints) -> Problem {
        self.life_bound(disk, agent, points, self.binding).await
    }

    /// As [`Self::life_on`], for a release without a binding: only the claims of Backup and group restrict the
    /// daemon.
    pub async fn unbound_life_on(&self, disk: &Disk, agent: &'static str, points: CrashPoints) -> Problem {
        self.life_bound(disk, agent, points, BindingOptions { bound: false, ..self.binding }).await
    }

    /// As [`Self::life_on`], with the given binding. Only the id of the start is replaced.
    pub async fn life_bound(
        &self,
        disk: &Disk,
        agent: &'static str,
        points: CrashPoints,
        binding: BindingOptions,
    ) -> Problem {
        let store = MemoryStore::open(disk).expect("the disk is free");
        let (journal, opened) = Journal::open_task(store).expect("the journal opens");
        let client = || std::future::ready(Ok(self.client(disk, agent)));
        let adapter = match Adapter::reach(client, |_| ()).await {
            Ok(adapter) => adapter,
            Err(problem) => return problem,
        };
        let config = Config {
            group_logic: self.group_logic,
            namespace: "stillpoint".to_owned(),
            defaults: self.defaults.clone(),
            points,
            clock: self.clock,
            binding: BindingOptions { start: self.start_id(agent), ..binding },
        };
        let engine = Engine::observed(adapter, journal, opened, config, self.metrics.clone());
        engine.run().await
    }
}
