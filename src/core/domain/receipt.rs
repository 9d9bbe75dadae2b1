//! Defines the receipt: the durable record of a finished cut.
//!
//! After VolumeGroupSnapshot and content are deleted, the storage of the members can be freed only through a
//! rebuilt group. That requires the group handle and every member handle, which the receipt holds. The
//! journal has the receipt before anything is deleted. Every member VolumeSnapshot and VolumeSnapshotContent
//! carries a copy.

use serde::{Deserialize, Serialize};

use crate::domain::ids::{ObjectId, Uid};
use crate::domain::time::Timestamp;

/// Handles and objects of one member after the cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptMember {
    /// Name of the PVC.
    pub claim: String,
    /// CSI volume handle of the PVC's volume.
    pub volume_handle: String,
    /// CSI snapshot handle.
    pub snapshot_handle: String,
    /// The VolumeSnapshot.
    pub snapshot: ObjectId,
    /// The VolumeSnapshotContent.
    pub content: ObjectId,
    /// Creation time that the driver reported.
    pub created_at: Option<Timestamp>,
    /// Smallest size of a volume that is restored from it, in bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
}

/// Reference to the Secret that the driver needs to delete the group, from the annotations of the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    pub namespace: String,
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
    /// Secret for the deletion.
    pub secret: Option<SecretRef>,
    /// Members in the plan's order.
    pub members: Vec<ReceiptMember>,
    /// Where and when the cut was made; `None` in a receipt of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Where and when a cut was made. A reclaim compares it with the storage before it frees anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance {
    /// Uid of the VolumeGroupSnapshotClass.
    pub class_uid: Option<Uid>,
    /// Secret with which the driver reads the group, as resolved.
    pub get_secret: Option<SecretRef>,
    /// Creation time of the group that the driver reported.
    pub created_at: Option<Timestamp>,
    /// Id of the journal.
    pub journal: Option<String>,
    /// Uid of the cluster: that of its namespace `kube-system`.
    pub cluster: Option<String>,
}

impl SecretRef {
    /// The secret of a class with the templates of external-snapshotter replaced. `None` if a template stays: the
    /// driver would not find such a secret either.
    pub fn resolved(&self, group: &ObjectId, content: &str) -> Option<SecretRef> {
        let of = |text: &str| {
            let text = text
                .replace("${volumegroupsnapshotcontent.name}", content)
                .replace("${volumegroupsnapshot.namespace}", &group.namespace)
                .replace("${volumegroupsnapshot.name}", &group.name);
            (!text.contains("${")).then_some(text)
        };
        Some(SecretRef { namespace: of(&self.namespace)?, name: of(&self.name)? })
    }
}

/// The copy of the receipt on a member's VolumeSnapshot or VolumeSnapshotContent, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberCopy {
    pub run: String,
    /// CSI driver.
    pub driver: String,
    /// VolumeGroupSnapshotClass.
    pub group_class: String,
    /// CSI group snapshot handle.
    pub group_handle: String,
    /// Secret for the deletion.
    pub secret: Option<SecretRef>,
    /// Name of the PVC.
    pub claim: String,
    /// CSI volume handle.
    pub volume_handle: String,
    /// CSI snapshot handle.
    pub snapshot_handle: String,
    /// Creation time that the driver reported.
    pub created_at_ns: Option<Timestamp>,
    /// Smallest size of a volume that is restored from it, in bytes.
    pub restore_size: Option<i64>,
    /// `Filesystem` or `Block`.
    pub volume_mode: Option<String>,
    /// Handles of all members, in the plan's order.
    pub snapshot_handles: Vec<String>,
}

impl MemberCopy {
    /// Parses the output of [`Receipt::annotation`]; none for any other text.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl ReceiptMember {
    /// Creation time, if valid. A driver without a creation time reports zero. Some layers convert zero to
    /// the year 1970, or to Go's zero time in the year 1. Both are invalid.
    pub fn cut_at(&self) -> Option<Timestamp> {
        self.created_at.filter(|at| at.0 > 0)
    }
}

impl Receipt {
    /// Largest minus smallest creation time of the members in milliseconds; `None` if one is unknown.
    pub fn skew_ms(&self) -> Option<u64> {
        let times: Option<Vec<_>> = self.members.iter().map(ReceiptMember::cut_at).collect();
        let times = times?;
        Some(times.iter().max()?.since(*times.iter().min()?).0)
    }

