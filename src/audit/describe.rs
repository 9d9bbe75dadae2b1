//! One record as one line of text.

use crate::domain::limits;
use crate::domain::problem::Code;
use crate::domain::text::count;
use crate::journal::Entry;
use crate::machine::backup;
use crate::machine::group::effect::EffectKind;
use crate::machine::group::effect::EffectRef;
use crate::machine::group::{Event, Reached};
use crate::machine::kit::{DecisionRecord, Outcome, Reached as _};
use crate::records;
use crate::records::{Decoded, WireError, decode};

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
        Ok(Decoded::Group(timed)) => group(&timed.event),
        Ok(Decoded::Backup { event, .. }) => backup(event),
        Err(error) => format!("unreadable record of kind {kind}: {error}"),
    }
}

/// The name of an event, for messages.
pub(super) fn event_name(decoded: &Decoded) -> String {
    match decoded {
        Decoded::Group(timed) => match &timed.event {
            Event::Planned(_) => "planned".to_owned(),
            Event::Intended { step, .. } => format!("intend {}", step.name()),
            Event::StepCompleted { step, .. } => format!("ended {}", step.name()),
            Event::Part(part) => format!("receipt from {}", part.first),
            Event::Reconstructed(found) => format!("reconstructed as {}", found.standing.name()),
            Event::MilestoneReached { reached, .. } => format!("reached {}", reached.milestone().name()),
            Event::RequestReceived(asked) => format!("asked to {}", asked.ask.name()),
        },
        Decoded::Backup { event: backup::Event::Accepted { .. }, .. } => "accepted".to_owned(),
        Decoded::Backup { event: backup::Event::Finished { .. }, .. } => "finished".to_owned(),
    }
}

fn group(event: &Event) -> String {
    match event {
        Event::Planned(plan) => {
            let members = count(plan.members.len(), "member");
            let backup = &plan.backup;
            format!("planned {members} of {} for Backup {}/{}", plan.driver, backup.namespace, backup.name)
        }
        Event::Intended { grounds, step, marks } => {
            let kinds = kinds(marks);
            let effects = count(marks.len(), "effect");
            format!("intend {} {} {effects}{kinds}", step.name(), row(grounds))
        }
        Event::StepCompleted { step, outcomes } => format!("ended {} {}", step.name(), ends(outcomes)),
        Event::Part(part) => {
            let first = usize::from(part.first) + 1;
            format!("receipt of members {first} to {}", first + part.members.len().saturating_sub(1))
        }
        Event::Reconstructed(found) => {
            format!("reconstructed from the cluster as {}: {}", found.standing.name(), found.seen.join(", "))
        }
        Event::MilestoneReached { grounds, reached } => {
            format!("reached {} {}{}", reached.milestone().name(), row(grounds), said(reached))
        }
        Event::RequestReceived(asked) => {
            format!("asked to {} by {} (request {})", asked.ask.name(), asked.by, asked.request)
        }
    }
}

/// The kinds of the effects, ordered by first occurrence: `: SetGroupContentPolicy, 3 SetContentPolicy`.
fn kinds(marks: &[EffectRef]) -> String {
    let mut counted: Vec<(EffectKind, usize)> = Vec::new();
    for mark in marks {
        match counted.iter_mut().find(|(kind, _)| *kind == mark.kind) {
            Some((_, count)) => *count += 1,
            None => counted.push((mark.kind, 1)),
        }
    }
    let shown = counted.iter().map(|(kind, count)| match count {
        1 => format!("{kind:?}"),
        _ => format!("{count} {kind:?}"),
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// Every effect of a step that is not known to have happened: `SetContentPolicy of data-0: refused: 403
/// forbidden`.
pub(super) fn failures(marks: &[EffectRef], outcomes: &[Outcome], claims: &[&str]) -> Vec<String> {
    let of = |at: usize| match marks.get(at) {
        None => format!("effect {}", at + 1),
        Some(EffectRef { kind, member: None }) => format!("{kind:?}"),
        Some(EffectRef { kind, member: Some(index) }) => match claims.get(usize::from(*index)) {
            Some(claim) => format!("{kind:?} of {claim}"),
            None => format!("{kind:?} of member {index}"),
        },
    };
    let line = |(at, outcome): (usize, &Outcome)| match outcome {
        Outcome::Done { .. } => None,
        Outcome::Determinate { code, message } => Some(format!("{}: refused: {code} {message}", of(at))),
        Outcome::Indeterminate { message } => Some(format!("{}: may have happened: {message}", of(at))),
    };
    outcomes.iter().enumerate().filter_map(line).collect()
}

fn row(grounds: &DecisionRecord) -> String {
    format!("[{}]", grounds.row)
}

fn ends(outcomes: &[Outcome]) -> String {
    let failed = |outcome: &&Outcome| !matches!(outcome, Outcome::Done { .. });
    let failures = outcomes.iter().filter(failed).count();
    format!("{} of {} done", outcomes.len() - failures, outcomes.len())
}

fn said(reached: &Reached) -> String {
    match reached {
        Reached::Created { uid } => format!(" uid {uid}"),
        Reached::Cut { group_handle } => format!(" handle {group_handle}"),
        Reached::VsBound(head) => format!(" receipt of {}", count(usize::from(head.members), "member")),
        Reached::Unwinding(reason) | Reached::Stuck(reason) => {
            format!(" {}", why(reason.code, &reason.message))
        }
        Reached::Cleaned(members) if !members.is_empty() => {
            let names: Vec<&str> = members.iter().map(|member| member.snapshot.name.as_str()).collect();
            format!(" rebuilt {}", names.join(", "))
        }
        _ => String::new(),
    }
}

fn why(code: Code, message: &str) -> String {
    format!("{code} {}", limits::clip(message))
}

fn backup(event: &backup::Event) -> String {
    match event {
        backup::Event::Accepted { groups, refused, .. } if refused.is_empty() => {
            format!("accepted {}", count(groups.len(), "group"))
        }
        backup::Event::Accepted { groups, refused, .. } => {
            format!("accepted {}, refused {}", count(groups.len(), "group"), refused.len())
        }
        backup::Event::Finished { phase, failed, warnings } => {
            let failed = failed.first().map(|first| format!(": {} failed; first: {first}", failed.len()));
            let warned = match warnings.len() {
                0 => String::new(),
                n => format!(", {}", count(n, "warning")),
            };
            format!("finished {}{}{warned}", phase.name(), failed.unwrap_or_default())
        }
    }
}
