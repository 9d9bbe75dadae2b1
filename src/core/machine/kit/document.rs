//! Writes a recovery table as a Markdown page, generated from the rows.

use std::fmt::Write;

use crate::domain::text::count;
use crate::machine::kit::column::{ColumnId, Source};
use crate::machine::kit::machine::{Machine, Stage};
use crate::machine::kit::named::Named;
use crate::machine::kit::table::{Action, Cond, Row, Wait, columns_of};

/// Number of conditions that a line for the common conditions of several rows must save.
const WORTH_A_LINE: usize = 3;

/// The table of a machine as a page: a section for each stage, then the stuck rows, the merged rows and the
/// columns. `title` names the table, `run` says whose run it is.
pub fn page<M: Machine>(title: &str, run: &str) -> String {
    let mut text = format!(
        "# {title}\n\n\
         The table says what {run} does next: for each stage, and for each combination of column values. The \
         daemon uses it after a first start and after a restart. Exactly one row matches each combination, and a test \
         proves it; the order of the rows has no meaning. A bold line is a condition of all rows below it that have \
         one more ›. A row with *fresh* acts only on a view that was just read; until then the \
         run reads everything again. Conditions on the clock are in italics. The columns and their values are \
         explained at the end.\n\n\
         This page is generated from the rows (version {}): `UPDATE_FIXTURES=1 cargo test --test core`.\n",
        M::RULES
    );
    let page = &mut text;
    for stage in M::Stage::ALL {
        // Writing into a String cannot fail.
        let _ = section::<M>(page, *stage);
    }
    let _ = stuck::<M>(page);
    let _ = merged::<M>(page);
    let _ = columns::<M>(page);
    text
}

fn section<M: Machine>(page: &mut String, stage: M::Stage) -> std::fmt::Result {
    let columns = columns_of::<M>(stage);
    let combinations: usize = columns.iter().map(|column| column.values().len()).product();
    let rows: Vec<&Row<M>> = M::table().iter().filter(|row| row.stages.contains(&stage)).collect();
    let number = count(rows.len(), "row");
    let of = match combinations {
        1 => String::new(),
        _ => format!(" for {combinations} combinations of {}", count(columns.len(), "column")),
    };
    writeln!(page, "\n## {stage:?}\n\n{number}{of}.\n")?;
    writeln!(page, "| row | when | then | why |\n|---|---|---|---|")?;
    lines(page, &rows, 0, 0)
}

/// Writes rows that have their first conditions (`printed`) in common. Conditions that several consecutive
/// rows have in common are written once, on a line of their own.
fn lines<M: Machine>(page: &mut String, rows: &[&Row<M>], printed: usize, depth: usize) -> std::fmt::Result {
    let indent = "› ".repeat(depth);
    let mut rows = rows;
    while let Some((row, others)) = rows.split_first() {
        let rest = &row.when[printed..];
        let block = match rest.first() {
            Some(first) => {
                1 + others.iter().take_while(|other| other.when.get(printed) == Some(first)).count()
            }
            None => 1,
        };
        let shared =
            rows[..block].iter().map(|other| common(rest, &other.when[printed..])).min().unwrap_or(0);
        let (now, later) = rows.split_at(if (block - 1) * shared >= WORTH_A_LINE { block } else { 1 });
        if now.len() > 1 {
            writeln!(page, "| | {indent}**{}** | | |", conditions::<M>(&rest[..shared]))?;
            lines(page, now, printed + shared, depth + 1)?;
        } else {
            let when = conditions::<M>(rest);
            writeln!(page, "| `{}` | {indent}{when} | {} | {} |", row.id, action(row.then), row.why)?;
        }
        rows = later;
    }
    Ok(())
}

/// Number of first conditions that two rows have in common.
fn common<C: ColumnId>(one: &[Cond<C>], other: &[Cond<C>]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn conditions<M: Machine>(when: &[Cond<M::Column>]) -> String {
    match when.is_empty() {
        true => "always".to_owned(),
        false => when.iter().map(condition::<M>).collect::<Vec<_>>().join(", "),
    }
}

/// A condition. Conditions on clock columns are in italics. A condition that excludes few values names these.
fn condition<M: Machine>(cond: &Cond<M::Column>) -> String {
    if cond.column == M::FRESH {
        return "*fresh*".to_owned();
    }
    let (accepted, excluded): (Vec<_>, Vec<_>) = cond
        .column
        .values()
        .iter()
        .copied()
        .partition(|name| cond.accepts().any(|accepted| accepted == *name));
    let text = match accepted.len() > 2 && accepted.len() >= 2 * excluded.len() {
        true => format!("{} {}", cond.column.name(), none_of(&excluded)),
        false => format!("{} {}", cond.column.name(), accepted.join(" or ")),
    };
    if cond.column.source() == Source::Clock { format!("*{text}*") } else { text }
}

fn none_of(values: &[&str]) -> String {
    let word = if values.len() == 1 { "not" } else { "neither" };
    format!("{word} {}", values.join(" nor "))
}

fn action<M: Machine>(action: Action<M>) -> String {
    match action {
        Action::Act(step) => format!("**{}**", step.name()),
        Action::Advance(milestone) => format!("record *{}*", milestone.name()),
        Action::Unwind { code, transient: true } => format!("roll back ({code}), then try again"),
        Action::Unwind { code, transient: false } => format!("roll back ({code})"),
        Action::Refresh => "read everything again".to_owned(),
        Action::Wait(waiting) => format!("wait ({}) for {}", waiting.actor().name(), waiting.text()),
        Action::Stick { code, .. } => format!("stuck ({code})"),
        Action::StepDown => "stop: a newer daemon took over".to_owned(),
        Action::Finished => "nothing".to_owned(),
    }
}

fn columns<M: Machine>(page: &mut String) -> std::fmt::Result {
    writeln!(page, "\n## Columns")?;
    for column in M::Column::ALL {
        let from = match column.source() {
            Source::Seen => "observed in the cluster",
            Source::Known => "known from the journal",
            Source::Derived => "derived from cluster and journal",
            Source::Clock => "computed from the clock",
        };
        let (about, values) = column.meanings();
        writeln!(page, "\n**{}** ({from}): {}\n", column.name(), about.trim())?;
        for (value, meaning) in column.values().iter().zip(values) {
            writeln!(page, "- {value}: {}", meaning.trim())?;
        }
    }
    Ok(())
}

fn stuck<M: Machine>(page: &mut String) -> std::fmt::Result {
    if !M::table().iter().any(|row| matches!(row.then, Action::Stick { .. })) {
        return Ok(());
    }
    writeln!(
        page,
        "\n## Stuck runs: manual intervention\n\n| row | observation | how to fix it |\n|---|---|---|"
    )?;
    for row in M::table() {
        if let Action::Stick { advice, .. } = row.then {
            writeln!(page, "| `{}` | {} | {advice} |", row.id, row.why)?;
        }
    }
    Ok(())
}

fn merged<M: Machine>(page: &mut String) -> std::fmt::Result {
    if M::ALIASES.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## Merged rows\n")?;
    writeln!(
        page,
        "Older journals name these rows. Each is now part of another row with the same action.\n"
    )?;
    writeln!(page, "| older row | row |\n|---|---|")?;
    M::ALIASES.iter().try_for_each(|(old, new)| writeln!(page, "| `{old}` | `{new}` |"))
}
