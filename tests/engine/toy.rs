//! Shows what a further machine costs: a ConfigMap that is created, labelled and deleted.
//!
//! Its fold, table, proof, codec, driver, crash points and drills come from the kit.

use std::sync::{Arc, LazyLock};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use stillpoint::cluster::observe;
use stillpoint::domain::ids::{ObjectId, StreamId};
use stillpoint::domain::problem::{About, Code, Problem};
use stillpoint::domain::time::Timestamp;
use stillpoint::drill::sweep::{Swept, sweep};
use stillpoint::engine::cache::{MinVersions, ReadError, Subscription};
use stillpoint::engine::driven::Driven;
use stillpoint::engine::driver::Context;
use stillpoint::journal::Record;
use stillpoint::machine::kit::proof::prove;
use stillpoint::machine::kit::{
    self, Action, Actor, Call, Calls, Columns, Decision, EffectReference, Entry, Event, IllegalEvent, Kind,
    Machine, MissingEvidence, Patch, Phase, Point, Reason, Row, Run, Stage as _, Timed, View, WaitReport,
};
use stillpoint::records::WireError;
use stillpoint::records::kit::{Recorded, decode_record, encode_record};
use stillpoint::{columns, named, rows};

const LABEL: &str = "example.com/done";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Toy;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
enum Stage {
    Planned,
    Created,
    Labelled,
    Deleted,
}

impl kit::Stage for Stage {
    const ALL: &'static [Self] = &[Self::Planned, Self::Created, Self::Labelled, Self::Deleted];

    fn is_final(self) -> bool {
        self == Self::Deleted
    }

    fn is_behind_the_pivot(self) -> bool {
        self == Self::Labelled
    }
}

named! {
    Step { Create = "create", Label = "label", Delete = "delete" }
}

impl kit::Step for Step {
    fn phase(self) -> Phase {
        match self {
            Self::Create => Phase::Forward,
            Self::Label => Phase::Pivot,
            Self::Delete => Phase::Release,
        }
    }
}

named! {
    Milestone { Created = "created", Labelled = "labelled", Deleted = "deleted", Unwinding = "unwinding", Stuck = "stuck" }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reached {
    Created(String),
    Labelled,
    Deleted,
    Unwinding(Reason),
    Stuck(Reason),
}

impl kit::Reached for Reached {
    type Milestone = Milestone;
    const UNWINDING: Milestone = Milestone::Unwinding;
    const STUCK: Milestone = Milestone::Stuck;

    fn milestone(&self) -> Milestone {
        match self {
            Self::Created(_) => Milestone::Created,
            Self::Labelled => Milestone::Labelled,
            Self::Deleted => Milestone::Deleted,
            Self::Unwinding(_) => Milestone::Unwinding,
            Self::Stuck(_) => Milestone::Stuck,
        }
    }

    fn evidence(&self) -> Value {
        match self {
            Self::Created(uid) => json!({ "uid": uid }),
            _ => Value::Null,
        }
    }

    fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Unwinding(reason) | Self::Stuck(reason) => Some(reason),
            _ => None,
        }
    }

    fn unwinding(reason: Reason) -> Self {
        Self::Unwinding(reason)
    }

    fn stuck(reason: Reason) -> Self {
        Self::Stuck(reason)
    }
}

columns! {
    /// The ConfigMap.
    Seen Object {
        /// There is none.
        Absent,
        /// It exists without the label.
        Bare,
        /// It exists with the label.
        Labelled,
    }
    /// Whether the ConfigMap was just read.
    Seen Fresh {
        /// It was.
        Yes,
        /// It was not.
        No,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoWait;

impl kit::Wait for NoWait {
    fn text(self) -> &'static str {
        "nothing"
    }

    fn actor(self) -> Actor {
        Actor::Clock
    }
}

static TABLE: LazyLock<Vec<Row<Toy>>> = LazyLock::new(|| {
    rows! {
        when Planned: Fresh[Yes] {
            "planned/create": Object[Absent] => Action::Act(Step::Create), "the name is computed";
            "planned/created": Object[Bare | Labelled] => Action::Advance(Milestone::Created), "it exists";
        }
        when Created: Fresh[Yes] {
            "created/label": Object[Bare] => Action::Act(Step::Label), "the label is missing";
            "created/labelled": Object[Labelled] => Action::Advance(Milestone::Labelled), "the label is there";
            "created/gone": Object[Absent] => Action::Stick { code: Code::DeletedByOther, advice: "look who deleted it" }, "another client deleted it";
        }
        when Labelled: Fresh[Yes] {
            "labelled/delete": Object[Bare | Labelled] => Action::Act(Step::Delete), "its time is over";
            "labelled/deleted": Object[Absent] => Action::Advance(Milestone::Deleted), "it is gone";
        }
        "end" Deleted: => Action::Finished, "the run is over";
    }
});

/// Name of the ConfigMap.
type Plan = String;

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
struct Mark(Step);

impl EffectReference for Mark {
    fn kind(self) -> &'static str {
        self.0.name()
    }

    fn member(self) -> Option<u16> {
        None
    }
}

