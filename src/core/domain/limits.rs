//! Defines every limit of Stillpoint, and asserts the relations between them.

use crate::domain::time::Millis;

/// Members of one group.
pub const MAX_MEMBERS: usize = 128;
/// Attempts of one run: the first, and one more after a complete rollback.
pub const MAX_ATTEMPTS: u32 = 2;
/// Timeout of one call to the API server.
pub const REQUEST_TIMEOUT: Millis = Millis::from_secs(30);
/// Time between a final error of the driver and the rollback of the group. The driver may recover in that
/// time, and retries do not follow each other without a pause.
pub const GROUP_ERROR_GRACE: Millis = Millis::from_secs(10);
/// How long a rollback waits for a VolumeGroupSnapshotContent that the controller creates late.
pub const LATE_CONTENT_WINDOW: Millis = Millis::from_secs(60);
/// How long the group names of the members stay cleared after the group is deleted. A snapshot-controller
/// whose cache still has the group sets it as owner of every member that names it. The garbage collector then
/// deletes the member. The age of that cache cannot be read. A Kubernetes client detects a dead watch within
/// 45 s (client-go: a ping after 30 s without a frame, 15 s for its answer) and then lists again.
pub const NAMES_STAY_AWAY: Millis = Millis::from_secs(60);
/// How long a status may have an error, or a finalizer of another component may block an object, before a
/// waiting run warns.
pub const ERROR_PATIENCE: Millis = Millis::from_secs(10);
/// How long the snapshot-controller may take for one object before a waiting run warns. At its default rate
/// it needs [`PREDICTED_PER_MEMBER`] for a member.
pub const CONTROLLER_PATIENCE: Millis = Millis::from_secs(30);
/// How long the driver may take before a waiting run warns. The deadlines of these waits are longer.
pub const DRIVER_PATIENCE: Millis = Millis::from_secs(120);
/// Consecutive failures of one step before users are warned. Fewer are usually transient conflicts.
pub const FAILURES_WARNED: u32 = 3;
/// Number of causes of waits that one run warns of in one incarnation of the daemon.
pub const CAUSES_WARNED: usize = 16;
/// Number of blocking objects that a run names.
pub const BLOCKERS_SHOWN: usize = 8;
/// Names in one list of a message.
pub const NAMES_SHOWN: usize = 5;
/// Velero's default of `csiSnapshotTimeout`.
pub const CSI_SNAPSHOT_TIMEOUT: Millis = Millis::from_secs(600);
/// Velero's default of `itemOperationTimeout`.
pub const ITEM_OPERATION_TIMEOUT: Millis = Millis::from_secs(4 * 3600);
/// Largest difference between creation times of members without a warning (`--max-skew`).
pub const MAX_SKEW: Millis = Millis::from_secs(1);
/// Consecutive refusals of one step after which a run before the pivot is rolled back.
pub const MAX_REFUSALS: u32 = 6;
/// Consecutive repetitions of one successful step. More mean that another component keeps reverting it.
pub const MAX_REPEATS: u32 = 16;
/// Pause after the first failure of a step. It doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_START: Millis = Millis(500);
/// Longest pause between two tries of one step.
pub const BACKOFF_MAX: Millis = Millis::from_secs(60);
/// Longest pause between two attempts to reach an API server that is down or has just started.
pub const REACH_PAUSE_MAX: Millis = Millis::from_secs(10);
/// How long a refused read or a missing permission is retried before a Backup fails because of it. An API
/// server that has just started refuses every call until it has loaded its permissions, which takes some
/// seconds.
pub const REFUSAL_DOUBTED: Millis = Millis::from_secs(15);
/// How long granted permissions are assumed to be valid while no call is refused.
pub const GRANT_TRUSTED: Millis = Millis::from_secs(3600);
/// Concurrent effects of one run.
pub const EFFECTS_PER_RUN: usize = 16;
/// Runs of one Backup that are started concurrently: as many as share one barrier of the journal.
pub const STARTS_AT_ONCE: usize = 64;
/// Concurrent effects of all runs.
pub const EFFECTS_IN_ALL: usize = 64;
/// Concurrent writes of GroupSnapshots of all runs. After a start every unfinished run publishes its status,
/// and each write would have its own connection.
pub const PROJECTIONS_IN_ALL: usize = 32;
/// Shortest time between two writes of the status of a run, unless the run is over. With fast controllers a
/// run passes several states within milliseconds. Each would be a write to etcd that no client reads. All of
/// them are in the conditions and Events of the next write.
pub const SHOWN_AGAIN_AFTER: Millis = Millis(100);
/// Concurrent reads of all runs. After a start thousands of runs may read at the same time.
pub const READS_IN_ALL: usize = 32;
/// Unfinished runs that a start resumes before it lets the resumed ones make progress.
pub const RESUMED_AT_ONCE: usize = 64;
/// Bytes of one journal record.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Members in one part of a receipt, so that a part fits into a record.
pub const RECEIPT_PART_MEMBERS: usize = 32;
/// Bytes of one text (error message, reason) inside a record.
pub const MAX_TEXT_BYTES: usize = 512;
/// Bytes of an error of another component inside a message.
pub const MAX_ERROR_BYTES: usize = 300;
/// Bytes of the note of one Event: the limit of `events.k8s.io/v1`.
pub const MAX_NOTE_BYTES: usize = 1024;
/// Groups of one Backup. Their references and ends fit into one record.
pub const MAX_GROUPS_PER_BACKUP: usize = 256;
/// Bytes of one annotation of a Backup: its errors, or its warnings. Kubernetes limits all annotations of an
/// object to 256 KiB.
pub const MAX_ANNOTATION_BYTES: usize = 32 * 1024;
/// Warnings that are stored for one Backup.
pub const MAX_WARNINGS: usize = 16;
/// Validation errors that are stored for one Backup.
pub const MAX_VALIDATION_ERRORS: usize = 32;
/// Time that the snapshot-controller needs for one member at its default rate of five calls a second
/// (external-snapshotter issue 1344; measured 2.3 s).
pub const PREDICTED_PER_MEMBER: Millis = Millis(2_300);

