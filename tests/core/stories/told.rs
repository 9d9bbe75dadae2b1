//! Defines the stories: a disruption of a run, and its result. Together they execute every step and reach
//! every milestone. A step or milestone of the machine that no story has fails here.

use std::collections::BTreeSet;

use stillpoint::domain::labels;
use stillpoint::domain::observed::{DeletionPolicy, NamespaceSeen};
use stillpoint::domain::plan::Plan;
use stillpoint::machine::group::GroupRun;
use stillpoint::machine::group::Milestone;
use stillpoint::machine::group::Stage;
use stillpoint::machine::group::Step;

use super::cluster::Cluster;
use super::life::{Deed, Drill, Life, When, live};
use crate::fixture::plan;

#[derive(Clone)]
pub struct Story {
    pub name: String,
    pub plan: Plan,
    /// Difference of this cluster from the beginning.
    pub setting: Deed,
    pub deeds: Vec<(When, Deed)>,
    pub end: Stage,
}

impl Story {
    fn of(name: &str, end: Stage, deeds: &[(When, Deed)]) -> Self {
        Self { name: name.to_owned(), plan: plan(), setting: |_| (), deeds: deeds.to_vec(), end }
    }

    fn with(self, setting: Deed) -> Self {
        Self { setting, ..self }
    }

    /// The story without another attempt.
    fn once(self) -> Self {
        let plan = Plan { max_attempts: 1, ..self.plan };
        Self { plan, ..self }
    }

    pub fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::of(&self.plan);
        (self.setting)(&mut cluster);
        cluster
    }

    /// Runs the story with a fault. The error describes a wrong result.
    pub fn lived(&self, drill: Option<Drill>) -> Result<Life, String> {
        self.lived_with(drill, &mut |_, _| ())
    }

    pub fn lived_with(
        &self,
        drill: Option<Drill>,
        meddle: &mut dyn FnMut(&mut Cluster, &GroupRun),
    ) -> Result<Life, String> {
        let told = |reason| format!("{}, {drill:?}: {reason}", self.name);
        live(&self.plan, self.cluster(), &self.deeds, drill, meddle).map_err(told)
    }
}

/// Checks the cluster after the end of a run, for every possible history.
pub fn sound(life: &Life) -> Result<(), String> {
    let (run, seen, storage) = (&life.run, &life.cluster.seen, &life.cluster.storage);
    let holds = |condition: bool, what: &str| match condition {
        true => Ok(()),
        false => Err(format!("{:?}, but not: {what}", run.stage)),
    };
    let unbound = [seen.stub.is_some(), seen.import.is_some()].contains(&true);
    holds(seen.group.is_none() && seen.content.is_none() && !unbound, "the group objects are gone")?;
    if run.stage == Stage::Failed {
        holds(seen.snapshots.is_empty() && seen.contents.is_empty(), "nothing is left")?;
        return holds(storage.is_empty(), "the storage is freed");
    }
    let receipt = run.state.receipt.as_ref().ok_or("it has no receipt")?;
    let staying = seen.contents.iter().filter(|content| !content.terminating).count();
    holds(staying == receipt.members.len(), "one content a member")?;
    holds(storage.len() == receipt.members.len(), "one physical snapshot a member")?;
    for member in &receipt.members {
        holds(storage.contains(&member.snapshot_handle), "the storage of each member is there")?;
        let snapshot = seen.snapshots.iter().find(|snapshot| snapshot.id.uid == member.snapshot.uid);
        let snapshot = snapshot.ok_or("a member does not stand under the uid of its receipt")?;
        holds(snapshot.ready && !snapshot.terminating, "each member is ready")?;
        let tied = |finalizer: &String| finalizer == labels::IN_GROUP_PROTECTION;
        holds(snapshot.owners.is_empty(), "no member has an owner")?;
        holds(!snapshot.finalizers.iter().any(tied), "no member is tied to the group")?;
        holds(
            snapshot.group_name.is_some() == run.plan.keep_group_name,
            "names are kept only where asked for",
        )?;
        let content = seen.contents.iter().find(|content| content.id.uid == member.content.uid);
        let content = content.ok_or("the content of a member is gone")?;
        holds(content.policy == DeletionPolicy::Retain, "each content retains")?;
    }
    Ok(())
}

fn loses_a_member(cluster: &mut Cluster) {
    cluster.seen.snapshots.remove(0);
}

