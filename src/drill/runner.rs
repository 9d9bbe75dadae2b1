//! Runs one case: sets up a testbed, runs the incarnations of the daemon, and judges the state that is left.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::drill::disruption::Disruption;
use crate::drill::disruptions;
use crate::drill::expectations::{self, Allowed};
use crate::drill::invariants::{self, Broken, Invariant, order};
use crate::drill::rows::Rows;
use crate::drill::scenario::{Case, Target};
use crate::drill::schedule::Schedule;
use crate::drill::split_brain::{CLASSES, RELEASED, restore_class};
use crate::drill::stale_daemon;
use crate::drill::testbed::{End, Passed, Testbed};
use crate::machine::group::wait::Waiting;
use crate::machine::kit::Ask;
use crate::machine::kit::Point;
use crate::machine::kit::Wait as _;

/// Namespace of the PVCs.
pub(super) const NAMESPACE: &str = "shop";
const GROUP_CLASSES: &str = "volumegroupsnapshotclasses";

/// Result of a case.
#[derive(Debug, Clone)]
pub struct CaseResult {
    pub case: Case,
    /// End of the case as text.
    pub end: String,
    /// Violated invariants; empty if the case passed.
    pub broken: Vec<Broken>,
    /// Rows that were decided in all incarnations together.
    pub rows: BTreeSet<&'static str>,
    /// Crash points that the last incarnation hit.
    pub passed: Vec<Point>,
    /// Number of writes of all incarnations to objects of the run.
    pub writes: u64,
    /// Rows at which the run was stuck until the runner followed their message.
    pub stuck: Vec<&'static str>,
    /// Whether the run waited indefinitely for a user, and reported it.
    pub helped: bool,
    /// Full report of a case that failed.
    pub story: Option<String>,
}

impl CaseResult {
    /// Creates a result of which only the violated invariants are known.
    pub(super) fn lost(case: &Case, broken: Vec<Broken>) -> Self {
        let (end, rows) = ("none".to_owned(), BTreeSet::new());
        let (passed, stuck) = (Vec::new(), Vec::new());
        Self { case: case.clone(), end, broken, rows, passed, writes: 0, stuck, helped: false, story: None }
    }