/// How often the binding of the journal is renewed while records are written. If etcd is restored to an older
/// state of this start, at most this time goes undetected.
pub const BINDING_RENEWAL: Millis = Millis::from_secs(600);
/// Records in one stream of the binding. Further records begin a new stream.
pub const BINDING_RECORDS: u64 = 256;
/// How long reads may return an older state than known before, until the cluster counts as gone back in time.
/// An etcd member that lags catches up within seconds.
pub const READS_STAY_BEHIND: Millis = Millis::from_secs(60);

/// Seconds after which a watch is renewed. The value is below 5 minutes, after which proxies often close an
/// idle connection.
pub const WATCH_SECONDS: u32 = 290;
/// Time after which the next renewal of a watch lists the complete state again. This repairs a silently lost
/// event. It equals six renewals: lost events are rare, the state of a kind is transferred twice an hour, and
/// the delay of a run is a small part of its `itemOperationTimeout` (at a deadline the run reads the cluster
/// itself).
pub const FULL_TELLING: Millis = Millis::from_secs(6 * WATCH_SECONDS as u64);

const _: () = {
    assert!(RECEIPT_PART_MEMBERS * 1024 <= MAX_RECORD_BYTES, "a receipt part must fit into a record");
    assert!(MAX_GROUPS_PER_BACKUP * 200 <= MAX_RECORD_BYTES, "the groups of a Backup must fit into a record");
    assert!(EFFECTS_PER_RUN <= EFFECTS_IN_ALL);
    assert!(BACKOFF_START.0 < BACKOFF_MAX.0);
    assert!(GROUP_ERROR_GRACE.0 < CSI_SNAPSHOT_TIMEOUT.0);
    assert!(PREDICTED_PER_MEMBER.0 * 2 < CONTROLLER_PATIENCE.0, "a member at the usual rate is no warning");
    assert!(DRIVER_PATIENCE.0 < CSI_SNAPSHOT_TIMEOUT.0);
    assert!(FAILURES_WARNED < MAX_REFUSALS, "a run that is undone for refusals has warned of them");
    assert!(CSI_SNAPSHOT_TIMEOUT.0 < ITEM_OPERATION_TIMEOUT.0);
    assert!(MAX_MEMBERS <= u16::MAX as usize);
    assert!(FULL_TELLING.0 < ITEM_OPERATION_TIMEOUT.0);
    assert!(REQUEST_TIMEOUT.0 < WATCH_SECONDS as u64 * 1000);
};

