//! The CSI driver of the embedded cluster, `hostpath.csi.k8s.io`, and the storage behind it.
//!
//! Promises: a group cut is idempotent by its request name; deleting is idempotent; a member of a group is never
//! deleted alone, unless the driver keeps the group to itself; what is in the storage is the only truth about physical snapshots, whatever the API objects say.
//! [`DriverConfig`] turns on what real drivers do wrong.
//!
//! Not here: data. A volume holds a number that every write advances, a snapshot the number of its cut.

mod rpc;
mod storage;

use serde::Deserialize;

pub use rpc::RpcError;
pub(crate) use storage::{GroupSnapshot, Snapshot};
pub use storage::{PhysicalSnapshot, Storage};

/// What the driver does unlike a perfect one. It can be changed while the cluster runs
/// ([`Storage::set_config`]).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DriverConfig {
    /// gRPC code name (`Internal`, `DeadlineExceeded`, …) and text with which CreateVolumeGroupSnapshot fails.
    pub fail_with: Option<(String, String)>,
    /// How many calls fail that way; by default all of them.
    pub fail_times: u32,
    /// The group is cut all the same although the caller is told of a failure.
    pub cut_despite_failure: bool,
    /// A failing call leaves physical snapshots of all volumes but the last, under no group. No driver that
    /// follows the specification does; csi-driver-host-path does.
    pub partial_cut_left: bool,
    /// The driver has no group controller service: the capability is missing.
    pub unimplemented: bool,
    /// How many volumes a group may have at most; more are refused with FailedPrecondition, as by a storage whose
    /// consistency groups have a limit.
    pub member_limit: Option<usize>,
    /// How long after its cut a snapshot becomes ready, milliseconds.
    pub not_ready_ms: u64,
    /// Creation time of the last member minus that of the first, milliseconds: a driver that does not cut at
    /// one instant.
    pub skew_ms: u64,
    /// How many members of a group, from the last on, the driver reports without a creation time: zero.
    pub omits_times: usize,
    /// gRPC code name and text with which DeleteVolumeGroupSnapshot fails, while set.
    pub delete_fails_with: Option<(String, String)>,
    /// ListSnapshots is served. Without it the state of a snapshot made by hand cannot be learnt.
    pub lists_snapshots: bool,
    /// The driver tells which group a snapshot belongs to. One that does not lets a member be deleted alone, as the
    /// specification asks of it.
    pub reports_group_id: bool,
}

impl Default for DriverConfig {
    /// A driver without faults, as csi-driver-host-path 1.18 behaves when nothing goes wrong.
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
