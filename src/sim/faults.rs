//! Faults by rules that come as JSON: `POST /sim/v1/faults`.
//!
//! `{agent?, verb?, plural?, happen, answer, times, delayMs}`: the next `times` calls (by default one) that fit are
//! carried out or not, and told `"normal"`, `"drop"`, a code, or `{"code": 429, "retryAfter": 2}`. What is left out fits
//! every call. The oldest rule that fits decides; `DELETE` forgets all rules.
//!
//! Not here: faults on what the actors do. They are no clients over HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::api_server::{Answer, ApiServer, CallInfo, FaultDecision};

/// The rules of one cluster. Clones are the same rules.
#[derive(Clone, Default)]
pub(super) struct Rules {
    rules: Arc<Mutex<Vec<Rule>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    agent: Option<String>,
    verb: Option<String>,
    plural: Option<String>,
    #[serde(default = "yes")]
    happen: bool,
    #[serde(default = "normal")]
    answer: Told,
    #[serde(default = "once")]
    times: u64,
    #[serde(default)]
    delay_ms: u64,
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

impl Rules {
    /// Adds the rule in `text` behind the others and lets the rules decide over every call.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn add(&self, api: &ApiServer, text: &str) -> Result<usize, String> {
        let rule: Rule = serde_json::from_str(text).map_err(|error| format!("read a fault: {error}"))?;
        if let Some(code) = rule.answer.code().filter(|code| !(400..600).contains(code)) {
            return Err(format!("{code} is not the code of a failure"));
        }
        let count = {
            let mut rules = self.lock();
            rules.push(rule);
            rules.len()
        };
        let rules = self.clone();
        api.set_faults(Box::new(move |call| rules.decide(call)));
        Ok(count)
    }

    /// Forgets all rules.
    pub(super) fn clear(&self, api: &ApiServer) {
        self.lock().clear();
        api.clear_faults();
    }

    fn decide(&self, call: &CallInfo) -> FaultDecision {
        let mut rules = self.lock();
        let Some(at) = rules.iter().position(|rule| rule.fits(call)) else { return FaultDecision::none() };
        let rule = &mut rules[at];
        rule.times -= 1;
        let decision =
            FaultDecision { happen: rule.happen, answer: rule.answer.answer(), delay_ms: rule.delay_ms };
        rules.retain(|rule| rule.times > 0);
        decision
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    fn fits(&self, call: &CallInfo) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        self.times > 0
            && fits(&self.agent, &call.agent)
            && fits(&self.verb, &call.verb)
            && fits(&self.plural, &call.plural)
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
            Told::Code(code) => Answer::Status(*code, None),
            Told::Full { code, retry_after } => Answer::Status(*code, *retry_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Cluster, Config};

    fn call(agent: &str, verb: &str) -> CallInfo {
        CallInfo {
            agent: agent.to_owned(),
            verb: verb.to_owned(),
            plural: "volumesnapshots".to_owned(),
            subresource: None,
            namespace: None,
            name: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_decides_over_so_many_calls_that_fit() {
        let cluster = Cluster::start(Config::default());
        let rules = Rules::default();
        let text = r#"{"agent": "a", "verb": "patch", "happen": false, "answer": {"code": 429, "retryAfter": 2}, "times": 2}"#;
        assert_eq!(rules.add(cluster.api(), text), Ok(1));
        assert_eq!(rules.add(cluster.api(), r#"{"answer": "drop", "delayMs": 7}"#), Ok(2));
        let refused = FaultDecision { happen: false, answer: Answer::Status(429, Some(2)), delay_ms: 0 };
        assert_eq!(rules.decide(&call("a", "patch")), refused);
        assert_eq!(
            rules.decide(&call("b", "patch")),
            FaultDecision { happen: true, answer: Answer::Drop, delay_ms: 7 }
        );
        assert_eq!(rules.decide(&call("a", "patch")), refused);
        assert_eq!(rules.decide(&call("a", "patch")), FaultDecision::none(), "used up");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_a_fault_is_refused() {
        let cluster = Cluster::start(Config::default());
        for text in ["", "{\"agnet\": \"a\"}", "{\"answer\": \"perhaps\"}", "{\"answer\": 200}"] {
            assert!(Rules::default().add(cluster.api(), text).is_err(), "{text}");
        }
    }
}
