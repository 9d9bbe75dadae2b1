//! Processes of the program: started, waited for, killed by their id.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A wait that takes longer hangs. It limits nothing else.
const HANG: Duration = Duration::from_secs(120);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `look` sees something.
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

/// The program with these arguments, in an environment that turns nothing on, and in one area of memory as in its pod
/// (`deploy/statefulset.yaml`).
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

/// How a command ended.
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

    /// What it wrote to stdout, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stillpoint {}: {error}\n{}", self.args, self.stdout))
    }
}

/// A process that goes on until it is killed. It is, when it is dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, with what it says in `<dir>/<name>.log`.
    pub fn start(name: &str, dir: &Path, args: &[&str]) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle of the log file");
        let child = stillpoint(args).stdout(file).stderr(both).spawn().expect("the program starts");
        Self { name: name.to_owned(), child, log }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.status().is_none()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits for its end: exit code and signal.
    pub fn end(&mut self) -> (Option<i32>, Option<i32>) {
        let what = format!("the end of {}", self.name);
        let status = wait(&what, || self.status());
        (status.code(), status.signal())
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        // It may have ended by itself: a look at how it ended tells.
        let _ = self.child.kill();
        self.end();
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        if !matches!(ended, Ok(Some(_))) {
            // Nothing more can be done for a process that cannot be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} (pid {}), {ended:?}\n{}", self.name, self.child.id(), self.said());
        }
    }
}
