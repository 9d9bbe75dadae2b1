//! Resolves JSON pointers (RFC 6901) without an allocation per token.
//!
//! Every read of an actor uses this, many thousand times per run. Not here: pointers with escapes, which
//! `serde_json` resolves.

use serde_json::Value;

/// Resolves a JSON pointer.
pub(super) trait At {
    /// The value at `pointer`, as [`Value::pointer`] finds it.
    fn at(&self, pointer: &str) -> Option<&Value>;
}

impl At for Value {
    fn at(&self, pointer: &str) -> Option<&Value> {
        let bytes = pointer.as_bytes();
        if bytes.contains(&b'~') || bytes.first() != Some(&b'/') {
            return self.pointer(pointer);
        }
        let (mut value, mut begin) = (self, 1);
        loop {
            // Tokens are short: the setup of an optimized search costs more than it saves.
            let end = bytes[begin..].iter().position(|byte| *byte == b'/').map(|length| begin + length);
            let token = &pointer[begin..end.unwrap_or(bytes.len())];
            value = match value {
                Value::Object(map) => map.get(token)?,
                Value::Array(items) => items.get(index(token)?)?,
                _ => return None,
            };
            match end {
                Some(end) => begin = end + 1,
                None => return Some(value),
            }
        }
    }
}

/// A list index: digits, without leading zeros.
fn index(token: &str) -> Option<usize> {
    let padded = token.starts_with('0') && token.len() > 1;
    token.parse().ok().filter(|_| !padded && !token.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn agrees_with_pointer_of_serde_json() {
        let value = json!({"a": {"b/c": [1, {"d": null}], "": 2}, "~": 3});
        for pointer in
            ["", "/a", "/a/b~1c/1/d", "/a/b~1c/0", "/a/", "/~0", "/x", "a", "/a/b~1c/01", "/a/b~1c/+1"]
        {
            assert_eq!(value.at(pointer), value.pointer(pointer), "{pointer}");
        }
        let list = json!({"a": [1, 2]});
        for pointer in ["/a/1", "/a/01", "/a/+1", "/a/2", "/a/-", "/a/0/x"] {
            assert_eq!(list.at(pointer), list.pointer(pointer), "{pointer}");
        }
    }
}
