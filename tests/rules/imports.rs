//! The import table: the layout of the crate as data. What is not in it is forbidden.

use crate::hold;
use crate::source::{File, Named, files};

/// Module, and what it may import beside itself. `module::Item` allows that one item.
const TABLE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("api", &[]),
    ("machine", &["domain"]),
    ("planning", &["domain"]),
    ("journal", &["domain", "machine"]),
    ("cluster", &["domain", "machine", "api", "journal::Durable", "journal::Head"]),
    ("audit", &["domain", "machine", "planning", "journal"]),
    ("engine", &["domain", "machine", "planning", "journal", "cluster"]),
    ("sim", &["api"]),
    // Beside the engine what the tests of the metrics make a run of.
    ("service", &["domain", "engine", "machine", "journal::Head", "audit"]),
    ("drill", &["domain", "machine", "journal", "cluster", "engine", "audit", "sim"]),
    (
        "cli",
        &[
            "domain", "machine", "planning", "api", "journal", "cluster", "sim", "engine", "audit", "drill",
            "service",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Modules that are pure: no runtime, no cluster, no disk, no clock, no randomness, no environment.
const PURE: &[&str] = &["domain", "machine", "planning"];

/// What a pure module may not name.
const IMPURE: &[&str] = &[
    "tokio",
    "futures",
    "kube",
    "k8s_openapi",
    "axum",
    "http",
    "tower",
    "sled",
    "bincode",
    "jiff",
    "fastrand",
    "tracing",
    "tempfile",
    "std::fs",
    "std::io",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "uuid::Uuid::new_v4",
];

/// Crates that only one module may name.
const OWNED: &[(&str, &str)] = &[("sled", "journal"), ("bincode", "journal")];

#[test]
fn modules_import_only_what_the_table_allows() {
    hold("a module imports what it may not", files().iter().flat_map(forbidden_imports).collect());
}

#[test]
fn the_core_names_no_runtime_no_cluster_no_disk_and_no_clock() {
    hold("a pure module names what is not pure", files().iter().flat_map(impurities).collect());
}

#[test]
fn the_store_is_known_to_the_journal_alone() {
    hold("a crate is named outside the module that owns it", files().iter().flat_map(strangers).collect());
}

#[test]
fn the_embedded_cluster_does_not_even_mention_the_rest() {
    hold(
        "the simulator mentions another module",
        files().iter().flat_map(mentions_by_the_simulator).collect(),
    );
}

#[test]
fn every_module_is_in_the_table() {
    for file in files() {
        assert!(
            TABLE.iter().any(|(module, _)| *module == file.module()),
            "{} is in no module of the table",
            file.path
        );
    }
}

fn forbidden_imports(file: &File) -> Vec<String> {
    let module = file.module();
    let allowed = TABLE.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, allowed)| allowed);
    let root = if module == "main" { "stillpoint" } else { "crate" };
    file.paths()
        .iter()
        .filter(|named| named.segments[0] == root && named.segments.get(1).is_some_and(|to| to != module))
        .filter(|named| !allowed.iter().any(|path| begins_with(&named.segments[1..], path)))
        .map(|named| format!("{}; {module} may import: {}", at(file, named), allowed.join(", ")))
        .collect()
}

fn impurities(file: &File) -> Vec<String> {
    if !PURE.contains(&file.module()) {
        return Vec::new();
    }
    let impure = |named: &&Named| IMPURE.iter().any(|path| begins_with(&named.segments, path));
    file.paths().iter().filter(impure).map(|named| at(file, named)).collect()
}

fn strangers(file: &File) -> Vec<String> {
    let strange = |named: &&Named| {
        OWNED.iter().any(|(name, owner)| named.segments[0] == *name && file.module() != *owner)
    };
    file.paths().iter().filter(strange).map(|named| at(file, named)).collect()
}

/// Comments included: who reads the simulator must not be sent to the machine for an explanation.
fn mentions_by_the_simulator(file: &File) -> Vec<String> {
    if file.module() != "sim" {
        return Vec::new();
    }
    let others = || TABLE.iter().map(|(name, _)| *name).filter(|name| !["sim", "api"].contains(name));
    let mentions = |line: &str| others().any(|name| line.contains(&format!("crate::{name}")));
    let lines = file.text.lines().enumerate().filter(|(_, line)| mentions(line));
    lines.map(|(at, line)| format!("{}:{}: {}", file.path, at + 1, line.trim())).collect()
}

fn begins_with(segments: &[String], path: &str) -> bool {
    let wanted: Vec<&str> = path.split("::").collect();
    segments.len() >= wanted.len() && segments.iter().zip(wanted).all(|(segment, wanted)| segment == wanted)
}

fn at(file: &File, named: &Named) -> String {
    format!("{}:{}: {}", file.path, named.line, named.segments.join("::"))
}

#[test]
fn a_violation_is_seen() {
    let check = |path: &str, text: &str, rule: fn(&File) -> Vec<String>, expected: usize| {
        let file = File { path: path.into(), text: text.into() };
        assert_eq!(rule(&file).len(), expected, "{path}: {text}: {:?}", rule(&file));
    };
    check("src/domain/ids.rs", "use crate::machine::group;", forbidden_imports, 1);
    check("src/domain/ids.rs", "use crate::domain::time;", forbidden_imports, 0);
    check("src/machine/mod.rs", "use super::journal::Writer;", forbidden_imports, 1);
    check("src/machine/group/fold.rs", "use super::super::super::journal::Writer;", forbidden_imports, 1);
    check("src/machine/group/fold.rs", "use super::super::point;", forbidden_imports, 0);
    check("src/cluster/perform.rs", "use crate::journal::Durable;", forbidden_imports, 0);
    check("src/cluster/perform.rs", "use crate::journal::{Durable, Writer};", forbidden_imports, 1);
    check("src/sim/mod.rs", "use crate::{api, domain};", forbidden_imports, 1);
    check("src/main.rs", "fn main() { stillpoint::engine::run() }", forbidden_imports, 1);
    check("src/planning/mod.rs", "fn x() { tokio::spawn(y) }", impurities, 1);
    check("src/planning/mod.rs", "use std::{collections::BTreeMap, fs};", impurities, 1);
    check("src/engine/mod.rs", "use tokio::time;", impurities, 0);
    check("src/engine/mod.rs", "fn x(db: sled::Db) {}", strangers, 1);
    check("src/journal/store.rs", "fn x(db: sled::Db) {}", strangers, 0);
    check("src/sim/mod.rs", "//! As [`crate::machine`] says.", mentions_by_the_simulator, 1);
}
