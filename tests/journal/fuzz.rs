//! Fuzzes the journal: passes arbitrary bytes to every reader of external bytes.
//!
//! The fuzz target is [`target`]. A seeded loop over a small corpus drives it, on the stable compiler and
//! without a fuzzer, for a bounded number of inputs. The journal's readers run in a separate process whose
//! memory is measured.
//!
//! - More inputs: `STILLPOINT_FUZZ_ROUNDS=1000000 cargo test --test journal fuzz::`.
//!   `STILLPOINT_FUZZ_SEED=N` selects other inputs.
//! - One input, to reproduce a finding or under any fuzzer that passes its inputs as files (AFL++,
//!   honggfuzz): `STILLPOINT_FUZZ_INPUT=FILE cargo test --test journal fuzz::input`.
//!
//! The first byte of an input selects the reader. The second byte selects whether hashes are corrected, so
//! that the code behind the hash check is reached as well. Not here: files of sled ([`crate::bad_bytes`]),
//! which are slow.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stillpoint::journal::export::{Lines, import};
use stillpoint::journal::{Fault, MAX_PAYLOAD_BYTES, Owner, Record, Snapshot, envelope};
use stillpoint::records::decode;

use crate::alone::{alone, rounds};

const ROUNDS: u64 = 30_000;
const SEED: u64 = 11;

/// Additional memory that bad bytes may cost the process, in bytes. The largest input has a few KiB.
const GROWTH: u64 = 64 << 20;

/// Passes an input to the reader that it selects. Panics if the reader breaks a rule.
fn target(input: &[u8]) {
    let [reader, sealed, bytes @ ..] = input else { return };
    let sealed = sealed % 2 == 1;
    match reader % 5 {
        0 => open(bytes, sealed),
        1 => payload(bytes),
        2 => lines(bytes),
        3 => segment(bytes, sealed),
        _ => owner(bytes),
    }
}

fn with_hash(bytes: &[u8]) -> Vec<u8> {
    [bytes, blake3::hash(bytes).as_bytes()].concat()
}

/// An envelope. Without a valid hash no field of it is trusted, not even its schema or its length.
fn open(bytes: &[u8], sealed: bool) {
    let given = if sealed { with_hash(bytes) } else { bytes.to_vec() };
    let holds = given.split_last_chunk::<32>().is_some_and(|(body, hash)| blake3::hash(body) == *hash);
    match envelope::open(&given) {
        Ok(entry) => {
            assert!(holds, "an envelope was believed without its hash");
            assert!(entry.record.payload.len() < given.len());
            let _ = decode(&entry.record);
        }
        Err(Fault::Short { bytes }) => assert_eq!(bytes, given.len()),
        Err(Fault::Hash) => assert!(!holds),
        Err(_) => assert!(holds, "something was decoded before the hash held"),
    }
}

fn payload(bytes: &[u8]) {
    let [kind, version, payload @ ..] = bytes else { return };
    let record = |payload: &[u8]| Record {
        kind: u16::from(kind % 20),
        version: u16::from(version % 4),
        time_ns: 0,
        payload: payload.to_vec(),
    };
    let _ = decode(&record(payload));
    // The same bytes as the beginning of a payload that is too large.
    let mut large = payload.to_vec();
    large.resize(MAX_PAYLOAD_BYTES + 1, *version);
    assert!(decode(&record(&large)).is_err());
}

fn lines(bytes: &[u8]) {
    let mut read = Lines::new(bytes);
    while let Some(Ok(line)) = read.next() {
        let _ = decode(&line.entry.record);
    }
    assert!(read.next().is_none(), "nothing follows what is no line");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = import(text);
    }
}

/// A journal without a database and with these bytes in its one segment, behind a valid header.
fn segment(bytes: &[u8], sealed: bool) {
    // Each input costs a database of its own. So only a fraction is tested.
    if blake3::hash(bytes).as_bytes()[0] >= 4 {
        return;
    }
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    fs::create_dir(dir.path().join("log")).expect("created");
    let schema = stillpoint::journal::SCHEMA;
    let mut header = b"SPevidnc".to_vec();
    header.extend(schema.to_be_bytes());
    header.extend(1_u64.to_be_bytes());
    header.extend(1_u64.to_be_bytes());
    header.extend(envelope::genesis(schema));
    let mut file = with_hash(&header);
    let length = u32::try_from(bytes.len()).expect("a small input").to_be_bytes();
    let frame =
        if sealed { with_hash(&[b"SPfr", length.as_slice(), bytes].concat()) } else { bytes.to_vec() };
    file.extend(frame);
    fs::write(dir.path().join("log/00000001.seg"), file).expect("written");
    if let Ok(snapshot) = Snapshot::open(dir.path()) {
        let _ = snapshot.verify(None);
        snapshot.entries().flatten().for_each(|entry| drop(decode(&entry.record)));
    }
}

