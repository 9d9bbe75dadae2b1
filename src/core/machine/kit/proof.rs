//! Proves that exactly one row of a table matches each combination of a stage and its columns.
//!
//! The rows of a stage have no combination in common, and together cover as many combinations as exist.
//! Therefore exactly one row matches each combination. Nothing is enumerated.

use std::collections::BTreeSet;

use crate::machine::kit::column::ColumnId;
use crate::machine::kit::machine::{Machine, Stage};
use crate::machine::kit::table::{Row, columns_of};

/// Size of a proven table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    pub rows: usize,
    /// Conditions of all rows.
    pub conditions: usize,
    pub columns: usize,
    /// Combinations of stage and column values.
    pub combinations: u64,
}

/// Proves the table of a machine.
///
/// # Errors
/// The first two rows that match the same combination, the first combination without a row, or a row that is
/// malformed.
pub fn prove<M: Machine>() -> Result<Proof, String> {
    let table = M::table();
    well_formed::<M>(table)?;
    let combinations = M::Stage::ALL.iter().map(|stage| prove_stage::<M>(*stage));
    Ok(Proof {
        rows: table.len(),
        conditions: table.iter().map(|row| row.when.len()).sum(),
        columns: M::Column::ALL.len(),
        combinations: combinations.sum::<Result<u64, String>>()?,
    })
}

fn well_formed<M: Machine>(table: &[Row<M>]) -> Result<(), String> {
    let mut ids = BTreeSet::new();
    for row in table {
        let mut tested = BTreeSet::new();
        let malformed = |what: &str| Err(format!("row {} {what}", row.id));
        match () {
            () if !ids.insert(row.id) => return malformed("is defined twice"),
            () if row.stages.is_empty() => return malformed("has no stage"),
            () if row.why.is_empty() => return malformed("has no explanation"),
            () if row.when.iter().any(|cond| cond.mask == 0) => return malformed("can never match"),
            () if !row.when.iter().all(|cond| tested.insert(cond.column)) => {
                return malformed("tests a column twice");
            }
            () => {}
        }
    }
    let dangling = M::ALIASES.iter().find(|(old, new)| ids.contains(old) || !ids.contains(new));
    dangling.map_or(Ok(()), |(old, new)| Err(format!("alias {old} of {new} is a row, or {new} is not")))
}

/// Number of combinations of a stage, each of which has exactly one row.
fn prove_stage<M: Machine>(stage: M::Stage) -> Result<u64, String> {
    let rows: Vec<&Row<M>> = M::table().iter().filter(|row| row.stages.contains(&stage)).collect();
    let columns = columns_of::<M>(stage);
    for (at, one) in rows.iter().enumerate() {
        for other in &rows[at + 1..] {
            let apart = columns.iter().any(|column| mask(one, *column) & mask(other, *column) == 0);
            if !apart {
                return Err(format!("{stage:?}: {} and {} match the same", one.id, other.id));
            }
        }
    }
    let volume = |row: &&Row<M>| -> u64 {
        columns.iter().map(|column| u64::from(mask(row, *column).count_ones())).product()
    };
    let matched: u64 = rows.iter().map(volume).sum();
    let all: u64 = columns.iter().map(|column| column.values().len() as u64).product();
    match matched == all {
        true => Ok(all),
        false => Err(format!("{stage:?}: no row for {}", gap(&rows, &columns).unwrap_or_default())),
    }
}

/// The values of a column for which a row matches, as bits.
fn mask<M: Machine>(row: &Row<M>, column: M::Column) -> u16 {
    let all = (1 << column.values().len()) - 1;
    row.when.iter().find(|cond| cond.column == column).map_or(all, |cond| cond.mask & all)
}

/// A combination of values that no row matches.
fn gap<M: Machine>(rows: &[&Row<M>], columns: &[M::Column]) -> Option<String> {
    let Some((column, rest)) = columns.split_first() else {
        return rows.is_empty().then(String::new);
    };
    column.values().iter().enumerate().find_map(|(at, value)| {
        let left: Vec<&Row<M>> =
            rows.iter().copied().filter(|row| mask(row, *column) & (1 << at) != 0).collect();
        gap(&left, rest).map(|deeper| format!("{}={value} {deeper}", column.name()))
    })
}
