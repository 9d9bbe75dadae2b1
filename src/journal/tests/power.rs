//! Simulates a loss of power under the real store.
//!
//! The disk is the image of sled's file at the last barrier, plus any subset of the sectors that were
//! written since: the kernel may have written back some of them, in any order. From each such disk every
//! acknowledged record must be recovered, and the recovered records must be a valid chain. Not modelled:
//! torn sectors, and power losses while a database is opened.

use std::fs;
use std::path::Path;

use super::super::scan::scan;
use super::super::testing::batches;
use super::*;

const SECTOR: usize = 512;
const CYCLES: u64 = 24;

/// The image with some of the sectors that `now` has written since.
fn after_power_loss(image: &[u8], now: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut disk = image.to_vec();
    disk.resize(now.len().max(image.len()), 0);
    let share = random.f64();
    for (index, sector) in now.chunks(SECTOR).enumerate() {
        let there = &mut disk[index * SECTOR..index * SECTOR + sector.len()];
        if *there != *sector && random.f64() < share {
            there.copy_from_slice(sector);
        }
    }
    disk
}

/// Opens the disk after a power loss. Returns the number of recovered records.
fn recovered(conf: &Path, disk: &[u8], seed: u64) -> u64 {
    let dir = tempfile::tempdir().expect("a directory");
    fs::copy(conf, dir.path().join("conf")).expect("copied");
    fs::write(dir.path().join("db"), disk).expect("written");
    let store = SledStore::open(dir.path()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let meta = store.meta().expect("readable").unwrap_or_default();
    let verified = scan(&store, &meta, |_| ()).unwrap_or_else(|damage| panic!("seed {seed}: {damage:?}"));
    verified.records
}

#[test]
fn power_loss_keeps_all_acknowledged_records() {
    let mut survived_unacknowledged = 0;
    for seed in 0..CYCLES {
        let mut random = fastrand::Rng::with_seed(seed);
        let (acknowledged, written) = (random.usize(1..30), random.usize(1..12));
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("db");
        let mut store = SledStore::open(dir.path()).expect("opened");
        let batches = batches((acknowledged + written) as u64);
        for batch in &batches[..acknowledged] {
            store.write(batch).expect("written");
            store.sync().expect("synced");
        }
        let image = fs::read(&file).expect("readable");
        for batch in &batches[acknowledged..] {
            store.write(batch).expect("written");
            store.flush().expect("flushed, not synced");
        }
        let disk = after_power_loss(&image, &fs::read(&file).expect("readable"), &mut random);
        let records = recovered(&dir.path().join("conf"), &disk, seed);
        assert!(
            records >= acknowledged as u64,
            "seed {seed}: {records} of {acknowledged} acknowledged records"
        );
        survived_unacknowledged += records - acknowledged as u64;
    }
    assert!(
        survived_unacknowledged > 0,
        "no power loss fell between two barriers: the test looks at nothing"
    );
}
