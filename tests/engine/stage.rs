//! What the scenarios stand on: an embedded cluster, a disk in memory, and lives of the daemon on both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stillpoint::cluster::Adapter;
use stillpoint::domain::problem::Problem;
use stillpoint::domain::time::Timestamp;
use stillpoint::engine::clock::Clock;
use stillpoint::engine::observer::{self, Observe};
use stillpoint::engine::points::{Points, Verdict};
use stillpoint::engine::request::Defaults;
use stillpoint::engine::{Config, Engine};
use stillpoint::journal::wire::{self, Decoded};
use stillpoint::journal::{Disk, Entry, Journal, MemoryStore};
use stillpoint::machine::group::effect::Outcome;
use stillpoint::machine::group::event::Facts;
use stillpoint::machine::group::{Event, Timed};
use stillpoint::machine::point::Point;
use stillpoint::sim::Cluster;
use stillpoint::sim::api_server::Caller;

use crate::rbac::Rbac;

/// Time that no scenario needs, in simulated seconds: a run that takes longer hangs.
const HANG: u64 = 3600;

/// A cluster and a disk, which outlive the daemons on them.
pub struct Stage {
    pub cluster: Cluster,
    pub disk: Disk,
    pub clock: Clock,
    pub defaults: Defaults,
    pub rbac: Rbac,
    pub observer: Arc<dyn Observe>,
    anchor: Timestamp,
    caller: Caller,
}

/// How one life of a daemon ended.
#[derive(Debug)]
pub enum End {
    /// The Backup reached a phase that is an end.
    Phase(String),
    /// Killed at the point.
    Killed,
    /// The daemon ended itself.
    Problem(#[allow(dead_code, reason = "shown when a scenario fails")] Problem),
    /// Nothing of it came within the time that no scenario needs.
    Hung,
}

impl End {
    /// Whether the Backup ended in this phase.
    pub fn is(&self, phase: &str) -> bool {
        matches!(self, Self::Phase(ended) if ended == phase)
    }
}

impl Stage {
    /// An embedded cluster.
    pub fn new(config: stillpoint::sim::Config) -> Self {
        let anchor = Timestamp(config.anchor_unix_ns);
        let cluster = Cluster::start(config);
        let caller = cluster.api().caller("test");
        let clock = Clock::anchored(anchor);
        Self {
            cluster,
            disk: Disk::new(),
            clock,
            defaults: Defaults::default(),
            rbac: Rbac::default(),
            observer: observer::nobody(),
            anchor,
            caller,
        }
    }

    /// The test's own hand in the cluster.
    pub fn hand(&self) -> &Caller {
        &self.caller
    }

    /// Claims `<group>-0..n` of one group in a namespace of its own, bound.
    pub async fn claims(&self, namespace: &str, group: &str, count: usize) {
        let space = json!({"metadata": {"name": namespace}});
        if self.caller.get("namespaces", None, namespace).is_err() {
            self.caller.create("namespaces", space).expect("a new namespace");
        }
        for index in 0..count {
            self.claim(namespace, &format!("{group}-{index}"), Some(group));
        }
        self.until(|stage| stage.bound(namespace)).await;
    }

    /// One claim.
    pub fn claim(&self, namespace: &str, name: &str, group: Option<&str>) {
        let labels = group.map(|group| json!({"velero.io/volume-group": group})).unwrap_or(json!({}));
        let claim = json!({
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "csi-hostpath-sc",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        });
        self.caller.create("persistentvolumeclaims", claim).expect("a new claim");
    }

    fn bound(&self, namespace: &str) -> bool {
        let claims = self.list("persistentvolumeclaims", Some(namespace));
        claims.iter().all(|claim| claim["status"]["phase"] == "Bound")
    }

    /// A Backup `nightly` of one namespace.
    pub fn backup(&self, namespace: &str) {
        self.backup_with(json!({"includedNamespaces": [namespace]}));
    }

    /// A Backup `nightly` with that spec.
    pub fn backup_with(&self, spec: Value) {
        self.backup_named("nightly", spec);
    }

    /// A Backup.
    pub fn backup_named(&self, name: &str, spec: Value) {
        let backup = json!({"metadata": {"name": name, "namespace": "stillpoint"}, "spec": spec});
        self.caller.create("backups", backup).expect("a new Backup");
    }

    /// The Backup as it is now.
    pub fn nightly(&self) -> Value {
        self.caller.get("backups", Some("stillpoint"), "nightly").expect("the Backup")
    }

    /// Its phase, once that is an end.
    pub fn ended(&self) -> Option<String> {
        self.ended_as("nightly")
    }

