//! Reads the sources: files below `src`, their tokens, and the paths (`a::b::c`) that they name.
//!
//! Not a parser of Rust: it knows comments, strings, lifetimes and use trees, which is all that the rules need.

use std::fs;
use std::path::{Path, PathBuf};

/// One source file.
pub struct File {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A path of the language, e.g. `crate::domain::ids`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// Line, counted from 1.
    pub line: usize,
    /// Its segments.
    pub segments: Vec<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `src`, in order.
pub fn files() -> Vec<File> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 20, "only {} files below src: is this the root?", files.len());
    files
}

fn collect(directory: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).expect("read a directory of src") {
        let path = entry.expect("read an entry of src").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("read a source file");
            let relative = path.strip_prefix(root()).expect("a file below the root");
            files.push(File { path: relative.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

impl File {
    /// The top-level module that the file belongs to; `main` and `lib` for those two.
    pub fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Every path outside comments and strings. Use trees are spelled out; `super::` that leaves the top-level
    /// module becomes `crate::`.
    pub fn paths(&self) -> Vec<Named> {
        let tokens = tokens(&self.text);
        let mut paths = Vec::new();
        let mut braces = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" => braces.push(at >= 2 && tokens[at - 2].text == "mod"),
                "}" => drop(braces.pop()),
                _ => {}
            }
            if tokens[at].is_word() && tokens.get(at + 1).is_some_and(|next| next.text == "::") {
                let inline = braces.iter().filter(|is_module| **is_module).count();
                let mut found = Vec::new();
                at = spell_out(&tokens, at, &mut Vec::new(), &mut found);
                paths.extend(found.into_iter().map(|named| self.anchored(named, inline)));
            } else {
                at += 1;
            }
        }
        paths
    }

    /// Turns the `super`s of a path that climb up to the root of the crate into `crate`.
    fn anchored(&self, mut named: Named, inline: usize) -> Named {
        let depth = self.path.trim_end_matches("/mod.rs").split('/').count() - 1 + inline;
        let climbs = named.segments.iter().take_while(|segment| *segment == "super").count();
        if climbs > 0 && climbs >= depth {
            named.segments.splice(..climbs, ["crate".to_owned()]);
        }
        named
    }
}

/// Adds the paths that begin at token `at` behind `prefix`; returns the token behind them.
fn spell_out(tokens: &[Token], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Named>) -> usize {
    let kept = prefix.len();
    let line = tokens[at].line;
    loop {
        match tokens.get(at) {
            Some(token) if token.is_word() || token.text == "*" => prefix.push(token.text.clone()),
            Some(token) if token.text == "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = spell_out(tokens, at, prefix, found);
                    while tokens.get(at).is_some_and(|token| !["}", ","].contains(&token.text.as_str())) {
                        at += 1; // `as name`
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                prefix.truncate(kept);
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        match tokens.get(at) {
            Some(token) if token.text == "::" => at += 1,
            _ => break,
        }
    }
    found.push(Named { line, segments: prefix.clone() });
    prefix.truncate(kept);
    at
}

/// A word or a sign.
pub struct Token {
    /// Line, counted from 1.
    pub line: usize,
    /// The word, `::`, or one other character.
    pub text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a text, without comments, strings, characters and lifetimes.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character_or_lifetime(rest)
        } else if rest.starts_with("::") {
            tokens.push(Token { line, text: "::".to_owned() });
            2
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(Token { line, text: rest[..length].to_owned() });
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token { line, text: first.to_string() });
            }
            first.len_utf8()
        };
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    tokens
}

/// Length of the raw string at the start of `text`, if there is one.
fn raw_string(text: &str) -> Option<usize> {
    let behind = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let inside = behind[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// Length of the quoted text at the start of `text`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn character_or_lifetime(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}

#[test]
fn paths_are_found_in_use_trees_and_expressions_but_not_in_comments_and_strings() {
    let text = r##"
//! crate::no
use crate::a::{b::C, d as e, f::{self, g}};
use crate::{h, i::*};
fn x<'a>() { let _ = ("crate::no", r#"crate::"no"#, '"', crate::j::k()); /* crate::no */ }
mod tests { use super::y; use super::super::z; }
"##;
    let file = File { path: "src/top/mod.rs".into(), text: text.into() };
    let found: Vec<String> =
        file.paths().iter().map(|p| format!("{} {}", p.line, p.segments.join("::"))).collect();
    let expected = [
        "3 crate::a::b::C",
        "3 crate::a::d",
        "3 crate::a::f::self",
        "3 crate::a::f::g",
        "4 crate::h",
        "4 crate::i::*",
        "5 crate::j::k",
        "6 super::y",
        "6 crate::z",
    ];
    assert_eq!(found, expected);
}
