//! Faults on calls over HTTP: two coins per call, *did it happen* and *did the caller learn it*.

/// What is known of a call before it is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Milliseconds between the deed and the answer.
    pub delay_ms: u64,
}

/// What the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The truth; for a call that did not happen, 500.
    Normal,
    /// A failure with this code, and seconds for `Retry-After`.
    Status(u16, Option<u32>),
    /// Nothing: the connection breaks before the reply is complete.
    Drop,
}

impl FaultDecision {
    /// No fault.
    pub fn none() -> Self {
        Self { happen: true, answer: Answer::Normal, delay_ms: 0 }
    }
}

/// Decides over each call.
pub type Faults = Box<dyn FnMut(&CallInfo) -> FaultDecision + Send>;
