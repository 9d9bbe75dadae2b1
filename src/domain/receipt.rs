//! The receipt: the durable record of a finished cut.
//!
//! Once VolumeGroupSnapshot and content are gone, the storage of the members can be freed only through a rebuilt group,
//! and that takes the group handle and every member handle. The receipt is what keeps them. It is in the journal
//! before anything is deleted, and mirrored on every member VolumeSnapshot and VolumeSnapshotContent.

use serde::{Deserialize, Serialize};

use crate::domain::ids::ObjectId;
use crate::domain::time::Timestamp;

/// What is known of one member after the cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptMember {
    /// Name of the claim.
    pub claim: String,
    /// CSI volume handle of the claim's volume.
    pub volume_handle: String,
    /// CSI snapshot handle.
    pub snapshot_handle: String,
    /// The VolumeSnapshot.
    pub snapshot: ObjectId,
    /// The VolumeSnapshotContent.
    pub content: ObjectId,
    /// Creation time as the driver reported it.
    pub created_at: Option<Timestamp>,
    /// Smallest size of a volume made from it, in bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
}

/// Reference to the Secret that the driver needs to delete the group, from the content's annotations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The durable record of a finished cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// CSI group snapshot handle.
    pub group_handle: String,
    /// The VolumeGroupSnapshot.
    pub group_snapshot: ObjectId,
    /// The VolumeGroupSnapshotContent.
    pub group_content: ObjectId,
    /// CSI driver.
    pub driver: String,
    /// VolumeGroupSnapshotClass.
    pub group_class: String,
    /// Secret for the deletion, by reference.
    pub secret: Option<SecretRef>,
    /// Members in the plan's order.
    pub members: Vec<ReceiptMember>,
}

/// The copy that a member's VolumeSnapshot or VolumeSnapshotContent carries, read back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberCopy {
    /// The run.
    pub run: String,
    /// CSI driver.
    pub driver: String,
    /// VolumeGroupSnapshotClass.
    pub group_class: String,
    /// CSI group snapshot handle.
    pub group_handle: String,
    /// Secret for the deletion, by reference.
    pub secret: Option<SecretRef>,
    /// Name of the claim.
    pub claim: String,
    /// CSI volume handle.
    pub volume_handle: String,
    /// CSI snapshot handle.
    pub snapshot_handle: String,
    /// Creation time as the driver reported it.
    pub created_at_ns: Option<Timestamp>,
    /// Smallest size of a volume made from it, in bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// Handles of all members, in the plan's order.
    pub snapshot_handles: Vec<String>,
}

impl MemberCopy {
    /// Reads what [`Receipt::annotation`] writes; none for another text.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Receipt {
    /// Largest minus smallest creation time of the members in milliseconds; `None` if one is unknown.
    pub fn skew_ms(&self) -> Option<u64> {
        let times: Option<Vec<_>> = self.members.iter().map(|member| member.created_at).collect();
        let times = times?;
        Some(times.iter().max()?.since(*times.iter().min()?).0)
    }

    /// Hash of the members, as the record that closes the receipt holds it.
    pub fn hash(members: &[ReceiptMember]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for member in members {
            let line = serde_json::to_vec(member).expect("a receipt member has only strings and numbers");
            hasher.update(&(line.len() as u64).to_be_bytes());
            hasher.update(&line);
        }
        *hasher.finalize().as_bytes()
    }

    /// The copy that a member's VolumeSnapshot and VolumeSnapshotContent carry: all that a reclaim needs.
    pub fn annotation(&self, run: &str, member: usize) -> String {
        let own = &self.members[member];
        let handles: Vec<_> = self.members.iter().map(|m| m.snapshot_handle.as_str()).collect();
        serde_json::json!({
            "run": run,
            "driver": self.driver,
            "groupClass": self.group_class,
            "groupHandle": self.group_handle,
            "secret": self.secret,
            "claim": own.claim,
            "volumeHandle": own.volume_handle,
            "snapshotHandle": own.snapshot_handle,
            "createdAtNs": own.created_at,
            "restoreSize": own.restore_size,
            "volumeMode": own.volume_mode,
            "snapshotHandles": handles,
        })
        .to_string()
    }

    /// The copy that the VolumeGroupSnapshotContent carries: handles of the group without the names of objects.
    pub fn group_annotation(&self, run: &str) -> String {
        let handles: Vec<_> =
            self.members.iter().map(|m| [m.volume_handle.as_str(), m.snapshot_handle.as_str()]).collect();
        serde_json::json!({
            "run": run,
            "driver": self.driver,
            "groupClass": self.group_class,
            "groupHandle": self.group_handle,
            "secret": self.secret,
            "members": handles,
        })
        .to_string()
    }
}
