//! Schedules one drill by its points: the changes, the faults of the calls, and the end of an incarnation.
//!
//! One schedule covers all incarnations of a case: a change that was made once is not made again in the next
//! one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::drill::scenario::{Case, ReplyFault, Target};
use crate::drill::testbed::{Passed, Testbed};
use crate::drill::{disruption::Disruption, disruptions};
use crate::engine::crash_points::{CrashPoints, Verdict};
use crate::machine::group::{GroupMachine, Step};
use crate::machine::kit::Moment;
use crate::machine::kit::Place;
use crate::machine::kit::Point;
use crate::sim::api_server::{Answer, FaultDecision};

type Deed = Box<dyn FnOnce() + Send>;

/// Schedule of a case on a testbed.
pub(super) struct Schedule {
    deeds: Arc<Mutex<Vec<(Point, Deed)>>>,
    /// Step whose effects get the reply fault, until they were tried once.
    lied_about: Arc<Mutex<Option<Step>>>,
    /// Whether the effects in flight get the reply fault.
    lying: Arc<AtomicBool>,
}

fn point(text: &str) -> Point {
    text.parse().expect("a point of the machine")
}

impl Schedule {
    pub(super) fn new(case: &Case, testbed: &Testbed) -> Self {
        let mut deeds: Vec<(Point, Deed)> = cause(case.target, testbed);
        for (disruption, at) in
            case.disruptions.iter().copied().filter(|(disruption, _)| *disruption != Disruption::OlderEpoch)
        {
            let cluster = testbed.cluster.clone();
            deeds.push((at, Box::new(move || disruption.act(&cluster))));
        }
        let lying = Arc::new(AtomicBool::new(false));
        if let Some((reply_fault, _)) = case.reply_fault {
            lie(testbed, reply_fault, lying.clone());
        }
        Self {
            deeds: Arc::new(Mutex::new(deeds)),
            lied_about: Arc::new(Mutex::new(case.reply_fault.map(|(_, step)| step))),
            lying,
        }
    }

    /// Returns the points of one incarnation that is killed at `kill`. Records the points in `passed`.
    pub(super) fn life(&self, kill: Option<Point>, passed: &Passed) -> (CrashPoints, Arc<Notify>) {
        let killed = Arc::new(Notify::new());
        let signal = killed.clone();
        let (deeds, about, lying) = (self.deeds.clone(), self.lied_about.clone(), self.lying.clone());
        // Effects that were in flight when the previous incarnation was killed get no reply any more.
        if lying.swap(false, Ordering::SeqCst) {
            about.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        let points = passed.watch_and(move |point| {
            act(&deeds, point);
            turn(&about, &lying, point);
            if Some(point) == kill {
                signal.notify_one();
                return Verdict::Halt;
            }
            Verdict::GoOn
        });
        (points, killed)
    }
}

/// Makes the changes that are scheduled at this point, once.
fn act(deeds: &Mutex<Vec<(Point, Deed)>>, point: Point) {
    let mut deeds = deeds.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(at) = deeds.iter().position(|(at, _)| *at == point) {
        deeds.remove(at).1();
    }
}

/// Starts and ends the reply fault for the effects of a step.
fn turn(about: &Mutex<Option<Step>>, lying: &AtomicBool, point: Point) {
    let mut about = about.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(step) = *about else { return };
    if point.place != Place::step::<GroupMachine>(step) {
        return;
    }
    match point.moment {
        Moment::AfterIntent => lying.store(true, Ordering::SeqCst),
        Moment::AfterEffects => {
            lying.store(false, Ordering::SeqCst);
            *about = None;
        }
        _ => {}
    }
}

/// Applies the reply fault to the daemon's calls while `lying` is set.
fn lie(testbed: &Testbed, reply_fault: ReplyFault, lying: Arc<AtomicBool>) {
    let timeout = testbed.gateway_timeout;
    testbed.cluster.api().set_faults(Box::new(move |call| {
        let writes = ["create", "update", "patch", "delete"].contains(&call.verb.as_str());
        let of_the_step = writes && call.plural.starts_with("volume") && call.agent == "stillpoint";
        if !of_the_step || !lying.load(Ordering::SeqCst) {
            return FaultDecision::none();
        }
        let (happen, answer) = match reply_fault {
            ReplyFault::DidNot => (false, Answer::Drop),
            ReplyFault::ReplyLost => (true, Answer::Drop),
            ReplyFault::Answered504 => (true, Answer::Status(timeout, None)),
            ReplyFault::DidNot504 => (false, Answer::Status(timeout, None)),
        };
        FaultDecision { happen, answer, ..FaultDecision::none() }
    }));
}

/// Returns the changes that cause the rollback of the target.
fn cause(target: Target, testbed: &Testbed) -> Vec<(Point, Deed)> {
    let deny = |permissions: &'static [&'static str]| -> Deed {
        let rbac = testbed.rbac.clone();
        Box::new(move || permissions.iter().for_each(|permission| rbac.deny(permission)))
    };
    // An abandoned run is rolled back from the record of the request on.
    let restore = || {
        ["unwinding/after-record", "asked/after-record"].map(|at| -> (Point, Deed) {
            let rbac = testbed.rbac.clone();
            (point(at), Box::new(move || rbac.restore()))
        })
    };
    match target {
        Target::Complete
        | Target::Keep
        | Target::UndoUncut
        | Target::UndoUnsupported
        | Target::UndoTooLate
        | Target::UndoApart
        | Target::UndoCreated => Vec::new(),
        Target::UndoBound => {
            let refuse = (point("vs-bound/after-record"), deny(&["patch volumesnapshots"]));
            restore().into_iter().chain([refuse]).collect()
        }
        Target::UndoRelabelled | Target::UndoTorn => {
            let permissions = &["patch volumesnapshotcontents", "patch volumegroupsnapshotcontents"];
            let refuse = (point("relabelled/after-record"), deny(permissions));
            let cluster = testbed.cluster.clone();
            let tear: Deed = Box::new(move || disruptions::tear_group_and_content(&cluster));
            let torn = (target == Target::UndoTorn).then(|| (point("unwinding/after-record"), tear));
            restore().into_iter().chain([refuse]).chain(torn).collect()
        }
        Target::UndoRetained => {
            let cluster = testbed.cluster.clone();
            let drop_class = move || disruptions::delete_first(&cluster, "volumesnapshotclasses");
            vec![(point("retained/before-record"), Box::new(drop_class))]
        }
    }
}
