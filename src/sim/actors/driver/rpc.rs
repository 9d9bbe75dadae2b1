//! Errors of the driver in the format of gRPC.

use std::fmt;

/// A failed call. `Display` prints it as Go prints a gRPC status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    pub code: String,
    pub message: String,
}

impl RpcError {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    /// Returns whether the error is final. With the other codes the operation may still be in progress.
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
