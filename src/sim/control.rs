//! The control endpoints of the simulator, beside the Kubernetes API.
//!
//! - `GET /sim/v1/calls`: the API calls so far, by agent, verb and resource, as JSON.
//! - `GET /sim/v1/ledger`: the current [`Ledger`], as JSON.
//! - `POST /sim/v1/faults`: adds faults ([`faults`]). `DELETE` removes the rules.
//!
//! [`faults`]: super::faults
//! [`Ledger`]: super::ledger::Ledger

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::routing::{get, post};
use serde::Serialize;

use super::Cluster;

/// Builds the router of the Kubernetes API and the control endpoints.
pub(super) fn router(cluster: Cluster) -> Router {
    let api = cluster.api().router();
    Router::new()
        .route("/sim/v1/calls", get(calls))
        .route("/sim/v1/ledger", get(ledger))
        .route("/sim/v1/faults", post(add_fault).delete(clear_faults))
        .with_state(cluster)
        .fallback_service(api)
}

async fn calls(State(cluster): State<Cluster>) -> ([(HeaderName, &'static str); 1], String) {
    json(&cluster.api().tally())
}

async fn ledger(State(cluster): State<Cluster>) -> ([(HeaderName, &'static str); 1], String) {
    json(&cluster.ledger())
}

async fn add_fault(State(cluster): State<Cluster>, rule: String) -> (StatusCode, String) {
    match cluster.add_fault(&rule) {
        Ok(rules) => (StatusCode::CREATED, format!("{{\"rules\":{rules}}}")),
        Err(problem) => (StatusCode::BAD_REQUEST, problem),
    }
}

async fn clear_faults(State(cluster): State<Cluster>) -> StatusCode {
    cluster.clear_faults();
    StatusCode::NO_CONTENT
}

fn json(value: &impl Serialize) -> ([(HeaderName, &'static str); 1], String) {
    // The values are maps with string keys and plain structs, which JSON can always represent.
    ([(CONTENT_TYPE, "application/json")], serde_json::to_string(value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use crate::{Cluster, Config};

    async fn get(cluster: &Cluster, path: &str) -> (StatusCode, Value) {
        let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
        let response = cluster.router().oneshot(request).await.expect("answered");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test(start_paused = true)]
    async fn serves_calls_ledger_and_api_at_one_address() {
        let cluster = Cluster::start(Config::default());
        cluster.load_sample();
        let (status, pvcs) = get(&cluster, "/api/v1/namespaces/shop/persistentvolumeclaims").await;
        assert_eq!((status, pvcs["items"].as_array().map(Vec::len)), (StatusCode::OK, Some(6)));
        let (status, calls) = get(&cluster, "/sim/v1/calls").await;
        assert_eq!(
            (status, &calls["sample"]["create"]["persistentvolumeclaims"]),
            (StatusCode::OK, &6.into())
        );
        let (status, ledger) = get(&cluster, "/sim/v1/ledger").await;
        assert_eq!((status, &ledger["physicalSnapshots"]), (StatusCode::OK, &0.into()));
        assert_eq!(ledger["handles"]["leaked"], serde_json::json!([]));
    }
}
