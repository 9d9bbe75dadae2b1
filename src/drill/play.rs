//! Plays one case: a stage, its lives, and what is left.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::drill::duel::{CLASSES, RELEASED, restore_class};
use crate::drill::expect::{self, Allowed};
use crate::drill::hands;
use crate::drill::invariants::{self, Broken, Invariant, order};
use crate::drill::rival::Rival;
use crate::drill::rows::Rows;
use crate::drill::scenario::{Case, Target};
use crate::drill::script::Script;
use crate::drill::stage::{End, Passed, Stage};
use crate::drill::zombie;
use crate::machine::group::Ask;
use crate::machine::group::row::Waiting;
use crate::machine::point::Point;

/// Namespace of the claims.
pub(super) const NAMESPACE: &str = "shop";
const GROUP_CLASSES: &str = "volumegroupsnapshotclasses";

/// What became of a case.
#[derive(Debug, Clone)]
pub struct Played {
    /// The case.
    pub case: Case,
    /// How it ended, for people.
    pub end: String,
    /// What does not hold; nothing, if the case was passed.
    pub broken: Vec<Broken>,
    /// Rows that were decided in all lives.
    pub rows: BTreeSet<&'static str>,
    /// Crash points that the last life hit.
    pub passed: Vec<Point>,
    /// Writes of all lives on objects of the run.
    pub writes: u64,
    /// Rows by which the run was stuck until somebody did what their sentence says.
    pub stuck: Vec<&'static str>,
    /// Whether the run waited without end for a person, and said so.
    pub helped: bool,
    /// The whole story, of a case that did not pass.
    pub story: Option<String>,
}

impl Played {
    /// A case of which nothing is known but what does not hold.
    pub(super) fn lost(case: &Case, broken: Vec<Broken>) -> Self {
        let (end, rows) = ("none".to_owned(), BTreeSet::new());
        let (passed, stuck) = (Vec::new(), Vec::new());
        Self { case: case.clone(), end, broken, rows, passed, writes: 0, stuck, helped: false, story: None }
    }

    /// Whether everything held.
    pub fn held(&self) -> bool {
        self.broken.is_empty()
    }
}

/// A stage with a group and a Backup that asks for it.
pub(super) async fn set(case: &Case) -> (Stage, Rows) {
    let rows = Rows::default();
    let mut stage = Stage::new(case.config());
    stage.metrics = std::sync::Arc::new(rows.clone());
    stage.defaults.keep_group_name = case.target == Target::Keep;
    stage.defaults.atomicity.required = case.target == Target::UndoApart;
    if case.retain {
        hands::retain_class(&stage.cluster);
    }
    stage.claims(NAMESPACE, "orders-db", case.members).await;
    if case.has(&[Rival::SwapClaim]) {
        stage.claim(NAMESPACE, hands::SPARE, None);
        stage.until(|stage| stage.bound(NAMESPACE)).await;
    }
    let mut spec = json!({"includedNamespaces": [NAMESPACE]});
    if matches!(case.target, Target::UndoCreated | Target::UndoTooLate) {
        spec["csiSnapshotTimeout"] = Value::from("3s");
        spec["itemOperationTimeout"] = Value::from("4s");
    }
    stage.backup_with(spec);
    (stage, rows)
}

/// Plays a case to its end.
pub async fn play(case: &Case) -> Played {
    let (stage, rows) = set(case).await;
    let script = Script::new(case, &stage);
    let class = stage.list(CLASSES, None).pop();
    let group_class = stage.list(GROUP_CLASSES, None).pop();
    let (broken, stuck) = (Vec::new(), Vec::new());
    let mut lives =
        Lives { case, stage: &stage, rows: &rows, class, group_class, script, broken, stuck, helped: false };
    let older = case.rivals.iter().find(|(rival, _)| *rival == Rival::OlderEpoch);
    let (end, passed) = match older {
        Some((_, at)) => lives.beside_an_older_one(*at).await,
        None => lives.all().await,
    };
    let Lives { mut broken, stuck, helped, .. } = lives;
    if !helped {
        broken.extend(invariants::waits(&stage, case.longest_wait()).await);
    }
    stage.rbac.restore();
    stage.cluster.api().clear_faults();
    stage.cluster.api().clear_actor_faults();
    if case.has(&[Rival::ReplaceGroup]) {
        // Whoever took the name gives it back: his group held what was deleted meanwhile, and is to take nothing along.
        hands::delete_foreign_groups(&stage.cluster);
    }
    invariants::settled(&stage).await;
    broken.extend(judge(case, &stage, &end).await);
    let story = if broken.is_empty() { None } else { Some(stage.shown().await) };
    Played {
        case: case.clone(),
        end: format!("{end:?}"),
        broken,
        rows: rows.all(),
        passed: passed.distinct(),
        writes: stage.writes(),
        stuck,
        helped,
        story,
    }
}

