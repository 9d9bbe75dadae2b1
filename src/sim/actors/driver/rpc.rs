//! Errors of the driver, in the words of gRPC.

use std::fmt;

/// A failed call, printed as Go's gRPC status prints itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// Name of the gRPC code.
    pub code: String,
    /// What the driver said.
    pub message: String,
}

impl RpcError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    /// Whether the driver has answered for good. The other codes mean that the work may still be going on.
    /// Source: external-snapshotter, sidecar `isCSIFinalError`.
    pub fn is_final(&self) -> bool {
        !matches!(
            self.code.as_str(),
            "Canceled" | "DeadlineExceeded" | "Unavailable" | "ResourceExhausted" | "Aborted"
        )
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", self.code, self.message)
    }
}

impl std::error::Error for RpcError {}
