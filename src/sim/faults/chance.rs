//! Random faults: of the matching calls, one in N gets a fault that is drawn from the seed.
//!
//! | kind | the call | the caller receives |
//! |---|---|---|
//! | `refused` | is not executed | 503 |
//! | `busy` | is not executed | 429, Retry-After 1 to 5 |
//! | `timeout` | is executed | 504 |
//! | `lost` | is executed | a reply that breaks off, or none |
//! | `cut` | is not executed | a reply that breaks off, or none |
//! | `late` | is executed up to 3 s later | the result, up to 3 s after that |
//! | `stale` | is a get or list | the state of up to 5 s ago |
//! | `stream` | is a watch | a stream that ends after up to 20 events, or is up to 3 s late and merges |
//! | `expired` | is a watch and is not executed | 410 |
//!
//! A kind that does not apply to the verb is not drawn.

use serde::Deserialize;
use serde_json::Value;

use super::rule::CallFilter;
use crate::api_server::{Answer, CallInfo, FaultDecision, StreamEnd, StreamFault};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Refused,
    Busy,
    Timeout,
    Lost,
    Cut,
    Late,
    Stale,
    Stream,
    Expired,
}

const KINDS: [Kind; 9] = [
    Kind::Refused,
    Kind::Busy,
    Kind::Timeout,
    Kind::Lost,
    Kind::Cut,
    Kind::Late,
    Kind::Stale,
    Kind::Stream,
    Kind::Expired,
];

/// A parsed random fault with its generator.
#[derive(Debug)]
pub(super) struct Chance {
    filter: CallFilter,
    spec: ChanceSpec,
    random: fastrand::Rng,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChanceSpec {
    seed: u64,
    one_in: u64,
    kinds: Option<Vec<Kind>>,
    #[serde(default = "always")]
    times: u64,
}

fn always() -> u64 {
    u64::MAX
}

impl Chance {
    /// Parses a random fault.
    ///
    /// # Errors
    /// A description of the invalid part.
    pub(super) fn parse(mut fault: Value) -> Result<Self, String> {
        let filter = CallFilter::take(&mut fault)?;
        let spec: ChanceSpec = super::decode(fault)?;
        if spec.one_in == 0 || spec.kinds.as_ref().is_some_and(Vec::is_empty) {
            return Err("`oneIn` must be at least 1, and `kinds` must not be empty".to_owned());
        }
        let random = fastrand::Rng::with_seed(spec.seed);
        Ok(Self { filter, spec, random })
    }

    /// Decides the fault of the call, if it gets one.
    pub(super) fn decide(&mut self, call: &CallInfo, by_actor: bool) -> Option<FaultDecision> {
        if self.spec.times == 0 || !self.filter.matches(call, by_actor) {
            return None;
        }
        // Every call draws the same amount of randomness, so that one fault more or less does not change all
        // later draws.
        let mut random = self.random.fork();
        if random.u64(..self.spec.one_in) != 0 {
            return None;
        }
        let kinds: Vec<Kind> = self.spec.kinds.as_deref().unwrap_or(&KINDS).to_vec();
        let kinds: Vec<Kind> =
            kinds.into_iter().filter(|kind| kind.applies_to(&call.verb, by_actor)).collect();
        let kind = random.choice(kinds)?;
        self.spec.times -= 1;
        Some(kind.draw(&mut random))
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.spec.times == 0
    }
}

impl Kind {
    fn applies_to(self, verb: &str, by_actor: bool) -> bool {
        match self {
            Kind::Stale => !by_actor && ["get", "list"].contains(&verb),
            Kind::Stream | Kind::Expired => !by_actor && verb == "watch",
            _ => true,
        }
    }

    fn draw(self, random: &mut fastrand::Rng) -> FaultDecision {
        let broken = if random.bool() { Answer::Drop } else { Answer::Cut };
        match self {
            Kind::Refused => FaultDecision::of(false, Answer::Status(503, None)),
            Kind::Busy => FaultDecision::of(false, Answer::Status(429, Some(random.u32(1..=5)))),
            Kind::Timeout => FaultDecision::of(true, Answer::Status(504, None)),
            Kind::Lost => FaultDecision::of(true, broken),
            Kind::Cut => FaultDecision::of(false, broken),
            Kind::Late => {
                let before_ms = random.u64(..=3000);
                FaultDecision { before_ms, ..FaultDecision::none() }.with_reply_delay(random.u64(..=3000))
            }
            Kind::Stale => FaultDecision { stale_ms: random.u64(..=5000), ..FaultDecision::none() },
            Kind::Stream => FaultDecision { stream: stream(random), ..FaultDecision::none() },
            Kind::Expired => FaultDecision::of(false, Answer::Status(410, None)),
        }
    }
}

fn stream(random: &mut fastrand::Rng) -> StreamFault {
    let after = random.u64(..=20);
    match random.u8(..4) {
        0 => StreamFault { delay_ms: random.u64(..=3000), merge: true, ..StreamFault::default() },
        1 => StreamFault { end: Some((after, StreamEnd::Close)), ..StreamFault::default() },
        2 => StreamFault { end: Some((after, StreamEnd::Break)), ..StreamFault::default() },
        _ => StreamFault { end: Some((after, StreamEnd::Gone)), ..StreamFault::default() },
    }
}
