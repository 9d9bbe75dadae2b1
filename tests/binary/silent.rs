//! An API server that does not answer: the daemon waits, reports this, is live, and is not ready.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::process::{Process, wait};
use crate::stage::Stage;

/// A port of 127.0.0.1 without a listener.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// Status line and body of a GET; none while the port has no listener.
fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: stillpoint\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

#[test]
fn daemon_waits_for_api_server_at_start() {
    let stage = Stage::with_group(2);
    // The kubeconfig names a port without a listener, until the real port replaces it.
    let nowhere = free_port();
    let text = std::fs::read_to_string(stage.kubeconfig()).expect("the kubeconfig");
    let server =
        text.lines().find_map(|line| line.trim().strip_prefix("server: ")).expect("a server").to_owned();
    let silent = stage.dir.path().join("silent");
    std::fs::write(&silent, text.replace(&server, &format!("http://{nowhere}"))).expect("a kubeconfig");
    let (metrics, journal) = (free_port(), stage.journal().display().to_string());
    let (listen, kubeconfig) = (metrics.to_string(), silent.display().to_string());
    let args = ["run", "--kubeconfig", &kubeconfig, "--journal", &journal, "--metrics-listen", &listen];
    let mut daemon = Process::start("daemon", stage.dir.path(), &args);
    wait("a sentence about it", || daemon.said().contains("for the API server").then_some(()));
    let (code, body) = wait("/livez", || get(metrics, "/livez"));
    assert!(code.contains("200") && daemon.running(), "{code} {body}");
    let (code, body) = wait("/readyz", || get(metrics, "/readyz"));
    assert!(code.contains("503") && body.contains("API server"), "{code} {body}");
    let (code, body) = wait("/metrics", || get(metrics, "/metrics"));
    assert!(code.contains("200") && body.contains("stillpoint_"), "{code} {body}");
    print!("{}", daemon.said());
    std::fs::copy(stage.kubeconfig(), &silent).expect("the true one");
    assert_eq!(stage.phase(&mut daemon), "Completed");
    let ready = || get(metrics, "/readyz").filter(|(code, _)| code.contains("200")).map(|_| ());
    wait("a daemon that is ready", ready);
}
