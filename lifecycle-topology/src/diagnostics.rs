//! Problems of a lab file: as data for programs and, through `Display`, as text for people.
//!
//! ```text
//! error: unknown field `imge`
//!  --> lab.clab.yml:7:7
//!   |
//! 7 |       imge: alpine:3
//!   |       ^^^^ did you mean `image`?
//! ```

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

pub use crate::source::Position;
use crate::source::{Source, Span};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The lab cannot be loaded.
    Error,
    /// The lab loads, and something of it is not as it seems.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the file as the caller gave it.
    pub file: String,
    /// Where in the file, when it is known.
    pub position: Option<Position>,
    /// The line at that position.
    pub line: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What was expected instead, or what to do.
    pub expected: Option<String>,
    /// What must be known to find the line, when it is not one of the file itself.
    pub note: Option<String>,
}

/// Characters of a line that are shown around the caret.
const SHOWN_WIDTH: usize = 120;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.severity, self.message)?;
        let expected = self.expected.as_deref().unwrap_or_default();
        let (Some(at), Some(line)) = (self.position, &self.line) else {
            write!(f, " --> {}", self.file)?;
            return if expected.is_empty() { Ok(()) } else { write!(f, "\n  = {expected}") };
        };
        let gutter = " ".repeat(at.line.to_string().len());
        let (before, marked, after) = cut(line, at);
        let caret = "^".repeat(marked.chars().count().max(1));
        let indent = " ".repeat(before.chars().count());
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, at.line, at.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{} | {}", at.line, format!("{before}{marked}{after}").trim_end())?;
        write!(f, "{gutter} | {}", format!("{indent}{caret} {expected}").trim_end())?;
        self.note.as_ref().map_or(Ok(()), |note| write!(f, "\n{gutter} = {note}"))
    }
}

/// A text without anything that a terminal would obey.
fn clean(text: impl Iterator<Item = char>) -> String {
    let replace = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.map(replace).collect()
}

/// Splits a line at its mark, cut down to a width that can be read and free of anything a terminal would obey.
fn cut(line: &str, at: Position) -> (String, String, String) {
    let start = at.column - 1;
    let skip = if start > SHOWN_WIDTH * 2 / 3 { start - SHOWN_WIDTH / 3 } else { 0 };
    let length = at.length.min(SHOWN_WIDTH / 2);
    let mut chars = line.chars().skip(skip);
    let mut before = clean(chars.by_ref().take(start - skip));
    let marked = clean(chars.by_ref().take(length));
    let mut after = clean(chars.by_ref().take(SHOWN_WIDTH - (start - skip) - length));
    if skip > 0 {
        before.insert(0, '…');
    }
    if chars.next().is_some() {
        after.push('…');
    }
    (before, marked, after)
}

/// All problems of one file, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The problems.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// How many of the problems are of `severity`.
    pub fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == severity).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.diagnostics {
            write!(f, "{found}\n\n")?;
        }
        let plural = |count: usize, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        write!(f, "{}", plural(self.count(Severity::Error), "error"))?;
        match self.count(Severity::Warning) {
            0 => Ok(()),
            warnings => write!(f, ", {}", plural(warnings, "warning")),
        }
    }
}

impl std::error::Error for Report {}

/// More errors than this, or warnings, are read by nobody; that there are more is said.
const MOST: usize = 100;

/// Characters of a message.
const LONGEST_MESSAGE: usize = 400;

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Problems {
    source: Source,
    /// An inherited value is looked at once per node that inherits it, and told once.
    seen: HashSet<(Range<usize>, String)>,
    found: Vec<Diagnostic>,
}

