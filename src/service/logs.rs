//! Writes log lines to stderr, as text for users or as JSON for machines.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object each.
    Json,
}

/// Sends log lines of Stillpoint from `level` on, and those of its libraries from WARN on, to stderr. A
/// second call in one process has no effect.
pub fn to_stderr(format: LogFormat, level: tracing::Level) {
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("stillpoint", level);
    let registry = tracing_subscriber::registry().with(targets);
    let colour =
        std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    // It fails only where a subscriber is set already.
    let _ = match format {
        LogFormat::Text => registry.with(layer.with_ansi(colour)).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
}
