//! The journal on disks that lie, fill up and lose power, and in processes that are killed.

#[path = "journal/agreement.rs"]
mod agreement;
#[path = "journal/alone.rs"]
mod alone;
#[path = "journal/bad_bytes.rs"]
mod bad_bytes;
#[path = "journal/bad_disk.rs"]
mod bad_disk;
#[path = "journal/common.rs"]
mod common;
#[path = "journal/full_disk.rs"]
mod full_disk;
#[path = "journal/fuzz.rs"]
mod fuzz;
#[path = "journal/kill.rs"]
mod kill;
#[path = "journal/long_life.rs"]
mod long_life;
#[path = "journal/page_cache.rs"]
mod page_cache;
#[path = "journal/power_cut.rs"]
mod power_cut;
