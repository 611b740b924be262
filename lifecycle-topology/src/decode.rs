//! From the tree of a file to typed records: every field known by name, every problem told, nothing stopped by one.

use std::marker::PhantomData;
use std::ops::Deref;

use indexmap::IndexMap;
use serde_json::Value as Json;

use crate::diagnostics::{Problems, nearest};
use crate::source::Span;
use crate::yaml::{Key, Node, Scalar, Value};

/// A value and where it stands in the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Something that a value of the file can be read as.
pub(crate) trait FromTree: Sized {
    /// Reads a value that is not null; without a result there is an error among the problems.
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self>;
}

/// Reads a value; null is nothing.
pub(crate) fn read<T: FromTree>(node: &Node, problems: &mut Problems) -> Option<At<T>> {
    match node.value {
        Value::Null => None,
        _ => T::from_tree(node, problems).map(|value| At { value, span: node.span }),
    }
}

/// A mapping with keys of the user's choice, in the order of the file.
pub(crate) type Map<T> = IndexMap<String, Entry<T>>;

/// One entry of a [`Map`]; without a value when that was null or could not be read.
#[derive(Debug, Clone)]
pub(crate) struct Entry<T> {
    pub(crate) key: Span,
    pub(crate) value: Option<At<T>>,
}

fn mismatch<T>(node: &Node, problems: &mut Problems, expected: &str) -> Option<T> {
    let found = match &node.value {
        Value::Null => "nothing",
        Value::Scalar(_) => "a single value",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
    };
    problems.error(node.span, format!("expected {expected}, found {found}"), "");
    None
}

fn scalar<'n>(node: &'n Node, problems: &mut Problems, expected: &str) -> Option<&'n Scalar> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => mismatch(node, problems, expected),
    }
}

/// The entries of a mapping.
pub(crate) fn entries<'n>(node: &'n Node, problems: &mut Problems) -> Option<&'n [(Key, Node)]> {
    match &node.value {
        Value::Mapping(entries) => Some(entries),
        _ => mismatch(node, problems, "a mapping"),
    }
}

impl FromTree for String {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        scalar(node, problems, "a text").map(|scalar| scalar.text.clone())
    }
}

impl FromTree for bool {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        let value = truth(&scalar(node, problems, "`true` or `false`")?.text);
        if value.is_none() {
            problems.error(node.span, "expected `true` or `false`", "");
        }
        value
    }
}

impl FromTree for f64 {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        let value = scalar(node, problems, "a number")?.text.parse().ok().filter(|number: &f64| number.is_finite());
        if value.is_none() {
            problems.error(node.span, "expected a number", "");
        }
        value
    }
}

impl FromTree for u32 {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        let text = &scalar(node, problems, "a whole number")?.text;
        let value = integer(text).and_then(|number| Self::try_from(number).ok());
        if value.is_none() {
            problems.error(node.span, "expected a whole number", format!("from 0 to {}", Self::MAX));
        }
        value
    }
}

impl<T: FromTree> FromTree for Vec<At<T>> {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Value::Sequence(items) = &node.value else { return mismatch(node, problems, "a list") };
        let mut read_item = |item: &Node| match item.value {
            Value::Null => mismatch(item, problems, "a value"),
            _ => read(item, problems),
        };
        Some(items.iter().filter_map(&mut read_item).collect())
    }
}

impl<T: FromTree> FromTree for Map<T> {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        let entries = entries(node, problems)?.iter();
        Some(
            entries
                .map(|(key, node)| (key.text.clone(), Entry { key: key.span, value: read(node, problems) }))
                .collect(),
        )
    }
}

impl FromTree for Json {
    fn from_tree(node: &Node, _: &mut Problems) -> Option<Self> {
        Some(node.to_json())
    }
}

/// A record that is checked field by field and kept as it was written, for those who know what to do with it.
#[derive(Debug, Clone)]
pub(crate) struct Checked<T> {
    pub(crate) json: Json,
    checked: PhantomData<T>,
}

impl<T: FromTree> FromTree for Checked<T> {
    fn from_tree(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::from_tree(node, problems).map(|_| Self { json: node.to_json(), checked: PhantomData })
    }
}

impl Node {
    /// The value as JSON, plain scalars with the type they seem to have.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Scalar(scalar) => scalar.to_json(),
            Value::Sequence(items) => items.iter().map(Node::to_json).collect(),
            Value::Mapping(entries) => entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
        }
    }
}

