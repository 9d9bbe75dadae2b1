//! Maps the columns of a view, and the values of each, to numbers.
//!
//! The machine holds a view as positions in its own lists. The record holds a list of (column, value) by the
//! numbers below. A column that a record does not have gets its first value: it did not exist when the record
//! was written, and the rules of that time did not test it. For the same reason a column that was added later
//! is written only with a value other than its first: records that do not need it keep their bytes. Numbers
//! start at 1 and are never reused.

use bincode::{Decode, Encode};

use crate::machine::group::columns::*;
use crate::machine::kit::{ColumnId, View};
use crate::records::WireError;

/// The value of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    /// Number of the column.
    pub column: u8,
    /// Number of the value.
    pub value: u8,
}

/// A column with its number, and the number of each of its values by its position in the machine.
struct Numbered {
    column: Column,
    number: u8,
    values: &'static [(u8, u8)],
}

macro_rules! seen {
    ($($column:ident = $number:literal { $($value:ident = $wire:literal),+ $(,)? })+) => {
        const NUMBERED: &[Numbered] = &[
            $(Numbered {
                column: Column::$column,
                number: $number,
                values: &[$(($column::$value as u8, $wire)),+],
            }),+
        ];
        // A value without a number does not compile.
        const _: () = {
            $(let _: fn($column) -> u8 = |value| match value { $($column::$value => $wire),+ };)+
        };
    };
}

seen! {
    Group = 1 { Absent = 1, Foreign = 2, Ours = 3, Older = 4, Newer = 5, Terminating = 6 }
    Content = 2 { Absent = 1, Delete = 2, Retain = 3, DeleteTerminating = 4, RetainTerminating = 5 }
    Marked = 3 { Yes = 1, No = 2 }
    Protection = 4 { Complete = 1, Pending = 2 }
    Progress = 5 { Nothing = 1, Frozen = 2, Differs = 3, Cut = 4, Bound = 5 }
    DriverError = 6 { None = 1, Passing = 2, Final = 3, Unsupported = 4 }
    Labels = 7 { Complete = 1, Missing = 2 }
    Policies = 8 { Retain = 1, Delete = 2 }
    Loss = 9 { None = 1, Lost = 2, Rebuilding = 3, Hollow = 4 }
    Names = 10 { Clear = 1, Mixed = 2, Set = 3 }
    Ties = 11 { Free = 1, Tied = 2 }
    Acknowledged = 12 { Yes = 1, No = 2 }
    Fresh = 13 { Yes = 1, No = 2 }
    Claims = 14 { Intact = 1, Changed = 2 }
    Class = 15 { Exists = 1, Missing = 2 }
    Retaining = 16 { None = 1, Some = 2 }
    Shells = 17 { None = 1, Snapshots = 2, Contents = 3, Leaving = 4 }
    Stub = 18 { Absent = 1, Exists = 2 }
    Import = 19 { Absent = 1, Asked = 2, Held = 3, Unknown = 4, Going = 5 }
    Taken = 20 { No = 1, Yes = 2 }
    GroupClass = 21 { Exists = 1, Missing = 2 }
    Space = 22 { Stands = 1, Going = 2, Gone = 3 }
    Replaced = 23 { None = 1, Some = 2 }
}

/// Number of the last column of the first release.
pub(in crate::records) const FIRST_RELEASE: u8 = 18;

/// The columns of a view by their numbers.
///
/// # Errors
/// The view has another number of columns than the machine, or a position without a value.
pub fn encode(view: &View) -> Result<Vec<Seen>, WireError> {
    let columns = View::columns::<Column>().count();
    if view.seen.len() != columns {
        let reason = format!("{} values for {columns} columns", view.seen.len());
        return Err(WireError::View { reason });
    }
    let all = View::columns::<Column>().zip(&view.seen);
    all.filter_map(|(column, place)| encode_one(column, *place).transpose()).collect()
}