#[derive(Debug, Clone, Default)]
struct Seen {
    object: Option<ConfigMap>,
    fresh: bool,
}

impl Seen {
    fn id(&self) -> Option<ObjectId> {
        self.object.as_ref().map(|object| observe::id(&object.metadata))
    }
}

impl Machine for Toy {
    const NAME: &'static str = "toy";
    const RULES: u16 = 1;
    const FRESH: Column = Column::Fresh;

    type Plan = Plan;
    type Stage = Stage;
    type Step = Step;
    type Milestone = Milestone;
    type Reached = Reached;
    type Part = ();
    type Reconstructed = ();
    type Column = Column;
    type Wait = NoWait;
    /// Uid of the ConfigMap, once recorded.
    type State = std::collections::BTreeMap<&'static str, String>;
    type Scope = Plan;
    type Seen = Seen;
    type Effect = Calls;
    type EffectRef = Mark;

    fn table() -> &'static [Row<Self>] {
        &TABLE
    }

    fn begin(_: &Plan, _: Timestamp) -> (Stage, Self::State) {
        (Stage::Planned, Self::State::new())
    }

    fn allows(run: &Run<Self>, milestone: Milestone) -> bool {
        match milestone {
            Milestone::Created => run.stage == Stage::Planned,
            Milestone::Labelled => run.stage == Stage::Created,
            Milestone::Deleted => run.stage == Stage::Labelled,
            Milestone::Unwinding => false,
            Milestone::Stuck => !run.stage.is_final(),
        }
    }

    fn part(run: &mut Run<Self>, (): &()) -> Result<(), IllegalEvent> {
        Err(IllegalEvent::out_of_place(run, "part".to_owned()))
    }

    fn reconstructed(run: &mut Run<Self>, (): &(), _: Timestamp) -> Result<(), IllegalEvent> {
        Err(IllegalEvent::out_of_place(run, "reconstructed".to_owned()))
    }

    fn reached(run: &mut Run<Self>, reached: &Reached, _: &View, _: Timestamp) -> Result<(), IllegalEvent> {
        match reached {
            Reached::Created(uid) => {
                run.state.insert("uid", uid.clone());
                run.stage = Stage::Created;
            }
            Reached::Labelled => run.stage = Stage::Labelled,
            Reached::Deleted => run.stage = Stage::Deleted,
            Reached::Unwinding(reason) | Reached::Stuck(reason) => run.reason = Some(reason.clone()),
        }
        Ok(())
    }

    fn state_name(run: &Run<Self>) -> &'static str {
        ["Planned", "Created", "Labelled", "Deleted"][run.stage as usize]
    }

    fn part_name((): &()) -> String {
        "part".to_owned()
    }

    fn reconstructed_name((): &()) -> String {
        "reconstructed".to_owned()
    }

    fn scope(run: &Run<Self>, _: Option<&Plan>) -> Plan {
        (*run.plan).clone()
    }

    fn view(_: &Run<Self>, seen: &Seen) -> View {
        let mut view = View::blank::<Column>();
        let labelled =
            |object: &ConfigMap| object.metadata.labels.iter().flatten().any(|(key, _)| key == LABEL);
        view.set(match &seen.object {
            None => Object::Absent,
            Some(object) if labelled(object) => Object::Labelled,
            Some(_) => Object::Bare,
        });
        view.set(if seen.fresh { Fresh::Yes } else { Fresh::No });
        view
    }

    fn compute(_: &mut Columns<Column>, _: &Run<Self>, _: &View, _: Timestamp) {}

    fn deadlines(_: &Run<Self>, _: &View) -> Vec<Timestamp> {
        Vec::new()
    }

    fn effects(run: &Run<Self>, seen: &Seen, step: Step) -> Vec<(Mark, Calls)> {
        let call = match (step, seen.id()) {
            (Step::Create, _) => {
                Call::create(Kind::ConfigMap, "stillpoint", &run.plan, json!({"metadata": {}}))
            }
            (Step::Label, Some(id)) => {
                let labels = seen.object.as_ref().and_then(|object| object.metadata.labels.clone());
                let entry = Entry::missing(&labels, [(LABEL.to_owned(), "yes".to_owned())].into());
                Call::patch(Kind::ConfigMap, &id, Patch::of(&id.uid.0).entries("/metadata/labels", &entry))
            }
            (Step::Delete, Some(id)) => Call::delete(Kind::ConfigMap, &id, None),
            (_, None) => return Vec::new(),
        };
        vec![(Mark(step), Calls::One(call))]
    }

    fn calls(effect: &Calls) -> Calls {
        effect.clone()
    }

    fn evidence(
        _: &Run<Self>,
        seen: &Seen,
        milestone: Milestone,
    ) -> Result<(Vec<()>, Reached), MissingEvidence> {
        let lacks = |missing| MissingEvidence { milestone: milestone.name(), missing };
        let reached = match milestone {
            Milestone::Created => Reached::Created(seen.id().ok_or(lacks("a ConfigMap"))?.uid.0),
            Milestone::Labelled => Reached::Labelled,
            Milestone::Deleted => Reached::Deleted,
            Milestone::Unwinding | Milestone::Stuck => return Err(lacks("a reason")),
        };
        Ok((Vec::new(), reached))
    }

    fn reason(_: &Run<Self>, _: &Seen, row: &Row<Self>) -> Reason {
        Reason { code: Code::DeletedByOther, message: row.why.to_owned(), transient: false }
    }
}

