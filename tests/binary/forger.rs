//! A forger who knows the documentation: encodes records and recomputes all hashes.
//!
//! Written from the layout that `stillpoint::journal::envelope` documents, and not with its code.

use stillpoint::journal::Entry;

/// The bytes of a record without its hash, in the documented order.
fn body(entry: &Entry) -> Vec<u8> {
    let record = &entry.record;
    let length = u32::try_from(record.payload.len()).expect("a payload");
    let mut bytes = vec![1];
    bytes.extend(entry.schema.to_be_bytes());
    bytes.extend(entry.epoch.to_be_bytes());
    bytes.extend(entry.position.to_be_bytes());
    bytes.extend(entry.stream.as_bytes());
    bytes.extend(entry.seq.to_be_bytes());
    bytes.extend(record.time_ns.to_be_bytes());
    bytes.extend(entry.prev);
    bytes.extend(record.kind.to_be_bytes());
    bytes.extend(record.version.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(&record.payload);
    bytes
}

/// The bytes of a record as it is stored, with the hash of the entry.
pub fn envelope(entry: &Entry) -> Vec<u8> {
    [body(entry).as_slice(), &entry.hash].concat()
}

/// Recomputes every hash, from the first record to the last.
pub fn seal(entries: &mut [Entry]) {
    let mut prev = entries.first().map_or([0; 32], |first| first.prev);
    for entry in entries {
        entry.prev = prev;
        entry.hash = *blake3::hash(&body(entry)).as_bytes();
        prev = entry.hash;
    }
}
