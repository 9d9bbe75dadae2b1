//! A command in a process of its own: how long it took, and the most memory that it held.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a process.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs the program to its end, which has to be a good one; its time, and its largest resident set in bytes as far as
/// it was seen.
pub fn measured(program: &str, args: &[&str], environment: &[(&str, &str)]) -> (Duration, u64) {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.envs(environment.iter().copied());
    let begun = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let mut peak = 0;
    loop {
        peak = peak.max(resident(child.id()));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{program} {args:?}: {status}");
            return (begun.elapsed(), peak);
        }
        std::thread::sleep(PAUSE);
    }
}

/// The largest resident set that a process ever had, in bytes; 0 where the system does not say.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
