//! The storage: volumes, physical snapshots and groups, and the driver calls that operate on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::{DriverConfig, RpcError};
use crate::clock::SimClock;
use crate::ids::Ids;

/// Duration of a call that fails. Measured: 2.7 calls per second in the hot loop of the sidecar, independent
/// of the speed of the API. A call that succeeds takes no time.
const SLOW_ANSWER: Duration = Duration::from_millis(350);

/// Duration of a call that returns "not ready yet". Measured: 23 calls in 13 seconds.
const NOT_READY_ANSWER: Duration = Duration::from_millis(540);

/// A snapshot that uses storage, whether or not an API object refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PhysicalSnapshot {
    pub snapshot_handle: String,
    /// Name in the create request.
    pub name: String,
    /// Handle of the source volume.
    pub volume_handle: String,
    /// Handle of the group, if it was cut with one.
    pub group_handle: Option<String>,
    /// Time of the cut, nanoseconds since 1970. The storage has its own clock, which is never stepped.
    pub creation_time_ns: i64,
    /// Size of the volume at the cut, bytes.
    pub size_bytes: i64,
    /// Content of the volume at the cut: its [`version`](Storage::version) at that time.
    pub version: u64,
}

/// One snapshot as the driver reports it.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) handle: String,
    pub(crate) volume: String,
    pub(crate) creation_time_ns: i64,
    pub(crate) size_bytes: i64,
    pub(crate) ready: bool,
    pub(crate) group: Option<String>,
}

/// A group of snapshots as the driver reports it.
#[derive(Clone, Debug)]
pub(crate) struct GroupSnapshot {
    pub(crate) handle: String,
    pub(crate) creation_time_ns: i64,
    pub(crate) ready: bool,
    pub(crate) snapshots: Vec<Snapshot>,
}

/// The storage and its driver. Clones share the same storage. It outlives the actors, as a real storage does.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Mutex<Inner>>,
    clock: SimClock,
}

struct Inner {
    config: DriverConfig,
    handles: Ids,
    calls: BTreeMap<&'static str, u64>,
    volumes: BTreeMap<String, Volume>,
    snapshots: BTreeMap<String, PhysicalSnapshot>,
    cut_history: Vec<PhysicalSnapshot>,
    groups: BTreeMap<String, Group>,
}

/// A volume. Its content is only a number that every write increments.
struct Volume {
    size_bytes: i64,
    version: u64,
}

struct Group {
    name: String,
    creation_time_ns: i64,
    snapshots: Vec<String>,
}

impl Storage {
    /// Creates an empty storage whose handles are drawn from the seed.
    pub fn new(seed: u64, clock: SimClock, config: DriverConfig) -> Self {
        let inner = Inner {
            config,
            handles: Ids::new(seed, "handle"),
            calls: BTreeMap::new(),
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            cut_history: Vec::new(),
            groups: BTreeMap::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), clock }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the deviations of the driver, from the next call on.
    pub fn set_config(&self, config: DriverConfig) {
        self.inner().config = config;
    }

