//! Records an operator's request to a run as an input of its journal.
//!
//! The request is durable before anything follows from it. It is accepted once: the journal has its id, and a
//! request with that id is not accepted again, whenever the process was killed. Between `Cleaned` and the end
//! no request is valid.

use super::Driver;
use crate::domain::problem::Problem;
use crate::machine::group::{Event, OperatorRequest, Stage};
use crate::machine::point::{Moment, Place, Point};

impl Driver {
    /// Records a request.
    ///
    /// # Errors
    /// The journal cannot be written: the daemon ends.
    pub(super) async fn answer(&mut self, asked: OperatorRequest) -> Result<(), Problem> {
        self.context.points.hit(Point::record(Place::Asked, Moment::BeforeRecord)).await;
        tracing::warn!(request = asked.request, by = asked.by, "asked to {}", asked.ask.name());
        self.record(self.context.clock.now(), vec![Event::RequestReceived(asked)]).await?;
        // The pause belongs to the failures that are now reset.
        (self.fresh, self.paused) = (false, None);
        self.show(None);
        self.context.points.hit(Point::record(Place::Asked, Moment::AfterRecord)).await;
        Ok(())
    }

    /// A request that is not answered yet.
    pub(super) fn asked(&mut self) -> Option<OperatorRequest> {
        let run = &self.run;
        if run.stage == Stage::Cleaned || run.stage.is_final() {
            return None;
        }
        let is_new = |asked: &OperatorRequest| {
            run.answered.as_ref().is_none_or(|answered| answered.asked.request != asked.request)
        };
        match self.context.cache.asked(&run.plan)? {
            Ok(asked) => Some(asked).filter(is_new),
            Err(why) => {
                if self.misunderstood.as_ref() != Some(&why) {
                    tracing::warn!(why, "what is asked of the run is not understood");
                    self.misunderstood = Some(why);
                }
                None
            }
        }
    }
}
