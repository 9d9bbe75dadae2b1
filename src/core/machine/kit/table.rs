//! Defines the rows of a recovery table: stages, conditions, action and explanation.
//!
//! Rows are data with stable ids. They have no order, and no row matches everything: exactly one row matches
//! each combination of a stage and the columns that its rows use ([`proof`](super::proof)). A row with
//! `Fresh[Yes]` does not act on a cached view: the decision is Refresh until the view is fresh.

use std::fmt::Debug;

use crate::domain::problem::Code;
use crate::machine::kit::column::{ColumnId, Columns};
use crate::machine::kit::machine::Machine;

/// The component that has to act before a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A controller of the cluster.
    Controller,
    /// The CSI driver, or the sidecar that calls it.
    Driver,
    /// A user or an operator.
    User,
    /// The time.
    Clock,
}

impl Actor {
    /// The name, for users.
    pub fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Driver => "driver",
            Self::User => "user",
            Self::Clock => "clock",
        }
    }
}

/// A condition that a run waits for.
pub trait Wait: Copy + Eq + Debug + Send + Sync + 'static {
    /// The component that has to act, and its expected action.
    fn text(self) -> &'static str;

    /// The component that has to act.
    fn actor(self) -> Actor;
}

/// Action of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<M: Machine> {
    /// Execute the missing effects of a step.
    Act(M::Step),
    /// Record a milestone.
    Advance(M::Milestone),
    /// Roll the run back.
    Unwind {
        code: Code,
        /// Whether another attempt may help.
        transient: bool,
    },
    /// Read all objects from the API server and decide again.
    Refresh,
    /// Wait for a change or the next deadline.
    Wait(M::Wait),
    /// Stop: no automatic action is left. `advice` says how to fix it.
    Stick {
        code: Code,
        /// Instruction for the operator.
        advice: &'static str,
    },
    /// A newer daemon owns the run: stop writing to it.
    StepDown,
    /// The run is over.
    Finished,
}

/// A condition: the values of one column for which a row matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cond<C> {
    pub column: C,
    /// Accepted values, one bit for each ordinal.
    pub mask: u16,
}

impl<C: ColumnId> Cond<C> {
    /// Whether the column has one of the values.
    pub fn holds(&self, columns: &Columns<C>) -> bool {
        self.mask & (1 << columns.ordinal(self.column)) != 0
    }

    /// The accepted values.
    pub fn accepts(&self) -> impl Iterator<Item = &'static str> {
        let all = self.column.values().iter().enumerate();
        all.filter(|(at, _)| self.mask & (1 << at) != 0).map(|(_, name)| *name)
    }
}

/// One row of the recovery table.
#[derive(Debug, Clone)]
pub struct Row<M: Machine> {
    /// Stable id.
    pub id: &'static str,
    /// Stages in which the row can match.
    pub stages: &'static [M::Stage],
    /// Conditions, all of which must hold. A column without a condition may have any value.
    pub when: Vec<Cond<M::Column>>,
    /// Action.
    pub then: Action<M>,
    /// Explanation for users.
    pub why: &'static str,
}

impl<M: Machine> Row<M> {
    /// Whether the row acts on a fresh view only.
    pub fn is_fresh(&self) -> bool {
        self.tests(M::FRESH)
    }

    /// Whether the row has a condition on the column.
    pub fn tests(&self, column: M::Column) -> bool {
        self.when.iter().any(|cond| cond.column == column)
    }

    /// The conditions that select the row. Freshness does not: it delays the action.
    pub fn selects(&self) -> impl Iterator<Item = &Cond<M::Column>> {
        self.when.iter().filter(|cond| cond.column != M::FRESH)
    }

    pub fn matches(&self, stage: M::Stage, columns: &Columns<M::Column>) -> bool {
        self.stages.contains(&stage) && self.selects().all(|cond| cond.holds(columns))
    }
}

/// The row of the table with this id, or the row that this id was merged into.
pub fn row<M: Machine>(id: &str) -> Option<&'static Row<M>> {
    let id = current_id::<M>(id);
    M::table().iter().find(|row| row.id == id)
}

/// The id of the row that an older id was merged into; the id itself if it was not.
pub fn current_id<M: Machine>(id: &str) -> &str {
    M::ALIASES.iter().find(|(old, _)| *old == id).map_or(id, |(_, new)| new)
}

/// The columns that the rows of a stage use. No other column can change a decision in this stage.
pub fn columns_of<M: Machine>(stage: M::Stage) -> Vec<M::Column> {
    let rows = M::table().iter().filter(|row| row.stages.contains(&stage));
    let mut columns: Vec<M::Column> = rows.flat_map(|row| row.selects().map(|cond| cond.column)).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// Defines the rows of a table as a `Vec<Row<_>>`. An item is a row or a block of rows with common conditions:
///
/// ```text
/// "id" Stage | Stage: Column[Value | Value] Column[Value] => action, "why";
/// when Stage: Column[Value] {
///     "id": Column[Value] => action, "why";
///     when Column[Value] { … }
/// }
/// ```
#[macro_export]
macro_rules! rows {
    (@top $rows:ident;) => {};
    (@top $rows:ident; when $($stage:ident)|+ : $($column:ident [ $($value:ident)|+ ])* { $($inner:tt)* } $($rest:tt)*) => {
        $crate::rows!(@in $rows; [$($stage)+] [$({$column $($value)+})*] $($inner)*);
        $crate::rows!(@top $rows; $($rest)*);
    };
    (@top $rows:ident; $id:literal $($stage:ident)|+ : $($column:ident [ $($value:ident)|+ ])* => $then:expr, $why:literal; $($rest:tt)*) => {
        $crate::rows!(@row $rows; $id [$($stage)+] [$({$column $($value)+})*] $then, $why);
        $crate::rows!(@top $rows; $($rest)*);
    };

    (@in $rows:ident; $stages:tt $common:tt) => {};
    (@in $rows:ident; $stages:tt [$($common:tt)*] when $($column:ident [ $($value:ident)|+ ])+ { $($inner:tt)* } $($rest:tt)*) => {
        $crate::rows!(@in $rows; $stages [$($common)* $({$column $($value)+})+] $($inner)*);
        $crate::rows!(@in $rows; $stages [$($common)*] $($rest)*);
    };
    (@in $rows:ident; $stages:tt [$($common:tt)*] $id:literal : $($column:ident [ $($value:ident)|+ ])* => $then:expr, $why:literal; $($rest:tt)*) => {
        $crate::rows!(@row $rows; $id $stages [$($common)* $({$column $($value)+})*] $then, $why);
        $crate::rows!(@in $rows; $stages [$($common)*] $($rest)*);
    };

    (@row $rows:ident; $id:literal [$($stage:ident)+] [$({$column:ident $($value:ident)+})*] $then:expr, $why:literal) => {
        $rows.extend([$crate::machine::kit::Row {
            id: $id,
            stages: &[$(Stage::$stage),+],
            when: vec![$($crate::machine::kit::Cond {
                column: Column::$column,
                mask: 0 $(| 1 << $column::$value as u16)+
            }),*],
            then: $then,
            why: $why,
        }]);
    };

    ($($items:tt)*) => {{
        let mut rows = Vec::new();
        $crate::rows!(@top rows; $($items)*);
        rows
    }};
}
