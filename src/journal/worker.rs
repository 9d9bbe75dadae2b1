//! Runs the writer on a thread of its own, or as a task on simulated time.
//!
//! A thread keeps disk operations off the runtime. It does not work on paused time, because virtual time
//! advances during disk operations and every deadline fires. So on simulated time the same writer is a task
//! that commits inline. This costs no virtual time and makes the order of all events repeatable.
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

use tokio::sync::mpsc::Receiver;

use super::store::Store;
use super::writer::{MAX_APPEND_BYTES, Request, Shared, Writer, WriterStopped};

/// Maximum number of requests that share one barrier.
pub const MAX_BATCH_REQUESTS: usize = 64;

/// Maximum number of queued requests. Further callers wait for a place.
pub(super) const QUEUE_LENGTH: usize = 1024;

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

fn turn<S: Store>(writer: &mut Writer<S>, shared: &Shared, batch: Vec<Request>) -> Result<(), WriterStopped> {
    catch_unwind(AssertUnwindSafe(|| writer.turn(batch))).unwrap_or_else(|_| {
        shared.stop("its writer panicked".to_owned());
        Err(WriterStopped)
    })
}

pub(super) fn thread<S: Store + 'static>(
    mut writer: Writer<S>,
    shared: Arc<Shared>,
    mut requests: Receiver<Request>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("journal-writer".to_owned()).spawn(move || {
        while let Some(first) = requests.blocking_recv() {
            let batch = drain(first, &mut requests);
            if turn(&mut writer, &shared, batch).is_err() {
                requests.close();
                while requests.blocking_recv().is_some() {}
                break;
            }
        }
    })
}

pub(super) async fn task<S: Store>(
    mut writer: Writer<S>,
    shared: Arc<Shared>,
    mut requests: Receiver<Request>,
) {
    while let Some(first) = requests.recv().await {
        let batch = drain(first, &mut requests);
        if turn(&mut writer, &shared, batch).is_err() {
            requests.close();
            while requests.recv().await.is_some() {}
            break;
        }
    }
}
