//! `sim`.

pub mod api_server;
pub mod clock;
pub mod resources;
