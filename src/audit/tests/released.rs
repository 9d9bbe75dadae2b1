//! Journals of every release still verify, decode, fold to the same, and are decided the same.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::audit::testing::{journal, script};
use crate::audit::{Shown, Streams, replay};
use crate::journal::chain::check;
use crate::journal::export::{Sealed, import};
use crate::journal::{Entry, Head};
use crate::machine::group::Step;

const RELEASES: &[&str] = &["0.1.0"];

fn fixture(release: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/journals").join(release).join(name)
}

fn folded(entries: &[Entry]) -> Value {
    let streams = Streams::of(entries);
    let folded = streams.iter().map(|stream| {
        let value = serde_json::to_value(&stream.folded).expect("plain data");
        (stream.id.to_string(), value)
    });
    Value::Object(folded.collect::<Map<_, _>>())
}

fn line(entry: &Entry) -> String {
    let mut line = serde_json::to_value(Sealed::from(entry)).expect("plain data");
    line["summary"] = Shown::of(entry).summary.into();
    format!("{line}\n")
}

/// The journal of this release, written only when asked for.
async fn update(release: &str) {
    let entries = journal(&script(Some(Step::Retain), false)).await;
    let lines: String = entries.iter().map(line).collect();
    fs::write(fixture(release, "journal.jsonl"), lines).expect("write the journal");
    fs::write(fixture(release, "folded.json"), format!("{:#}\n", folded(&entries))).expect("write the fold");
}

#[tokio::test]
async fn a_released_journal_folds_to_what_it_folded_to_then() {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        update(env!("CARGO_PKG_VERSION")).await;
    }
    for release in RELEASES {
        let text = fs::read_to_string(fixture(release, "journal.jsonl")).expect("read the journal");
        let entries = import(&text).expect("exported lines");
        let verified = check(entries.clone()).expect("an intact chain");
        assert_eq!(verified.records, entries.len() as u64);
        assert_ne!(verified.head, Head::genesis());
        let golden = fs::read_to_string(fixture(release, "folded.json")).expect("read the fold");
        let golden: Value = serde_json::from_str(&golden).expect("JSON");
        assert_eq!(folded(&entries), golden, "release {release}");
        let report = replay(&entries);
        assert_eq!(report.different, [], "release {release}");
        assert_eq!(report.same + report.not_comparable, report.decisions);
    }
}
