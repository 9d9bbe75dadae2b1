//! Runs the writer on a thread of its own, or as a task on simulated time.
//!
//! Both run the same loop. A thread keeps disk operations off the runtime. It does not work on paused time,
//! because virtual time advances during disk operations and every deadline fires. So on simulated time the
//! same writer is a task that commits inline. This makes the order of all events repeatable, and costs no virtual
//! time but the latency that the store has for it.
//!
//! The loop also syncs the index, one second after the first record that is not on disk in it, and at the
//! end. It needs no timer while the index has every record.
//!
//! # The stop of a writer
//! A worker whose writer has stopped closes the queue and receives until it is empty. A dropped request
//! drops its reply. The caller reads this as [`AppendError::Stopped`](super::AppendError::Stopped) with the
//! writer's reason.
//!
//! SUBTLE: dropping the receiver is not enough. 1. A caller reserves a place in the queue. 2. The receiver
//! is dropped, which closes and empties the queue. 3. The caller puts its request into the place. The queue
//! lives as long as its senders, and the caller holds a sender. So the reply is never dropped, and the
//! caller waits for ever. A receive loop on a closed queue ends only when no place is reserved.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use super::record::MAX_APPEND_BYTES;
use super::store::Store;
use super::writer::{Request, Shared, Writer, WriterStopped};

/// Maximum number of requests that share one barrier.
pub const MAX_BATCH_REQUESTS: usize = 64;

/// Maximum number of queued requests. Further callers wait for a place.
pub(super) const QUEUE_LENGTH: usize = 1024;

/// Longest time for which an acknowledged record is not on disk in the index.
const INDEX_LAG: Duration = Duration::from_secs(1);

/// The first request and the requests queued behind it, up to the limits of one batch.
fn drain(first: Request, requests: &mut Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes();
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH_REQUESTS && bytes < MAX_APPEND_BYTES {
        let Ok(request) = requests.try_recv() else { break };
        bytes += request.bytes();
        batch.push(request);
    }
    batch
}

fn guarded(shared: &Shared, work: impl FnOnce() -> Result<(), WriterStopped>) -> Result<(), WriterStopped> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        shared.stop("its writer panicked".to_owned());
        Err(WriterStopped)
    })
}

pub(super) fn thread<S: Store + 'static>(
    writer: Writer<S>,
    shared: Arc<Shared>,
    requests: Receiver<Request>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let work = move || runtime.block_on(task(writer, shared, requests));
    thread::Builder::new().name("journal-writer".to_owned()).spawn(work)
}

pub(super) async fn task<S: Store>(
    mut writer: Writer<S>,
    shared: Arc<Shared>,
    mut requests: Receiver<Request>,
) {
    if serve(&mut writer, &shared, &mut requests).await.is_err() {
        requests.close();
        while requests.recv().await.is_some() {}
    }
}

/// Serves requests until the queue is closed.
async fn serve<S: Store>(
    writer: &mut Writer<S>,
    shared: &Shared,
    requests: &mut Receiver<Request>,
) -> Result<(), WriterStopped> {
    // The time at which the index has to be synced.
    let mut due: Option<Instant> = None;
    loop {
        let received = match due {
            Some(due) => timeout_at(due, requests.recv()).await,
            None => Ok(requests.recv().await),
        };
        match received {
            Ok(Some(first)) => {
                let latency = writer.latency();
                if !latency.is_zero() {
                    tokio::time::sleep(latency).await;
                }
                guarded(shared, || writer.turn(drain(first, requests)))?;
            }
            Ok(None) => return guarded(shared, || writer.close()),
            Err(_) => {}
        }
        // A queue that is never empty must not delay the sync.
        if due.is_some_and(|due| due <= Instant::now()) {
            guarded(shared, || writer.sync_index())?;
        }
        due = writer.index_lags().then(|| due.unwrap_or_else(|| Instant::now() + INDEX_LAG));
    }
}