/// The lives of one case.
struct Lives<'a> {
    case: &'a Case,
    stage: &'a Stage,
    rows: &'a Rows,
    /// The VolumeSnapshotClass of the release, as it was before anything happened.
    class: Option<Value>,
    /// The VolumeGroupSnapshotClass, likewise.
    group_class: Option<Value>,
    script: Script,
    broken: Vec<Broken>,
    stuck: Vec<&'static str>,
    /// Whether the run waited for a person, for as long as he took.
    helped: bool,
}

impl Lives<'_> {
    /// Killed one after the other; the last one lives to the end.
    async fn all(&mut self) -> (End, Passed) {
        for kill in &self.case.kills {
            self.killed(*kill).await;
        }
        let passed = Passed::default();
        let (points, killed) = self.script.life(None, &passed);
        let mut end = live(self.stage, self.rows, points, killed).await;
        if matches!(end, End::Hung) && self.case.has(&[Rival::ReleaseMembers]) {
            self.says_what_it_waits_for(RELEASED);
            hands::delete_all(&self.stage.cluster, "volumesnapshots");
            end = self.helped(&passed).await;
        }
        if matches!(end, End::Hung)
            && self.case.target == Target::UndoRetained
            && let Some(class) = self.class.take()
        {
            end = self.with_again(CLASSES, class, Waiting::Rebuilt.text(), &passed).await;
        }
        if matches!(end, End::Hung)
            && self.case.has(&[Rival::DeleteGroupClass])
            && let Some(class) = self.group_class.take()
        {
            let name = class["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            end = self.with_again(GROUP_CLASSES, class, &name, &passed).await;
        }
        if let End::Stuck(row) = end {
            self.stuck.push(row);
            let request = remedy(row, self.stage);
            let (points, killed) = self.script.life(None, &passed);
            let asks = async {
                // The run has to be shown before a person can ask for anything.
                self.stage.pass(60).await;
                hands::ask(&self.stage.cluster, request, "drill");
                std::future::pending::<()>().await;
            };
            end = tokio::select! {
                end = self.stage.live_with(points, killed) => end,
                () = asks => End::Hung,
            };
        }
        (end, passed)
    }

    /// A run waits without end where only a person can help, and says for what: for a class without which rebuilt members
    /// do not become ready, or the csi-snapshotter does not ask the driver whether it has cut a group that is to be undone.
    /// The person gives it back, and the run goes on by itself.
    async fn with_again(&mut self, plural: &str, class: Value, says: &str, passed: &Passed) -> End {
        self.says_what_it_waits_for(says);
        restore_class(self.stage, plural, class);
        self.helped(passed).await
    }

    async fn helped(&mut self, passed: &Passed) -> End {
        self.helped = true;
        let (points, killed) = self.script.life(None, passed);
        live(self.stage, self.rows, points, killed).await
    }

    fn says_what_it_waits_for(&mut self, says: &str) {
        let shown = self.stage.list("groupsnapshots", Some(NAMESPACE));
        let waits =
            |one: &Value| one["status"]["waitingFor"].as_str().is_some_and(|text| text.contains(says));
        if !shown.iter().any(waits) {
            self.broken.push(wrong(format!("it waits and does not say for what ({says}): {shown:?}")));
        }
    }

    async fn killed(&mut self, at: Point) {
        let (points, killed) = self.script.life(Some(at), &Passed::default());
        match live(self.stage, self.rows, points, killed).await {
            End::Killed => self.stage.pass(self.case.down).await,
            // The spare claim makes it another stage: what the rehearsal passed may not be passed there.
            End::Phase(_) if self.case.has(&[Rival::SwapClaim]) => {}
            end => self.broken.push(wrong(format!("{at} was not reached: {end:?}"))),
        }
    }

    /// The first life dies; a copy of it lives on beside those that come after it.
    async fn beside_an_older_one(&mut self, at: Point) -> (End, Passed) {
        self.killed(at).await;
        let older = zombie::Older::of(self.stage).await;
        zombie::jitter(&self.stage.cluster, self.case.seed);
        let stage = self.stage;
        let newer = async {
            let ended = self.all().await;
            older.dismiss();
            ended
        };
        let (ended, older_end) =
            tokio::join!(newer, older.live(stage, crate::engine::crash_points::CrashPoints::none()));
        self.broken.extend(older.judge(self.stage, older_end.as_ref()).await);
        ended
    }
}

