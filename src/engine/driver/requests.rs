//! Records an operator's request to a run as an input of its journal.
//!
//! The request is durable before anything follows from it. It is accepted once: the journal has its id, and a
//! request with that id is not accepted again, whenever the process was killed.

use super::Driver;
use crate::domain::problem::Problem;
use crate::engine::driven::Driven;
use crate::machine::kit::{Event, Moment, OperatorRequest, Place, Point};

impl<M: Driven> Driver<M> {
    /// Records a request.
    ///
    /// # Errors
    /// The journal cannot be written: the daemon ends.
    pub(super) async fn record_request(&mut self, request: OperatorRequest) -> Result<(), Problem> {
        let place = Place::requested::<M>();
        self.context.points.hit(Point::new(place, Moment::BeforeRecord)).await;
        tracing::warn!(request = request.request, by = request.by, "asked to {}", request.ask.name());
        self.record(self.context.clock.now(), vec![Event::RequestReceived(request)]).await?;
        // The pause belongs to the failures that are now reset.
        (self.fresh, self.paused) = (false, None);
        self.show(None);
        self.context.points.hit(Point::new(place, Moment::AfterRecord)).await;
        Ok(())
    }

    /// A request that the run has not processed.
    pub(super) fn request(&mut self) -> Option<OperatorRequest> {
        match M::request(&self.context, &self.run)? {
            Ok(request) => {
                let answered = self.run.answered.as_ref();
                let is_new = answered.is_none_or(|answered| answered.asked.request != request.request);
                is_new.then_some(request)
            }
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