impl Problems {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, seen: HashSet::new(), found: Vec::new() }
    }

    pub(crate) fn source_mut(&mut self) -> &mut Source {
        &mut self.source
    }

    pub(crate) fn error(&mut self, at: Span, message: impl Into<String>, expected: impl Into<String>) {
        let place = at.start as usize..at.end as usize;
        self.push(Severity::Error, place, self.source.position(at), message.into(), expected.into());
    }

    pub(crate) fn warn(&mut self, at: Span, message: impl Into<String>, expected: impl Into<String>) {
        let place = at.start as usize..at.end as usize;
        self.push(Severity::Warning, place, self.source.position(at), message.into(), expected.into());
    }

    /// An error at a place of the text as it is shown, before anything was put in for variables.
    pub(crate) fn error_shown(&mut self, at: Range<usize>, message: impl Into<String>, expected: impl Into<String>) {
        let position = self.source.position_shown(at.clone());
        self.push(Severity::Error, at, position, message.into(), expected.into());
    }

    fn push(&mut self, severity: Severity, place: Range<usize>, at: Position, message: String, expected: String) {
        let already = self.found.iter().filter(|found| found.severity == severity).count();
        if already > MOST || !self.seen.insert((place, message.clone())) {
            return;
        }
        // Messages quote the file, which may hold anything, and any amount of it.
        let clean = |text: &str| clean(text.chars().take(LONGEST_MESSAGE));
        let mut found = Diagnostic {
            severity,
            file: self.source.file.clone(),
            position: Some(at),
            line: Some(self.source.line(at.line).to_owned()),
            message: clean(&message),
            expected: Some(clean(&expected)).filter(|text| !text.is_empty()),
            note: self.source.note.map(str::to_owned),
        };
        if already == MOST {
            found.message = format!("more than {MOST} {severity}s; the rest is not shown");
            (found.position, found.line, found.expected, found.note) = (None, None, None, None);
        }
        self.found.push(found);
    }

    pub(crate) fn line_of(&self, at: Span) -> usize {
        self.source.position(at).line
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|found| found.severity == Severity::Error)
    }

    /// The problems in the order of the file.
    pub(crate) fn into_report(mut self) -> Report {
        self.found.sort_by_key(|found| found.position.map_or((usize::MAX, 0), |at| (at.line, at.column)));
        Report { diagnostics: self.found }
    }
}

/// The known word that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).clamp(1, 3);
    // A word of hundreds of characters is nobody's typing error, and comparing takes the product of the lengths.
    let short = word.len() <= 64;
    known
        .into_iter()
        .filter(|_| short)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be changed, added or removed to make one word the other; case does not count, and neither
/// does which of `-` and `_` was used.
fn distance(a: &str, b: &str) -> usize {
    let plain = |text: &str| text.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect();
    let (a, b): (Vec<char>, Vec<char>) = (plain(a), plain(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let swap = corner + usize::from(ca != cb);
            corner = row[j + 1];
            row[j + 1] = swap.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Problems {
        Problems::new(Source::new("lab.clab.yml", text))
    }

    #[test]
    fn a_caret_stands_under_what_is_wrong() {
        let mut problems = problems("name: x\nnodes:\n\timge: a\n");
        problems.error(Span::new(16..20), "unknown field `imge`", "did you mean `image`?");
        problems.warn(Span::new(0..4), "early", "");
        let expected = "\
warning: early
 --> lab.clab.yml:1:1
  |
1 | name: x
  | ^^^^

error: unknown field `imge`
 --> lab.clab.yml:3:2
  |
3 |  imge: a
  |  ^^^^ did you mean `image`?

1 error, 1 warning";
        assert_eq!(problems.into_report().to_string(), expected);
    }

    #[test]
    fn long_lines_are_cut_and_terminals_protected() {
        let mut problems = problems(&format!("{}\u{1b}[31m{}", "x".repeat(500), "y".repeat(500)));
        problems.error(Span::new(500..501), "escape \u{1b}[2J", "\u{7}");
        let text = problems.into_report().to_string();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 140), "{text}");
    }

    #[test]
    fn the_same_problem_is_told_once_and_floods_are_counted() {
        let mut problems = problems(&"x".repeat(5000));
        for at in 0..500 {
            problems.error(Span::new(at..at + 1), "bad", "");
            problems.error(Span::new(at..at + 1), "bad", "");
        }
        let report = problems.into_report();
        assert_eq!(report.diagnostics.len(), MOST + 1);
        assert!(report.to_string().contains("the rest is not shown"));
    }

    #[test]
    fn near_words() {
        let known = ["image", "kind", "mgmt-ipv4", "startup-config"];
        assert_eq!(nearest("imge", known), Some("image"));
        assert_eq!(nearest("mgmt_ipv4", known), Some("mgmt-ipv4"));
        assert_eq!(nearest("Kind", known), Some("kind"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(nearest(&"x".repeat(1000), known), None);
    }
}
