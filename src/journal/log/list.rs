//! Lists segments by their headers, without reading their records.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::super::record::Head;
use super::read_segment;
use super::segment::{self, HEADER_BYTES};

pub(crate) struct Segment {
    pub path: PathBuf,
    /// The head before its first record.
    pub after: Head,
}

/// The segments in `dir`, in order, up to the first segment without a valid header.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for number in segment::list(dir)? {
        let path = segment::path(dir, number);
        let Some(after) = header(&path)? else { break };
        segments.push(Segment { path, after });
    }
    Ok(segments)
}

/// The head before the first record of a segment. `None` if the file does not begin with a valid header.
pub(crate) fn header(path: &Path) -> io::Result<Option<Head>> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(segment::decode(&bytes).ok().map(|header| header.after))
}

/// The head before the first record of a whole segment, and its last record. `None` if the segment is not
/// whole.
pub(crate) fn ends(bytes: &[u8]) -> Option<(Head, Head)> {
    let summary = read_segment(bytes, &mut |_| Ok(())).ok()?;
    (summary.damage.is_none() && summary.torn.is_none()).then_some((summary.start, summary.head))
}
