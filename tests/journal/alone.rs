//! Runs work in a separate process and measures its memory. A reader that trusts a length in bad bytes
//! becomes visible as memory growth. A process that aborts does not stop other tests.

use std::process::Command;

const VARIABLE: &str = "STILLPOINT_TEST_ALONE";

/// Runs `work` in a separate process. `work` is the test with the name `name` (`module::test`). Returns the
/// output and the growth of its largest resident set in bytes. In the separate process this function does
/// not return.
pub fn alone(name: &str, work: impl FnOnce()) -> (String, u64) {
    if std::env::var_os(VARIABLE).is_some() {
        let before = peak();
        work();
        println!("grew {}", peak() - before);
        std::process::exit(0);
    }
    let program = std::env::current_exe().expect("this binary");
    let mut command = Command::new(program);
    let output = command.args(["--exact", name, "--nocapture"]).env(VARIABLE, "1").output().expect("it runs");
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{name}: {}\n{}", output.status, text.concat());
    let grew = text[0].lines().find_map(|line| line.strip_prefix("grew ")).and_then(|line| line.parse().ok());
    (text[0].clone(), grew.unwrap_or_else(|| panic!("{name} did not do its work: {}", text.concat())))
}

/// The largest resident set of this process so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of it");
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kilobytes << 10
}

/// A number from the environment, or else `usual`.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