fn loses_a_content(cluster: &mut Cluster) {
    let name = cluster.seen.snapshots[0].bound_content.clone();
    cluster.seen.contents.retain(|content| Some(&content.id.name) != name.as_ref());
    cluster.seen.snapshots[0].ready = false;
}

fn freezes_more(cluster: &mut Cluster) {
    cluster.freezes_more = true;
    if let Some(content) = &mut cluster.seen.content {
        content.volume_handles.push("vol-alien".to_owned());
    }
}

/// Another client deletes the VolumeGroupSnapshot, as `kubectl delete` does.
fn deletes_the_group(cluster: &mut Cluster) {
    if let Some(group) = &mut cluster.seen.group {
        group.terminating = true;
    }
}

/// Another client deletes the group right after its creation. A controller with an old cache has it cut
/// nevertheless.
fn cuts_what_is_gone(cluster: &mut Cluster) {
    cluster.controllers();
    (cluster.seen.group, cluster.seen.snapshots) = (None, vec![]);
    cluster.seen.contents.clear();
    if let Some(content) = &mut cluster.seen.content {
        content.protected = false;
    }
}

/// Another client removes the finalizers of the group's content and deletes it: its storage is never freed.
fn tears_the_content_out(cluster: &mut Cluster) {
    cluster.seen.content = None;
}

/// Another client frees the storage directly in the driver, and removes the content.
fn frees_by_hand(cluster: &mut Cluster) {
    cluster.storage.clear();
    cluster.seen.content = None;
}

/// A stale incarnation of the daemon, which does not know of the rollback, creates a stub for the members
/// being deleted.
fn makes_a_stub(cluster: &mut Cluster) {
    cluster.makes_stub();
}

/// Members without owners are not deleted with their group.
fn takes_owners_off(cluster: &mut Cluster) {
    cluster.seen.class_exists = false;
    for snapshot in &mut cluster.seen.snapshots {
        (snapshot.owners, snapshot.finalizers, snapshot.group_name) = (vec![], vec![], None);
    }
}

/// One member is deleted. Its retained content is not.
fn leaves_a_content(cluster: &mut Cluster) {
    cluster.seen.class_exists = false;
    loses_a_member(cluster);
}

fn deletes_the_group_content(cluster: &mut Cluster) {
    if let Some(content) = &mut cluster.seen.content {
        content.terminating = true;
    }
}

/// The hand-written stories. Each has steps that no other story has.
fn told() -> Vec<Story> {
    use Milestone as M;
    use Stage::{Completed, Failed};
    use When::{Done, Intended, Reached, Stuck};
    let cannot: Deed = |cluster| cluster.driver_says = Some("rpc error: code = Unimplemented desc = no");
    let leaves: Deed = |cluster| {
        cluster.driver_says = Some("rpc error: code = Unimplemented desc = no");
        cluster.leaves_content = true;
    };
    let claims_change: Deed = |cluster| cluster.seen.claims.clear();
    let deletes_member: Deed = |cluster| cluster.seen.snapshots[0].terminating = true;
    let named = Plan { keep_group_name: true, ..plan() };
    vec![
        Story::of("a run", Completed, &[]),
        Story { plan: named.clone(), ..Story::of("names are put back", Completed, &[]) },
        Story::of("a member goes with its group", Completed, &[(Done(Step::DeleteGroup), loses_a_member)]),
        Story::of(
            "a member goes after everything",
            Completed,
            &[(Done(Step::DeleteContent), loses_a_member)],
        ),
        Story {
            plan: named,
            ..Story::of("a named member goes last", Completed, &[(Done(Step::RestoreNames), loses_a_member)])
        },
        Story::of(
            "somebody deletes the content first",
            Completed,
            &[(Done(Step::DeleteGroup), deletes_the_group_content)],
        ),
        Story::of(
            "a member loses its content and a person helps",
            Completed,
            &[(Done(Step::DeleteGroup), loses_a_content), (Stuck, deletes_member)],
        ),
        Story::of("a restart after the cut", Completed, &[(Intended(Step::Relabel), |_| ())]),
        Story::of(
            "a member is deleted before it is ready and cut again",
            Completed,
            &[(Reached(M::Cut), deletes_member)],
        ),
        Story::of(
            "the class of the group goes before the cut",
            Failed,
            &[(Done(Step::Create), |cluster| cluster.seen.group_class_missing = true)],
        ),
        Story::of(
            "the namespace goes before the pivot",
            Failed,
            &[(Reached(M::Relabelled), |cluster| {
                let finalizers = vec![];
                cluster.seen.namespace = Some(NamespaceSeen { terminating: true, finalizers });
            })],
        ),
        Story::of("the group is deleted and cut again", Completed, &[(Reached(M::Cut), deletes_the_group)]),
        Story::of(
            "the group is deleted as it is made and cut all the same",
            Completed,
            &[(Done(Step::Create), cuts_what_is_gone)],
        ),
        Story::of("the driver cannot", Failed, &[]).with(cannot),
        Story::of("the controller leaves the content", Failed, &[]).with(leaves),
        Story::of(
            "claims change under a create of unknown fate",
            Failed,
            &[(Intended(Step::Create), claims_change)],
        ),
        Story::of("members are taken off their group", Failed, &[(Reached(M::Retained), takes_owners_off)]),
        Story::of(
            "a stub comes from an older life",
            Failed,
            &[(Reached(M::Retained), takes_owners_off), (Done(Step::UndoDeleteGroup), makes_a_stub)],
        ),
        Story::of("the content is torn out", Completed, &[(Reached(M::Relabelled), tears_the_content_out)]),
        Story::of(
            "the content is torn out, and another attempt would not help",
            Failed,
            &[(Reached(M::Relabelled), tears_the_content_out)],
        )
        .once(),
        Story::of("the storage is freed by hand", Completed, &[(Reached(M::Relabelled), frees_by_hand)]),
        Story::of(
            "the content is torn out under an undo",
            Failed,
            &[(Reached(M::Retained), loses_a_content), (Done(Step::UndoFree), tears_the_content_out)],
        )
        .once(),
        Story::of("a retained content is left alone", Failed, &[(Reached(M::Retained), leaves_a_content)]),
    ]
}

