//! What was done in front of real controllers is done again on the embedded cluster, and what changed is compared.
//!
//! `fixtures/recordings/*.txt` say, object by object, which changes came in which order: kind of change and field, with
//! the value where it is a truth value or a deletionPolicy. Names, uids, handles, times and versions are left out; the
//! objects of a kind are numbered by their first change. A difference that is not in [`KNOWN`] fails the test, and so
//! does one in it that is gone. Each of them is explained in `src/sim/GAPS.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use stillpoint::sim::api_server::{Watch, WatchEvent};
use stillpoint::sim::{Config, DriverConfig};
use tokio::time::sleep;

use crate::lab::{
    CONTENTS, DRIVER, GROUP, GROUP_CONTENTS, GROUPS, Lab, NAMESPACE, SNAPSHOTS, claim, name, uid,
};
use crate::script::Step::{
    ClearNames, DeleteGroup, DeleteGroupContent, GroupPolicy, NoDefaultClass, Strip, Wait,
};
use crate::script::{ALL, run};
use crate::variants::{create_retaining_class, import_group};

/// Differences that are known: recording, object, what is different.
const KNOWN: &[(&str, &str, &str)] = &[];

/// Two actors write these without waiting for each other; the recordings have them in either order.
const RACE: [&str; 2] = [
    "+metadata.annotations.volumegroupsnapshot-being-created",
    "+metadata.finalizers:volumegroupsnapshotcontent-bound-protection",
];

/// Kinds as the fixtures call them.
const KINDS: [(&str, &str); 4] =
    [("group", GROUPS), ("group-content", GROUP_CONTENTS), ("snapshot", SNAPSHOTS), ("content", CONTENTS)];

/// Changes by object, in order.
type Histories = BTreeMap<String, Vec<String>>;

