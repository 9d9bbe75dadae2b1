//! Classifies whether a failed call certainly did not happen.
//!
//! Only a call with a status on the list of determinate ones certainly did not. Any other failed call may
//! have happened: a timeout, a broken connection, a 500 or 504 after the write, an answer that cannot be
//! decoded. Read the object before you retry the call.

use crate::domain::limits;
use crate::domain::problem::{About, Code, Problem};
use crate::machine::kit::Outcome;

/// Statuses with which the API server reports that the call was not applied.
const DETERMINATE: [u16; 10] = [400, 401, 403, 404, 405, 409, 413, 415, 422, 429];

/// The outcome of a call that failed.
pub fn outcome(error: &kube::Error) -> Outcome {
    match error {
        kube::Error::Api(status) if DETERMINATE.contains(&status.code) => {
            Outcome::Determinate { code: status.code, message: message(error) }
        }
        _ => Outcome::Indeterminate { message: message(error) },
    }
}

/// Whether a create was refused because of the user, not because of the object: by authentication, or by the
/// authorizer. Admission uses a different message.
pub fn is_unauthorized(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Determinate { code: 401, .. } => true,
        Outcome::Determinate { code: 403, message } => message.contains("cannot create resource"),
        _ => false,
    }
}

/// Whether the API server reports that the object does not exist.
pub fn is_missing(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether a create was refused because its namespace is gone, or is being deleted and accepts no objects any
/// more (kube-apiserver, NamespaceLifecycle).
pub fn is_without_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 404 || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

/// The problem that users see for a failed read or projection.
pub fn problem(error: &kube::Error, about: About) -> Problem {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => Problem::new(
            Code::Refused,
            about,
            message(error),
            "grant Stillpoint the permissions that its manifests name",
        ),
        kube::Error::Api(status) if DETERMINATE.contains(&status.code) && status.code != 429 => {
            Problem::new(Code::Refused, about, message(error), "see what the API server objects to")
        }
        _ => Problem::new(
            Code::Unreachable,
            about,
            message(error),
            "check that the API server answers; it is tried again",
        ),
    }
}

/// The message of the API server, or why there is none.
pub(super) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.reason.is_empty() => limits::clip(&status.message),
        kube::Error::Api(status) => limits::clip(&format!("{}: {}", status.reason, status.message)),
        other => limits::clip(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("why", "Reason").with_code(code).boxed())
    }

    #[test]
    fn only_a_clear_refusal_is_determinate() {
        for code in 400..600 {
            let determinate = matches!(outcome(&api(code)), Outcome::Determinate { .. });
            assert_eq!(determinate, DETERMINATE.contains(&code), "{code}");
        }
        for code in [408, 410, 500, 502, 503, 504] {
            assert!(!DETERMINATE.contains(&code), "{code} may have happened");
        }
    }

    #[test]
    fn connection_errors_and_unreadable_responses_are_indeterminate() {
        let unreadable = serde_json::from_str::<u8>("{").expect_err("no number");
        for error in [kube::Error::Service("connection reset".into()), kube::Error::SerdeError(unreadable)] {
            assert!(matches!(outcome(&error), Outcome::Indeterminate { .. }), "{error}");
        }
    }

    #[test]
    fn distinguishes_forbidden_user_from_rejected_object() {
        let refused = |code, message: &str| Outcome::Determinate { code, message: message.to_owned() };
        let user = "Forbidden: x is forbidden: User \"u\" cannot create resource \"x\" in API group \"g\"";
        assert!(is_unauthorized(&refused(401, "Unauthorized: Unauthorized")));
        assert!(is_unauthorized(&refused(403, user)));
        assert!(!is_unauthorized(&refused(403, "Forbidden: admission webhook \"w\" denied the request")));
        assert!(!is_unauthorized(&refused(422, user)));
        assert!(!is_unauthorized(&Outcome::Indeterminate { message: user.to_owned() }));
    }

    #[test]
    fn texts_fit_into_a_record() {
        let error = kube::Error::Api(Status::failure(&"x".repeat(100_000), "Invalid").with_code(422).boxed());
        let Outcome::Determinate { code, message } = outcome(&error) else { panic!("422 is determinate") };
        assert_eq!(code, 422);
        assert!(message.starts_with("Invalid: x") && message.len() <= limits::MAX_TEXT_BYTES);
    }
}
