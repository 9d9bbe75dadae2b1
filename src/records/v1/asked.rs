//! Defines kind 6, in its first version: an operator's request to a run. Since schema 3.

use bincode::{Decode, Encode};

use super::ordinals::Ordinal;
use crate::machine::kit::{self, Ask};
use crate::records::WireError;

/// Kind 6: an operator sent a request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Asked {
    /// The action, by its number.
    pub ask: u16,
    /// Id of the request.
    pub request: String,
    /// Name of the user, as the request states it.
    pub by: String,
}

impl From<&kit::OperatorRequest> for Asked {
    fn from(asked: &kit::OperatorRequest) -> Self {
        Self { ask: asked.ask.number(), request: asked.request.clone(), by: asked.by.clone() }
    }
}

impl TryFrom<Asked> for kit::OperatorRequest {
    type Error = WireError;

    fn try_from(Asked { ask, request, by }: Asked) -> Result<Self, WireError> {
        Ok(Self { ask: Ask::of(ask)?, request, by })
    }
}
