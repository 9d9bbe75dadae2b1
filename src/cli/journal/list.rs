//! `journal list`: the streams of a journal and their states.

use serde::Serialize;

use super::{JournalArgs, read};
use crate::audit::shown::rfc3339;
use crate::audit::{Stream, Streams};
use crate::cli::common::show;
use crate::cli::output::{self, exit};
use crate::domain::problem::Problem;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub(super) common: JournalArgs,
}

/// The output of the command.
#[derive(Debug, Serialize)]
struct Listing {
    streams: Vec<Listed>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    run: String,
    short: String,
    kind: &'static str,
    namespace: String,
    name: String,
    state: &'static str,
    attempt: Option<u32>,
    records: u64,
    started_at: String,
    ended_at: Option<String>,
    problem: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let entries = read::entries(&args.common.source)?;
    let streams = Streams::of(&entries).iter().map(listed).collect();
    let wide = args.common.format() == output::Format::Wide;
    show(args.common.format(), &Listing { streams }, |listing| table(listing, wide))?;
    Ok(exit::DONE)
}

fn listed(stream: &Stream) -> Listed {
    let broken = stream.broken.as_ref();
    Listed {
        run: stream.id.to_string(),
        short: stream.id.short(),
        kind: stream.kind.map_or("unknown", |kind| kind.word()),
        namespace: stream.namespace.clone(),
        name: stream.name.clone(),
        state: stream.state(),
        attempt: stream.attempt(),
        records: stream.records,
        started_at: rfc3339(stream.started.0),
        ended_at: stream.ended().map(|at| rfc3339(at.0)),
        problem: broken.map(|broken| format!("record {}: {}", broken.position, broken.why)),
    }
}

fn table(listing: &Listing, wide: bool) -> String {
    let headers = [
        "run",
        "kind",
        "namespace",
        "group/backup",
        "state",
        "attempt",
        "records",
        "started",
        "ended",
        "problem",
    ];
    let headers = &headers[..if wide { 10 } else { 9 }];
    let rows = listing.streams.iter().map(|listed| row(listed, wide));
    output::table(headers, rows)
}

fn row(listed: &Listed, wide: bool) -> Vec<String> {
    let dash = || "-".to_owned();
    let seconds = |time: &String| time.split('.').next().map(|t| t.trim_end_matches('Z').to_owned() + "Z");
    let mut row = vec![
        if wide { listed.run.clone() } else { listed.short.clone() },
        listed.kind.to_owned(),
        listed.namespace.clone(),
        listed.name.clone(),
        listed.state.to_owned(),
        listed.attempt.map_or_else(dash, |attempt| attempt.to_string()),
        listed.records.to_string(),
        seconds(&listed.started_at).unwrap_or_else(dash),
        listed.ended_at.as_ref().and_then(seconds).unwrap_or_else(dash),
    ];
    if wide {
        row.push(listed.problem.clone().unwrap_or_else(dash));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_stream() {
        let listing = Listing { streams: Streams::of(&fixture()).iter().map(listed).collect() };
        let text = table(&listing, false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("RUN ") && lines[0].ends_with("STARTED                ENDED"), "{text}");
        let group: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(group[1..6], ["group", "shop", "orders-db", "Completed", "1"]);
        assert_eq!((group[0].len(), group[7]), (12, "2026-01-01T00:00:00Z"));
        let backup: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(backup[1..7], ["backup", "stillpoint", "nightly", "Completed", "-", "2"]);
    }

    #[test]
    fn open_stream_shows_dash_as_end() {
        let listing = Listing { streams: Streams::of(&fixture()[..5]).iter().map(listed).collect() };
        let text = table(&listing, true);
        let group: Vec<&str> = text.lines().nth(2).unwrap_or_default().split_whitespace().collect();
        assert_eq!((group[4], &group[8..]), ("Created", &["-", "-"][..]), "{text}");
    }
}
