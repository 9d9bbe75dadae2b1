//! Writes the recovery table as a Markdown page, generated from the rows.

use std::fmt::Write;

use crate::machine::group::columns::{Column, ColumnValue, Fresh, Source};
use crate::machine::group::row::{Action, Cond, Row};
use crate::machine::group::state::Stage;
use crate::machine::group::table::{RULES, TABLE, columns_of};

/// Returns the page.
pub fn document() -> String {
    let mut page = format!(
        "# The recovery table\n\n\
         The table says what a group run does next: for each stage, and for each combination of column values. The \
         daemon uses it after a first start and after a restart. Rows have no order. Exactly one row matches each \
         combination, and a test proves it. A row with *fresh* acts only on a view that was just read from the API \
         server; until then the run reads everything again. Conditions on the clock are in italics. The columns and \
         their values are explained at the end.\n\n\
         This page is generated from the rows (version {RULES}): `UPDATE_FIXTURES=1 cargo test --test core`.\n"
    );
    for stage in Stage::ALL {
        // Writing into a String cannot fail.
        let _ = section(&mut page, *stage);
    }
    let _ = stuck(&mut page);
    let _ = columns(&mut page);
    page
}

fn section(page: &mut String, stage: Stage) -> std::fmt::Result {
    let columns = columns_of(stage);
    let combinations: usize = columns.iter().map(|column| column.values().len()).product();
    let rows: Vec<&Row> = TABLE.iter().filter(|row| row.stages.contains(&stage)).collect();
    writeln!(page, "\n## {stage:?}\n\n{} rows, {combinations} combinations.\n", rows.len())?;
    writeln!(page, "| row | when | then | why |\n|---|---|---|---|")?;
    for row in rows {
        let when: Vec<String> = row.when.iter().map(condition).collect();
        let when = if when.is_empty() { "always".to_owned() } else { when.join(", ") };
        writeln!(page, "| `{}` | {when} | {} | {} |", row.id, action(row.then), row.why)?;
    }
    Ok(())
}

/// A condition. Conditions on clock columns are in italics.
fn condition(cond: &Cond) -> String {
    if cond.column == Fresh::COLUMN {
        return "*fresh*".to_owned();
    }
    let all = cond.column.values().iter().enumerate();
    let values: Vec<&str> = all.filter(|(at, _)| cond.mask & (1 << at) != 0).map(|(_, name)| *name).collect();
    let text = format!("{} {}", cond.column.name(), values.join(" or "));
    if cond.column.source() == Source::Clock { format!("*{text}*") } else { text }
}

fn action(action: Action) -> String {
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

fn columns(page: &mut String) -> std::fmt::Result {
    writeln!(page, "\n## Columns")?;
    for column in Column::ALL {
        let from = match column.source() {
            Source::Seen => "observed in the cluster",
            Source::Known => "known from the journal",
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

fn stuck(page: &mut String) -> std::fmt::Result {
    writeln!(
        page,
        "\n## Stuck runs: manual intervention\n\n| row | observation | how to fix it |\n|---|---|---|"
    )?;
    for row in TABLE {
        if let Action::Stick { advice, .. } = row.then {
            writeln!(page, "| `{}` | {} | {advice} |", row.id, row.why)?;
        }
    }
    Ok(())
}
