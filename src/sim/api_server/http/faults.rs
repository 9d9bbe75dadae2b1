//! Faults on calls: two coins per call, *did it happen* and *did the caller learn it*, and what may be wrong beside
//! them: time before and after the deed, the age of what is read, the events of a watch.
//!
//! Not here: which call meets which fault. A [`Faults`] decides that; `sim::faults` makes one of rules.

/// What is known of a call before it is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallInfo {
    /// User-Agent up to the slash.
    pub agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// Plural name of the resource.
    pub plural: String,
    /// `status`, or none.
    pub subresource: Option<String>,
    /// Namespace, none for cluster-scoped resources and for calls over all namespaces.
    pub namespace: Option<String>,
    /// Name of the object, none for collections and generated names.
    pub name: Option<String>,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultDecision {
    /// Whether the call is carried out.
    pub happen: bool,
    /// What the caller is told.
    pub answer: Answer,
    /// Milliseconds between the call and the deed.
    pub before_ms: u64,
    /// Milliseconds between the deed and the answer.
    pub delay_ms: u64,
    /// How old what is read may be, milliseconds: a get, a list and the first objects of a watch show the state of
    /// then, whatever version they ask for.
    pub stale_ms: u64,
    /// What happens to the events of a watch.
    pub stream: StreamFault,
}

/// What the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The truth; for a call that did not happen, 500.
    Normal,
    /// A failure with this code, and seconds for `Retry-After`.
    Status(u16, Option<u32>),
    /// The headers of a success and the beginning of a body: the connection breaks before the reply is complete.
    Drop,
    /// Nothing at all: the connection breaks before the headers. The response carries [`Severed`].
    Cut,
}

/// Marks a response that a transport in memory has to turn into an error of the connection. Over a socket the
/// connection is closed without a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Severed;

/// What happens to the events of one watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamFault {
    /// How much later each event comes, milliseconds. Order is kept.
    pub delay_ms: u64,
    /// Of the changes of one object that wait for their delay, only the last is told.
    pub merge: bool,
    /// Every so many events one is not told; 0 is none. Bookmarks do not count.
    pub drop_each: u64,
    /// How the stream ends, and after how many events.
    pub end: Option<(u64, StreamEnd)>,
}

/// How a watch ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// As at its time, without a word.
    Close,
    /// The connection breaks.
    Break,
    /// An ERROR event with 410: what would come next is no longer known.
    Gone,
}

impl FaultDecision {
    /// No fault.
    pub fn none() -> Self {
        Self::of(true, Answer::Normal)
    }

    /// The two coins alone.
    pub fn of(happen: bool, answer: Answer) -> Self {
        Self { happen, answer, before_ms: 0, delay_ms: 0, stale_ms: 0, stream: StreamFault::default() }
    }

    /// The same with an answer that comes so much later.
    pub fn answered_after(mut self, delay_ms: u64) -> Self {
        self.delay_ms = delay_ms;
        self
    }
}

/// Decides over each call.
pub type Faults = Box<dyn FnMut(&CallInfo) -> FaultDecision + Send>;
