//! Faults on calls.
//!
//! Each call has two independent decisions: whether it is executed, and whether the caller receives the
//! result. A fault may also delay the call before and after its execution, make its reads stale, and change
//! the events of a watch.
//!
//! Not here: which call has which fault. A [`Faults`] function decides that; `sim::faults` builds one from
//! rules.

/// The properties of a call before its execution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallInfo {
    /// User-Agent up to the slash.
    pub agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    pub plural: String,
    /// `status`, or `None`.
    pub subresource: Option<String>,
    /// Namespace; `None` for cluster-scoped resources and for calls over all namespaces.
    pub namespace: Option<String>,
    /// Name of the object; `None` for collections and generated names.
    pub name: Option<String>,
}

/// The fault of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultDecision {
    /// Whether the call is executed.
    pub happen: bool,
    /// The reply that the caller receives.
    pub answer: Answer,
    /// Delay between the call and its execution, milliseconds.
    pub before_ms: u64,
    /// Delay between the execution and the reply, milliseconds.
    pub delay_ms: u64,
    /// Age of the state that is read, milliseconds. A get, a list and the first objects of a watch return the
    /// state of that time, whatever version they request.
    pub stale_ms: u64,
    /// The fault of the events of a watch.
    pub stream: StreamFault,
}

/// The reply that the caller receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The true result; 500 for a call that was not executed.
    Normal,
    /// A failure with this code, and the value of `Retry-After` in seconds.
    Status(u16, Option<u32>),
    /// The headers of a success and the beginning of a body: the connection breaks before the reply is
    /// complete.
    Drop,
    /// No reply: the connection breaks before the headers. The response carries [`ConnectionBroken`].
    Cut,
}

/// Marks a response that an in-memory transport must turn into a connection error. Over a socket the
/// connection is closed without sending a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionBroken;

/// The fault of the events of one watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFault {
    /// Delay of each event, milliseconds. Order is kept.
    pub delay_ms: u64,
    /// Of the changes of one object that wait for their delay, only the last is sent.
    pub merge: bool,
    /// Every `drop_each`-th event is dropped; 0 drops none. Bookmarks do not count.
    pub drop_each: u64,
    /// Number of events after which the stream ends, and how it ends.
    pub end: Option<(u64, StreamEnd)>,
}

/// The way in which a watch ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// As at its timeout, without an error.
    Close,
    /// The connection breaks.
    Break,
    /// An ERROR event with 410: the next changes are no longer in the history.
    Gone,
}

impl FaultDecision {
    /// No fault.
    pub fn none() -> Self {
        Self::of(true, Answer::Normal)
    }

    /// Only the two decisions, without delays.
    pub fn of(happen: bool, answer: Answer) -> Self {
        Self { happen, answer, before_ms: 0, delay_ms: 0, stale_ms: 0, stream: StreamFault::default() }
    }

    /// Returns the same decision with a delayed reply.
    pub fn with_reply_delay(mut self, delay_ms: u64) -> Self {
        self.delay_ms = delay_ms;
        self
    }
}

/// Decides the fault of each call.
pub type Faults = Box<dyn FnMut(&CallInfo) -> FaultDecision + Send>;
