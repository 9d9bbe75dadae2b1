//! Rows of results, printed beside the measured ones.

/// The remaining objects of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// VolumeSnapshots that are not terminating.
    pub snapshots: usize,
    pub contents: usize,
    pub physical: usize,
    /// VolumeSnapshots with readyToUse but without a physical snapshot.
    pub phantoms: usize,
}

impl Leftovers {
    pub const fn new(snapshots: usize, contents: usize, physical: usize) -> Self {
        Self { snapshots, contents, physical, phantoms: 0 }
    }
}

/// Prints one row of the table of variants.
pub fn print(variant: &str, simulated: Leftovers, measured: Leftovers) {
    println!(
        "{variant:<44} | VS {:>2} | VSC {:>2} | physical {:>2} | phantom {:>2} | {}",
        simulated.snapshots,
        simulated.contents,
        simulated.physical,
        simulated.phantoms,
        if simulated == measured { "as measured".to_owned() } else { format!("measured {measured:?}") }
    );
}
