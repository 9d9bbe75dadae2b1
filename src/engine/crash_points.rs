//! Ends the process at a crash point, for a drill or for `run --crash-at POINT`.

use std::sync::Arc;

use crate::machine::kit::Point;

/// The result of a hook at a crash point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Continue.
    GoOn,
    /// This incarnation of the daemon ends: the run executes no further instruction. The caller that
    /// installed the hook drops the engine.
    Halt,
}

type Hook = dyn Fn(Point) -> Verdict + Send + Sync;

/// The crash points of one incarnation of the daemon.
#[derive(Clone, Default)]
pub struct CrashPoints {
    hook: Option<Arc<Hook>>,
}

impl CrashPoints {
    /// No crash at any point.
    pub fn none() -> Self {
        Self::default()
    }

    /// Calls `hook` at every point.
    pub fn ask(hook: impl Fn(Point) -> Verdict + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)) }
    }

    /// Ends the process with SIGKILL at that point: nothing is flushed, closed or reported.
    pub fn sigkill_at(wanted: Point) -> Self {
        Self::ask(move |point| {
            if point == wanted {
                // A failure cannot be handled, and the halt below stops the run in any case.
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                return Verdict::Halt;
            }
            Verdict::GoOn
        })
    }

    /// Whether there is a hook: only then are the effects of a step performed in two halves.
    pub fn watched(&self) -> bool {
        self.hook.is_some()
    }

    /// Hits a point. Never returns if the hook halts the run.
    pub async fn hit(&self, point: Point) {
        let verdict = self.hook.as_ref().map_or(Verdict::GoOn, |hook| hook(point));
        if verdict == Verdict::Halt {
            std::future::pending::<()>().await;
        }
    }
}
