//! Computes object names. Because a name is always the same, a retried create fails with AlreadyExists and
//! adopts the object.

use sha2::{Digest, Sha256};

use crate::domain::ids::StreamId;

/// Longest label value (Kubernetes, `validation.LabelValueMaxLength`).
pub const LABEL_VALUE_MAX: usize = 63;
/// Hex digits that Velero's `GetValidName` appends to a shortened name.
const VALID_NAME_HASH: usize = 6;
/// Characters of the group's label value in the name of the VolumeGroupSnapshot.
const GROUP_VALUE_IN_NAME: usize = 24;

/// Velero's `GetValidName` (`pkg/label/label.go`): the value itself if it has at most 63 bytes, else its
/// first 57 bytes and six hex digits of its SHA-256.
pub fn valid_label_value(value: &str) -> String {
    if value.len() <= LABEL_VALUE_MAX {
        return value.to_owned();
    }
    let keep = LABEL_VALUE_MAX - VALID_NAME_HASH;
    let end = (0..=keep).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{}", &value[..end], &sha256_hex(&[value])[..VALID_NAME_HASH])
}

/// Name of the VolumeGroupSnapshot of one attempt of one run. Unique per run and attempt, because the
/// snapshot-controller adopts old members by the *name* of their group.
pub fn group_snapshot(group: &str, run: StreamId, attempt: u32) -> String {
    format!("sp-{}-{}-a{attempt}", dns_part(group), run.short())
}

/// Name of the GroupSnapshot that publishes the status of one run.
pub fn group_snapshot_projection(group: &str, run: StreamId) -> String {
    format!("sp-{}-{}", dns_part(group), run.short())
}

/// Name of the GroupSnapshot of a refused group. It differs from the name of every run: a GroupSnapshot of
/// the other name may hold the receipt of a run of a lost journal.
pub fn refused_group_projection(group: &str, run: StreamId) -> String {
    format!("{}-refused", group_snapshot_projection(group, run))
}

/// Name of the VolumeSnapshot, and of its content, that replaces a lost member.
pub fn rebuilt_member(run: StreamId, volume_handle: &str) -> String {
    format!("sp-{}-{}", run.short(), &sha256_hex(&[&run.to_string(), volume_handle])[..16])
}

/// Name of the unbound VolumeGroupSnapshotContent that lets rebuilt members become ready after the original
/// is deleted.
pub fn stub_content(run: StreamId) -> String {
    format!("sp-{}-stub", run.short())
}

/// Name of the unbound VolumeGroupSnapshotContent with which a rollback frees storage whose own content is
/// gone.
pub fn import_content(run: StreamId) -> String {
    format!("sp-{}-import", run.short())
}

/// Name of the VolumeSnapshotContent that the snapshot-controller creates for one volume of a group
/// (external-snapshotter since v8.3, `getSnapshotContentNameForVolumeGroupSnapshotContent`; before, it was
/// computed from the uid of the group's content).
pub fn member_content(group_uid: &str, volume_handle: &str) -> String {
    format!("snapcontent-{}", sha256_hex(&[group_uid, volume_handle]))
}

fn dns_part(value: &str) -> String {
    let mapped: String = value
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(GROUP_VALUE_IN_NAME)
        .collect();
    match mapped.trim_matches('-') {
        "" => "group".to_owned(),
        part => part.to_owned(),
    }
}

fn sha256_hex(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part.as_bytes()));
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    hasher.finalize().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> StreamId {
        StreamId::of_group("uid", "shop", "key", "orders-db")
    }

    #[test]
    fn label_values_are_shortened_as_velero_does() {
        // Velero pkg/label/label_test.go
        assert_eq!(valid_label_value("short label value"), "short label value");
        let long = "this is a very long label value that will be rejected by Kubernetes";
        assert_eq!(valid_label_value(long).len(), LABEL_VALUE_MAX);
        assert!(
            valid_label_value(long).starts_with("this is a very long label value that will be rejected by ")
        );
    }

    #[test]
    fn any_label_value_yields_valid_object_name() {
        let name = group_snapshot("Group_A", run(), 1);
        assert!(name.starts_with("sp-group-a-") && name.ends_with("-a1"), "{name}");
        assert!(group_snapshot("___", run(), 1).starts_with("sp-group-"));
        assert!(group_snapshot(&"x".repeat(63), run(), 2).len() <= 63);
    }

    #[test]
    fn attempts_and_runs_never_share_a_name() {
        assert_ne!(group_snapshot("db", run(), 1), group_snapshot("db", run(), 2));
        let other = StreamId::of_group("uid2", "shop", "key", "orders-db");
        assert_ne!(group_snapshot("db", run(), 1), group_snapshot("db", other, 1));
        assert_ne!(rebuilt_member(run(), "v1"), rebuilt_member(run(), "v2"));
    }
}
