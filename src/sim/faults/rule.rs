//! Rules: which calls they match, and the fault of a number of them.

use serde::Deserialize;
use serde_json::Value;

use crate::api_server::{Answer, CallInfo, FaultDecision, StreamEnd, StreamFault};

/// The calls that a fault applies to. An absent field matches every call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CallFilter {
    agent: Option<String>,
    verb: Option<String>,
    plural: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl CallFilter {
    const FIELDS: [&str; 6] = ["agent", "verb", "plural", "subresource", "namespace", "name"];

    /// Takes the fields that select calls out of a fault.
    ///
    /// # Errors
    /// A description of the invalid part.
    pub(super) fn take(fault: &mut Value) -> Result<Self, String> {
        let take = |field: &str| Some((field.to_owned(), fault.as_object_mut()?.remove(field)?));
        super::decode(Self::FIELDS.into_iter().filter_map(take).collect())
    }

    /// Returns whether the call matches. A call of an actor matches only if the fault names the actor.
    pub(super) fn matches(&self, call: &CallInfo, by_actor: bool) -> bool {
        let equals =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let matches = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        (!by_actor || self.agent.is_some())
            && equals(&self.agent, &call.agent)
            && equals(&self.verb, &call.verb)
            && equals(&self.plural, &call.plural)
            && matches(&self.subresource, &call.subresource)
            && matches(&self.namespace, &call.namespace)
            && matches(&self.name, &call.name)
    }
}

/// A rule and the number of its matching calls.
#[derive(Debug)]
pub(super) struct Rule {
    filter: CallFilter,
    spec: RuleSpec,
}

/// The fields of a rule besides the selection of calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    #[serde(default)]
    after: u64,
    #[serde(default = "once")]
    times: u64,
    #[serde(default = "yes")]
    happen: bool,
    #[serde(default = "normal")]
    answer: AnswerSpec,
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
enum AnswerSpec {
    Keyword(AnswerKeyword),
    Code(u16),
    #[serde(rename_all = "camelCase")]
    Full {
        code: u16,
        retry_after: Option<u32>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnswerKeyword {
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

fn normal() -> AnswerSpec {
    AnswerSpec::Keyword(AnswerKeyword::Normal)
}

fn once() -> u64 {
    1
}

impl Rule {
    /// Parses and checks the rule.
    ///
    /// # Errors
    /// A description of the invalid part.
    pub(super) fn parse(mut fault: Value) -> Result<Self, String> {
        let filter = CallFilter::take(&mut fault)?;
        let spec: RuleSpec = super::decode(fault)?;
        if let Some(code) = spec.answer.code().filter(|code| !(400..600).contains(code)) {
            return Err(format!("{code} is not the code of a failure"));
        }
        if spec.stream.end.is_some() != spec.stream.end_after.is_some() {
            return Err("`end` and `endAfter` of a stream require each other".to_owned());
        }
        Ok(Self { filter, spec })
    }

    /// Decides the fault of the call, if the rule applies to it.
    pub(super) fn decide(&mut self, call: &CallInfo, by_actor: bool) -> Option<FaultDecision> {
        let spec = &mut self.spec;
        if spec.times == 0 || !self.filter.matches(call, by_actor) {
            return None;
        }
        if let Some(left) = spec.after.checked_sub(1) {
            spec.after = left;
            return None;
        }
        spec.times -= 1;
        Some(FaultDecision {
            happen: spec.happen,
            answer: spec.answer.to_answer(),
            before_ms: spec.before_ms,
            delay_ms: spec.delay_ms,
            stale_ms: spec.stale_ms,
            stream: spec.stream.fault(),
        })
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.spec.times == 0
    }
}

impl AnswerSpec {
    fn code(&self) -> Option<u16> {
        match self {
            AnswerSpec::Keyword(_) => None,
            AnswerSpec::Code(code) | AnswerSpec::Full { code, .. } => Some(*code),
        }
    }

    fn to_answer(&self) -> Answer {
        match self {
            AnswerSpec::Keyword(AnswerKeyword::Normal) => Answer::Normal,
            AnswerSpec::Keyword(AnswerKeyword::Drop) => Answer::Drop,
            AnswerSpec::Keyword(AnswerKeyword::Cut) => Answer::Cut,
            AnswerSpec::Code(code) => Answer::Status(*code, None),
            AnswerSpec::Full { code, retry_after } => Answer::Status(*code, *retry_after),
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