    /// Number of calls that the driver has served, by method name.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.inner().calls.clone()
    }

    /// All physical snapshots, in handle order.
    pub fn physical_snapshots(&self) -> Vec<PhysicalSnapshot> {
        self.inner().snapshots.values().cloned().collect()
    }

    /// All snapshots that were ever cut, in the order of the cuts, in their state at the cut.
    pub fn cut_history(&self) -> Vec<PhysicalSnapshot> {
        self.inner().cut_history.clone()
    }

    /// Destroys a physical snapshot outside of the driver and the API, as an administrator of the storage
    /// can. Returns false if the handle does not exist.
    pub fn destroy(&self, snapshot_handle: &str) -> bool {
        self.inner().snapshots.remove(snapshot_handle).is_some()
    }

    /// Writes to a volume, as a database does, and returns its new version, or `None` if the volume does not
    /// exist. If a skewed driver cuts a snapshot later than this write, the snapshot contains the write.
    pub fn write(&self, volume_handle: &str) -> Option<u64> {
        let mut inner = self.inner();
        let now = self.clock.steady_ns();
        let volume = inner.volumes.get_mut(volume_handle)?;
        volume.version += 1;
        let version = volume.version;
        let later =
            |one: &&mut PhysicalSnapshot| one.volume_handle == volume_handle && one.creation_time_ns > now;
        for snapshot in inner.snapshots.values_mut().filter(later) {
            snapshot.version = version;
        }
        Some(version)
    }

    /// Content of a volume: the number of writes to it, plus the number in the snapshot that it was restored
    /// from.
    pub fn version(&self, volume_handle: &str) -> Option<u64> {
        self.inner().volumes.get(volume_handle).map(|volume| volume.version)
    }

    pub(crate) fn create_volume(
        &self,
        name: &str,
        size_bytes: i64,
        source: Option<&str>,
    ) -> Result<String, RpcError> {
        let mut inner = self.inner();
        inner.count("CreateVolume");
        let mut version = 0;
        if let Some(source) = source {
            let found = inner.snapshots.get(source);
            let missing = || RpcError::new("NotFound", format!("cannot find snapshot {source}"));
            version = found.ok_or_else(missing)?.version;
        }
        let handle = inner.handles.next(&["volume", name]);
        inner.volumes.insert(handle.clone(), Volume { size_bytes, version });
        Ok(handle)
    }

    pub(crate) fn delete_volume(&self, handle: &str) {
        let mut inner = self.inner();
        inner.count("DeleteVolume");
        inner.volumes.remove(handle);
    }

    pub(crate) async fn create_volume_group_snapshot(
        &self,
        name: &str,
        volumes: &[String],
    ) -> Result<GroupSnapshot, RpcError> {
        let answer = {
            let mut inner = self.inner();
            inner.count("CreateVolumeGroupSnapshot");
            inner.cut_group(name, volumes, self.clock.steady_ns())
        };
        match &answer {
            Ok(group) if group.ready => {}
            Ok(_) => tokio::time::sleep(NOT_READY_ANSWER).await,
            Err(_) => tokio::time::sleep(SLOW_ANSWER).await,
        }
        answer
    }

    pub(crate) async fn delete_volume_group_snapshot(&self, handle: &str) -> Result<(), RpcError> {
        let failure = {
            let mut inner = self.inner();
            inner.count("DeleteVolumeGroupSnapshot");
            match inner.config.delete_fails_with.clone() {
                Some((code, message)) => RpcError { code, message },
                None => {
                    if let Some(group) = inner.groups.remove(handle) {
                        inner.snapshots.retain(|snapshot, _| !group.snapshots.contains(snapshot));
                    }
                    return Ok(());
                }
            }
        };
        tokio::time::sleep(SLOW_ANSWER).await;
        Err(failure)
    }

    /// Returns the group if its members are exactly `snapshots`.
    pub(crate) fn get_volume_group_snapshot(
        &self,
        handle: &str,
        snapshots: &[String],
    ) -> Result<GroupSnapshot, RpcError> {
        let mut inner = self.inner();
        inner.count("GetVolumeGroupSnapshot");
        let Some(group) = inner.groups.get(handle) else {
            return Err(RpcError::new("NotFound", format!("group snapshot {handle} is not found")));
        };
        let (mut known, mut given) = (group.snapshots.clone(), snapshots.to_vec());
        known.sort();
        given.sort();
        if known != given {
            let message =
                format!("group snapshot {handle} has snapshots {known:?}, the request names {given:?}");
            return Err(RpcError::new("InvalidArgument", message));
        }
        Ok(inner.group(handle, self.clock.steady_ns()))
    }

    pub(crate) fn create_snapshot(&self, name: &str, volume: &str) -> Result<Snapshot, RpcError> {
        let mut inner = self.inner();
        inner.count("CreateSnapshot");
        let now = self.clock.steady_ns();
        let known = inner
            .snapshots
            .values()
            .find(|snapshot| snapshot.name == name && snapshot.group_handle.is_none());
        let handle = match known {
            Some(known) => known.snapshot_handle.clone(),
            None => inner.cut(name, volume, None, now)?,
        };
        inner.snapshot(&handle, now).ok_or_else(|| RpcError::new("NotFound", handle))
    }

    pub(crate) fn delete_snapshot(&self, handle: &str) -> Result<(), RpcError> {
        let mut inner = self.inner();
        inner.count("DeleteSnapshot");
        let group = inner.snapshots.get(handle).and_then(|found| found.group_handle.clone());
        if let Some(group) = group.filter(|_| inner.config.reports_group_id) {
            let message = format!("Snapshot with ID {handle} is part of groupsnapshot {group}");
            return Err(RpcError::new("InvalidArgument", message));
        }
        inner.snapshots.remove(handle);
        Ok(())
    }

    /// Returns whether ListSnapshots is served.
    pub(crate) fn can_list_snapshots(&self) -> bool {
        self.inner().config.lists_snapshots
    }

    /// ListSnapshots for one handle.
    pub(crate) fn list_snapshot(&self, handle: &str) -> Option<Snapshot> {
        let mut inner = self.inner();
        inner.count("ListSnapshots");
        let mut found = inner.snapshot(handle, self.clock.steady_ns())?;
        if !inner.config.reports_group_id {
            found.group = None;
        }
        Some(found)
    }
}

