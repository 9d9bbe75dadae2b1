//! The `stillpoint` command.

/// A fifth of a life of the daemon is spent in taking and giving back small pieces of memory; this one is faster at it
/// (`cargo bench --bench groups`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stillpoint::cli::main()
}
