//! Tests that the recovery table in the documentation is generated from the current rows.

use std::path::Path;

use stillpoint::machine::backup::{self, BackupMachine};
use stillpoint::machine::group::GroupMachine;
use stillpoint::machine::group::columns::Column;
use stillpoint::machine::group::table::TABLE;
use stillpoint::machine::kit::document::page;
use stillpoint::machine::kit::proof::prove;
use stillpoint::machine::kit::{Action, ColumnId};

#[test]
fn pages_match_the_recovery_tables() {
    let group = page::<GroupMachine>("The recovery table", "a group run");
    matches("docs/recovery-table.md", &group);
    let backup = page::<BackupMachine>("The recovery table of a Backup", "a Backup");
    matches("docs/recovery-table-backup.md", &backup);
}

#[test]
fn table_of_backups_is_proven() {
    let proof = prove::<BackupMachine>().expect("a proof");
    println!("{proof:?}");
    assert!(proof.rows > 9, "{proof:?}");
}

fn matches(path: &str, page: &str) {
    let name = path;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, page).expect("the page is written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "{name} is older than the table: UPDATE_FIXTURES=1 cargo test --test core");
}

#[test]
fn page_explains_every_column_and_value() {
    explains::<Column>();
    explains::<backup::columns::Column>();
}

fn explains<C: ColumnId>() {
    for column in C::ALL {
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
