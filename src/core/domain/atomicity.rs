//! Grades a cut: how far apart the members were cut, and whether the plan accepts it.
//!
//! The only source are the creation times that the driver reports. They prove the driver's report, not its
//! behaviour. A driver that cuts members one after the other usually reports different times.

use serde::{Deserialize, Serialize};

use crate::domain::limits;
use crate::domain::receipt::{Receipt, ReceiptMember};
use crate::domain::text::count;
use crate::domain::time::{Millis, Timestamp};

/// Requirements of a plan on its cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// `--max-skew`: largest accepted difference between the creation times of the members.
    pub max_skew: Millis,
    /// `--require-atomic`: whether a run is rolled back if its skew is too large or unknown.
    pub required: bool,
}

impl Demand {
    /// Demand of a plan whose record has none. It is part of the journal's format and never changes.
    pub const UNRECORDED: Self = Self { max_skew: Millis(1_000), required: false };

    pub fn is_unrecorded(&self) -> bool {
        *self == Self::UNRECORDED
    }
}

impl Default for Demand {
    fn default() -> Self {
        Self { max_skew: limits::MAX_SKEW, required: false }
    }
}

/// Result of comparing the creation times of the members with the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grade {
    /// All members were cut within the limit.
    Within {
        /// Largest minus smallest creation time.
        skew: Millis,
    },
    /// The members were cut further apart than the limit.
    Apart {
        /// Largest minus smallest creation time.
        skew: Millis,
        /// PVC of the member that was cut first.
        first: String,
        /// PVC of the member that was cut last.
        last: String,
    },
    /// The creation time of some members is unknown.
    Unknown {
        /// PVCs of these members.
        claims: Vec<String>,
    },
}

impl Grade {
    /// Grades a cut. A group of one member is always within the limit.
    pub fn of(receipt: &Receipt, max_skew: Millis) -> Self {
        let unknown = receipt.members.iter().filter(|member| member.cut_at().is_none());
        let unknown: Vec<String> = unknown.map(|member| member.claim.clone()).collect();
        let mut timed: Vec<(Timestamp, &ReceiptMember)> =
            receipt.members.iter().filter_map(|member| Some((member.cut_at()?, member))).collect();
        timed.sort_by_key(|(at, _)| *at);
        match (timed.first(), timed.last()) {
            _ if receipt.members.len() < 2 => Self::Within { skew: Millis(0) },
            (Some((first_at, first)), Some((last_at, last))) if last_at.since(*first_at) > max_skew => {
                let skew = last_at.since(*first_at);
                Self::Apart { skew, first: first.claim.clone(), last: last.claim.clone() }
            }
            (Some((first_at, _)), Some((last_at, _))) if unknown.is_empty() => {
                Self::Within { skew: last_at.since(*first_at) }
            }
            _ => Self::Unknown { claims: unknown },
        }
    }

    /// Whether the members count as cut at one moment.
    pub fn is_atomic(&self) -> bool {
        matches!(self, Self::Within { .. })
    }

    /// The status of the condition `Atomic`.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Within { .. } => "True",
            Self::Apart { .. } => "False",
            Self::Unknown { .. } => "Unknown",
        }
    }

    /// The reason of the condition `Atomic`, in CamelCase.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Within { .. } => "WithinMaxSkew",
            Self::Apart { .. } => "SkewTooLarge",
            Self::Unknown { .. } => "CreationTimeUnknown",
        }
    }

    /// Message of the condition `Atomic`.
    pub fn message(&self, max_skew: Millis) -> String {
        /// Number of PVCs that the message names.
        const NAMED: usize = 4;
        match self {
            Self::Within { skew } => {
                format!(
                    "by the driver's creation times the members were cut {skew} apart (--max-skew {max_skew})"
                )
            }
            Self::Apart { skew, first, last } => format!(
                "the driver cut the members {skew} apart, {first} first and {last} last (--max-skew {max_skew}): \
                 the snapshots are not of one moment"
            ),
            Self::Unknown { claims } => {
                let named = claims.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = if claims.len() > NAMED { ", ..." } else { "" };
                format!(
                    "the skew is unknown: the driver reports no creation time of {} ({named}{more})",
                    count(claims.len(), "member")
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ObjectId, Uid};

    const LIMIT: Millis = Millis(1_000);

    /// A receipt of members with these creation times, in milliseconds.
    fn receipt(times: &[Option<i64>]) -> Receipt {
        let object =
            |name: &str| ObjectId { namespace: "shop".into(), name: name.into(), uid: Uid::from(name) };
        let member = |(index, at): (usize, &Option<i64>)| ReceiptMember {
            claim: format!("pvc-{index}"),
            volume_handle: format!("vol-{index}"),
            snapshot_handle: format!("snap-{index}"),
            snapshot: object("vs"),
            content: object("vsc"),
            created_at: at.map(|ms| Timestamp(ms * 1_000_000)),
            restore_size: None,
            volume_mode: None,
        };
        Receipt {
            group_handle: "group-1".to_owned(),
            group_snapshot: object("vgs"),
            group_content: object("vgsc"),
            driver: "hostpath".to_owned(),
            group_class: "class".to_owned(),
            secret: None,
            members: times.iter().enumerate().map(member).collect(),
            provenance: None,
        }
    }

    fn grade(times: &[Option<i64>]) -> (&'static str, Option<u64>) {
        let receipt = receipt(times);
        (Grade::of(&receipt, LIMIT).status(), receipt.skew_ms())
    }

    #[test]
    fn grades_atomicity_by_creation_times() {
        assert_eq!(grade(&[Some(5_000), Some(5_000)]), ("True", Some(0)));
        assert_eq!(grade(&[Some(6_000), Some(5_000)]), ("True", Some(1_000)));
        assert_eq!(grade(&[Some(5_000), Some(50_000), Some(5_001)]), ("False", Some(45_000)));
        assert_eq!(grade(&[Some(5_000), None]), ("Unknown", None));
        assert_eq!(grade(&[None, None]), ("Unknown", None));
        assert_eq!(grade(&[None]), ("True", None));
    }

    #[test]
    fn treats_zero_or_negative_creation_time_as_unknown() {
        for nonsense in [0, -1] {
            assert_eq!(grade(&[Some(1_700_000_000_000), Some(nonsense)]), ("Unknown", None), "{nonsense}");
        }
    }

    #[test]
    fn excessive_skew_outweighs_unknown_creation_time() {
        assert_eq!(grade(&[Some(5_000), None, Some(50_000)]), ("False", None));
    }

    #[test]
    fn message_names_skew_limit_and_pvcs() {
        let message = |times: &[Option<i64>]| Grade::of(&receipt(times), LIMIT).message(LIMIT);
        assert_eq!(
            message(&[Some(50_000), Some(5_000)]),
            "the driver cut the members 45.0 s apart, pvc-1 first and pvc-0 last (--max-skew 1.0 s): the snapshots \
             are not of one moment"
        );
        assert_eq!(
            message(&[Some(5_000), None]),
            "the skew is unknown: the driver reports no creation time of 1 member (pvc-1)"
        );
        assert!(message(&[None; 6]).ends_with("6 members (pvc-0, pvc-1, pvc-2, pvc-3, ...)"));
    }
}