    /// Whether all invariants held.
    pub fn held(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Changes a testbed before it is used. A test can alter the decisions of the machine in this way, or the disk.
pub type Setup = fn(&mut Testbed);

/// Creates a testbed with a group and a Backup that includes it.
pub(super) async fn set(case: &Case, setup: Setup) -> (Testbed, Rows) {
    let rows = Rows::default();
    let mut testbed = Testbed::new(case.config());
    testbed.disk.set_latency(case.latency());
    setup(&mut testbed);
    testbed.metrics = std::sync::Arc::new(rows.clone());
    testbed.defaults.keep_group_name = case.target == Target::Keep;
    testbed.defaults.atomicity.required = case.target == Target::UndoApart;
    if case.retain {
        disruptions::retain_class(&testbed.cluster);
    }
    testbed.claims(NAMESPACE, "orders-db", case.members).await;
    if case.has(&[Disruption::SwapClaim]) {
        testbed.claim(NAMESPACE, disruptions::SPARE, None);
        testbed.until(|testbed| testbed.bound(NAMESPACE)).await;
    }
    let mut spec = json!({"includedNamespaces": [NAMESPACE]});
    if matches!(case.target, Target::UndoCreated | Target::UndoTooLate) {
        spec["csiSnapshotTimeout"] = Value::from("3s");
        spec["itemOperationTimeout"] = Value::from("4s");
    }
    testbed.backup_with(spec);
    (testbed, rows)
}

/// Runs a case to its end.
pub async fn play(case: &Case) -> CaseResult {
    play_with(case, |_| {}).await
}

/// As [`play`], on a testbed that `setup` has changed.
pub async fn play_with(case: &Case, setup: Setup) -> CaseResult {
    let (testbed, rows) = set(case, setup).await;
    let script = Schedule::new(case, &testbed);
    let class = testbed.list(CLASSES, None).pop();
    let group_class = testbed.list(GROUP_CLASSES, None).pop();
    let (broken, stuck) = (Vec::new(), Vec::new());
    let mut lives = Lives {
        case,
        testbed: &testbed,
        rows: &rows,
        class,
        group_class,
        script,
        broken,
        stuck,
        helped: false,
    };
    let older = case.disruptions.iter().find(|(disruption, _)| *disruption == Disruption::OlderEpoch);
    let (end, passed) = match older {
        Some((_, at)) => lives.beside_an_older_one(*at).await,
        None => lives.all().await,
    };
    let Lives { mut broken, stuck, helped, .. } = lives;
    if !helped {
        broken.extend(invariants::waits(&testbed, case.longest_wait()).await);
    }
    testbed.rbac.restore();
    testbed.cluster.api().clear_faults();
    testbed.cluster.api().clear_actor_faults();
    if case.has(&[Disruption::ReplaceGroup]) {
        // The foreign group releases the name. It blocked objects that were deleted meanwhile, and must delete
        // nothing else.
        disruptions::delete_foreign_groups(&testbed.cluster);
    }
    invariants::settled(&testbed).await;
    broken.extend(judge(case, &testbed, &end).await);
    let story = if broken.is_empty() { None } else { Some(testbed.shown().await) };
    CaseResult {
        case: case.clone(),
        end: format!("{end:?}"),
        broken,
        rows: rows.all(),
        passed: passed.distinct(),
        writes: testbed.writes(),
        stuck,
        helped,
        story,
    }
}

/// Incarnations of the daemon in one case.
struct Lives<'a> {
    case: &'a Case,
    testbed: &'a Testbed,
    rows: &'a Rows,
    /// VolumeSnapshotClass of the release, as it was at the beginning.
    class: Option<Value>,
    /// VolumeGroupSnapshotClass, as it was at the beginning.
    group_class: Option<Value>,
    script: Schedule,
    broken: Vec<Broken>,
    stuck: Vec<&'static str>,
    /// Whether the run waited for a user, however long that took.
    helped: bool,
}

impl Lives<'_> {
    /// Kills one incarnation after the other; the last one runs to the end.
    async fn all(&mut self) -> (End, Passed) {
        for kill in &self.case.kills {
            self.killed(*kill).await;
        }
        let passed = Passed::default();
        let (points, killed) = self.script.life(None, &passed);
        let mut end = run_daemon(self.testbed, self.rows, points, killed).await;
        if matches!(end, End::Hung) && self.testbed.waits_for(RELEASED) {
            disruptions::delete_all(&self.testbed.cluster, "volumesnapshots");
            end = self.helped(&passed).await;
        }
        if matches!(end, End::Hung)
            && self.case.target == Target::UndoRetained
            && let Some(class) = self.class.take()
        {
            end = self.with_again(CLASSES, class, Waiting::Rebuilt.text(), &passed).await;
        }
        if matches!(end, End::Hung)
            && self.case.has(&[Disruption::DeleteGroupClass])
            && let Some(class) = self.group_class.take()
        {
            let name = class["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            end = self.with_again(GROUP_CLASSES, class, &name, &passed).await;
        }
        if let End::Stuck(row) = end {
            self.stuck.push(row);
            let request = remedy(row, self.testbed);
            let (points, killed) = self.script.life(None, &passed);
            let asks = async {
                // A user can request an action only after the run is published.
                self.testbed.pass(60).await;
                disruptions::ask(&self.testbed.cluster, request, "drill");
                std::future::pending::<()>().await;
            };
            end = tokio::select! {
                end = self.testbed.run_daemon_with(points, killed) => end,
                () = asks => End::Hung,
            };
        }
        (end, passed)
    }

    /// Restores a class that a run waits for without end, after checking that the run reports it. Without the
    /// class, rebuilt members do not become ready, or the csi-snapshotter does not query the driver whether it
    /// has cut a group that is to be rolled back. Only a user can fix this. After the class is restored, the
    /// run continues by itself.
    async fn with_again(&mut self, plural: &str, class: Value, says: &str, passed: &Passed) -> End {
        self.says_what_it_waits_for(says);
        restore_class(self.testbed, plural, class);
        self.helped(passed).await
    }

    async fn helped(&mut self, passed: &Passed) -> End {
        self.helped = true;
        let (points, killed) = self.script.life(None, passed);
        run_daemon(self.testbed, self.rows, points, killed).await
    }

    fn says_what_it_waits_for(&mut self, says: &str) {
        if !self.testbed.waits_for(says) {
            let shown = self.testbed.list("groupsnapshots", Some(NAMESPACE));
            self.broken.push(wrong(format!("it waits and does not say for what ({says}): {shown:?}")));
        }
    }

    async fn killed(&mut self, at: Point) {
        let (points, killed) = self.script.life(Some(at), &Passed::default());
        match run_daemon(self.testbed, self.rows, points, killed).await {
            End::Killed => self.testbed.pass(self.case.down).await,
            // The spare PVC makes it another testbed: points of the rehearsal may not be passed there.
            End::Phase(_) if self.case.has(&[Disruption::SwapClaim]) => {}
            end => self.broken.push(wrong(format!("{at} was not reached: {end:?}"))),
        }
    }

    /// Kills the first incarnation. A copy of it runs beside those that come after it.
    async fn beside_an_older_one(&mut self, at: Point) -> (End, Passed) {
        self.killed(at).await;
        let older = stale_daemon::Older::of(self.testbed).await;
        stale_daemon::jitter(&self.testbed.cluster, self.case.seed);
        let testbed = self.testbed;
        let newer = async {
            let ended = self.all().await;
            older.dismiss();
            ended
        };
        let (ended, older_end) =
            tokio::join!(newer, older.run_daemon(testbed, crate::engine::crash_points::CrashPoints::none()));
        self.broken.extend(older.judge(self.testbed, older_end.as_ref()).await);
        ended
    }
}

/// Runs one incarnation until its Backup ends or its run is stuck.
async fn run_daemon(
    testbed: &Testbed,
    rows: &Rows,
    points: crate::engine::crash_points::CrashPoints,
    killed: std::sync::Arc<tokio::sync::Notify>,
) -> End {
    let ended = |testbed: &Testbed| {
        let stuck = || rows.stuck().map(End::Stuck);
        testbed.ended().map(End::Phase).or_else(stuck)
    };
    testbed.run_daemon_to(points, killed, ended).await
}

fn wrong(shown: String) -> Broken {
    Broken { invariant: Invariant::Ends, shown }
}

/// Applies the fix that the message of a stuck run states. Returns the request for the daemon.
fn remedy(row: &str, testbed: &Testbed) -> Ask {
    match row {
        "retained/nothing-left" => return Ask::Abandon,
        "release/stub-refused" | "release/refused" | "release/rebuild-refused" | "abandoned/refused" => {
            testbed.cluster.api().clear_faults();
        }
        "undo/e-kept" => {
            ["volumesnapshots", "volumesnapshotcontents"]
                .iter()
                .for_each(|plural| disruptions::delete_all(&testbed.cluster, plural));
        }
        "release/hollow" => disruptions::delete_hollow(&testbed.cluster),
        "release/7-name-taken" => disruptions::delete_foreign_groups(&testbed.cluster),
        _ => {}
    }
    Ask::Resume
}

fn refuses_unknown_run(testbed: &Testbed) -> bool {
    testbed.list("events", None).iter().any(|event| event["reason"] == "UnknownRun")
}

async fn judge(case: &Case, testbed: &Testbed, end: &End) -> Vec<Broken> {
    let allowed = expectations::allowed(case);
    let may = |end: Allowed| allowed.contains(&end);
    let run = order::first_run(testbed).await;
    let mut broken = match (end, &run) {
        // Nothing was planned: the PVCs were deleted before.
        (End::Phase(_), None) if !case.disruptions.is_empty() => invariants::after_nothing(testbed).await,
        (end, Some(run)) if end.is("Completed") && may(Allowed::Completed) => {
            if run.state.space_went {
                return invariants::after_the_namespace(testbed, run).await;
            }
            let changes = case.has(&[Disruption::DeleteClaim, Disruption::SwapClaim]);
            let members = if changes { run.plan.members.len() } else { case.members };
            let mut broken = invariants::after_completion(testbed, NAMESPACE, members).await;
            if !case.disruptions.iter().any(|(disruption, _)| disruption.destroys()) {
                broken.extend(invariants::none_was_lost(testbed).await);
            }
            broken
        }
        (end, Some(run)) if end.is("Failed") && run.keeps_storage() && may(Allowed::Kept) => {
            invariants::after_abandon(testbed, NAMESPACE, run.plan.members.len()).await
        }
        (end, Some(_)) if end.is("Failed") && may(Allowed::Undone) => {
            invariants::after_undo(testbed, NAMESPACE).await
        }
        // The older epoch was faster: the newer one refuses a run that it does not know (SP0036), and a user decides.
        (End::Hung, None) if case.has(&[Disruption::OlderEpoch]) && refuses_unknown_run(testbed) => {
            invariants::none_leaked(testbed)
        }
        (end, _) => vec![wrong(format!("ended as {end:?}, allowed is {allowed:?}"))],
    };
    let known_limitations = expectations::known_limitations(case);
    broken.retain(|broken| !known_limitations.contains(&broken.invariant));
    // The GroupSnapshots are deleted with the namespace, too.
    if case.has(&[Disruption::DeleteNamespace, Disruption::DeleteHeldNamespace]) {
        broken.retain(|broken| broken.invariant != Invariant::Shown);
    }
    broken
}
