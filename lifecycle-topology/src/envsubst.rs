//! Environment variables in a lab file: `$v ${v} ${v-d} ${v:-d} ${v=d} ${v:=d} ${v+o} ${v:+o} $$v`.
//!
//! A variable that is not set and has no default stays as written, so that a command such as `echo $HOME` can mean the
//! node's own. `=` is `-`: nothing is assigned. What stands after an operator may refer to variables again.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::source::Piece;

/// How deep references may stand within the defaults of others.
const MAX_DEPTH: usize = 32;

/// After so many broken references the rest of the text is left alone.
const MAX_PROBLEMS: usize = 100;

/// A text with its variables replaced.
#[derive(Debug)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// What each stretch of the text was made from.
    pub(crate) pieces: Vec<Piece>,
    /// References that could not be read, with what is wrong; they stay as written.
    pub(crate) problems: Vec<(Range<usize>, &'static str)>,
}

/// Replaces the variables of `text`. What the result has beyond `limit` bytes is a problem.
pub(crate) fn expand(text: &str, environment: &BTreeMap<String, String>, limit: usize) -> Expanded {
    let scanner = Scanner { text, environment };
    let mut expanded = Expanded { text: String::with_capacity(text.len()), pieces: Vec::new(), problems: Vec::new() };
    let mut copied = 0;
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
        match scanner.reference(dollar, 0) {
            Ok((end, None)) => at = end,
            Ok((end, Some(value))) => {
                expanded.push(text, copied..dollar, None);
                expanded.push(text, dollar..end, Some(&value));
                (copied, at) = (end, end);
            }
            Err((range, what)) => {
                at = dollar + 2;
                expanded.problems.push((range, what));
            }
        }
        if expanded.text.len() > limit {
            expanded.problems.push((dollar..at, "the text becomes too long with the values of its variables"));
        }
        if expanded.text.len() > limit || expanded.problems.len() > MAX_PROBLEMS {
            break;
        }
    }
    expanded.push(text, copied..text.len(), None);
    expanded
}

impl Expanded {
    fn push(&mut self, text: &str, shown: Range<usize>, value: Option<&str>) {
        self.pieces.push(Piece { at: self.text.len(), shown: shown.clone(), copied: value.is_none() });
        self.text.push_str(value.unwrap_or(&text[shown]));
    }
}

/// The end of a reference and what it stands for; nothing when it stays as written.
type Reference = Result<(usize, Option<String>), (Range<usize>, &'static str)>;

struct Scanner<'a> {
    text: &'a str,
    environment: &'a BTreeMap<String, String>,
}