impl Driven for Toy {
    /// The ConfigMap as it was last read.
    type Memory = Option<ConfigMap>;

    fn stream(plan: &Plan) -> StreamId {
        StreamId::of_backup(plan)
    }

    fn subscribe(context: &Context, _: &Arc<Plan>) -> Subscription {
        context.cache.subscribe_to_keys(&[])
    }

    fn set_interest(_: &mut Subscription, _: &Arc<Plan>) {}

    fn observe(_: &Context, _: &Plan, fresh: bool, _: Timestamp, memory: &mut Option<ConfigMap>) -> Seen {
        Seen { object: memory.clone(), fresh }
    }

    async fn read(
        context: &Context,
        scope: &Plan,
        _: &MinVersions,
        memory: &mut Option<ConfigMap>,
    ) -> Result<(), ReadError> {
        *memory = context.adapter.get(&(), "stillpoint", scope).await?;
        Ok(())
    }

    async fn may_free(_: &Context, _: &Run<Self>, _: &Seen) -> Result<Option<&'static str>, Problem> {
        Ok(None)
    }

    fn holds(_: &Run<Self>) -> bool {
        false
    }

    fn warns(milestone: Milestone) -> bool {
        milestone == Milestone::Stuck
    }

    fn report(
        run: &Run<Self>,
        _: &Seen,
        decision: &Decision<Self>,
        _: Option<Timestamp>,
        _: Timestamp,
    ) -> WaitReport {
        WaitReport::new(decision.row.id, "the next try", run.changed_at)
    }

    fn publish(_: &Context, _: &Arc<Run<Self>>, _: Option<Arc<WaitReport>>, _: &Option<ConfigMap>) {}

    fn claimed(run: &Run<Self>) -> About {
        About::new("ConfigMap", "stillpoint", &run.plan)
    }

    fn fit(event: Event<Self>) -> Event<Self> {
        event
    }

    fn encode(record: &Timed<Self>) -> Result<Record, WireError> {
        encode_record(record)
    }
}

impl Recorded for Toy {
    const FIRST_KIND: u16 = 900;

    type WirePlan = String;
    /// Uid, or code and message.
    type Wire = String;

    fn write_plan(plan: &Plan) -> String {
        plan.clone()
    }

    fn read_plan(wire: String) -> Plan {
        wire
    }

    fn write_part((): &()) -> String {
        String::new()
    }

    fn read_part(_: String) -> Result<(), WireError> {
        Ok(())
    }

    fn write_evidence(reached: &Reached) -> String {
        match reached {
            Reached::Created(text) => text.clone(),
            Reached::Unwinding(reason) | Reached::Stuck(reason) => reason.message.clone(),
            Reached::Labelled | Reached::Deleted => String::new(),
        }
    }

    fn read_evidence(milestone: Milestone, wire: String) -> Result<Reached, WireError> {
        let reason = |message| Reason { code: Code::DeletedByOther, message, transient: false };
        Ok(match milestone {
            Milestone::Created => Reached::Created(wire),
            Milestone::Labelled => Reached::Labelled,
            Milestone::Deleted => Reached::Deleted,
            Milestone::Unwinding => Reached::Unwinding(reason(wire)),
            Milestone::Stuck => Reached::Stuck(reason(wire)),
        })
    }

    fn write_reconstructed((): &()) -> String {
        String::new()
    }

    fn read_reconstructed(_: String) -> Result<(), WireError> {
        Ok(())
    }

    fn read_effect_ref(kind: &str, _: Option<u16>) -> Option<Mark> {
        Step::ALL.iter().find(|step| step.name() == kind).map(|step| Mark(*step))
    }
}

#[test]
fn table_of_further_machine_is_proven() {
    let proof = prove::<Toy>().expect("a proof");
    assert_eq!((proof.rows, proof.columns), (8, 2));
}

/// At the end there is no ConfigMap, and exactly one was ever created.
fn judge(case: &Swept<Toy>) {
    let kills = &case.kills;
    assert_eq!(case.run.stage, Stage::Deleted, "{kills:?}");
    assert!(case.testbed.list("configmaps", Some("stillpoint")).is_empty(), "{kills:?}: it is left");
    let uid = case.run.state.get("uid").expect("its uid is recorded");
    assert!(!uid.is_empty(), "{kills:?}");
}

#[tokio::test(start_paused = true)]
async fn further_machine_survives_a_kill_at_every_point() {
    let cases = sweep(&"toy".to_owned(), decode_record::<Toy>, judge).await;
    let points = Point::all_of::<Toy>().len();
    println!("toy: {points} crash points, {cases} cases, all ended right");
    assert!(cases > 200, "{cases}");
}