    /// The phase of a Backup, once that is an end.
    pub fn ended_as(&self, name: &str) -> Option<String> {
        let backup = self.caller.get("backups", Some("stillpoint"), name).expect("the Backup");
        let phase = backup["status"]["phase"].as_str().unwrap_or_default();
        (!["", "New", "InProgress"].contains(&phase)).then(|| phase.to_owned())
    }

    /// Objects of a kind.
    pub fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        self.caller.list(plural, namespace, &BTreeMap::new()).expect("a list")
    }

    /// Waits on simulated time until that is so.
    pub async fn until(&self, what: impl Fn(&Self) -> bool) {
        assert!(self.comes(what).await, "it never came to be");
    }

    /// Waits on simulated time until that is so; false when it does not come.
    pub async fn comes(&self, what: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..HANG * 20 {
            if what(self) {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        false
    }

    /// Lets simulated time pass.
    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    }

    /// One life of the daemon, until the Backup ends, the daemon does, or it is killed at `crash_at`.
    pub async fn live(&self, crash_at: Option<Point>) -> End {
        let killed = Arc::new(tokio::sync::Notify::new());
        let signal = killed.clone();
        let points = match crash_at {
            None => Points::none(),
            Some(wanted) => Points::ask(move |point| {
                if point == wanted {
                    signal.notify_one();
                    return Verdict::Halt;
                }
                Verdict::GoOn
            }),
        };
        self.live_with(points, killed).await
    }

    /// One life in which `act` is done, once, when `at` is passed for the first time; killed at `crash_at`.
    pub async fn live_acting(
        &self,
        at: Point,
        act: impl Fn(&Cluster) + Send + Sync + 'static,
        crash_at: Option<Point>,
    ) -> End {
        let killed = Arc::new(tokio::sync::Notify::new());
        let (signal, cluster) = (killed.clone(), self.cluster.clone());
        let done = std::sync::atomic::AtomicBool::new(false);
        let points = Points::ask(move |point| {
            if point == at && !done.swap(true, std::sync::atomic::Ordering::SeqCst) {
                act(&cluster);
            }
            if Some(point) == crash_at {
                signal.notify_one();
                return Verdict::Halt;
            }
            Verdict::GoOn
        });
        self.live_with(points, killed).await
    }

    /// One life with these points; `killed` ends it.
    pub async fn live_with(&self, points: Points, killed: Arc<tokio::sync::Notify>) -> End {
        let ended = async {
            match self.comes(|stage| stage.ended().is_some()).await {
                true => End::Phase(self.ended().unwrap_or_default()),
                false => End::Hung,
            }
        };
        let life = self.life(points);
        let end = tokio::select! {
            biased;
            () = killed.notified() => End::Killed,
            problem = life => End::Problem(problem),
            end = ended => end,
        };
        // The kill: what was not synced is gone, and the writer of this life with it.
        self.disk.crash();
        end
    }

    /// One life until that is so.
    ///
    /// # Panics
    /// The daemon ends itself, or it does not come to be.
    pub async fn live_until(&self, points: Points, what: impl Fn(&Self) -> bool) {
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

    /// One life that nobody ends: why it ended itself. Dropped, it is killed.
    pub async fn life(&self, points: Points) -> Problem {
        self.life_on(&self.disk, "stillpoint/test", points).await
    }

    /// One life on another disk and under a User-Agent of its own.
    pub async fn life_on(&self, disk: &Disk, agent: &'static str, points: Points) -> Problem {
        let store = MemoryStore::open(disk).expect("the disk is free");
        let (journal, opened) = Journal::open_task(store).expect("the journal opens");
        let client = self.rbac.client(self.cluster.api().router(), agent);
        let adapter = Adapter::connect(client).await.expect("the cluster answers");
        let config = Config {
            namespace: "stillpoint".to_owned(),
            defaults: self.defaults.clone(),
            points,
            clock: self.clock,
        };
        let engine = Engine::observed(adapter, journal, opened, config, self.observer.clone());
        engine.run().await
    }

    /// The journal as it is on the disk.
    pub async fn entries(&self) -> Vec<Entry> {
        let store = MemoryStore::open(&self.disk).expect("the disk is free");
        let (journal, _) = Journal::open_task(store).expect("the journal opens");
        let entries = journal.entries(1, usize::MAX >> 1).await.expect("entries");
        self.disk.crash();
        entries
    }

    /// The rows that were decided, in the order of the journal: the grounds of every intent and milestone.
    pub async fn rows(&self) -> Vec<String> {
        let grounds = |event: &Event| match event {
            Event::Intended { grounds, .. } | Event::Reached { grounds, .. } => Some(grounds.row.clone()),
            _ => None,
        };
        self.group_records().await.iter().filter_map(|record| grounds(&record.event)).collect()
    }

    /// Records of all groups, in the order of the journal.
    pub async fn group_records(&self) -> Vec<Timed> {
        let decoded = self.entries().await.into_iter().filter_map(|entry| wire::decode(&entry.record).ok());
        decoded
            .filter_map(|decoded| match decoded {
                Decoded::Group(record) => Some(record),
                Decoded::Backup { .. } => None,
            })
            .collect()
    }

    /// Status of the Backup, journal and storage, for the message of a failure.
    pub async fn shown(&self) -> String {
        let status = self.hand().get("backups", Some("stillpoint"), "nightly").map(|b| b["status"].clone());
        let mut lines = vec![format!("Backup: {status:?}"), format!("storage: {:?}", self.cluster.ledger())];
        for record in self.group_records().await {
            let seconds = (record.at.0 - self.anchor.0) / 1_000_000;
            let text = match record.event {
                Event::Planned(plan) => format!("planned {}/{}", plan.namespace, plan.group),
                Event::Intended { grounds, step, marks } => {
                    format!("{} -> {} with {} effects", grounds.row, step.name(), marks.len())
                }
                Event::Ended { step, outcomes } => {
                    let failed: Vec<_> =
                        outcomes.iter().filter(|o| !matches!(o, Outcome::Done { .. })).collect();
                    format!("ended {} {failed:?}", step.name())
                }
                Event::ReceiptPart { members, .. } => format!("receipt of {}", members.len()),
                Event::Reached { grounds, milestone, facts } => match facts {
                    Facts::Reason(reason) => format!("{} -> {}: {reason:?}", grounds.row, milestone.name()),
                    _ => format!("{} -> {}", grounds.row, milestone.name()),
                },
            };
            lines.push(format!("{seconds:>9} ms  {text}"));
        }
        lines.extend(self.objects());
        lines.join("\n")
    }

    /// One line for each object of the snapshot API.
    fn objects(&self) -> Vec<String> {
        let line = |plural: &str, object: &Value| {
            let (meta, status) = (&object["metadata"], &object["status"]);
            let finalizers: Vec<&str> = meta["finalizers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|f| f.as_str()?.split('/').next_back())
                .collect();
            let waiting = &status["waitingFor"];
            format!(
                "{plural} {} deleted {} finalizers {finalizers:?} policy {} ready {} error {} owned {} annotations {} waiting for {waiting}",
                meta["name"],
                meta["deletionTimestamp"],
                object["spec"]["deletionPolicy"],
                status["readyToUse"],
                status["error"]["message"],
                meta["ownerReferences"].is_array(),
                meta["annotations"]
                    .as_object()
                    .map(|a| a.keys().cloned().collect::<Vec<_>>().join(","))
                    .unwrap_or_default(),
            )
        };
        let kinds = [
            "volumegroupsnapshots",
            "volumegroupsnapshotcontents",
            "volumesnapshots",
            "volumesnapshotcontents",
            "groupsnapshots",
        ];
        kinds
            .iter()
            .flat_map(|plural| self.list(plural, None).into_iter().map(move |object| line(plural, &object)))
            .collect()
    }

    /// Writes of the daemon that change the objects of runs: projections and label keys are left out.
    pub fn writes(&self) -> u64 {
        let tally = self.cluster.api().tally();
        let verbs = tally.0.get("stillpoint").cloned().unwrap_or_default();
        let counted = |resource: &str| {
            ["volumegroupsnapshot", "volumesnapshot"].iter().any(|kind| resource.starts_with(kind))
        };
        ["create", "update", "patch", "delete"]
            .iter()
            .filter_map(|verb| verbs.get(*verb))
            .flat_map(|resources| resources.iter().filter(|(resource, _)| counted(resource)))
            .map(|(_, count)| count)
            .sum()
    }

    /// What is left of group objects anywhere.
    pub fn group_objects(&self) -> usize {
        self.list("volumegroupsnapshots", None).len() + self.list("volumegroupsnapshotcontents", None).len()
    }
}

/// Points in the order in which they were passed.
#[derive(Default, Clone)]
pub struct Passed(Arc<Mutex<Vec<Point>>>);

impl Passed {
    /// Watches every point and stops at none.
    pub fn watch(&self) -> Points {
        let passed = self.0.clone();
        Points::ask(move |point| {
            passed.lock().expect("no poison").push(point);
            Verdict::GoOn
        })
    }

    /// As [`watch`](Self::watch); `act` is told of each point.
    pub fn watch_and(&self, act: impl Fn(Point) + Send + Sync + 'static) -> Points {
        let passed = self.0.clone();
        Points::ask(move |point| {
            passed.lock().expect("no poison").push(point);
            act(point);
            Verdict::GoOn
        })
    }

    /// The points, each once, in the order of their first pass.
    pub fn distinct(&self) -> Vec<Point> {
        let mut seen = std::collections::BTreeSet::new();
        self.0.lock().expect("no poison").iter().copied().filter(|point| seen.insert(*point)).collect()
    }
}