/// A rollback from every milestone that a complete run reaches before its pivot. The milestones are taken
/// from such a run.
fn undone() -> Vec<Story> {
    let whole = told()[0].lived(None).unwrap_or_else(|reason| panic!("{reason}"));
    let before_pivot = whole.milestones().into_iter().take_while(|milestone| *milestone < Milestone::Cleaned);
    let story = |milestone: Milestone| {
        let destroyed: Deed = if milestone < Milestone::VsBound { freezes_more } else { loses_a_content };
        let name = format!("undone after {}", milestone.name());
        Story::of(&name, Stage::Failed, &[(When::Reached(milestone), destroyed)]).once()
    };
    before_pivot.map(story).collect()
}

pub fn stories() -> Vec<Story> {
    told().into_iter().chain(undone()).collect()
}

#[test]
fn every_story_ends_as_expected() {
    for story in stories() {
        let life = story.lived(None).unwrap_or_else(|reason| panic!("{reason}"));
        let steps: Vec<&str> = life.steps.iter().map(|(step, _)| step.name()).collect();
        println!("{}: {:?} after {}", story.name, life.run.stage, steps.join(", "));
        assert_eq!(life.run.stage, story.end, "{}: {:?}", story.name, life.run.reason);
        assert_eq!(sound(&life), Ok(()), "{}", story.name);
    }
}

#[test]
fn stories_cover_every_step_and_milestone() {
    let (mut steps, mut milestones) = (BTreeSet::new(), BTreeSet::new());
    for story in stories() {
        let life = story.lived(None).unwrap_or_else(|reason| panic!("{reason}"));
        steps.extend(life.steps.iter().map(|(step, _)| *step));
        milestones.extend(life.milestones());
    }
    let missing: Vec<&str> = Step::ALL.iter().filter(|s| !steps.contains(s)).map(|s| s.name()).collect();
    assert!(missing.is_empty(), "no story does {missing:?}");
    let missing: Vec<&str> =
        Milestone::ALL.iter().filter(|m| !milestones.contains(m)).map(|m| m.name()).collect();
    assert!(missing.is_empty(), "no story reaches {missing:?}");
}

#[test]
fn stories_roll_back_from_every_early_milestone() {
    let names: Vec<String> = undone().into_iter().map(|story| story.name).collect();
    let expected = ["created", "cut", "vs-bound", "relabelled", "retained"];
    assert_eq!(names, expected.map(|milestone| format!("undone after {milestone}")));
}
