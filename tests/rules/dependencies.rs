//! `Cargo.toml`: every dependency says why it is there.

use std::collections::BTreeSet;
use std::fs;

use crate::{hold, root};

#[test]
fn every_dependency_states_its_purpose() {
    hold("write the reason in a comment above the dependency or its group", unexplained(&manifest()));
}

fn manifest() -> String {
    fs::read_to_string(root().join("Cargo.toml")).expect("read Cargo.toml")
}

/// A dependency is explained by the comment above it or above its group (lines without a blank one between). What
/// the tests use again needs no second reason.
fn unexplained(manifest: &str) -> Vec<String> {
    let (mut section, mut covered) = ("", false);
    let (mut known, mut found) = (BTreeSet::new(), Vec::new());
    for (at, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            (section, covered) = (line.trim(), false);
        } else if line.trim().is_empty() {
            covered = false;
        } else if line.starts_with('#') {
            covered = !line.starts_with("# ---");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| section.ends_with("dependencies]")) {
            let name = name.trim().trim_end_matches(".workspace");
            if known.insert(name) && !covered {
                found.push(format!("Cargo.toml:{}: {name}", at + 1));
            }
        }
    }
    assert!(known.len() > 5 || manifest.len() < 200, "no dependencies were read");
    found
}

#[test]
fn detects_a_dependency_violation() {
    assert_eq!(unexplained("[dependencies]\n# why\na = 1\nb = 1\n\nc = 1\n"), ["Cargo.toml:6: c"]);
    assert_eq!(unexplained("[dependencies]\n# --- heading ---\na = 1\n"), ["Cargo.toml:3: a"]);
    assert_eq!(
        unexplained("[dependencies]\n# why\na = 1\n[dev-dependencies]\na = 1\nb = 1\n"),
        ["Cargo.toml:6: b"]
    );
}
