//! Kills a run of any machine at each of its crash points, and at each pair of them.
//!
//! The points come from the machine: a rehearsal shows which of them a run passes. Every case has a cluster and a
//! disk of its own. Not here: the conditions that hold afterwards, which the caller checks on the testbed.

use std::sync::Arc;

use crate::cluster::Adapter;
use crate::domain::problem::Problem;
use crate::drill::testbed::{Passed, Testbed};
use crate::engine::driven::Driven;
use crate::engine::driver::Driver;
use crate::engine::{Config, Engine};
use crate::journal::{Journal, MemoryStore, Record};
use crate::machine::kit::{Point, Run, Timed, fold_all};
use crate::records::WireError;

/// Decodes a record of the machine.
pub type DecodeRecord<M> = fn(&Record) -> Result<Timed<M>, WireError>;

/// One case: the kills in their order, and the testbed with the run that ended on it.
pub struct Swept<M: Driven> {
    pub kills: Vec<Point>,
    pub testbed: Testbed,
    pub run: Arc<Run<M>>,
    /// Crash points that the last incarnation passed.
    pub passed: Vec<Point>,
}

/// Runs a plan without a kill, with one kill at each point that it passes, and with each second kill after it.
/// Calls `judge` for each case.
///
/// # Panics
/// A run does not end, or its journal is malformed: the text names the kills.
pub async fn sweep<M: Driven>(plan: &M::Plan, decode: DecodeRecord<M>, judge: impl Fn(&Swept<M>)) -> usize {
    let rehearsal = case(plan, decode, &[]).await;
    judge(&rehearsal);
    let mut cases = 1;
    for first in &rehearsal.passed {
        let once = case(plan, decode, &[*first]).await;
        judge(&once);
        cases += 1;
        for second in &once.passed {
            judge(&case(plan, decode, &[*first, *second]).await);
            cases += 1;
        }
    }
    cases
}

async fn case<M: Driven>(plan: &M::Plan, decode: DecodeRecord<M>, kills: &[Point]) -> Swept<M> {
    let testbed = Testbed::new(crate::sim::Config::default());
    for kill in kills {
        let ended = incarnation(&testbed, plan, decode, Some(*kill), &Passed::default()).await;
        assert!(ended.is_none(), "{kills:?}: {kill} was not passed");
    }
    let passed = Passed::default();
    let ended = incarnation(&testbed, plan, decode, None, &passed).await;
    let run = ended.unwrap_or_else(|| panic!("{kills:?}: killed without a kill"));
    let run = run.unwrap_or_else(|problem| panic!("{kills:?}: {problem}"));
    Swept { kills: kills.to_vec(), testbed, run, passed: passed.distinct() }
}

/// Runs one incarnation; `None` if it was killed.
async fn incarnation<M: Driven>(
    testbed: &Testbed,
    plan: &M::Plan,
    decode: DecodeRecord<M>,
    kill: Option<Point>,
    passed: &Passed,
) -> Option<Result<Arc<Run<M>>, Problem>> {
    let (points, killed) = passed.watch_until(kill);
    let store = MemoryStore::open(&testbed.disk).expect("the disk is free");
    let (journal, opened) = Journal::open_task(store).expect("the journal opens");
    let client = || std::future::ready(Ok(kube::Client::new(testbed.cluster.router(), "default")));
    let adapter = Adapter::reach(client, |_| ()).await.expect("a cluster");
    let config = Config {
        group_logic: testbed.group_logic,
        namespace: "stillpoint".to_owned(),
        defaults: testbed.defaults.clone(),
        points,
        clock: testbed.clock,
        binding: testbed.binding,
    };
    let engine = Engine::new(adapter, journal.clone(), opened, config);
    let stream = M::stream(plan);
    let drive = async {
        let entries = journal.stream(stream).await.expect("a stream");
        let records: Result<Vec<Timed<M>>, _> = entries.iter().map(|entry| decode(&entry.record)).collect();
        let run = fold_all(&records.expect("records of the machine")).expect("a legal journal");
        let driver = match run {
            Some(run) => Driver::resume(engine.context(), run, entries.len() as u64),
            None => Driver::plan(engine.context(), plan.clone()).await?,
        };
        driver.run().await
    };
    let ended = tokio::select! {
        biased;
        () = killed.notified() => None,
        ended = drive => Some(ended),
    };
    // The kill: bytes that were not synced are lost, and the writer of this incarnation with them.
    testbed.disk.crash();
    ended
}
