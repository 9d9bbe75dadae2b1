//! Runs a command in its own process: measures its duration, its processor time and its peak memory.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Interval between two samples of a process.
const PAUSE: Duration = Duration::from_millis(2);

/// Resources used by a process.
#[derive(Clone, Copy, Default)]
pub struct Taken {
    /// Duration from its start to its end.
    pub wall: Duration,
    /// User and system time of the process. A busy machine changes it little.
    pub processor: Duration,
    /// Largest observed resident set, in bytes.
    pub peak: u64,
}

/// Runs the program to its end, which must be successful.
pub fn measured(program: &str, args: &[&str], environment: &[(&str, &str)]) -> Taken {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.envs(environment.iter().copied());
    let begun = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let mut taken = Taken::default();
    loop {
        taken.peak = taken.peak.max(resident(child.id()));
        taken.processor = taken.processor.max(processor(child.id()));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{program} {args:?}: {status}");
            return Taken { wall: begun.elapsed(), ..taken };
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the largest resident set of a process so far, in bytes, or 0 if the system does not report it.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Returns user and system time of a process so far. The kernel counts both in hundredths of a second.
fn processor(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the last parenthesis may contain any character. User and system time are fields 14 and
    // 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
