//! Serves `/livez`, `/readyz` and `/metrics` over HTTP: for the kubelet and for Prometheus, nothing else.
//!
//! The answers of the probes are text in the format of the API server: one line for each check, `[+]` or
//! `[-]`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::domain::problem::{About, Code, Problem};
use crate::engine::health::{Check, Health};
use crate::service::metrics::Metrics;

/// The media type of the text that Prometheus scrapes (OpenMetrics 1.0).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shown {
    health: Health,
    metrics: Arc<Metrics>,
}

pub fn router(health: Health, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(async |State(shown): State<Shown>| answer(&shown.health.live())))
        .route("/readyz", get(async |State(shown): State<Shown>| answer(&shown.health.ready().await)))
        .route("/metrics", get(scrape))
        .with_state(Shown { health, metrics })
}

/// Serves until it is dropped.
///
/// # Errors
/// The address cannot be bound. The daemon must not run without these endpoints.
pub async fn serve(listen: SocketAddr, router: Router) -> Problem {
    let problem = |error: std::io::Error| {
        let about = About::new("Address", "", &listen.to_string());
        Problem::new(Code::Usage, about, error.to_string(), "name a free address with --metrics-listen")
    };
    match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => {
            let address = listener.local_addr().unwrap_or(listen);
            tracing::info!(%address, "health and metrics");
            match axum::serve(listener, router).await {
                Ok(()) => problem(std::io::Error::other("the listener ended")),
                Err(error) => problem(error),
            }
        }
        Err(error) => problem(error),
    }
}

async fn scrape(State(shown): State<Shown>) -> impl IntoResponse {
    match shown.metrics.text(&shown.health) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string())
        }
    }
}

fn answer(checks: &[Check]) -> (StatusCode, String) {
    let well = checks.iter().all(|check| check.problem.is_none());
    let lines = checks.iter().map(|check| match &check.problem {
        None => format!("[+]{} ok\n", check.name),
        Some(problem) => format!("[-]{} failed: {problem}\n", check.name),
    });
    let code = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    async fn ask(path: &str) -> (StatusCode, String) {
        let router = router(Health::default(), Arc::new(Metrics::new()));
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let answer = router.oneshot(request).await.expect("an answer");
        let code = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (code, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn daemon_waiting_for_journal_is_not_ready() {
        assert_eq!(ask("/livez").await, (StatusCode::OK, "[+]journal writer ok\n".to_owned()));
        let (code, text) = ask("/readyz").await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.starts_with("[-]journal failed: it is not open yet\n"), "{text}");
    }

    #[tokio::test]
    async fn metrics_are_available_from_the_start() {
        let (code, text) = ask("/metrics").await;
        assert_eq!(code, StatusCode::OK);
        assert!(text.ends_with("# EOF\n") && text.contains("stillpoint_build_info"), "{text}");
    }
}