impl Inner {
    fn count(&mut self, method: &'static str) {
        *self.calls.entry(method).or_default() += 1;
    }

    fn cut_group(&mut self, name: &str, volumes: &[String], now: i64) -> Result<GroupSnapshot, RpcError> {
        if self.config.unimplemented {
            return Err(RpcError::new("Unimplemented", "unknown service csi.v1.GroupController"));
        }
        if let Some(limit) = self.config.member_limit.filter(|limit| volumes.len() > *limit) {
            let message = format!("a group holds at most {limit} volumes, {} were requested", volumes.len());
            return Err(RpcError::new("FailedPrecondition", message));
        }
        if let Some(failure) = self.failure() {
            if self.config.cut_despite_failure {
                self.cut_or_get_group(name, volumes, now)?;
            } else if self.config.partial_cut_left {
                for volume in volumes.iter().take(volumes.len().saturating_sub(1)) {
                    self.cut(&format!("{name}-{volume}"), volume, None, now)?;
                }
            }
            return Err(failure);
        }
        let handle = self.cut_or_get_group(name, volumes, now)?;
        Ok(self.group(&handle, now))
    }

    fn failure(&mut self) -> Option<RpcError> {
        let (code, message) = self.config.fail_with.clone()?;
        self.config.fail_times = self.config.fail_times.checked_sub(1)?;
        Some(RpcError { code, message })
    }

    /// Returns the group with that name; cuts it now if it does not exist.
    fn cut_or_get_group(&mut self, name: &str, volumes: &[String], now: i64) -> Result<String, RpcError> {
        if let Some((handle, _)) = self.groups.iter().find(|(_, group)| group.name == name) {
            return Ok(handle.clone());
        }
        if let Some(missing) = volumes.iter().find(|volume| !self.volumes.contains_key(*volume)) {
            return Err(no_volume(missing));
        }
        let handle = self.handles.next(&["group", name]);
        let gaps = i64::try_from(volumes.len().saturating_sub(1).max(1)).unwrap_or(1);
        let skew_ns = i64::try_from(self.config.skew_ms).unwrap_or(0).saturating_mul(1_000_000);
        let mut snapshots = Vec::new();
        for (index, volume) in (0_i64..).zip(volumes) {
            let at = now.saturating_add(skew_ns.saturating_mul(index) / gaps);
            snapshots.push(self.cut(&format!("{name}-{volume}"), volume, Some(&handle), at)?);
        }
        let group = Group { name: name.to_owned(), creation_time_ns: now, snapshots };
        self.groups.insert(handle.clone(), group);
        Ok(handle)
    }

    fn cut(
        &mut self,
        name: &str,
        volume: &str,
        group: Option<&str>,
        creation_time_ns: i64,
    ) -> Result<String, RpcError> {
        let Volume { size_bytes, version } = *self.volumes.get(volume).ok_or_else(|| no_volume(volume))?;
        let handle = self.handles.next(&["snapshot", name]);
        let snapshot = PhysicalSnapshot {
            snapshot_handle: handle.clone(),
            name: name.to_owned(),
            volume_handle: volume.to_owned(),
            group_handle: group.map(str::to_owned),
            creation_time_ns,
            size_bytes,
            version,
        };
        self.cut_history.push(snapshot.clone());
        self.snapshots.insert(handle.clone(), snapshot);
        Ok(handle)
    }