fn encode_one(column: Column, place: u8) -> Result<Option<Seen>, WireError> {
    let numbered = NUMBERED.iter().find(|numbered| numbered.column == column);
    let value = numbered.and_then(|numbered| {
        let value = numbered.values.iter().find(|(at, _)| *at == place)?;
        Some(Seen { column: numbered.number, value: value.1 })
    });
    let says_something = |seen: &Seen| seen.column <= FIRST_RELEASE || place != 0;
    value
        .map(|seen| Some(seen).filter(says_something))
        .ok_or_else(|| WireError::View { reason: format!("column {} has no value {place}", column.name()) })
}

/// The positions that the machine holds, in its order.
///
/// # Errors
/// A column or value that this release does not know, or a column that is given twice.
pub fn decode(seen: &[Seen]) -> Result<Vec<u8>, WireError> {
    let mut places = vec![None; View::columns::<Column>().count()];
    for Seen { column: number, value } in seen {
        let unknown = |what, number: &u8| WireError::Number { what, number: u16::from(*number) };
        let numbered =
            NUMBERED.iter().find(|n| n.number == *number).ok_or_else(|| unknown("column", number))?;
        let place = numbered.values.iter().find(|(_, wire)| wire == value);
        let place = place.ok_or_else(|| unknown("value of a column", value))?.0;
        let at = View::columns::<Column>().position(|column| column == numbered.column);
        let slot = at.and_then(|at| places.get_mut(at)).ok_or_else(|| unknown("seen column", number))?;
        if slot.replace(place).is_some() {
            let reason = format!("column {} is given twice", numbered.column.name());
            return Err(WireError::View { reason });
        }
    }
    Ok(places.into_iter().map(|place| place.unwrap_or(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_every_column_round_trips() {
        for (at, column) in View::columns::<Column>().enumerate() {
            for place in 0..column.values().len() as u8 {
                let mut view = View::blank::<Column>();
                view.seen[at] = place;
                let wire = encode(&view).expect("a value of the machine");
                assert!(wire.iter().all(|seen| seen.column > 0 && seen.value > 0));
                assert_eq!(decode(&wire), Ok(view.seen), "{} {place}", column.name());
            }
        }
    }

    #[test]
    fn newer_column_is_written_only_if_set() {
        let mut view = View::blank::<Column>();
        assert_eq!(encode(&view).map(|seen| seen.len()), Ok(FIRST_RELEASE.into()));
        view.set(Taken::Yes);
        let last = encode(&view).expect("a view").pop();
        assert_eq!(last, Some(Seen { column: 20, value: 2 }));
    }

    #[test]
    fn column_numbers_are_unique() {
        let mut columns: Vec<u8> = NUMBERED.iter().map(|numbered| numbered.number).collect();
        columns.sort_unstable();
        columns.dedup();
        assert_eq!(columns.len(), NUMBERED.len());
        for numbered in NUMBERED {
            let mut values: Vec<u8> = numbered.values.iter().map(|(_, wire)| *wire).collect();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), numbered.column.values().len(), "{}", numbered.column.name());
        }
    }

    #[test]
    fn rejects_view_with_other_columns() {
        let view = View { seen: vec![0; 3], ..View::blank::<Column>() };
        assert!(matches!(encode(&view), Err(WireError::View { .. })));
        let mut view = View::blank::<Column>();
        view.seen[0] = 99;
        let error = encode(&view).expect_err("no such value").to_string();
        assert_eq!(error, "the view does not fit the columns: column Group has no value 99");
    }

    #[test]
    fn rejects_unknown_numbers_and_defaults_missing_columns() {
        let number = |what, number| Err(WireError::Number { what, number });
        assert_eq!(decode(&[Seen { column: 200, value: 1 }]), number("column", 200));
        assert_eq!(decode(&[Seen { column: 1, value: 0 }]), number("value of a column", 0));
        let twice = [Seen { column: 1, value: 1 }; 2];
        assert!(matches!(decode(&twice), Err(WireError::View { .. })));
        assert_eq!(decode(&[]), Ok(View::blank::<Column>().seen));
    }
}