/// Watches of the four kinds.
struct Recorder {
    watches: Vec<(&'static str, Watch)>,
    known: BTreeMap<String, Value>,
}

impl Recorder {
    /// Begins now; what is there already counts as seen.
    fn start(lab: &Lab) -> Self {
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

    /// Everything that has changed so far.
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
        WatchEvent::Added(object) => (object, "ADDED"),
        WatchEvent::Modified(object) => (object, "MODIFIED"),
        WatchEvent::Deleted(object) => (object, "DELETED"),
    }
}

/// What changed, as `+field`, `-field` and `~field`, in the order of the fields.
fn difference(before: &Value, after: &Value) -> String {
    let (before, after) = (fields(before), fields(after));
    let mut parts = BTreeMap::new();
    for (path, value) in &after {
        let sign = match before.get(path) {
            Some(old) if old == value => continue,
            Some(_) => '~',
            None => '+',
        };
        parts.insert(path, format!("{sign}{path}{}", shown(path, value)));
    }
    for path in before.keys().filter(|path| !after.contains_key(*path)) {
        parts.insert(path, format!("-{path}"));
    }
    parts.into_values().collect::<Vec<_>>().join(" ")
}

fn shown(path: &str, value: &Value) -> String {
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
fn recorded(recording: &str) -> Histories {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/recordings/{recording}.txt"));
    let text = fs::read_to_string(path).expect("a fixture");
    let (mut histories, mut object) = (Histories::new(), String::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(change) => histories.entry(object.clone()).or_default().push(change.to_owned()),
            None => object = line.to_owned(),
        }
    }
    histories
}

/// The history with the two racing changes in one order.
fn settled(mut history: Vec<String>) -> Vec<String> {
    for at in 1..history.len() {
        if history[at] == RACE[0] && history[at - 1] == RACE[1] {
            history.swap(at - 1, at);
        }
    }
    history
}

/// The differences of one recording, by object.
fn compare(recording: &str, here: &Histories) -> Vec<(String, String)> {
    let there = recorded(recording);
    let mut found = Vec::new();
    let mut objects: Vec<&String> = there.keys().chain(here.keys()).collect();
    objects.sort();
    objects.dedup();
    for object in objects {
        let of = |histories: &Histories| settled(histories.get(object).cloned().unwrap_or_default());
        let (real, ours) = (of(&there), of(here));
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

/// Fails on a difference that is not known, and on a known one that is gone.
fn check(recording: &str, recorder: Recorder) {
    check_kinds(recording, recorder, &KINDS.map(|(kind, _)| kind));
}

/// The same for some kinds only.
fn check_kinds(recording: &str, recorder: Recorder, kinds: &[&str]) {
    let mut here = recorder.finish();
    here.retain(|object, _| object.split_once(' ').is_some_and(|(kind, _)| kinds.contains(&kind)));
    let found = compare(recording, &here);
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

/// The controllers' default rate, at which all was recorded.
fn real() -> Config {
    Config { controller_qps: Some(5.0), ..Config::default() }
}

async fn created(members: usize) -> (Lab, Recorder) {
    let lab = Lab::new(members, real()).await;
    lab.settle().await;
    let recorder = Recorder::start(&lab);
    lab.create_ready_group(members).await;
    sleep(Duration::from_secs(5)).await;
    (lab, recorder)
}

#[tokio::test(start_paused = true)]
async fn a_group_of_two_is_created() {
    let (_lab, recorder) = created(2).await;
    check("create-two", recorder);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_three_is_created() {
    let (_lab, recorder) = created(3).await;
    check("create-three", recorder);
}

#[tokio::test(start_paused = true)]
async fn a_member_and_then_its_group_are_deleted() {
    let (lab, _) = created(2).await;
    let recorder = Recorder::start(&lab);
    lab.delete(SNAPSHOTS, &lab.snapshots()[1]);
    run(&lab, &[Wait(4000), DeleteGroup]).await;
    lab.settle().await;
    check("delete-member-then-group", recorder);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_created_and_deleted() {
    let (lab, recorder) = created(3).await;
    run(&lab, &[DeleteGroup]).await;
    lab.settle().await;
    check("delete-group", recorder);
}

#[tokio::test(start_paused = true)]
async fn one_member_is_stripped() {
    let (lab, _) = created(2).await;
    let recorder = Recorder::start(&lab);
    let strip = json!({"metadata": {"ownerReferences": null, "finalizers": null}});
    lab.patch(SNAPSHOTS, &lab.snapshots()[0], strip);
    lab.settle().await;
    check("strip-one", recorder);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_stripped_and_deleted() {
    let (lab, recorder) = created(3).await;
    run(&lab, &[Strip, Wait(10), GroupPolicy("Retain"), DeleteGroupContent, DeleteGroup]).await;
    lab.settle().await;
    check("strip-fast", recorder);
}

#[tokio::test(start_paused = true)]
async fn without_a_default_class_a_group_is_stripped_and_deleted() {
    let lab = Lab::new(3, real()).await;
    run(&lab, &[NoDefaultClass]).await;
    lab.settle().await;
    let recorder = Recorder::start(&lab);
    lab.create_ready_group(3).await;
    run(&lab, &[Wait(5000), Strip, Wait(10), GroupPolicy("Retain"), DeleteGroupContent, DeleteGroup]).await;
    lab.settle().await;
    check("strip-fast-no-default-class", recorder);
}

#[tokio::test(start_paused = true)]
async fn names_are_cleared_and_a_group_is_stripped_and_deleted() {
    let (lab, recorder) = created(3).await;
    let steps = [ClearNames(ALL), Strip, Wait(10), GroupPolicy("Retain"), DeleteGroupContent, DeleteGroup];
    run(&lab, &steps).await;
    lab.settle().await;
    check("clear-name-strip-fast", recorder);
}

/// Handles of the group and of its members.
fn handles(lab: &Lab) -> (String, Vec<String>) {
    let physical = lab.cluster.storage().physical_snapshots();
    let group = physical[0].group_handle.clone().expect("cut with a group");
    (group, physical.into_iter().map(|one| one.snapshot_handle).collect())
}

/// A content and a snapshot made by hand.
fn member(number: usize, handle: &str, policy: &str, with_mode: bool) -> (Value, Value) {
    let (content, snapshot) = (format!("imported-content-{number}"), format!("imported-{number}"));
    let mut spec = json!({
        "deletionPolicy": policy, "driver": DRIVER, "source": {"snapshotHandle": handle},
        "volumeSnapshotRef": {"name": snapshot, "namespace": NAMESPACE},
    });
    if with_mode {
        spec["sourceVolumeMode"] = json!("Filesystem");
    }
    (
        json!({"metadata": {"name": content}, "spec": spec}),
        json!({
            "metadata": {"name": snapshot, "namespace": NAMESPACE},
            "spec": {"source": {"volumeSnapshotContentName": content}},
        }),
    )
}

/// A group whose objects are gone while its storage is kept.
async fn orphaned(lab: &Lab) {
    create_retaining_class(lab);
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("retaining"));
    lab.until("ready", |lab| lab.is_ready(2)).await;
    sleep(Duration::from_secs(5)).await;
    run(lab, &[DeleteGroup, Wait(5000), DeleteGroupContent]).await;
    for content in lab.contents() {
        lab.delete(CONTENTS, &content);
    }
    lab.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_group_is_imported_and_deleted() {
    let lab = Lab::new(2, real()).await;
    orphaned(&lab).await;
    let recorder = Recorder::start(&lab);
    let (group, members) = handles(&lab);
    crate::variants::import_group_content(&lab, "imported", &group, &members, "Delete");
    sleep(Duration::from_millis(40)).await;
    let imported = import_group(&lab, "imported");
    sleep(Duration::from_millis(180)).await;
    for (number, handle) in members.iter().enumerate() {
        let (content, snapshot) = member(number, handle, "Delete", false);
        lab.create(CONTENTS, content);
        sleep(Duration::from_millis(40)).await;
        lab.create(SNAPSHOTS, snapshot);
        sleep(Duration::from_millis(40)).await;
    }
    lab.settle().await;
    lab.delete(GROUPS, &imported);
    lab.settle().await;
    check("static-import", recorder);
}

#[tokio::test(start_paused = true)]
async fn members_are_rebuilt_from_handles_and_reclaimed() {
    let lab = Lab::new(2, real()).await;
    lab.settle().await;
    let recorder = Recorder::start(&lab);
    orphaned(&lab).await;
    let (group, members) = handles(&lab);
    for (number, handle) in members.iter().enumerate() {
        let (content, snapshot) = member(number, handle, "Retain", true);
        lab.create(CONTENTS, content);
        sleep(Duration::from_millis(20)).await;
        lab.create(SNAPSHOTS, snapshot);
    }
    sleep(Duration::from_secs(9)).await;
    crate::variants::import_group_content(&lab, "imported", &group, &members, "Delete");
    sleep(Duration::from_secs(2)).await;
    let imported = import_group(&lab, "imported");
    sleep(Duration::from_secs(6)).await;
    assert!(lab.restores_from(name(&lab.snapshots()[0])).await);
    lab.delete(GROUPS, &imported);
    lab.settle().await;
    check("import-from-handles", recorder);
}

const GROUPS_ONLY: [&str; 2] = ["group", "group-content"];

async fn delete_when_ready(lab: &Lab) {
    lab.until("ready", |lab| lab.group().is_some_and(|group| group["status"]["readyToUse"] == true)).await;
    lab.settle().await;
    run(lab, &[DeleteGroup]).await;
    lab.settle().await;
}

#[tokio::test(start_paused = true)]
async fn no_claim_fits_until_one_is_labelled() {
    let lab = Lab::new(0, real()).await;
    let unlabelled = lab.create("persistentvolumeclaims", claim("late", &json!({}), "csi-hostpath-sc"));
    lab.settle().await;
    let recorder = Recorder::start(&lab);
    lab.create_group();
    sleep(Duration::from_secs(5)).await;
    lab.patch("persistentvolumeclaims", &unlabelled, json!({"metadata": {"labels": {"group": GROUP}}}));
    delete_when_ready(&lab).await;
    check_kinds("no-claim", recorder, &GROUPS_ONLY);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_does_not_exist_and_one_that_is_not_named() {
    let lab = Lab::new(1, real()).await;
    let recorder = Recorder::start(&lab);
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), Some("no-such-class"));
    lab.settle().await;
    run(&lab, &[DeleteGroup]).await;
    check_kinds("no-class", recorder, &GROUPS_ONLY);

    let recorder = Recorder::start(&lab);
    lab.create_group_with(GROUP, json!({"matchLabels": {"group": GROUP}}), None);
    delete_when_ready(&lab).await;
    check_kinds("default-class", recorder, &GROUPS_ONLY);
}

#[tokio::test(start_paused = true)]
async fn the_driver_fails_and_heals() {
    let lab = Lab::new(2, real()).await;
    lab.settle().await;
    let fail_with = Some(("Unknown".to_owned(), "failed create snapshot".to_owned()));
    lab.cluster.storage().set_config(DriverConfig { fail_with, ..DriverConfig::default() });
    let recorder = Recorder::start(&lab);
    lab.create_group();
    sleep(Duration::from_secs(8)).await;
    lab.cluster.storage().set_config(DriverConfig::default());
    delete_when_ready(&lab).await;
    check_kinds("driver-fails", recorder, &["group"]);
}

#[tokio::test(start_paused = true)]
async fn the_sidecar_is_paused() {
    let lab = Lab::new(2, real()).await;
    lab.settle().await;
    lab.cluster.set_frozen("csi-snapshotter", true);
    let recorder = Recorder::start(&lab);
    lab.create_group();
    sleep(Duration::from_secs(4)).await;
    lab.cluster.set_frozen("csi-snapshotter", false);
    delete_when_ready(&lab).await;
    check_kinds("sidecar-paused", recorder, &GROUPS_ONLY);
}