    fn snapshot(&self, handle: &str, now: i64) -> Option<Snapshot> {
        let found = self.snapshots.get(handle)?;
        let wait_ns = i64::try_from(self.config.not_ready_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Some(Snapshot {
            handle: handle.to_owned(),
            volume: found.volume_handle.clone(),
            creation_time_ns: if self.omits_time(found) { 0 } else { found.creation_time_ns },
            size_bytes: found.size_bytes,
            ready: now >= found.creation_time_ns.saturating_add(wait_ns) || wait_ns == 0,
            group: found.group_handle.clone(),
        })
    }

    fn omits_time(&self, snapshot: &PhysicalSnapshot) -> bool {
        let group = snapshot.group_handle.as_ref().and_then(|handle| self.groups.get(handle));
        let handles = group.map(|group| group.snapshots.as_slice()).unwrap_or_default();
        handles.iter().rev().take(self.config.omits_times).any(|one| *one == snapshot.snapshot_handle)
    }

    fn group(&self, handle: &str, now: i64) -> GroupSnapshot {
        let group = self.groups.get(handle);
        let handles = group.map(|group| group.snapshots.as_slice()).unwrap_or_default();
        let snapshots: Vec<Snapshot> =
            handles.iter().filter_map(|handle| self.snapshot(handle, now)).collect();
        GroupSnapshot {
            handle: handle.to_owned(),
            creation_time_ns: group.map_or(now, |group| group.creation_time_ns),
            ready: snapshots.iter().all(|snapshot| snapshot.ready),
            snapshots,
        }
    }
}

fn no_volume(handle: &str) -> RpcError {
    RpcError::new("NotFound", format!("volume id {handle} does not exist in the volumes list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(config: DriverConfig) -> (Storage, Vec<String>) {
        let storage = Storage::new(7, SimClock::new(1_795_197_784_180_717_886), config);
        let volumes = (0..3).map(|_| storage.create_volume("v", 1 << 20, None).expect("room")).collect();
        (storage, volumes)
    }

    #[tokio::test(start_paused = true)]
    async fn snapshots_group_once_per_name_and_deletes_whole() {
        let (storage, volumes) = storage(DriverConfig::default());
        let first = storage.create_volume_group_snapshot("g", &volumes).await.expect("cut");
        let again = storage.create_volume_group_snapshot("g", &volumes).await.expect("cut");
        assert_eq!(first.handle, again.handle);
        assert_eq!(storage.physical_snapshots().len(), 3);
        assert!(first.snapshots.iter().all(|member| member.creation_time_ns == first.creation_time_ns));

        let member = &first.snapshots[0].handle;
        assert_eq!(storage.delete_snapshot(member).expect_err("a member").code, "InvalidArgument");
        storage.delete_volume_group_snapshot(&first.handle).await.expect("deleted");
        storage.delete_volume_group_snapshot(&first.handle).await.expect("idempotent");
        assert_eq!(storage.physical_snapshots(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn failing_cut_may_leave_partial_snapshots() {
        let (storage, volumes) = storage(DriverConfig {
            fail_with: Some(("Internal".to_owned(), "disk on fire".to_owned())),
            fail_times: 2,
            partial_cut_left: true,
            ..DriverConfig::default()
        });
        for _ in 0..2 {
            let failure = storage.create_volume_group_snapshot("g", &volumes).await.expect_err("fails");
            assert_eq!(failure.to_string(), "rpc error: code = Internal desc = disk on fire");
        }
        assert_eq!(storage.physical_snapshots().len(), 4, "two of three volumes, for each of two calls");
        storage.create_volume_group_snapshot("g", &volumes).await.expect("a success");
        assert_eq!(storage.physical_snapshots().len(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn skew_spreads_the_creation_times() {
        let (storage, volumes) = storage(DriverConfig { skew_ms: 40, ..DriverConfig::default() });
        let group = storage.create_volume_group_snapshot("g", &volumes).await.expect("cut");
        let times: Vec<i64> = group.snapshots.iter().map(|member| member.creation_time_ns).collect();
        assert_eq!(times[2] - times[0], 40_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn snapshot_and_restore_contain_writes_before_cut() {
        let (storage, volumes) = storage(DriverConfig { skew_ms: 40, ..DriverConfig::default() });
        storage.write(&volumes[0]);
        let group = storage.create_volume_group_snapshot("g", &volumes).await.expect("cut");
        for volume in &volumes {
            storage.write(volume);
        }
        let version_of = |member: usize| {
            let handle = &group.snapshots[member].handle;
            storage.inner().snapshots.get(handle).map(|snapshot| snapshot.version)
        };
        assert_eq!(
            (version_of(0), version_of(1), version_of(2)),
            (Some(1), Some(1), Some(1)),
            "later cuts contain the second write"
        );
        tokio::time::advance(Duration::from_millis(41)).await;
        assert_eq!(storage.write(&volumes[2]), Some(2));
        assert_eq!(version_of(2), Some(1), "the cut has happened");
        let restored =
            storage.create_volume("restored", 1 << 20, Some(&group.snapshots[2].handle)).expect("room");
        assert_eq!(storage.version(&restored), Some(1));
    }

    #[test]
    fn five_grpc_codes_are_not_final() {
        let codes = ["Canceled", "DeadlineExceeded", "Unavailable", "ResourceExhausted", "Aborted"];
        assert!(codes.iter().all(|code| !RpcError::new(code, "").is_final()));
        assert!(
            ["Internal", "Unimplemented", "NotFound"].iter().all(|code| RpcError::new(code, "").is_final())
        );
    }
}