    /// CSI handles of the group and of its members.
    pub fn handles(&self) -> impl Iterator<Item = String> + use<'_> {
        let members = self.members.iter().map(|member| &member.snapshot_handle);
        [&self.group_handle].into_iter().chain(members).cloned()
    }

    /// Hash of the members, as stored in the record that closes the receipt.
    pub fn hash(members: &[ReceiptMember]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for member in members {
            let line = serde_json::to_vec(member).expect("a receipt member has only strings and numbers");
            hasher.update(&(line.len() as u64).to_be_bytes());
            hasher.update(&line);
        }
        *hasher.finalize().as_bytes()
    }

    /// The copy on a member's VolumeSnapshot and VolumeSnapshotContent: all values that a reclaim needs.
    pub fn annotation(&self, run: &str, member: usize) -> String {
        let own = &self.members[member];
        text(&MemberText {
            claim: &own.claim,
            created_at_ns: own.created_at,
            driver: &self.driver,
            group_class: &self.group_class,
            group_handle: &self.group_handle,
            restore_size: own.restore_size,
            run,
            secret: self.secret.as_ref().map(SecretText::of),
            snapshot_handle: &own.snapshot_handle,
            snapshot_handles: self.members.iter().map(|m| m.snapshot_handle.as_str()).collect(),
            volume_handle: &own.volume_handle,
            volume_mode: own.volume_mode.as_deref(),
        })
    }

    /// The copy on the VolumeGroupSnapshotContent: handles of the group without the names of objects.
    pub fn group_annotation(&self, run: &str) -> String {
        text(&GroupText {
            driver: &self.driver,
            group_class: &self.group_class,
            group_handle: &self.group_handle,
            members: self
                .members
                .iter()
                .map(|m| [m.volume_handle.as_str(), m.snapshot_handle.as_str()])
                .collect(),
            run,
            secret: self.secret.as_ref().map(SecretText::of),
        })
    }
}

/// Source of a member's copy, with fields in alphabetical order. The copy is compared byte for byte with the
/// annotation on the objects, those of older releases included. This happens for each member in every
/// observation, so only the text is allocated.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberText<'a> {
    claim: &'a str,
    created_at_ns: Option<Timestamp>,
    driver: &'a str,
    group_class: &'a str,
    group_handle: &'a str,
    restore_size: Option<i64>,
    run: &'a str,
    secret: Option<SecretText<'a>>,
    snapshot_handle: &'a str,
    snapshot_handles: Vec<&'a str>,
    volume_handle: &'a str,
    volume_mode: Option<&'a str>,
}

/// Source of the copy on the group's content, with fields in alphabetical order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupText<'a> {
    driver: &'a str,
    group_class: &'a str,
    group_handle: &'a str,
    members: Vec<[&'a str; 2]>,
    run: &'a str,
    secret: Option<SecretText<'a>>,
}

/// A [`SecretRef`] with fields in alphabetical order.
#[derive(Serialize)]
struct SecretText<'a> {
    name: &'a str,
    namespace: &'a str,
}

impl<'a> SecretText<'a> {
    fn of(secret: &'a SecretRef) -> Self {
        Self { name: &secret.name, namespace: &secret.namespace }
    }
}

fn text(copy: &impl Serialize) -> String {
    serde_json::to_string(copy).expect("a copy of a receipt has only strings and numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_secret_are_replaced() {
        let group = ObjectId { namespace: "shop".into(), name: "vgs".into(), uid: Uid::from("u") };
        let secret =
            |namespace: &str, name: &str| SecretRef { namespace: namespace.into(), name: name.into() };
        let templates = secret("${volumegroupsnapshot.namespace}", "key-${volumegroupsnapshotcontent.name}");
        assert_eq!(templates.resolved(&group, "vgsc"), Some(secret("shop", "key-vgsc")));
        assert_eq!(
            secret("a", "${volumegroupsnapshot.name}").resolved(&group, "c"),
            Some(secret("a", "vgs"))
        );
        assert_eq!(secret("storage", "${pvc.name}").resolved(&group, "vgsc"), None);
    }

    #[test]
    fn receipt_copies_keep_bytes_of_earlier_releases() {
        let object =
            |name: &str| ObjectId { namespace: "shop".into(), name: name.into(), uid: Uid::from(name) };
        let member = |index: u8, created_at| ReceiptMember {
            claim: format!("data-{index}"),
            volume_handle: format!("vol-{index}"),
            snapshot_handle: format!("snap-{index}"),
            snapshot: object("vs"),
            content: object("vsc"),
            created_at,
            restore_size: Some(1 << 30),
            volume_mode: Some("Filesystem".to_owned()),
        };
        let receipt = Receipt {
            group_handle: "group-1".to_owned(),
            group_snapshot: object("vgs"),
            group_content: object("vgsc"),
            driver: "hostpath".to_owned(),
            group_class: "class".to_owned(),
            secret: Some(SecretRef { namespace: "storage".to_owned(), name: "key".to_owned() }),
            members: vec![member(0, Some(Timestamp(7))), member(1, None)],
            provenance: None,
        };
        assert_eq!(
            receipt.annotation("run-1", 0),
            r#"{"claim":"data-0","createdAtNs":7,"driver":"hostpath","groupClass":"class","groupHandle":"group-1","restoreSize":1073741824,"run":"run-1","secret":{"name":"key","namespace":"storage"},"snapshotHandle":"snap-0","snapshotHandles":["snap-0","snap-1"],"volumeHandle":"vol-0","volumeMode":"Filesystem"}"#
        );
        assert_eq!(
            receipt.group_annotation("run-1"),
            r#"{"driver":"hostpath","groupClass":"class","groupHandle":"group-1","members":[["vol-0","snap-0"],["vol-1","snap-1"]],"run":"run-1","secret":{"name":"key","namespace":"storage"}}"#
        );
        let recorded = Receipt { provenance: Some(Provenance::default()), ..receipt.clone() };
        assert_eq!(recorded.annotation("run-1", 0), receipt.annotation("run-1", 0));
        let read = MemberCopy::read(&receipt.annotation("run-1", 1)).expect("readable");
        assert_eq!((read.claim.as_str(), read.created_at_ns, read.secret), ("data-1", None, receipt.secret));
    }
}
