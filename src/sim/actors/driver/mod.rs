//! The CSI driver of the embedded cluster, `hostpath.csi.k8s.io`, and its storage.
//!
//! Promises:
//! - A group cut is idempotent by its request name.
//! - Deletion is idempotent.
//! - A member of a group is never deleted alone, unless the driver does not report the group.
//! - The storage is the only truth about physical snapshots, whatever the API objects say.
//!
//! [`DriverConfig`] enables defects of real drivers.
//!
//! Not here: data. A volume holds a number that every write increments. A snapshot holds the number at its
//! cut.

mod rpc;
mod storage;

use serde::Deserialize;

pub use rpc::RpcError;
pub(crate) use storage::{GroupSnapshot, Snapshot};
pub use storage::{PhysicalSnapshot, Storage};

/// Deviations of the driver from a correct driver. They can be changed while the cluster runs
/// ([`Storage::set_config`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DriverConfig {
    /// gRPC code name (`Internal`, `DeadlineExceeded`, …) and message of the error of
    /// CreateVolumeGroupSnapshot.
    pub fail_with: Option<(String, String)>,
    /// Number of calls that fail in that way. Default: all of them.
    pub fail_times: u32,
    /// The group is cut although the caller receives an error.
    pub cut_despite_failure: bool,
    /// A failing call leaves physical snapshots of all volumes but the last, without a group. No driver that
    /// follows the specification does this; csi-driver-host-path does.
    pub partial_cut_left: bool,
    /// The driver has no group controller service: the capability is missing.
    pub unimplemented: bool,
    /// Maximum number of volumes in a group. A larger group is refused with FailedPrecondition, as by a
    /// storage whose consistency groups have a limit.
    pub member_limit: Option<usize>,
    /// Time from the cut of a snapshot until it is ready, milliseconds.
    pub not_ready_ms: u64,
    /// Creation time of the last member minus that of the first, milliseconds. Models a driver that does not
    /// cut all members at one instant.
    pub skew_ms: u64,
    /// Number of members, from the last one on, that the driver reports with a creation time of zero.
    pub omits_times: usize,
    /// gRPC code name and message of the error of DeleteVolumeGroupSnapshot, while set.
    pub delete_fails_with: Option<(String, String)>,
    /// ListSnapshots is served. Without it the state of a static snapshot is unknown.
    pub lists_snapshots: bool,
    /// The driver reports the group of a snapshot. A driver that does not report it allows the deletion of a
    /// single member, as the specification requires.
    pub reports_group_id: bool,
}

impl Default for DriverConfig {
    /// A driver without faults: csi-driver-host-path 1.18 when nothing fails.
    fn default() -> Self {
        Self {
            fail_with: None,
            fail_times: u32::MAX,
            cut_despite_failure: false,
            partial_cut_left: false,
            unimplemented: false,
            member_limit: None,
            not_ready_ms: 0,
            skew_ms: 0,
            omits_times: 0,
            delete_fails_with: None,
            lists_snapshots: true,
            reports_group_id: true,
        }
    }
}
