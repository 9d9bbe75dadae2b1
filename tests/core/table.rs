//! Tests that the recovery table in the documentation is generated from the current rows.

use std::path::Path;

use stillpoint::machine::group::columns::Column;
use stillpoint::machine::group::table::{TABLE, page};
use stillpoint::machine::kit::{Action, ColumnId as _};

#[test]
fn page_matches_the_recovery_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recovery-table.md");
    let page = page();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &page).expect("the page is written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "docs/recovery-table.md is older than the table: UPDATE_FIXTURES=1 cargo test --test core"
    );
}

#[test]
fn page_explains_every_column_and_value() {
    for column in Column::ALL {
        let (about, values) = column.meanings();
        assert!(about.trim().ends_with('.'), "{}: {about:?}", column.name());
        assert_eq!(values.len(), column.values().len());
        for (value, meaning) in column.values().iter().zip(values) {
            let says = meaning.trim().trim_end_matches('.');
            assert!(says.len() > 5 && says != *value, "{} {value}: {meaning:?}", column.name());
        }
    }
}

#[test]
fn every_stuck_row_advises_the_user() {
    for row in TABLE.iter() {
        if let Action::Stick { advice, .. } = row.then {
            assert!(advice.len() > 40, "{} has no sentence", row.id);
        }
    }
}
