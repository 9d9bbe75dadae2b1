//! Defines the columns of a recovery table: small enums, each for one fact about the cluster, the journal or
//! the clock.
//!
//! A [`Columns`] holds one value for each column. Values of *seen* columns come from the view and are
//! recorded with every decision. Values of *known* columns come from the folded journal, values of *derived*
//! columns from journal and view, values of *clock* columns from journal, view and time. A replay therefore needs only the recorded view and the recorded
//! time, and computes all other values again.

use std::fmt::Debug;
use std::marker::PhantomData;

/// Where the value of a column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the observation, by way of the view.
    Seen,
    /// From the folded journal.
    Known,
    /// From the folded journal and the view: several facts in one column, so that fewer rows need all of them.
    Derived,
    /// From the folded journal, the view and the time.
    Clock,
}

/// The columns of one machine.
pub trait ColumnId: Copy + Ord + Debug + Send + Sync + 'static {
    /// All columns, in the order of a recorded view.
    const ALL: &'static [Self];

    /// The names of the column's values.
    fn values(self) -> &'static [&'static str];

    /// Documentation of the column and of each of its values, for users.
    fn meanings(self) -> (&'static str, &'static [&'static str]);

    /// Where the value comes from.
    fn source(self) -> Source;

    /// The name of the column.
    fn name(self) -> &'static str;

    /// Position among all columns.
    fn index(self) -> usize;
}

/// A value of one column.
pub trait ColumnValue: Copy {
    /// The columns of its machine.
    type Id: ColumnId;
    /// The column.
    const COLUMN: Self::Id;
    /// Position among the values of the column.
    fn ordinal(self) -> u8;
}

/// Defines the columns of a machine: an enum for the values of each, and the enum `Column` of their names.
#[macro_export]
macro_rules! columns {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident { $($(#[doc = $vdoc:literal])* $value:ident),+ $(,)? })+) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
            pub enum $name { $($(#[doc = $vdoc])* $value),+ }
        )+

        /// The name of a column.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Column { $($(#[doc = $doc])* $name),+ }

        impl $crate::machine::kit::ColumnId for Column {
            const ALL: &'static [Column] = &[$(Column::$name),+];

            fn values(self) -> &'static [&'static str] {
                match self { $(Column::$name => &[$(stringify!($value)),+]),+ }
            }

            fn meanings(self) -> (&'static str, &'static [&'static str]) {
                match self { $(Column::$name => (concat!($($doc),*), &[$(concat!($($vdoc),*)),+])),+ }
            }

            fn source(self) -> $crate::machine::kit::Source {
                match self { $(Column::$name => $crate::machine::kit::Source::$kind),+ }
            }

            fn name(self) -> &'static str {
                match self { $(Column::$name => stringify!($name)),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }

        $(
            impl $crate::machine::kit::ColumnValue for $name {
                type Id = Column;
                const COLUMN: Column = Column::$name;
                fn ordinal(self) -> u8 { self as u8 }
            }
        )+
    };
}

/// One value for each column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns<C>(Vec<u8>, PhantomData<C>);

impl<C: ColumnId> Default for Columns<C> {
    fn default() -> Self {
        Self(vec![0; C::ALL.len()], PhantomData)
    }
}

impl<C: ColumnId> Columns<C> {
    /// All columns at their first value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a column.
    pub fn set<V: ColumnValue<Id = C>>(&mut self, value: V) {
        self.set_ordinal(V::COLUMN, value.ordinal());
    }

    /// Sets the value of a column by its position. Panics if the column has no such position.
    pub fn set_ordinal(&mut self, column: C, ordinal: u8) {
        assert!(usize::from(ordinal) < column.values().len(), "{} has no value {ordinal}", column.name());
        self.0[column.index()] = ordinal;
    }

    /// Position of the value of a column.
    pub fn ordinal(&self, column: C) -> u8 {
        self.0[column.index()]
    }

    /// Whether a column has this value.
    pub fn is<V: ColumnValue<Id = C>>(&self, value: V) -> bool {
        self.ordinal(V::COLUMN) == value.ordinal()
    }

    /// The name of the value of a column.
    pub fn value_name(&self, column: C) -> &'static str {
        column.values()[usize::from(self.ordinal(column))]
    }
}