/// One life, until its Backup ends or its run is stuck.
async fn live(
    stage: &Stage,
    rows: &Rows,
    points: crate::engine::crash_points::CrashPoints,
    killed: std::sync::Arc<tokio::sync::Notify>,
) -> End {
    let ended = |stage: &Stage| {
        let stuck = || rows.stuck().map(End::Stuck);
        stage.ended().map(End::Phase).or_else(stuck)
    };
    stage.live_to(points, killed, ended).await
}

fn wrong(shown: String) -> Broken {
    Broken { invariant: Invariant::Ends, shown }
}

/// Does what the sentence of a stuck run asks for, and says what to ask of the daemon then.
fn remedy(row: &str, stage: &Stage) -> Ask {
    match row {
        "retained/nothing-left" => return Ask::Abandon,
        "release/stub-refused"
        | "release/refused"
        | "release/rebuild-refused"
        | "release/late-refused"
        | "abandoned/refused" => stage.cluster.api().clear_faults(),
        "undo/e-kept" | "undo/e-kept-foreign" => {
            ["volumesnapshots", "volumesnapshotcontents"]
                .iter()
                .for_each(|plural| hands::delete_all(&stage.cluster, plural));
        }
        "release/hollow" => hands::delete_hollow(&stage.cluster),
        "release/7-name-taken" => hands::delete_foreign_groups(&stage.cluster),
        _ => {}
    }
    Ask::Resume
}

async fn judge(case: &Case, stage: &Stage, end: &End) -> Vec<Broken> {
    let allowed = expect::allowed(case);
    let may = |end: Allowed| allowed.contains(&end);
    let run = order::first_run(stage).await;
    let mut broken = match (end, &run) {
        // Nothing was planned: the claims were gone before.
        (End::Phase(_), None) if !case.rivals.is_empty() => invariants::after_nothing(stage).await,
        (end, Some(run)) if end.is("Completed") && may(Allowed::Completed) => {
            if run.space_went {
                return invariants::after_the_namespace(stage, run).await;
            }
            let changes = case.has(&[Rival::DeleteClaim, Rival::SwapClaim]);
            let members = if changes { run.plan.members.len() } else { case.members };
            let mut broken = invariants::after_completion(stage, NAMESPACE, members).await;
            if !case.rivals.iter().any(|(rival, _)| rival.destroys()) {
                broken.extend(invariants::none_was_lost(stage).await);
            }
            broken
        }
        (end, Some(run)) if end.is("Failed") && run.keeps_storage() && may(Allowed::Kept) => {
            invariants::after_abandon(stage, NAMESPACE, run.plan.members.len()).await
        }
        (end, Some(_)) if end.is("Failed") && may(Allowed::Undone) => {
            invariants::after_undo(stage, NAMESPACE).await
        }
        (end, _) => vec![wrong(format!("ended as {end:?}, allowed is {allowed:?}"))],
    };
    let forgiven = expect::forgiven(case);
    broken.retain(|broken| !forgiven.contains(&broken.invariant));
    // What people are shown goes with the namespace, too.
    if case.has(&[Rival::DeleteNamespace, Rival::DeleteHeldNamespace]) {
        broken.retain(|broken| broken.invariant != Invariant::Shown);
    }
    broken
}
