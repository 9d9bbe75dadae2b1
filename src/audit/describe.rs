//! One record as one line of text.

use super::record_text::RecordText;
use crate::domain::limits;
use crate::domain::problem::Code;
use crate::domain::text::count;
use crate::journal::Entry;
use crate::machine::backup::earlier;
use crate::machine::kit::{DecisionRecord, EffectReference, Event, Named as _, Outcome, Reached as _, Run};
use crate::records::{Decoded, WireError, decode};
use crate::{on_machine, records};

/// The summary of a record, without its position and time: `intend retain [relabelled/retain-group] 4
/// effects`.
pub fn describe(entry: &Entry) -> String {
    match records::text(&entry.record) {
        Some(text) => format!("note {text}"),
        None => sentence(&decode(&entry.record), entry.record.kind),
    }
}

pub(super) fn sentence(decoded: &Result<Decoded, WireError>, kind: u16) -> String {
    match decoded {
        Ok(decoded) => on_machine!(
            decoded,
            timed => of_event(&timed.event),
            Decoded::EarlierBackup { event, .. } => earlier(event),
        ),
        Err(error) => format!("unreadable record of kind {kind}: {error}"),
    }
}

/// The name of an event, for messages.
pub(super) fn event_name(decoded: &Decoded) -> String {
    on_machine!(
        decoded,
        timed => name(&timed.event),
        Decoded::EarlierBackup { event, .. } => match event {
            earlier::Event::Accepted { .. } => "accepted".to_owned(),
            earlier::Event::Finished(_) => "finished".to_owned(),
        },
    )
}

fn name<M: RecordText>(event: &Event<M>) -> String {
    match event {
        Event::Planned(_) => "planned".to_owned(),
        Event::Intended { step, .. } => format!("intend {}", step.name()),
        Event::StepCompleted { step, .. } => format!("ended {}", step.name()),
        Event::Part(part) => M::part_name(part),
        Event::Reconstructed(found) => M::reconstructed_name(found),
        Event::MilestoneReached { reached, .. } => format!("reached {}", reached.milestone().name()),
        Event::RequestReceived(asked) => format!("asked to {}", asked.ask.name()),
    }
}

fn of_event<M: RecordText>(event: &Event<M>) -> String {
    match event {
        Event::Planned(plan) => format!("planned {}", M::planned(plan)),
        Event::Intended { grounds, step, marks } => {
            let kinds = kinds(marks);
            let effects = count(marks.len(), "effect");
            format!("intend {} {} {effects}{kinds}", step.name(), row(grounds))
        }
        Event::StepCompleted { step, outcomes } => format!("ended {} {}", step.name(), ends(outcomes)),
        Event::Part(part) => <M as RecordText>::part(part),
        Event::Reconstructed(found) => <M as RecordText>::reconstructed(found),
        Event::MilestoneReached { grounds, reached } => {
            let evidence = <M as RecordText>::evidence(reached);
            format!("reached {} {}{evidence}", reached.milestone().name(), row(grounds))
        }
        Event::RequestReceived(asked) => {
            format!("asked to {} by {} (request {})", asked.ask.name(), asked.by, asked.request)
        }
    }
}

/// The kinds of the effects, ordered by first occurrence: `: SetGroupContentPolicy, 3 SetContentPolicy`.
fn kinds(marks: &[impl EffectReference]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for mark in marks {
        match counted.iter_mut().find(|(kind, _)| *kind == mark.kind()) {
            Some((_, count)) => *count += 1,
            None => counted.push((mark.kind(), 1)),
        }
    }
    let shown = counted.iter().map(|(kind, count)| match count {
        1 => capitalized(kind),
        _ => format!("{count} {}", capitalized(kind)),
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// Every effect of a step that is not known to have happened: `SetContentPolicy of data-0: refused: 403
/// forbidden`. `effects` describes each effect.
pub(super) fn failures(effects: &[String], outcomes: &[Outcome]) -> Vec<String> {
    let of = |at: usize| effects.get(at).cloned().unwrap_or_else(|| format!("effect {}", at + 1));
    let line = |(at, outcome): (usize, &Outcome)| match outcome {
        Outcome::Done { .. } => None,
        Outcome::Determinate { code, message } => Some(format!("{}: refused: {code} {message}", of(at))),
        Outcome::Indeterminate { message } => Some(format!("{}: may have happened: {message}", of(at))),
    };
    outcomes.iter().enumerate().filter_map(line).collect()
}

/// The effects of an intent, for [`failures`].
pub(super) fn effects<M: RecordText>(marks: &[M::EffectRef], run: Option<&Run<M>>) -> Vec<String> {
    let of = |mark: &M::EffectRef| {
        let kind = capitalized(mark.kind());
        match (mark.member(), run) {
            (None, _) => kind,
            (Some(index), run) => match run.and_then(|run| M::member(run, index)) {
                Some(member) => format!("{kind} of {member}"),
                None => format!("{kind} of member {index}"),
            },
        }
    };
    marks.iter().map(of).collect()
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn row(grounds: &DecisionRecord) -> String {
    format!("[{}]", grounds.row)
}

fn ends(outcomes: &[Outcome]) -> String {
    let failed = |outcome: &&Outcome| !matches!(outcome, Outcome::Done { .. });
    let failures = outcomes.iter().filter(failed).count();
    format!("{} of {} done", outcomes.len() - failures, outcomes.len())
}

pub(super) fn why(code: Code, message: &str) -> String {
    format!("{code} {}", limits::clip(message))
}

fn earlier(event: &earlier::Event) -> String {
    match event {
        earlier::Event::Accepted { groups, refused, .. } if refused.is_empty() => {
            format!("accepted {}", count(groups.len(), "group"))
        }
        earlier::Event::Accepted { groups, refused, .. } => {
            format!("accepted {}, refused {}", count(groups.len(), "group"), refused.len())
        }
        earlier::Event::Finished(earlier::Finished { phase, failed, warnings }) => {
            let failed = failed.first().map(|first| format!(": {} failed; first: {first}", failed.len()));
            let warned = match warnings.len() {
                0 => String::new(),
                n => format!(", {}", count(n, "warning")),
            };
            format!("finished {}{}{warned}", phase.name(), failed.unwrap_or_default())
        }
    }
}
