//! Writes a recovery table as a Markdown page, generated from the rows.

use std::fmt::Write;

use crate::machine::kit::column::{ColumnId, Source};
use crate::machine::kit::machine::{Machine, Stage};
use crate::machine::kit::named::Named;
use crate::machine::kit::table::{Action, Cond, Row, Wait, columns_of};

/// Appends the sections of a machine: one for each stage, then the stuck rows, then the columns.
pub fn document<M: Machine>(page: &mut String) {
    for stage in M::Stage::ALL {
        // Writing into a String cannot fail.
        let _ = section::<M>(page, *stage);
    }
    let _ = stuck::<M>(page);
    let _ = columns::<M>(page);
}

fn section<M: Machine>(page: &mut String, stage: M::Stage) -> std::fmt::Result {
    let columns = columns_of::<M>(stage);
    let combinations: usize = columns.iter().map(|column| column.values().len()).product();
    let rows: Vec<&Row<M>> = M::table().iter().filter(|row| row.stages.contains(&stage)).collect();
    writeln!(page, "\n## {stage:?}\n\n{} rows, {combinations} combinations.\n", rows.len())?;
    writeln!(page, "| row | when | then | why |\n|---|---|---|---|")?;
    for row in rows {
        let when: Vec<String> = row.when.iter().map(condition::<M>).collect();
        let when = if when.is_empty() { "always".to_owned() } else { when.join(", ") };
        writeln!(page, "| `{}` | {when} | {} | {} |", row.id, action(row.then), row.why)?;
    }
    Ok(())
}

/// A condition. Conditions on clock columns are in italics.
fn condition<M: Machine>(cond: &Cond<M::Column>) -> String {
    if cond.column == M::FRESH {
        return "*fresh*".to_owned();
    }
    let values: Vec<&str> = cond.accepts().collect();
    let text = format!("{} {}", cond.column.name(), values.join(" or "));
    if cond.column.source() == Source::Clock { format!("*{text}*") } else { text }
}

fn action<M: Machine>(action: Action<M>) -> String {
    match action {
        Action::Act(step) => format!("**{}**", step.name()),
        Action::Advance(milestone) => format!("record *{}*", milestone.name()),
        Action::Unwind { code, transient: true } => format!("roll back ({code}), then try again"),
        Action::Unwind { code, transient: false } => format!("roll back ({code})"),
        Action::Refresh => "read everything again".to_owned(),
        Action::Wait(waiting) => format!("wait for {}", waiting.text()),
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