impl Scalar {
    fn to_json(&self) -> Json {
        let text = self.text.as_str();
        if !self.plain {
            return text.into();
        }
        let number = || text.parse::<f64>().ok().filter(|_| !text.ends_with(|c: char| c.is_ascii_alphabetic()));
        match (truth(text), integer(text)) {
            // One letter is too little to be a truth value among values of any type.
            (Some(value), _) if text.len() > 1 => value.into(),
            (_, Some(value)) => value.into(),
            _ => number().map_or_else(|| text.into(), Json::from),
        }
    }
}

/// A truth value as YAML 1.1 writes it.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// A whole number: decimal, `0x`, `0o`, `0b`, or octal by a leading zero as YAML 1.1 has it.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // The standard library would take a second sign here.
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    plain.then(|| i64::from_str_radix(digits, radix).ok()).flatten().map(|number| sign * number)
}

/// Says that a key is none of those a record knows.
pub(crate) fn unknown_field(key: &Key, known: &[&str], problems: &mut Problems) {
    let advice = match nearest(&key.text, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.len() <= 12 => format!("expected one of: {}", known.join(", ")),
        None => "there is no such field here".to_owned(),
    };
    problems.error(key.span, format!("unknown field `{}`", key.text), advice);
}

/// A struct of optional fields and how it is read from a mapping, each field under its name in the file.
macro_rules! record {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $type:ty = $key:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: Option<$crate::decode::At<$type>>,)*
        }

        impl $crate::decode::FromTree for $name {
            fn from_tree(node: &$crate::yaml::Node, problems: &mut $crate::diagnostics::Problems) -> Option<Self> {
                let mut record = Self::default();
                for (key, value) in $crate::decode::entries(node, problems)? {
                    match key.text.as_str() {
                        $($key => record.$field = $crate::decode::read(value, problems),)*
                        _ => $crate::decode::unknown_field(key, &[$($key),*], problems),
                    }
                }
                Some(record)
            }
        }
    )*};
}
pub(crate) use record;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    record! {
        Thing {
            name: String = "name",
            count: u32 = "count",
            share: f64 = "share",
            on: bool = "on",
            list: Vec<At<String>> = "list",
            map: Map<String> = "map",
            any: Json = "any",
        }
    }

    fn thing(text: &str) -> (Option<Thing>, String) {
        let mut problems = Problems::new(Source::new("t.yml", text));
        let node = crate::yaml::parse(text, &mut problems).unwrap();
        let thing = Thing::from_tree(&node, &mut problems);
        (thing, problems.into_report().to_string())
    }

    #[test]
    fn fields_are_read_by_type() {
        let text = "name: 1.10\ncount: 0x10\nshare: 1.5\non: yes\nlist: [a, 56180:80]\nmap: {A: , B: no}\nany: {x: [1, 1.5, no, n, '7', 010, ~]}";
        let (thing, report) = thing(text);
        let thing = thing.unwrap();
        assert_eq!(report, "0 errors");
        assert_eq!(thing.name.as_deref().map(String::as_str), Some("1.10"));
        assert_eq!(thing.count.as_deref(), Some(&16));
        assert_eq!(thing.share.as_deref(), Some(&1.5));
        assert_eq!(thing.on.as_deref(), Some(&true));
        let list: Vec<&str> = thing.list.as_ref().unwrap().iter().map(|item| item.as_str()).collect();
        assert_eq!(list, ["a", "56180:80"]);
        let map = thing.map.unwrap();
        assert!(map["A"].value.is_none());
        assert_eq!(map["B"].value.as_ref().unwrap().value, "no");
        let any = serde_json::json!({"x": [1, 1.5, false, "n", "7", 8, null]});
        assert_eq!(thing.any.unwrap().value, any);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let (_, report) = thing("nme: x\ncount: -1\nshare: much\non: 3\nlist: {}\nmap: []\nname: [x]\nzebra: 1");
        for expected in [
            "unknown field `nme`",
            "did you mean `name`?",
            "expected a whole number",
            "expected a number",
            "expected `true` or `false`",
            "expected a list, found a mapping",
            "expected a mapping, found a list",
            "expected a text, found a list",
            "expected one of: name, count,",
            "8 errors",
        ] {
            assert!(report.contains(expected), "{expected}: {report}");
        }
    }

    #[test]
    fn whole_numbers() {
        for (text, value) in
            [("7", Some(7)), ("-7", Some(-7)), ("+7", Some(7)), ("010", Some(8)), ("0", Some(0)), ("0b11", Some(3))]
        {
            assert_eq!(integer(text), value, "{text}");
        }
        for text in ["", "-", "1.5", "--1", "0x", "1_000", "56180:80", "99999999999999999999"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }
}