impl Scanner<'_> {
    /// The reference whose `$` stands at `at`.
    fn reference(&self, at: usize, depth: usize) -> Reference {
        match self.byte(at + 1) {
            Some(b'$') => Ok((at + 2, Some("$".to_owned()))),
            Some(b'{') => self.braced(at, depth),
            _ => {
                let end = self.name_end(at + 1);
                Ok((end, self.value(&self.text[at + 1..end]).map(str::to_owned)))
            }
        }
    }

    fn braced(&self, at: usize, depth: usize) -> Reference {
        let name_end = self.name_end(at + 2);
        let name = &self.text[at + 2..name_end];
        if self.byte(name_end) == Some(b'}') {
            return Ok((name_end + 1, self.value(name).map(str::to_owned)));
        }
        let colon = usize::from(self.byte(name_end) == Some(b':'));
        let Some(operator @ (b'-' | b'=' | b'+')) = self.byte(name_end + colon).filter(|_| !name.is_empty()) else {
            let what = "this is no reference to a variable";
            return Err((at..(name_end + 1).min(self.text.len()), what));
        };
        if depth == MAX_DEPTH {
            return Err((at..name_end, "variables stand too deep within each other"));
        }
        let (end, word) = self.word(at, name_end + colon + 1, depth + 1)?;
        let value = self.value(name).filter(|value| colon == 0 || operator == b'+' || !value.is_empty());
        let chosen = match (operator, value) {
            (b'+', Some(_)) => word,
            (b'+', None) => String::new(),
            (_, Some(value)) => value.to_owned(),
            (_, None) => word,
        };
        Ok((end, Some(chosen)))
    }

    /// What stands after an operator, up to the closing brace.
    fn word(
        &self,
        opened: usize,
        mut at: usize,
        depth: usize,
    ) -> Result<(usize, String), (Range<usize>, &'static str)> {
        let mut word = String::new();
        loop {
            let Some(stop) = self.text[at..].find(['$', '}']).map(|found| at + found) else {
                return Err((opened..opened + 2, "this reference is never closed"));
            };
            word.push_str(&self.text[at..stop]);
            if self.byte(stop) == Some(b'}') {
                return Ok((stop + 1, word));
            }
            let (end, value) = self.reference(stop, depth)?;
            word.push_str(value.as_deref().unwrap_or(&self.text[stop..end]));
            at = end;
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        // Shells set `_` to anything, so it never counts as a variable.
        self.environment.get(name).map(String::as_str).filter(|_| name != "_")
    }

    /// The end of the name that starts at `at`; `at` itself when there is none.
    fn name_end(&self, at: usize) -> usize {
        let name = self.text.as_bytes().get(at..).unwrap_or_default();
        if name.first().is_some_and(u8::is_ascii_digit) {
            return at;
        }
        at + name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment() -> BTreeMap<String, String> {
        let pairs = [("BAR", "bar"), ("FOO", "foo"), ("EMPTY", ""), ("_", "underscore")];
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("", ""),
            ("$BAR baz", "bar baz"),
            ("$BAR$FOO", "barfoo"),
            ("${BAR}baz", "barbaz"),
            ("$EMPTY.", "."),
            // Not set: as written.
            ("some$value ${value} $", "some$value ${value} $"),
            ("$_ ${_} $1 $9x", "$_ ${_} $1 $9x"),
            // Defaults.
            ("${NOT-$BAR} ${NOT=$BAR} ${NOT:-$BAR} ${NOT:=$BAR}", "bar bar bar bar"),
            ("[${EMPTY-x}] [${EMPTY=x}] [${EMPTY:-x}] [${EMPTY:=x}]", "[] [] [x] [x]"),
            ("${BAR:-x} ${BAR-x}", "bar bar"),
            ("${NOT:-$ALSO_NOT}", "$ALSO_NOT"),
            ("${NOT:-${ALSO_NOT:-deep ${FOO}}}", "deep foo"),
            ("prefix: ${P:=\"\"}", "prefix: \"\""),
            ("${URL-http://localhost:8080}", "http://localhost:8080"),
            // Alternatives.
            ("[${EMPTY+x}] [${EMPTY:+x}] [${NOT+x}] [${NOT:+x}]", "[x] [x] [] []"),
            // Escapes.
            ("$$BAR $${BAR} $$$BAR $$${NOT:-x}", "$BAR ${BAR} $bar $x"),
            ("ä$BAR€", "äbar€"),
        ] {
            let expanded = expand(text, &environment(), 1000);
            assert_eq!(expanded.text, expected, "{text}");
            assert!(expanded.problems.is_empty(), "{text}");
        }
    }

    #[test]
    fn broken_references_stay_and_are_told() {
        for (text, at) in
            [("a ${", 2), ("a ${}", 2), ("${x", 0), ("${x%.*}", 0), ("${1}", 0), ("${x:-y", 0), ("${x:?y}", 0)]
        {
            let expanded = expand(text, &environment(), 1000);
            if text != "a ${}" {
                assert_eq!(expanded.problems.first().map(|(range, _)| range.start), Some(at), "{text}");
            }
            assert_eq!(expanded.text, text);
        }
    }

    #[test]
    fn hostile_nesting_and_growth_end_soon() {
        let deep = "${A:-".repeat(200_000);
        let expanded = expand(&deep, &environment(), 10_000_000);
        assert!(!expanded.problems.is_empty());
        let big = BTreeMap::from([("A".to_owned(), "x".repeat(100_000))]);
        let expanded = expand(&"$A".repeat(100_000), &big, 1_000_000);
        assert!(expanded.text.len() < 1_400_000);
        assert!(!expanded.problems.is_empty());
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_is_unchanged(text in "[^$]*") {
            let expanded = expand(&text, &environment(), usize::MAX);
            prop_assert_eq!(expanded.text, text);
            prop_assert!(expanded.problems.is_empty());
        }

        #[test]
        fn doubling_dollars_protects_any_text(text in ".*") {
            let expanded = expand(&text.replace('$', "$$"), &environment(), usize::MAX);
            prop_assert_eq!(expanded.text, text);
        }

        #[test]
        fn any_text_ends_and_its_pieces_fit(text in "[${}:=+a-cA_ ä-]{0,60}") {
            let expanded = expand(&text, &environment(), usize::MAX);
            let mut at = 0;
            let mut shown = 0;
            for piece in &expanded.pieces {
                prop_assert!(piece.at >= at && piece.shown.start == shown);
                (at, shown) = (piece.at, piece.shown.end);
                if piece.copied {
                    prop_assert!(expanded.text[piece.at..].starts_with(&text[piece.shown.clone()]));
                }
            }
            prop_assert_eq!(shown, text.len());
        }

        #[test]
        fn a_set_variable_wins_over_any_default(word in "[a-z :/.]*") {
            let text = format!("${{BAR:-{word}}}${{NOT:-{word}}}");
            prop_assert_eq!(expand(&text, &environment(), usize::MAX).text, format!("bar{word}"));
        }
    }
}
