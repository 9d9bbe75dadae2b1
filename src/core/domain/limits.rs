//! Every limit of Stillpoint in one place, with the relations between them asserted.

use crate::domain::time::Millis;

/// Members of one group.
pub const MAX_MEMBERS: usize = 128;
/// Attempts of one run: the first, and one more after a complete undo.
pub const MAX_ATTEMPTS: u32 = 2;
/// One call to the API server.
pub const REQUEST_TIMEOUT: Millis = Millis::from_secs(30);
/// How long a final error of the driver may stand before the group is undone. It may heal; it must not hammer.
pub const GROUP_ERROR_GRACE: Millis = Millis::from_secs(10);
/// How long an undo looks for a VolumeGroupSnapshotContent that the controller makes late.
pub const LATE_CONTENT_WINDOW: Millis = Millis::from_secs(60);
/// How long the names of the group stay away from the members after the group is gone. A snapshot-controller whose cache
/// still has the group makes it the owner of every member that names it, and the garbage collector then deletes the
/// member. Nothing that can be read tells the age of that cache; but a client of Kubernetes notices within 45 seconds
/// that its watch is dead (client-go: a ping after 30 s without a frame, 15 s for its answer), and lists anew.
pub const NAMES_STAY_AWAY: Millis = Millis::from_secs(60);
/// How long an error may stand in a status, or a finalizer of another component may hold an object, before a run that
/// waits warns of it.
pub const ERROR_PATIENCE: Millis = Millis::from_secs(10);
/// How long the snapshot-controller may take for one object before a run that waits for it warns. At its default rate it
/// needs [`PREDICTED_PER_MEMBER`] for a member.
pub const CONTROLLER_PATIENCE: Millis = Millis::from_secs(30);
/// How long the driver may take before a run that waits for it warns. Its deadlines are longer.
pub const DRIVER_PATIENCE: Millis = Millis::from_secs(120);
/// Failures of one step in a row of which users are warned: fewer are conflicts that pass.
pub const FAILURES_WARNED: u32 = 3;
/// Causes of waits of which one run warns in one life of the daemon.
pub const CAUSES_WARNED: usize = 16;
/// Objects that a run names which hold it up.
pub const BLOCKERS_SHOWN: usize = 8;
/// Names in one list of a sentence.
pub const NAMES_SHOWN: usize = 5;
/// Velero's default of `csiSnapshotTimeout`.
pub const CSI_SNAPSHOT_TIMEOUT: Millis = Millis::from_secs(600);
/// Velero's default of `itemOperationTimeout`.
pub const ITEM_OPERATION_TIMEOUT: Millis = Millis::from_secs(4 * 3600);
/// How far apart the members of a group may be cut before that is a warning (`--max-skew`).
pub const MAX_SKEW: Millis = Millis::from_secs(1);
/// Refusals of one step in a row after which a run that can still be undone is undone.
pub const MAX_REFUSALS: u32 = 6;
/// Times that one step may be done again in a row, although it succeeds: somebody keeps undoing it.
pub const MAX_REPEATS: u32 = 16;
/// Pause after the first failure of a step; it doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_START: Millis = Millis(500);
/// Longest pause between two tries of one step.
pub const BACKOFF_MAX: Millis = Millis::from_secs(60);
/// Longest pause between two tries to reach an API server that is away, or has just started.
pub const REACH_PAUSE_MAX: Millis = Millis::from_secs(10);
/// How long a refusal of a read or a missing permission is doubted, before a Backup fails by it: an API server that has
/// just started refuses everybody until it has loaded its permissions, which takes some seconds.
pub const REFUSAL_DOUBTED: Millis = Millis::from_secs(15);
/// How long permissions that were granted are taken for granted where no call is refused.
pub const GRANT_TRUSTED: Millis = Millis::from_secs(3600);
/// Effects of one run that are under way at once.
pub const EFFECTS_PER_RUN: usize = 16;
/// Effects of all runs that are under way at once.
pub const EFFECTS_IN_ALL: usize = 64;
/// GroupSnapshots of all runs that are written at once: after a start every unfinished run shows itself, and each write
/// would have a connection of its own.
pub const PROJECTIONS_IN_ALL: usize = 32;
/// How long what was shown of a run stands before it is shown again, unless the run is over. Where controllers are fast a
/// run passes several states within milliseconds, each of which would be a write to etcd that nobody sees; all of them are
/// in the conditions and Events of the next.
pub const SHOWN_AGAIN_AFTER: Millis = Millis(100);
/// Reads of all runs that are under way at once: after a start thousands of runs may look at the same time.
pub const READS_IN_ALL: usize = 32;
/// Unfinished runs that are resumed before those that were resumed already go on.
pub const RESUMED_AT_ONCE: usize = 64;
/// Bytes of one journal record.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Members in one part of a receipt, so that a part fits into a record.
pub const RECEIPT_PART_MEMBERS: usize = 32;
/// Bytes of one text (error message, reason) inside a record.
pub const MAX_TEXT_BYTES: usize = 512;
/// Bytes of an error of another component inside a sentence.
pub const MAX_ERROR_BYTES: usize = 300;
/// Bytes of the note of one Event: the limit of `events.k8s.io/v1`.
pub const MAX_NOTE_BYTES: usize = 1024;
/// Groups that one Backup may ask for; their list is one record.
pub const MAX_GROUPS_PER_BACKUP: usize = 256;
/// Bytes of one annotation of a Backup: its errors, or its warnings. All annotations of an object have 256 KiB.
pub const MAX_ANNOTATION_BYTES: usize = 32 * 1024;
/// Warnings that one Backup keeps.
pub const MAX_WARNINGS: usize = 16;
/// Validation errors that one Backup keeps.
pub const MAX_VALIDATION_ERRORS: usize = 32;
/// Time that the snapshot-controller needs for one member at its default rate of five calls a second
/// (external-snapshotter issue 1344; measured 2.3 s).
pub const PREDICTED_PER_MEMBER: Millis = Millis(2_300);