/// Pause after `failures` consecutive failures of one step.
pub fn backoff(failures: u32) -> Millis {
    match failures {
        0 => Millis(0),
        n => Millis(BACKOFF_START.0.saturating_mul(1 << (n - 1).min(16)).min(BACKOFF_MAX.0)),
    }
}

/// Joins the first names of a list and appends the number of the others.
pub fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    match more {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names.join(", ")),
    }
}

/// Shortens a text to [`MAX_TEXT_BYTES`], at a word boundary.
pub fn clip(text: &str) -> String {
    clip_to(text, MAX_TEXT_BYTES)
}

/// Shortens a text to `bytes`: at a word boundary, or inside a very long word at a character boundary.
pub fn clip_to(text: &str, bytes: usize) -> String {
    const MARK: &str = " ...";
    const LONGEST_WORD: usize = 80;
    if text.len() <= bytes {
        return text.to_owned();
    }
    let room = bytes.saturating_sub(MARK.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let whole = text[..end].rfind(char::is_whitespace).filter(|space| space + LONGEST_WORD >= end);
    format!("{}{MARK}", text[..whole.unwrap_or(end)].trim_end())
}

/// Shortens a text to `bytes` by removing its middle. An error of a controller has the call at its beginning
/// and the cause at its end.
pub fn clip_middle(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let head = clip_to(text, bytes / 3);
    let from = text.len() - (bytes - head.len()).saturating_sub(1);
    let tail = (from..=text.len()).find(|at| text.is_char_boundary(*at)).map_or("", |at| &text[at..]);
    // Start at a word boundary, unless the tail is one word.
    let word = tail.find(char::is_whitespace).filter(|space| space * 2 < tail.len());
    format!("{head} {}", tail[word.unwrap_or(0)..].trim_start())
}

/// At most `most` lines. If lines are removed, the last line has their number.
pub fn at_most(mut lines: Vec<String>, most: usize) -> Vec<String> {
    if lines.len() > most {
        let more = lines.len() - most.saturating_sub(1);
        lines.truncate(most.saturating_sub(1));
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_maximum() {
        assert_eq!(backoff(0), Millis(0));
        assert_eq!(backoff(1), BACKOFF_START);
        assert_eq!(backoff(2), Millis(BACKOFF_START.0 * 2));
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn lines_beyond_the_limit_are_counted() {
        let lines = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(at_most(lines(3), 3), ["0", "1", "2"]);
        assert_eq!(at_most(lines(5), 3), ["0", "1", "and 3 more"]);
    }

    #[test]
    fn shortened_errors_keep_beginning_and_cause() {
        let volumes = "e88fc571-0e70-47b3-a6ac-1b22046c7f28 ".repeat(30);
        let error = format!("failed to cut [{volumes}]: rpc error: code = Internal desc = out of space");
        let clipped = clip_middle(&error, 200);
        assert!(clipped.len() <= 200, "{}", clipped.len());
        assert!(
            clipped.starts_with("failed to cut [e88fc571-") && clipped.contains(" ... e88fc571-"),
            "{clipped}"
        );
        assert!(clipped.ends_with("]: rpc error: code = Internal desc = out of space"), "{clipped}");
        assert_eq!(clip_middle("short", 200), "short");
        let word = "ä".repeat(500);
        assert!(clip_middle(&word, 100).len() <= 100);
    }

    #[test]
    fn shortens_long_texts_between_words() {
        let text = "ä".repeat(MAX_TEXT_BYTES);
        let clipped = clip(&text);
        assert!(clipped.len() <= MAX_TEXT_BYTES && clipped.ends_with("ä ..."));
        assert_eq!(clip("short"), "short");
        assert_eq!(clip_to("whole words are kept", 17), "whole words ...");
        for bytes in 0..8 {
            assert!(clip_to("two words", bytes).len() <= bytes.max(4), "{bytes}");
        }
    }
}
