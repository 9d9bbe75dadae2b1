//! Negotiates the format of a reply from the `Accept` header.

use crate::api_server::status::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyFormat {
    /// The objects themselves.
    Plain,
    /// Rows for display, `as=Table`.
    Table,
    /// Only metadata, `as=PartialObjectMetadata` or its list.
    Metadata,
    /// All groups in format_of document, `as=APIGroupDiscoveryList` in the given version.
    Discovery(&'static str),
}

/// Returns the first format in the header that is served.
///
/// # Errors
/// 406 if there is none.
pub(super) fn negotiate(accept: &str) -> Result<ReplyFormat, Status> {
    if accept.trim().is_empty() {
        return Ok(ReplyFormat::Plain);
    }
    accept.split(',').find_map(format_of).ok_or_else(|| {
        let message = "only the following media types are accepted: application/json";
        Status::new(406, "NotAcceptable", message)
    })
}

fn format_of(range: &str) -> Option<ReplyFormat> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if !matches!(media, "application/json" | "*/*" | "application/*") {
        return None;
    }
    let parts: Vec<&str> = parts.collect();
    let value = |key: &str| parts.iter().find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    match (value("as"), value("g"), value("v")) {
        (None, ..) => Some(ReplyFormat::Plain),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(ReplyFormat::Table),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
            Some(ReplyFormat::Metadata)
        }
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
            Some(ReplyFormat::Discovery("v2"))
        }
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
            Some(ReplyFormat::Discovery("v2beta1"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates_first_supported_media_type() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(table).ok(), Some(ReplyFormat::Table));
        let unknown = "application/json;as=Table;v=v9;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(unknown).ok(), Some(ReplyFormat::Plain));
        assert_eq!(negotiate("*/*").ok(), Some(ReplyFormat::Plain));
        assert_eq!(
            negotiate("application/vnd.kubernetes.protobuf,application/json").ok(),
            Some(ReplyFormat::Plain)
        );
        assert_eq!(
            negotiate("application/vnd.kubernetes.protobuf").err().map(|status| status.code),
            Some(406)
        );
    }
}
