//! Label and field selectors.

use serde_json::Value;

use crate::api_server::meta;
use crate::api_server::status::Status;
use crate::resources::Resource;

/// The selection of a list or watch.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    pub namespace: Option<String>,
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelRequirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldRequirement {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selection {
    /// Parses the two selectors of a request.
    ///
    /// # Errors
    /// 400 if a selector cannot be parsed or a field is not selectable.
    pub fn parse(
        resource: &Resource,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            labels: split_outside_parentheses(labels).map(label_requirement).collect::<Result<_, _>>()?,
            fields: fields
                .split(',')
                .filter(|term| !term.trim().is_empty())
                .map(|term| field_requirement(resource, term.trim()))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The only name that can be selected, if the selection requires a name.
    pub fn name(&self) -> Option<&str> {
        let of_name = |field: &&FieldRequirement| field.equal && field.path == ["metadata", "name"];
        self.fields.iter().find(of_name).map(|field| field.value.as_str())
    }

    /// Returns whether the selection is limited by the namespace only.
    pub fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| meta::get(object, "namespace") == namespace)
            && self.labels.iter().all(|requirement| requirement.matches(&object["metadata"]["labels"]))
            && self.fields.iter().all(|requirement| requirement.matches(object))
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &Value) -> bool {
        let value = |key: &String| labels[key.as_str()].as_str();
        match self {
            Self::Exists(key) => value(key).is_some(),
            Self::Absent(key) => value(key).is_none(),
            Self::In(key, allowed) => value(key).is_some_and(|is| allowed.iter().any(|one| one == is)),
            Self::NotIn(key, refused) => value(key).is_none_or(|is| refused.iter().all(|one| one != is)),
        }
    }
}

impl FieldRequirement {
    fn matches(&self, object: &Value) -> bool {
        let value = self.path.iter().fold(object, |value, field| &value[field.as_str()]);
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        (text == self.value) == self.equal
    }
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|term| !term.is_empty())
}

fn label_requirement(term: &str) -> Result<LabelRequirement, Status> {
    use LabelRequirement::{Absent, Exists, In, NotIn};
    let one = |value: &str| vec![value.trim().to_owned()];
    let requirement = if let Some((key, value)) = term.split_once("!=") {
        NotIn(key.trim().to_owned(), one(value))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        In(key.trim().to_owned(), one(value))
    } else if let Some((head, values)) = term.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(|| unparsable(term))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => In((*key).to_owned(), values),
            [key, "notin"] => NotIn((*key).to_owned(), values),
            _ => return Err(unparsable(term)),
        }
    } else if let Some(key) = term.strip_prefix('!') {
        Absent(key.trim().to_owned())
    } else {
        Exists(term.to_owned())
    };
    let (Exists(key) | Absent(key) | In(key, _) | NotIn(key, _)) = &requirement;
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(unparsable(term));
    }
    Ok(requirement)
}

fn field_requirement(resource: &Resource, term: &str) -> Result<FieldRequirement, Status> {
    let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (path, value, true)
    } else {
        return Err(Status::bad_request(format!("invalid selector: {term:?}; can't understand {term:?}")));
    };
    // In events.k8s.io the field for the object of an Event is called "regarding".
    let path = path.replace("regarding.", "involvedObject.");
    let known = path == "metadata.name" || (path == "metadata.namespace" && resource.namespaced);
    if !known && !resource.selectable_fields.contains(&path.as_str()) {
        return Err(Status::bad_request(format!("field label not supported: {path}")));
    }
    Ok(FieldRequirement {
        path: path.split('.').map(str::to_owned).collect(),
        value: value.to_owned(),
        equal,
    })
}

fn unparsable(term: &str) -> Status {
    Status::bad_request(format!("unable to parse requirement: {term:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::by_plural;

    fn selects(labels: &str, fields: &str) -> Option<bool> {
        let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"app": "db", "tier": "1"}},
            "spec": {"nodeName": "w"}});
        let selection = Selection::parse(by_plural("pods").expect("served"), Some("n"), labels, fields);
        selection.ok().map(|selection| selection.matches(&object))
    }

    #[test]
    fn selects_labels_by_equality_set_and_existence() {
        for yes in [
            "",
            "app=db",
            "app==db,tier",
            "app!=web",
            "app in (web, db)",
            "tier notin (2,3),!none",
            "none!=x",
        ] {
            assert_eq!(selects(yes, ""), Some(true), "{yes}");
        }
        for no in ["app=web", "!app", "none", "app in (web)", "app notin (db)", "app=db,tier=2"] {
            assert_eq!(selects(no, ""), Some(false), "{no}");
        }
        for bad in ["app in db", "app in (db", "=x", "a b"] {
            assert_eq!(selects(bad, ""), None, "{bad}");
        }
    }

    #[test]
    fn selects_fields_by_name_and_supported_fields() {
        assert_eq!(selects("", "metadata.name=a,spec.nodeName=w"), Some(true));
        assert_eq!(selects("", "metadata.name!=a"), Some(false));
        assert_eq!(selects("", "status.phase="), Some(true));
        assert_eq!(selects("", "spec.hostname=x"), None);
    }
}