/// How often the binding of the journal is renewed while records are written: what an etcd that was restored to an
/// older state of this start can hide.
pub const BINDING_RENEWAL: Millis = Millis::from_secs(600);
/// Records in one stream of the binding; the next one begins behind them.
pub const BINDING_RECORDS: u64 = 256;
/// How long reads may show an older state than was known before the cluster counts as gone back in time. An etcd member
/// that lags catches up within seconds.
pub const READS_STAY_BEHIND: Millis = Millis::from_secs(60);

/// Seconds after which a watch is renewed. Below five minutes, after which proxies often cut a silent connection.
pub const WATCH_SECONDS: u32 = 290;
/// After this time the next renewal of a watch asks for the whole state once more, so that an event that was lost
/// without a word is made good. Six renewals: what is lost is rare, the state of a kind travels twice an hour, and what a
/// run may wait for it is a small part of the `itemOperationTimeout` that it has (a deadline looks for itself).
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

/// The pause after `failures` failures of one step in a row.
pub fn backoff(failures: u32) -> Millis {
    match failures {
        0 => Millis(0),
        n => Millis(BACKOFF_START.0.saturating_mul(1 << (n - 1).min(16)).min(BACKOFF_MAX.0)),
    }
}

/// The first names of a list, and how many more there are.
pub fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    match more {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names.join(", ")),
    }
}

/// Cuts a text to what a record may carry, between two words.
pub fn clip(text: &str) -> String {
    clip_to(text, MAX_TEXT_BYTES)
}

/// Cuts a text to so many bytes: between two words, or within one that is very long at a character border.
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

/// Cuts a text to so many bytes in its middle: an error of a controller names the call at its beginning and the cause at
/// its end.
pub fn clip_middle(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let head = clip_to(text, bytes / 3);
    let from = text.len() - (bytes - head.len()).saturating_sub(1);
    let tail = (from..=text.len()).find(|at| text.is_char_boundary(*at)).map_or("", |at| &text[at..]);
    // From a whole word on, unless the tail is one word.
    let word = tail.find(char::is_whitespace).filter(|space| space * 2 < tail.len());
    format!("{head} {}", tail[word.unwrap_or(0)..].trim_start())
}

/// At most `most` lines; the last one says how many more there were.
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
    fn pauses_double_up_to_the_longest() {
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
    fn long_errors_keep_their_beginning_and_their_cause() {
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
    fn long_texts_are_cut_between_words() {
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
