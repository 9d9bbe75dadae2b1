//! Lives of the daemon on a stage: how they begin, what happens in them, and how they end.
//!
//! A kill drops the engine without another poll and forgets every byte that was not synced.

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
use crate::machine::point::Point;
use crate::sim::Cluster;

/// Longer than any deadline of a Backup, in simulated seconds: what has not ended by then never ends.
const PATIENCE: u64 = 6 * 3600;

impl Testbed {
    /// One life of the daemon, until the Backup ends, the daemon does, or it is killed at `crash_at`.
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

    /// One life in which `act` is done, once, when `at` is passed for the first time; killed at `crash_at`.
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

    /// One life with these points; `killed` ends it.
    pub async fn run_daemon_with(&self, points: CrashPoints, killed: Arc<Notify>) -> End {
        self.run_daemon_to(points, killed, |testbed| testbed.ended().map(End::Phase)).await
    }

    /// One life until that is an end; `killed` ends it before.
    pub async fn run_daemon_to(
        &self,
        points: CrashPoints,
        killed: Arc<Notify>,
        ended: impl Fn(&Self) -> Option<End>,
    ) -> End {
        let came = async {
            // Looked at rarely: whoever is done may wait, and every look costs.
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
        // The kill: what was not synced is gone, and the writer of this life with it.
        self.disk.crash();
        end
    }

    /// Id of a start: another one for each, and the same in each repetition of a drill.
    fn start_id(&self, agent: &str) -> Uuid {
        let started = self.starts.fetch_add(1, Ordering::Relaxed);
        Uuid::new_v5(&STREAM_NAMESPACE, format!("start {agent} {started}").as_bytes())
    }

    /// One life until that is so.
    ///
    /// # Panics
    /// The daemon ends itself, or it does not come to be.
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

    /// A client of the cluster as a daemon on `disk` has it: with its rights only, every call noted.
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

    /// One life that nobody ends: why it ended itself. Dropped, it is killed.
    pub async fn life(&self, points: CrashPoints) -> Problem {
        self.life_on(&self.disk, "stillpoint/test", points).await
    }

    /// One life on another disk and under a User-Agent of its own.
    pub async fn life_on(&self, disk: &Disk, agent: &'static str, points: CrashPoints) -> Problem {
        self.life_bound(disk, agent, points, self.binding).await
    }

    /// As [`Self::life_on`], of a release that knew no binding: nothing but the claims holds it back.
    pub async fn unbound_life_on(&self, disk: &Disk, agent: &'static str, points: CrashPoints) -> Problem {
        self.life_bound(disk, agent, points, BindingOptions { bound: false, ..self.binding }).await
    }

    /// As [`Self::life_on`], bound as `binding` says, but for the id of its start.
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
