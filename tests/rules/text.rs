//! What every source file says, and what none may say.

use crate::hold;
use crate::source::{File, files, tokens};

/// Macros that stand for work not done.
const UNDONE: &[&str] = &["todo", "unimplemented", "dbg"];

#[test]
fn every_file_opens_with_a_module_header() {
    hold("a file has no module header (`//!`)", files().iter().filter_map(no_header).collect());
}

#[test]
fn nothing_is_left_undone() {
    hold("a macro stands for work not done", files().iter().flat_map(undone).collect());
}

fn no_header(file: &File) -> Option<String> {
    (!file.text.starts_with("//! "))
        .then(|| format!("{}:1: begin with `//! ` and what the file promises", file.path))
}

fn undone(file: &File) -> Vec<String> {
    let tokens = tokens(&file.text);
    tokens
        .windows(2)
        .filter(|pair| UNDONE.contains(&pair[0].text.as_str()) && pair[1].text == "!")
        .map(|pair| format!("{}:{}: {}!", file.path, pair[0].line, pair[0].text))
        .collect()
}

#[test]
fn a_violation_is_seen() {
    let file = |text: &str| File { path: "src/x.rs".into(), text: text.into() };
    assert!(no_header(&file("use std::fmt;\n//! late")).is_some());
    assert!(no_header(&file("//! What it promises.")).is_none());
    assert_eq!(undone(&file("fn x() {\n    todo!()\n}")), ["src/x.rs:2: todo!"]);
    assert_eq!(undone(&file("// todo!()\nlet todo = 1;")).len(), 0);
}
