//! Looks through what a node prints for signs of how far it has come.
//!
//! Consoles print for people: colours, cursors, lines that are written over one another with bare carriage returns. What
//! is looked at here is the text that is left without those.

use crate::plugin::vendor::{Pattern, Progress};

/// Bytes of a line that are looked at. A line is cut at its end: what counts stands early, and prompts are short.
const LONGEST: usize = 16 << 10;

/// A look through what a node prints, line by line.
#[derive(Debug)]
pub struct LogScan<'a> {
    ready: Option<&'a Pattern>,
    marks: &'a [Progress],
    found: Found,
}

/// What was found in a node's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// It printed that it is ready.
    pub ready: bool,
    /// The furthest mark that it passed, in percent.
    pub percent: Option<u8>,
}

impl<'a> LogScan<'a> {
    /// Looks for a sign of readiness, if there is one, and for marks on the way.
    pub fn new(ready: Option<&'a Pattern>, marks: &'a [Progress]) -> Self {
        Self { ready, marks, found: Found::default() }
    }

    /// Takes in a line. Order does not matter, and neither does repetition.
    pub fn take(&mut self, line: &[u8]) {
        let line = &line[..line.len().min(LONGEST)];
        for text in plain(line).split(['\r', '\n']).filter(|text| !text.is_empty()) {
            self.found.ready |= self.ready.is_some_and(|pattern| pattern.is_in(text));
            for mark in self.marks {
                if self.found.percent < Some(mark.percent) && mark.pattern.is_in(text) {
                    self.found.percent = Some(mark.percent);
                }
            }
        }
    }

    /// What was found so far.
    pub fn found(&self) -> Found {
        self.found
    }
}

/// A text without what a terminal would obey: escape sequences and control characters other than tabs, line feeds and
/// carriage returns.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a letter or one of a few signs.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // A string to the terminal ends with a bell, or with an escape and a backslash.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || c == '\u{1b}' && chars.next_if_eq(&'\\').is_some() {
                            break;
                        }
                    }
                }
                // The choice of a character set names it with one more character.
                Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => _ = chars.next(),
                _ => {}
            },
            '\t' | '\n' | '\r' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(pattern: &str, percent: u8) -> Progress {
        Progress { pattern: Pattern::new(pattern).unwrap(), percent }
    }

    fn scan(pattern: &str, lines: &[&str]) -> Found {
        let marks = [mark("Platform initialization", 10), mark("(P|p)atch applied", 70), mark("%BOOT", 90)];
        let ready = Pattern::new(pattern).unwrap();
        let mut scan = LogScan::new(Some(&ready), &marks);
        lines.iter().for_each(|line| scan.take(line.as_bytes()));
        scan.found()
    }

    #[test]
    fn marks_are_found_in_any_order() {
        let pattern = "%SYS-5-SYSTEM_INITIALIZED|System ready";
        assert_eq!(scan(pattern, &[]), Found { ready: false, percent: None });
        assert_eq!(scan(pattern, &["x", "patch applied", "Platform initialization"]).percent, Some(70));
        let all = scan(pattern, &["Platform initialization", "a %BOOT b", "now System ready"]);
        assert_eq!(all, Found { ready: true, percent: Some(90) });
    }

    #[test]
    fn colours_and_carriage_returns_do_not_hide_anything() {
        let pattern = r"^[\w.-]+[>#]$|System is ready";
        for line in [
            "\u{1b}[1;32mSystem\u{1b}[0m is \u{1b}[Kready",
            "10%\r50%\rSystem is ready\r",
            "\u{1b}]0;title\u{7}System is ready",
            "\u{1b}]0;title\u{1b}\\System is ready",
            "\u{1b}(BSystem is re\u{0}ady",
            "progress 100%\rrouter#",
            "\u{1b}[2J\u{1b}[Hrouter>\r",
        ] {
            assert!(scan(pattern, &[line]).ready, "{line:?}");
        }
        for line in ["System is\rready", "router# show", "System \u{1b}]is ready"] {
            assert!(!scan(pattern, &[line]).ready, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_left_is_obeyed_by_no_terminal(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let plain = plain(&bytes);
            prop_assert!(plain.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')));
            prop_assert_eq!(super::plain(plain.as_bytes()), plain, "it changes nothing twice");
        }

        #[test]
        fn text_between_sequences_is_kept(words in prop::collection::vec("[a-z ]{0,8}", 1..6)) {
            let coloured = words.join("\u{1b}[31;1m");
            prop_assert_eq!(super::plain(coloured.as_bytes()), words.concat());
        }

        #[test]
        fn more_lines_never_take_anything_back(lines in prop::collection::vec("(%BOOT|patch applied|x|ready)", 0..8)) {
            let ready = Pattern::new("ready").unwrap();
            let marks = [mark("patch applied", 70), mark("%BOOT", 90)];
            let mut scan = LogScan::new(Some(&ready), &marks);
            for line in lines {
                let before = scan.found();
                scan.take(line.as_bytes());
                let after = scan.found();
                prop_assert!(after.ready >= before.ready && after.percent >= before.percent);
            }
        }
    }
}
