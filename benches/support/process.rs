//! A command in a process of its own: how long it took, how long it computed, and the most memory that it held.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a process.
const PAUSE: Duration = Duration::from_millis(2);

/// What a process took.
#[derive(Clone, Copy, Default)]
pub struct Taken {
    /// From its start to its end.
    pub wall: Duration,
    /// Time of processors, its own and the kernel's for it: a busy machine does not change it much.
    pub processor: Duration,
    /// Largest resident set, in bytes, as far as it was seen.
    pub peak: u64,
}

/// Runs the program to its end, which has to be a good one.
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

/// The largest resident set that a process ever had, in bytes; 0 where the system does not say.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// User and system time of a process so far. The kernel counts both in hundredths of a second.
fn processor(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the last parenthesis may hold anything; user and system time are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
