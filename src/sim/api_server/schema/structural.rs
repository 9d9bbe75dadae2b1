//! A structural schema, as in a CustomResourceDefinition, with pruning and defaults.
//!
//! Source: Kubernetes 1.36, `apiextensions-apiserver/pkg/apiserver/schema` (structural schemas, `pruning`,
//! `defaulting`).
//!
//! Deliberately not here: CEL rules, patterns, `oneOf` and similar. No shipped CRD has them; a test checks
//! that.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Array,
    Boolean,
    Integer,
    Number,
    Object,
    String,
}

const KINDS: [(&str, Kind); 6] = [
    ("array", Kind::Array),
    ("boolean", Kind::Boolean),
    ("integer", Kind::Integer),
    ("number", Kind::Number),
    ("object", Kind::Object),
    ("string", Kind::String),
];

impl Kind {
    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// The schema of one value.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub kind: Kind,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserves_unknown: bool,
    /// `format: date-time`.
    pub is_time: bool,
    pub properties: BTreeMap<String, Schema>,
    /// Schema of the values of a map.
    pub values: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    pub one_of: Vec<String>,
    pub min_items: Option<u64>,
    pub minimum: Option<f64>,
    pub default: Option<Value>,
}

impl Schema {
    /// A schema with only a type.
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            nullable: false,
            preserves_unknown: false,
            is_time: false,
            properties: BTreeMap::new(),
            values: None,
            items: None,
            required: Vec::new(),
            one_of: Vec::new(),
            min_items: None,
            minimum: None,
            default: None,
        }
    }

    /// Parses `openAPIV3Schema`, or a part of it.
    pub(super) fn read(schema: &Value) -> Self {
        let kind =
            KINDS.iter().find(|(name, _)| schema["type"] == *name).map_or(Kind::Any, |(_, kind)| *kind);
        let below = |name: &str| schema.get(name).map(|below| Box::new(Self::read(below)));
        let texts = |name: &str| {
            let texts = schema[name].as_array().into_iter().flatten();
            texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let properties = schema["properties"].as_object().into_iter().flatten();
        Self {
            nullable: schema["nullable"] == true,
            preserves_unknown: schema["x-kubernetes-preserve-unknown-fields"] == true,
            is_time: schema["format"] == "date-time",
            properties: properties.map(|(name, schema)| (name.clone(), Self::read(schema))).collect(),
            values: below("additionalProperties"),
            items: below("items"),
            required: texts("required"),
            one_of: texts("enum"),
            min_items: schema["minItems"].as_u64(),
            minimum: schema["minimum"].as_f64(),
            default: schema.get("default").cloned(),
            ..Self::of(kind)
        }
    }

    /// The properties as OpenAPI, without the fields that only validation needs.
    pub(super) fn open_api(&self) -> Map<String, Value> {
        self.properties.iter().map(|(name, schema)| (name.clone(), schema.open_api_type())).collect()
    }

    fn open_api_type(&self) -> Value {
        match self.kind {
            Kind::Any => json!({"x-kubernetes-preserve-unknown-fields": true}),
            Kind::Object => json!({"type": "object", "properties": self.open_api()}),
            Kind::Array => {
                json!({"type": "array", "items": self.items.as_ref().map(|items| items.open_api_type())})
            }
            Kind::Integer => json!({"type": "integer", "format": "int64"}),
            Kind::String if self.is_time => json!({"type": "string", "format": "date-time"}),
            kind => json!({"type": kind.name()}),
        }
    }

    /// Removes unknown fields from an object of the kind. The fields in `always` are known too.
    pub(super) fn prune_root(&self, map: &mut Map<String, Value>, always: &[&str]) {
        map.retain(|name, _| always.contains(&name.as_str()) || self.properties.contains_key(name));
        self.prune_below(map);
    }

    fn prune_below(&self, map: &mut Map<String, Value>) {
        for (name, value) in map {
            if let Some(schema) = self.properties.get(name).or(self.values.as_deref()) {
                schema.prune(value);
            }
        }
    }

    fn prune(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                if self.kind == Kind::Object && self.values.is_none() && !self.preserves_unknown {
                    map.retain(|name, _| self.properties.contains_key(name));
                }
                self.prune_below(map);
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.prune(item));
                }
            }
            _ => {}
        }
    }

    /// Sets the defaults of fields that are absent, or null where null is not allowed.
    pub(super) fn default(&self, map: &mut Map<String, Value>) {
        for (name, schema) in &self.properties {
            if let Some(default) = &schema.default
                && map.get(name).is_none_or(|value| value.is_null() && !schema.nullable)
            {
                map.insert(name.clone(), default.clone());
            }
        }
        for (name, value) in map {
            if let Some(schema) = self.properties.get(name).or(self.values.as_deref()) {
                schema.default_below(value);
            }
        }
    }

    fn default_below(&self, value: &mut Value) {
        match value {
            Value::Object(map) => self.default(map),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.default_below(item));
                }
            }
            _ => {}
        }
    }

    /// Collects the paths of unknown fields in an object of the kind. The fields in `always` are known too.
    pub(super) fn unknown_root(&self, map: &Map<String, Value>, always: &[&str], unknown: &mut Vec<String>) {
        let here = map
            .keys()
            .filter(|name| !always.contains(&name.as_str()) && !self.properties.contains_key(*name));
        unknown.extend(here.cloned());
        self.unknown_below(map, &Path::Root, unknown);
    }

    fn unknown_below(&self, map: &Map<String, Value>, path: &Path<'_>, unknown: &mut Vec<String>) {
        for (name, value) in map {
            if let Some(schema) = self.properties.get(name).or(self.values.as_deref()) {
                schema.unknown(value, &Path::Field(path, name), unknown);
            }
        }
    }

    fn unknown(&self, value: &Value, path: &Path<'_>, unknown: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if self.kind == Kind::Object && self.values.is_none() && !self.preserves_unknown {
                    let here = map.keys().filter(|name| !self.properties.contains_key(*name));
                    unknown.extend(here.map(|name| Path::Field(path, name).to_string()));
                }
                self.unknown_below(map, path, unknown);
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (at, item) in items.iter().enumerate() {
                        schema.unknown(item, &Path::Item(path, at), unknown);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The path of a value. It is formatted only when it is printed.
pub(super) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, at) => write!(f, "{parent}[{at}]"),
        }
    }
}

