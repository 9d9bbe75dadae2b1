//! Rules: which calls they match, and the fault of a number of them.

use serde::Deserialize;
use serde_json::Value;

use crate::api_server::{Answer, CallInfo, FaultDecision, StreamEnd, StreamFault};

/// The calls that a fault applies to. An absent field matches every call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fits {
    agent: Option<String>,
    verb: Option<String>,
    plural: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl Fits {
    const FIELDS: [&str; 6] = ["agent", "verb", "plural", "subresource", "namespace", "name"];

    /// Takes the fields that select calls out of a fault.
    ///
    /// # Errors
    /// A description of the invalid part.
    pub(super) fn take(fault: &mut Value) -> Result<Self, String> {
        let taken = |field: &str| Some((field.to_owned(), fault.as_object_mut()?.remove(field)?));
        super::of(Self::FIELDS.into_iter().filter_map(taken).collect())
    }

    /// Returns whether the call matches. A call of an actor matches only if the fault names the actor.
    pub(super) fn fits(&self, call: &CallInfo, by_actor: bool) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let has = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
        (!by_actor || self.agent.is_some())
            && is(&self.agent, &call.agent)
            && is(&self.verb, &call.verb)
            && is(&self.plural, &call.plural)
            && has(&self.subresource, &call.subresource)
            && has(&self.namespace, &call.namespace)
            && has(&self.name, &call.name)
    }
}

/// A rule and the number of its matching calls.
#[derive(Debug)]
pub(super) struct Rule {
    fits: Fits,
    fate: Fate,
}

/// The fields of a rule besides the selection of calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fate {
    #[serde(default)]
    after: u64,
    #[serde(default = "once")]
    times: u64,
    #[serde(default = "yes")]
    happen: bool,
    #[serde(default = "normal")]
    answer: Told,
    #[serde(default)]
    before_ms: u64,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    stale_ms: u64,
    #[serde(default)]
    stream: Stream,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Word(Word),
    Code(u16),
    #[serde(rename_all = "camelCase")]
    Full {
        code: u16,
        retry_after: Option<u32>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Normal,
    Drop,
    Cut,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Stream {
    delay_ms: u64,
    merge: bool,
    drop_each: u64,
    end_after: Option<u64>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    Close,
    Break,
    Gone,
}

fn yes() -> bool {
    true
}

fn normal() -> Told {
    Told::Word(Word::Normal)
}

fn once() -> u64 {
    1
}

impl Rule {
    /// Parses and checks the rule.
    ///
    /// # Errors
    /// A description of the invalid part.
    pub(super) fn read(mut fault: Value) -> Result<Self, String> {
        let fits = Fits::take(&mut fault)?;
        let fate: Fate = super::of(fault)?;
        if let Some(code) = fate.answer.code().filter(|code| !(400..600).contains(code)) {
            return Err(format!("{code} is not the code of a failure"));
        }
        if fate.stream.end.is_some() != fate.stream.end_after.is_some() {
            return Err("a stream ends behind `endAfter` events by its `end`: give both".to_owned());
        }
        Ok(Self { fits, fate })
    }

    /// Decides the fault of the call, if the rule applies to it.
    pub(super) fn decide(&mut self, call: &CallInfo, by_actor: bool) -> Option<FaultDecision> {
        let fate = &mut self.fate;
        if fate.times == 0 || !self.fits.fits(call, by_actor) {
            return None;
        }
        if let Some(left) = fate.after.checked_sub(1) {
            fate.after = left;
            return None;
        }
        fate.times -= 1;
        Some(FaultDecision {
            happen: fate.happen,
            answer: fate.answer.answer(),
            before_ms: fate.before_ms,
            delay_ms: fate.delay_ms,
            stale_ms: fate.stale_ms,
            stream: fate.stream.fault(),
        })
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.fate.times == 0
    }
}

impl Told {
    fn code(&self) -> Option<u16> {
        match self {
            Told::Word(_) => None,
            Told::Code(code) | Told::Full { code, .. } => Some(*code),
        }
    }

    fn answer(&self) -> Answer {
        match self {
            Told::Word(Word::Normal) => Answer::Normal,
            Told::Word(Word::Drop) => Answer::Drop,
            Told::Word(Word::Cut) => Answer::Cut,
            Told::Code(code) => Answer::Status(*code, None),
            Told::Full { code, retry_after } => Answer::Status(*code, *retry_after),
        }
    }
}

impl Stream {
    fn fault(&self) -> StreamFault {
        let end = self.end.map(|end| match end {
            End::Close => StreamEnd::Close,
            End::Break => StreamEnd::Break,
            End::Gone => StreamEnd::Gone,
        });
        StreamFault {
            delay_ms: self.delay_ms,
            merge: self.merge,
            drop_each: self.drop_each,
            end: self.end_after.zip(end),
        }
    }
}
