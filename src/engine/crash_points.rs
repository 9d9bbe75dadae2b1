//! Where a drill, or `run --crash-at POINT`, ends this life of the daemon.

use std::sync::Arc;

use crate::machine::point::Point;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    GoOn,
    /// This life of the daemon is over: not another instruction of the run. Whoever decided so drops the engine.
    Halt,
}

type Hook = dyn Fn(Point) -> Verdict + Send + Sync;

/// The crash points of one life of the daemon.
#[derive(Clone, Default)]
pub struct CrashPoints {
    hook: Option<Arc<Hook>>,
}

impl CrashPoints {
    /// Nothing happens at any point.
    pub fn none() -> Self {
        Self::default()
    }

    /// Asks `hook` at every point.
    pub fn ask(hook: impl Fn(Point) -> Verdict + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)) }
    }

    /// Ends the process with SIGKILL at that point: nothing is flushed, closed or told to anybody.
    pub fn sigkill_at(wanted: Point) -> Self {
        Self::ask(move |point| {
            if point == wanted {
                // Nothing can be done about a failure, and the halt below holds the run in any case.
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                return Verdict::Halt;
            }
            Verdict::GoOn
        })
    }

    /// Whether anybody asks: only then are the effects of a step done in two halves.
    pub fn watched(&self) -> bool {
        self.hook.is_some()
    }

    /// Passes a point, or never returns.
    pub async fn hit(&self, point: Point) {
        let verdict = self.hook.as_ref().map_or(Verdict::GoOn, |hook| hook(point));
        if verdict == Verdict::Halt {
            std::future::pending::<()>().await;
        }
    }
}
