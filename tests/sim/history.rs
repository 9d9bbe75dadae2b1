//! Compares histories of objects (their changes, in order) with fixtures.
//!
//! `fixtures/recordings/*.txt` list the changes of each object in order: type of change and field, and the
//! value if it is a boolean or a deletionPolicy. Names, uids, handles, times and versions are omitted. The
//! objects of a kind are numbered by their first change. A difference that is not in [`KNOWN`] fails the
//! test, and so does an entry of it that no longer occurs. `src/sim/GAPS.md` explains each of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use stillpoint::sim::api_server::{Watch, WatchEvent};

use crate::lab::{CONTENTS, GROUP_CONTENTS, GROUPS, Lab, SNAPSHOTS, uid};

/// Known differences: recording, object, difference.
const KNOWN: &[(&str, &str, &str)] = &[];

/// Two actors write these concurrently; the recordings have both orders.
const RACE: [&str; 2] = [
    "+metadata.annotations.volumegroupsnapshot-being-created",
    "+metadata.finalizers:volumegroupsnapshotcontent-bound-protection",
];

/// The names of kinds in the fixtures.
const KINDS: [(&str, &str); 4] =
    [("group", GROUPS), ("group-content", GROUP_CONTENTS), ("snapshot", SNAPSHOTS), ("content", CONTENTS)];

/// Changes by object, in order.
type Histories = BTreeMap<String, Vec<String>>;

/// Watches of the four kinds.
pub struct Recorder {
    watches: Vec<(&'static str, Watch)>,
    known: BTreeMap<String, Value>,
}

impl Recorder {
    /// Starts recording. Existing objects are not changes.
    pub fn start(lab: &Lab) -> Self {
        let mut watches: Vec<_> =
            KINDS.iter().map(|(kind, plural)| (*kind, lab.user.watch(plural))).collect();
        let mut known = BTreeMap::new();
        for (_, watch) in &mut watches {
            while let Some(event) = watch.try_next() {
                let object = object_of(event).0;
                known.insert(uid(&object).to_owned(), object);
            }
        }
        Self { watches, known }
    }

    /// Returns all changes so far.
    fn finish(mut self) -> Histories {
        let mut histories = Histories::new();
        for (kind, watch) in &mut self.watches {
            let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
            while let Some(event) = watch.try_next() {
                let (object, verb) = object_of(event);
                let before = self.known.insert(uid(&object).to_owned(), object.clone());
                let changes = difference(before.as_ref().unwrap_or(&Value::Null), &object);
                let line = match verb {
                    "MODIFIED" => changes,
                    "ADDED" => format!("ADDED {changes}"),
                    other => other.to_owned(),
                };
                if line.is_empty() {
                    continue;
                }
                let next = numbers.len() + 1;
                let number = *numbers.entry(uid(&object).to_owned()).or_insert(next);
                histories.entry(format!("{kind} {number}")).or_default().push(line);
            }
        }
        histories
    }
}

fn object_of(event: WatchEvent) -> (Value, &'static str) {
    match event {
        WatchEvent::Added(object) => (Arc::unwrap_or_clone(object), "ADDED"),
        WatchEvent::Modified(object) => (Arc::unwrap_or_clone(object), "MODIFIED"),
        WatchEvent::Deleted(object) => (Arc::unwrap_or_clone(object), "DELETED"),
    }
}

/// The difference of two versions, as `+field`, `-field` and `~field`, in the order of the fields.
fn difference(before: &Value, after: &Value) -> String {
    let (before, after) = (fields(before), fields(after));
    let mut parts = BTreeMap::new();
    for (path, value) in &after {
        let sign = match before.get(path) {
            Some(old) if old == value => continue,
            Some(_) => '~',
            None => '+',
        };
        parts.insert(path, format!("{sign}{path}{}", display_value(path, value)));
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        parts.insert(path, format!("-{path}"));
    }
    parts.into_values().collect::<Vec<_>>().join(" ")
}

fn display_value(path: &str, value: &Value) -> String {
    match value {
        Value::Bool(value) => format!("={value}"),
        Value::String(policy) if path == "spec.deletionPolicy" => format!("={policy}"),
        _ => String::new(),
    }
}

/// Fields that are compared as a whole.
const WHOLE: [&str; 6] = [
    "metadata.ownerReferences",
    "status.volumeSnapshotInfoList",
    "spec.source.volumeHandles",
    "spec.source.groupSnapshotHandles",
    "spec.source.selector",
    "status.error",
];

fn fields(object: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for finalizer in object["metadata"]["finalizers"].as_array().into_iter().flatten() {
        let name = finalizer.as_str().unwrap_or_default();
        let owner = if name.starts_with("provisioner.") { "provisioner/" } else { "" };
        found.insert(format!("metadata.finalizers:{owner}{}", last(name)), Value::Null);
    }
    for (key, value) in object["metadata"]["annotations"].as_object().into_iter().flatten() {
        found.insert(format!("metadata.annotations.{}", last(key)), value.clone());
    }
    for field in ["ownerReferences", "deletionTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            found.insert(format!("metadata.{field}"), value.clone());
        }
    }
    for part in ["spec", "status"] {
        if let Some(value) = object.get(part) {
            leaves(value, part, &mut found);
        }
    }
    found
}

fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() && !WHOLE.contains(&path) => {
            for (key, value) in members {
                leaves(value, &format!("{path}.{key}"), found);
            }
        }
        _ if path == "status.error" => drop(found.insert(path.to_owned(), value["message"].clone())),
        _ => drop(found.insert(path.to_owned(), value.clone())),
    }
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The fixture of that name.
fn read_recording(recording: &str) -> Histories {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/recordings/{recording}.txt"));
    let text = fs::read_to_string(path).expect("a recording");
    let (mut histories, mut object) = (Histories::new(), String::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(change) => histories.entry(object.clone()).or_default().push(change.to_owned()),
            None => object = line.to_owned(),
        }
    }
    histories
}

/// The history with the two racing changes in a fixed order.
fn sort_racing_changes(mut history: Vec<String>) -> Vec<String> {
    for at in 1..history.len() {
        if history[at] == RACE[0] && history[at - 1] == RACE[1] {
            history.swap(at - 1, at);
        }
    }
    history
}

/// The differences of one recording, by object.
fn compare(recording: &str, simulated: &Histories) -> Vec<(String, String)> {
    let recorded = read_recording(recording);
    let mut found = Vec::new();
    let mut objects: Vec<&String> = recorded.keys().chain(simulated.keys()).collect();
    objects.sort();
    objects.dedup();
    for object in objects {
        let of =
            |histories: &Histories| sort_racing_changes(histories.get(object).cloned().unwrap_or_default());
        let (real, ours) = (of(&recorded), of(simulated));
        if real == ours {
            continue;
        }
        let (mut missing, mut extra) = (Vec::new(), ours.clone());
        for change in &real {
            match extra.iter().position(|one| one == change) {
                Some(at) => drop(extra.remove(at)),
                None => missing.push(change.clone()),
            }
        }
        let same = missing.is_empty() && extra.is_empty();
        found.extend(missing.into_iter().map(|change| (object.clone(), format!("missing: {change}"))));
        found.extend(extra.into_iter().map(|change| (object.clone(), format!("extra: {change}"))));
        if same {
            let at = real.iter().zip(&ours).position(|(a, b)| a != b).unwrap_or(0);
            found.push((object.clone(), format!("order: {} before {}", ours[at], real[at])));
        }
    }
    found
}

/// Fails on an unknown difference, and on a known one that no longer occurs.
pub fn check(recording: &str, recorder: Recorder) {
    check_kinds(recording, recorder, &KINDS.map(|(kind, _)| kind));
}

/// As [`check`], for some kinds only.
pub fn check_kinds(recording: &str, recorder: Recorder, kinds: &[&str]) {
    let mut simulated = recorder.finish();
    simulated.retain(|object, _| object.split_once(' ').is_some_and(|(kind, _)| kinds.contains(&kind)));
    let found = compare(recording, &simulated);
    println!("{recording}: {} differences", found.len());
    for (object, what) in &found {
        println!("  {object}: {what}");
    }
    let known: Vec<(String, String)> = KNOWN
        .iter()
        .filter(|(of, ..)| *of == recording)
        .map(|(_, object, what)| ((*object).to_owned(), (*what).to_owned()))
        .collect();
    assert_eq!(found, known, "{recording}");
}
