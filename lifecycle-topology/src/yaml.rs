//! YAML text into a tree whose every part knows where it stands.
//!
//! A tree instead of deserialised structs, because a reader of structs stops at the first problem and forgets how a
//! scalar was written: `1.10` as text must stay `1.10`. Size, depth and what aliases repeat are bounded.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use crate::diagnostics::Problems;
use crate::source::Span;

/// How deep mappings and sequences may stand within each other.
const MAX_DEPTH: usize = 64;
/// How many values there may be, those that aliases repeat included.
const MAX_VALUES: usize = 500_000;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
    /// How many values it consists of, itself included.
    size: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A scalar as it was written. A plain one may be meant as a number or a truth value, a quoted one is text.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) plain: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// A mapping or sequence whose end was not reached yet.
struct Open {
    span: Span,
    anchor: usize,
    size: usize,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<(Key, Node)>, key: Option<Key>, seen: HashMap<String, Span> },
}

/// Reads the one document of `text`. Without a result there is an error among the problems.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    let options = granit_parser::options! { emit_comments: false };
    let mut builder = Builder { problems, open: Vec::new(), anchors: HashMap::new(), values: 0, root: None };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.syntax_error(text, &error);
                return None;
            }
        };
        builder.take(event, Span::new(span.byte_range().unwrap_or_default()))?;
    }
    if builder.root.is_none() {
        builder.problems.error(Span::default(), "the file is empty", "a lab has at least `name` and `topology`");
    }
    builder.root
}

