//! Processes of the program: start, wait, and kill by process id.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Limit after which a wait counts as hung. It does not limit anything else.
const HANG: Duration = Duration::from_secs(120);
/// Interval between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `look` returns a value.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < HANG, "hangs: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// The program with these arguments, in an environment that enables no feature, and with one memory arena as
/// in its pod (`deploy/statefulset.yaml`).
pub fn stillpoint(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stillpoint"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1").env("MALLOC_ARENA_MAX", "1");
    for name in ["KUBECONFIG", "STILLPOINT_JOURNAL"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command that ends by itself.
pub fn ended(args: &[&str]) -> Ended {
    let Output { status, stdout, stderr } = stillpoint(args).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
    Ended { args: args.join(" "), code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// The result of a command that has ended.
#[derive(Debug)]
pub struct Ended {
    args: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Asserts the exit code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        let Self { args, code: got, stdout, stderr } = &self;
        assert_eq!(*got, Some(code), "stillpoint {args}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
        self
    }

    /// The stdout of the command, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stillpoint {}: {error}\n{}", self.args, self.stdout))
    }
}

/// A process that runs until it is killed. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the process, with its output in `<dir>/<name>.log`.
    pub fn start(name: &str, dir: &Path, args: &[&str]) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle of the log file");
        let child = stillpoint(args).stdout(file).stderr(both).spawn().expect("the program starts");
        Self { name: name.to_owned(), child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs.
    pub fn running(&mut self) -> bool {
        self.status().is_none()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits until the process ends. Returns its exit code and signal.
    pub fn end(&mut self) -> (Option<i32>, Option<i32>) {
        let what = format!("the end of {}", self.name);
        let status = wait(&what, || self.status());
        (status.code(), status.signal())
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        // The process may have ended by itself; `end` then reads its exit status.
        let _ = self.child.kill();
        self.end();
    }

    /// The output so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        if !matches!(ended, Ok(Some(_))) {
            // If the process cannot be killed, there is nothing left to do.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} (pid {}), {ended:?}\n{}", self.name, self.child.id(), self.said());
        }
    }
}