/// Paths of the keywords of a CRD that [`Schema::read`] does not know and that are therefore not checked.
#[cfg(test)]
pub(super) fn unknown_keywords(schema: &Value) -> Vec<String> {
    const CHECKED: [&str; 12] = [
        "additionalProperties",
        "default",
        "enum",
        "format",
        "items",
        "minItems",
        "minimum",
        "nullable",
        "properties",
        "required",
        "type",
        "x-kubernetes-preserve-unknown-fields",
    ];
    const FOR_PEOPLE: [&str; 2] = ["description", "title"];
    const FORMATS: [&str; 2] = ["date-time", "int64"];
    let Some(keywords) = schema.as_object() else { return Vec::new() };
    let mut found: Vec<String> = Vec::new();
    for (keyword, value) in keywords {
        if !CHECKED.contains(&keyword.as_str()) && !FOR_PEOPLE.contains(&keyword.as_str()) {
            found.push(keyword.clone());
        }
        if keyword == "format" && !FORMATS.iter().any(|format| value == format) {
            found.push(format!("format {value}"));
        }
    }
    for below in ["items", "additionalProperties"] {
        found
            .extend(unknown_keywords(&schema[below]).into_iter().map(|keyword| format!("{below}.{keyword}")));
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        found.extend(unknown_keywords(below).into_iter().map(|keyword| format!("{name}.{keyword}")));
    }
    found
}
