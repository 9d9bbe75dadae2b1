//! The core: tables and scripts, without runtime, cluster or disk.

#[path = "core/asked.rs"]
mod asked;
#[path = "core/backups.rs"]
mod backups;
#[path = "core/decide.rs"]
mod decide;
#[path = "core/fixture.rs"]
mod fixture;
#[path = "core/fold.rs"]
mod fold;
#[path = "core/freed.rs"]
mod freed;
#[path = "core/reasons.rs"]
mod reasons;
#[path = "core/stories/mod.rs"]
mod stories;
#[path = "core/table.rs"]
mod table;
#[path = "core/view.rs"]
mod view;
#[path = "core/waiting.rs"]
mod waiting;