fn owner(bytes: &[u8]) {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    fs::write(dir.path().join("owner.json"), bytes).expect("written");
    let _ = Owner::read(dir.path());
}

// The corpus and the loop.

/// Inputs that reach deep into each reader: released records of every kind, as payloads and in their
/// envelopes.
fn corpus() -> Vec<Vec<u8>> {
    let text = include_str!("../../fixtures/journals/0.1.0/journal.jsonl");
    let mut corpus = vec![vec![4, 0, b'{', b'}']];
    for (line, entry) in text.lines().zip(import(text).expect("exported lines")) {
        let payload = &entry.record.payload;
        let (kind, version) = (entry.record.kind as u8, entry.record.version as u8);
        corpus.push([&[1, 0, kind, version], payload.as_slice()].concat());
        corpus.push([&[2, 0], line.as_bytes()].concat());
        corpus.push([&[0, 1], body(&entry).as_slice()].concat());
        // A frame of one record: epoch, head, count, state, length, envelope.
        let envelope = with_hash(&body(&entry));
        let mut frame = vec![3, 1];
        frame.extend(entry.epoch.to_be_bytes());
        frame.extend(entry.position.to_be_bytes());
        frame.extend(entry.hash);
        frame.extend(1_u32.to_be_bytes());
        frame.push(0);
        frame.extend(u32::try_from(envelope.len()).expect("small").to_be_bytes());
        frame.extend(envelope);
        corpus.push(frame);
    }
    corpus
}

/// An envelope without its hash.
fn body(entry: &stillpoint::journal::Entry) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend(entry.schema.to_be_bytes());
    bytes.extend(entry.epoch.to_be_bytes());
    bytes.extend(entry.position.to_be_bytes());
    bytes.extend(entry.stream.as_bytes());
    bytes.extend(entry.seq.to_be_bytes());
    bytes.extend(entry.record.time_ns.to_be_bytes());
    bytes.extend(entry.prev);
    bytes.extend(entry.record.kind.to_be_bytes());
    bytes.extend(entry.record.version.to_be_bytes());
    bytes.extend(u32::try_from(entry.record.payload.len()).expect("small").to_be_bytes());
    bytes.extend(&entry.record.payload);
    bytes
}

/// Numbers that give wrong lengths in any width.
const LIES: [u8; 6] = [0, 0x7f, 0xfb, 0xfc, 0xfd, 0xff];

fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(..5) {
        let at = random.usize(..=bytes.len());
        let end = bytes.len().min(at + random.usize(..9));
        match random.u8(..6) {
            0 => bytes.truncate(at.max(2)),
            1 => bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(at.min(300))),
            2 => bytes[at..end].fill(random.choice(LIES).unwrap_or(0)),
            3 => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            4 => bytes[at..end].iter_mut().for_each(|byte| *byte = random.u8(..)),
            _ => bytes[at..end].iter_mut().take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
        }
    }
}

#[test]
fn bad_bytes_never_panic_and_never_claim_memory() {
    let (rounds, seed) = (rounds("STILLPOINT_FUZZ_ROUNDS", ROUNDS), rounds("STILLPOINT_FUZZ_SEED", SEED));
    let name = "fuzz::bad_bytes_never_panic_and_never_claim_memory";
    let (_, grew) = alone(name, || {
        let (corpus, mut random) = (corpus(), fastrand::Rng::with_seed(seed));
        for round in 0..rounds {
            let mut input = corpus[random.usize(..corpus.len())].clone();
            mutate(&mut input, &mut random);
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                let path = std::env::temp_dir().join(format!("stillpoint-fuzz-{seed}-{round}"));
                fs::write(&path, &input).expect("written");
                panic!("seed {seed}, round {round}: the input is in {}", path.display());
            }
        }
    });
    println!("seed {seed}: {rounds} inputs, the largest resident set grew by {} KiB", grew >> 10);
    assert!(grew < GROWTH, "{grew} bytes");
}

/// Inputs that the target must reject. A reader that decodes before it hashes, or trusts a length, accepts
/// them.
#[test]
fn target_reaches_the_intended_code() {
    let corpus = corpus();
    corpus.iter().for_each(|input| target(input));
    let accepted = |input: &[u8]| envelope::open(&with_hash(&input[2..])).is_ok();
    assert!(corpus.iter().filter(|input| input[0] == 0).all(|input| accepted(input)), "envelopes are whole");
    let kinds: std::collections::BTreeSet<u8> =
        corpus.iter().filter(|input| input[0] == 1).map(|input| input[2]).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 16, 17], "every kind of record");
}

/// Not an independent test: passes one file to the target.
#[test]
fn input() {
    if let Some(path) = std::env::var_os("STILLPOINT_FUZZ_INPUT") {
        target(&fs::read(path).expect("the input"));
    }
}
