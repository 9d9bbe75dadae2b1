//! Records the crash points that an incarnation hits.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::engine::crash_points::{CrashPoints, Verdict};
use crate::machine::kit::Point;

/// Crash points in the order in which they were hit.
#[derive(Default, Clone)]
pub struct Passed(Arc<Mutex<Vec<Point>>>);

impl Passed {
    /// Records every point and stops at none.
    pub fn watch(&self) -> CrashPoints {
        let passed = self.0.clone();
        CrashPoints::ask(move |point| {
            passed.lock().unwrap_or_else(PoisonError::into_inner).push(point);
            Verdict::GoOn
        })
    }

    /// As [`watch`](Self::watch), and calls `act` at each point. Its verdict decides whether the incarnation
    /// goes on.
    pub fn watch_and(&self, act: impl Fn(Point) -> Verdict + Send + Sync + 'static) -> CrashPoints {
        let passed = self.0.clone();
        CrashPoints::ask(move |point| {
            passed.lock().unwrap_or_else(PoisonError::into_inner).push(point);
            act(point)
        })
    }

    /// As [`watch`](Self::watch), and stops at `kill`. The notification ends the incarnation.
    pub fn watch_until(&self, kill: Option<Point>) -> (CrashPoints, Arc<Notify>) {
        let killed = Arc::new(Notify::new());
        let signal = killed.clone();
        let points = self.watch_and(move |point| match Some(point) == kill {
            true => {
                signal.notify_one();
                Verdict::Halt
            }
            false => Verdict::GoOn,
        });
        (points, killed)
    }

    /// Returns each point once, in the order of the first pass.
    pub fn distinct(&self) -> Vec<Point> {
        let mut seen = std::collections::BTreeSet::new();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .filter(|point| seen.insert(*point))
            .collect()
    }
}
