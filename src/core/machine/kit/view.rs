//! Defines the view: the input of a decision, small enough to be recorded with it.

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;
use crate::machine::kit::column::{ColumnId, ColumnValue, Source};

/// Input of a decision, computed from an observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Values of the seen columns, in the order of [`View::columns`].
    pub seen: Vec<u8>,
    /// Flags of each member or child in the plan's order. The machine defines the bits.
    pub members: Vec<u16>,
    /// Time since which the present error has been observed.
    pub error_since: Option<Timestamp>,
}

impl View {
    /// The columns that a view of a machine holds.
    pub fn columns<C: ColumnId>() -> impl Iterator<Item = C> {
        C::ALL.iter().copied().filter(|column| column.source() == Source::Seen)
    }

    /// A view with every column at its first value.
    pub fn blank<C: ColumnId>() -> Self {
        Self { seen: vec![0; Self::columns::<C>().count()], members: Vec::new(), error_since: None }
    }

    /// Sets a column. Panics if it is not a seen column.
    pub fn set<V: ColumnValue>(&mut self, value: V) {
        let at = Self::columns::<V::Id>().position(|column| column == V::COLUMN);
        self.seen[at.expect("only seen columns are set in a view")] = value.ordinal();
    }

    /// Whether a column has this value. Panics if it is not a seen column.
    pub fn is<V: ColumnValue>(&self, value: V) -> bool {
        let at = Self::columns::<V::Id>().position(|column| column == V::COLUMN);
        self.seen.get(at.expect("only seen columns are read from a view")) == Some(&value.ordinal())
    }

    /// Column names with the names of their values, for users.
    pub fn named<C: ColumnId>(&self) -> Vec<(&'static str, &'static str)> {
        Self::columns::<C>()
            .zip(&self.seen)
            .map(|(column, ordinal)| {
                (column.name(), column.values().get(usize::from(*ordinal)).copied().unwrap_or("?"))
            })
            .collect()
    }
}
