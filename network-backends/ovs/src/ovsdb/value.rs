//! Values of OVSDB columns (RFC 7047, section 5.1): atoms, sets and maps.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// The identifier of a row. Never given twice.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(String);

impl Uuid {
    /// An identifier as the server writes it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same as a value.
    pub fn value(&self) -> Value {
        json!(["uuid", self.0])
    }
}

impl Borrow<str> for Uuid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference to a row that the same transaction inserts under this name.
pub fn named(name: &str) -> Value {
    json!(["named-uuid", name])
}

/// A set of values.
pub fn set(values: impl IntoIterator<Item = Value>) -> Value {
    json!(["set", values.into_iter().collect::<Vec<_>>()])
}

/// A map of texts.
pub fn map<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Value {
    json!(["map", pairs.into_iter().map(|(key, value)| json!([key.as_ref(), value.as_ref()])).collect::<Vec<_>>()])
}

/// The columns of a row, as far as they are monitored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row(Map<String, Value>);

impl Row {
    /// A row from what the server sends; a value of another shape is a row without columns.
    pub fn new(value: Value) -> Self {
        match value {
            Value::Object(columns) => Self(columns),
            _ => Self::default(),
        }
    }

    /// A column's value as it came.
    pub fn get(&self, column: &str) -> &Value {
        self.0.get(column).unwrap_or(&Value::Null)
    }

    /// The elements of a column: those of a set, or the single value.
    pub fn elements<'a>(&'a self, column: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
        let value = self.get(column);
        let inner = match value.as_array().map(Vec::as_slice) {
            Some([Value::String(kind), Value::Array(inner)]) if kind == "set" => inner.as_slice(),
            _ if value.is_null() => &[],
            _ => std::slice::from_ref(value),
        };
        inner.iter()
    }

    /// A text; none where the column is an empty set.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.elements(column).next()?.as_str()
    }

    /// A number; none where the column is an empty set.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.elements(column).next()?.as_i64()
    }

    /// The identifiers of the rows that a column refers to, as texts.
    pub(super) fn references<'a>(&'a self, column: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.elements(column).filter_map(uuid)
    }

    /// The only row that a column refers to, or the first.
    pub fn reference(&self, column: &str) -> Option<Uuid> {
        self.references(column).next().map(Uuid::new)
    }

    /// Whether a column refers to a row.
    pub fn refers_to(&self, column: &str, uuid: &Uuid) -> bool {
        self.references(column).any(|text| text == uuid.0)
    }

    /// A map of texts.
    pub fn map(&self, column: &str) -> BTreeMap<&str, &str> {
        let Some([Value::String(kind), Value::Array(pairs)]) = self.get(column).as_array().map(Vec::as_slice) else {
            return BTreeMap::new();
        };
        let pairs = pairs.iter().filter(|_| kind == "map").filter_map(|pair| match pair.as_array()?.as_slice() {
            [key, value] => Some((key.as_str()?, value.as_str()?)),
            _ => None,
        });
        pairs.collect()
    }
}

/// The identifier in `["uuid", …]`.
pub(super) fn uuid(value: &Value) -> Option<&str> {
    match value.as_array()?.as_slice() {
        [Value::String(kind), Value::String(text)] if kind == "uuid" => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_in_all_their_shapes() {
        let row = Row::new(json!({
            "name": "eth0", "none": ["set", []], "tag": 5, "tags": ["set", [1, 2]],
            "ports": ["set", [["uuid", "a"], ["uuid", "b"]]], "port": ["uuid", "c"],
            "external_ids": ["map", [["k", "v"], ["l", "w"]]], "odd": ["map", [3, ["x"]]],
        }));
        assert_eq!((row.text("name"), row.text("none"), row.text("missing")), (Some("eth0"), None, None));
        assert_eq!((row.integer("tag"), row.integer("none"), row.elements("tags").count()), (Some(5), None, 2));
        assert_eq!(row.references("ports").collect::<Vec<_>>(), ["a", "b"]);
        assert!(row.refers_to("ports", &Uuid::new("b")) && !row.refers_to("ports", &Uuid::new("c")));
        assert_eq!((row.reference("port"), row.reference("none")), (Some(Uuid::new("c")), None));
        assert_eq!(row.map("external_ids")["l"], "w");
        assert!(row.map("odd").is_empty() && row.map("name").is_empty());
    }
}