struct Builder<'p> {
    problems: &'p mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    /// Takes one event in; nothing when there is no point in going on.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.problems.error(span, "a second document starts here", "expected one document per file");
                None
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !self.is_text_tag(tag.as_deref(), span);
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    _ => Value::Scalar(Scalar { text: text.into_owned(), plain }),
                };
                self.count(1, span)?;
                self.complete(Node { value, span, size: 1 }, anchor)
            }
            Event::Alias(id) => {
                let Some(size) = self.anchors.get(&id).map(|node| node.size) else {
                    self.problems.error(span, "this alias stands within what it refers to", "");
                    return None;
                };
                self.count(size, span)?;
                let node = self.anchors.get(&id).cloned()?;
                self.complete(node, 0)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span);
                self.descend(span, anchor, OpenKind::Sequence(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span);
                let kind = OpenKind::Mapping { entries: Vec::new(), key: None, seen: HashMap::new() };
                self.descend(span, anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { span, anchor, size, kind } = self.open.pop()?;
                let value = match kind {
                    OpenKind::Sequence(items) => Value::Sequence(items),
                    OpenKind::Mapping { entries, .. } => Value::Mapping(self.merged(entries)),
                };
                self.complete(Node { value, span, size }, anchor)
            }
            _ => Some(()),
        }
    }

    fn descend(&mut self, span: Span, anchor: usize, kind: OpenKind) -> Option<()> {
        if self.open.len() == MAX_DEPTH {
            self.problems.error(span, "values stand too deep within each other", format!("at most {MAX_DEPTH} levels"));
            return None;
        }
        self.count(1, span)?;
        self.open.push(Open { span, anchor, size: 1, kind });
        Some(())
    }

    /// Counts values that were made: by the file, or by repeating others.
    fn count(&mut self, values: usize, at: Span) -> Option<()> {
        self.values += values;
        if self.values > MAX_VALUES {
            self.problems.error(at, "the file has too many values", "aliases count as what they repeat");
            return None;
        }
        Some(())
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize) -> Option<()> {
        if anchor != 0 {
            self.count(node.size, node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        open.size += node.size;
        match &mut open.kind {
            OpenKind::Sequence(items) => items.push(node),
            OpenKind::Mapping { entries, key, seen } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => {
                    let text = match node.value {
                        Value::Scalar(scalar) => scalar.text,
                        Value::Null | Value::Sequence(_) | Value::Mapping(_) => {
                            self.problems.error(node.span, "this key is not a text", "expected `key: value`");
                            String::new()
                        }
                    };
                    if let Some(first) = seen.insert(text.clone(), node.span) {
                        let line = self.problems.line_of(first);
                        let advice = format!("it stands in line {line} already; keep one of them");
                        self.problems.error(node.span, format!("the key `{text}` is given twice"), advice);
                    }
                    *key = Some(Key { text, span: node.span });
                }
            },
        }
        Some(())
    }

    /// Entries with those of a merge key (`<<`) added where the mapping has none of its own.
    fn merged(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text == "<<");
        for (_, node) in merges {
            let sources = match node.value {
                Value::Sequence(items) => items,
                _ => vec![node],
            };
            for source in sources {
                let Value::Mapping(more) = source.value else {
                    self.problems.error(source.span, "`<<` takes in mappings only", "expected an alias of a mapping");
                    continue;
                };
                let missing = more.into_iter().filter(|(key, _)| own.iter().all(|(known, _)| known.text != key.text));
                let missing: Vec<_> = missing.collect();
                own.extend(missing);
            }
        }
        own
    }

    /// Whether a tag says that a plain scalar is text. Tags of applications are refused, since nothing here knows them.
    fn is_text_tag(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        if !tag.is_yaml_core_schema() && tag.suffix() != "" {
            self.problems.error(span, format!("the tag `{}` is not known", tag.original()), "lab files need no tags");
        }
        tag.is_yaml_core_schema_tag("str") || tag.suffix().is_empty()
    }

    fn syntax_error(&mut self, text: &str, error: &ScanError) {
        let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
        let message = format!("this is not valid YAML: {}", error.info());
        let advice =
            if text[..at].ends_with('\t') || text[at..].starts_with('\t') { "use spaces instead of tabs" } else { "" };
        self.problems.error(Span::new(at..at + 1), message, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn read(text: &str) -> Result<Node, String> {
        let mut problems = Problems::new(Source::new("t.yml", text));
        let node = parse(text, &mut problems);
        if problems.has_errors() { Err(problems.into_report().to_string()) } else { Ok(node.unwrap()) }
    }

    fn entries(node: &Node) -> Vec<(&str, String)> {
        let Value::Mapping(entries) = &node.value else { panic!("{node:?}") };
        let show = |value: &Value| match value {
            Value::Scalar(scalar) => format!("{}{}", if scalar.plain { "" } else { "'" }, scalar.text),
            Value::Null => "null".to_owned(),
            Value::Sequence(items) => format!("[{}]", items.len()),
            Value::Mapping(entries) => format!("{{{}}}", entries.len()),
        };
        entries.iter().map(|(key, node)| (key.text.as_str(), show(&node.value))).collect()
    }

    #[test]
    fn scalars_stay_as_written() {
        let node = read("a: 1.10\nb: '1'\nc:\nd: ~\ne: ''\nf: !!str 5\ng: 56180:80\nh: |\n  x\n  y\n").unwrap();
        let expected = [
            ("a", "1.10"),
            ("b", "'1"),
            ("c", "null"),
            ("d", "null"),
            ("e", "'"),
            ("f", "'5"),
            ("g", "56180:80"),
            ("h", "'x\ny\n"),
        ];
        assert_eq!(entries(&node), expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn aliases_and_merge_keys() {
        let node = read("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\nw: {<<: [*x, {c: 4}]}\n").unwrap();
        assert_eq!(
            entries(&node).iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
            ["{2}", "{2}", "{2}", "{3}"]
        );
        let Value::Mapping(all) = &node.value else { panic!() };
        assert_eq!(entries(&all[1].1), [("b", "3".to_owned()), ("a", "1".to_owned())]);
    }

    #[test]
    fn all_duplicate_keys_are_told() {
        let error = read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n").unwrap_err();
        assert!(
            error.contains("the key `c` is given twice") && error.contains("the key `a` is given twice"),
            "{error}"
        );
        assert!(error.contains("t.yml:5:1") && error.contains("it stands in line 1 already"), "{error}");
    }

    #[test]
    fn refusals_say_why() {
        for (text, why) in [
            ("", "the file is empty"),
            ("# only a comment\n", "the file is empty"),
            ("a: 1\n---\nb: 2\n", "a second document starts here"),
            ("a: [1, 2\nb: 3\n", "this is not valid YAML"),
            ("a:\n\tb: 1\n", "use spaces instead of tabs"),
            ("a: *missing\n", "unknown anchor"),
            ("a: &a [*a]\n", "stands within what it refers to"),
            ("a: !ruby/object {}\n", "the tag `!ruby/object` is not known"),
            ("? [a, b]\n: c\n", "this key is not a text"),
            ("a: {<<: 3}\n", "takes in mappings only"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_are_refused_soon() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let of = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![of; 10].join(", "));
        }
        assert!(read(&bomb).unwrap_err().contains("too many values"));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read(&"{a: ".repeat(100_000)).is_err());
        assert!(read(&"- ".repeat(100_000)).is_err());
        let mut deep = String::new();
        for level in 0..200 {
            deep += &format!("{}a:\n", " ".repeat(level));
        }
        assert!(read(&deep).unwrap_err().contains("too deep"));
    }
}
