//! Where a piece of the text that is read came from in the file that a person wrote.

use std::ops::Range;

/// A range of bytes of the expanded text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(range: Range<usize>) -> Self {
        // Texts are refused long before they reach 4 GiB.
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(range.start), end: clamp(range.end) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A stretch of the expanded text: either copied from the shown text, or put in place of a variable there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it starts in the expanded text.
    pub(crate) at: usize,
    /// What it stands for in the shown text.
    pub(crate) shown: Range<usize>,
    /// Whether it is a copy, byte for byte.
    pub(crate) copied: bool,
}

/// A place in a text as people count: from 1, and columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Length in characters within that line, at least 1.
    pub length: usize,
}

/// A text with a name, as it is shown to people.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: String,
    /// What people must know to find the shown line, when it is not a line of the file itself.
    pub(crate) note: Option<&'static str>,
    shown: String,
    line_starts: Vec<usize>,
    pieces: Vec<Piece>,
}

impl Source {
    /// A text that is shown as it is read.
    pub(crate) fn new(file: impl Into<String>, shown: impl Into<String>) -> Self {
        let shown = shown.into();
        let line_starts = std::iter::once(0).chain(shown.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), note: None, shown, line_starts, pieces: Vec::new() }
    }

    /// Says how the expanded text was made from the shown one.
    pub(crate) fn set_pieces(&mut self, pieces: Vec<Piece>) {
        self.pieces = pieces;
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Where a range of the expanded text is to be shown.
    pub(crate) fn position(&self, span: Span) -> Position {
        self.position_shown(self.to_shown(span.range()))
    }

    /// Where a range of the shown text is.
    pub(crate) fn position_shown(&self, range: Range<usize>) -> Position {
        let start = floor_char(&self.shown, range.start);
        let line = self.line_starts.partition_point(|&at| at <= start) - 1;
        let line_start = self.line_starts[line];
        let rest = &self.shown[start..floor_char(&self.shown, range.end).max(start)];
        let length = rest.lines().next().map_or(0, |first| first.trim_end().chars().count());
        let column = self.shown[line_start..start].chars().count() + 1;
        Position { line: line + 1, column, length: length.max(1) }
    }

    /// The byte at which a line and a column, both from 1, stand in the shown text.
    pub(crate) fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.shown.len());
        (start + column.saturating_sub(1)).min(self.shown.len())
    }

    /// A line of the shown text, without its line break.
    pub(crate) fn line(&self, line: usize) -> &str {
        let start = self.line_starts.get(line - 1).copied().unwrap_or(self.shown.len());
        self.shown[start..].lines().next().unwrap_or_default()
    }

    fn to_shown(&self, range: Range<usize>) -> Range<usize> {
        let at = self.pieces.partition_point(|piece| piece.at <= range.start);
        let Some(piece) = at.checked_sub(1).and_then(|index| self.pieces.get(index)) else { return range };
        if !piece.copied {
            return piece.shown.clone();
        }
        let start = (piece.shown.start + (range.start - piece.at)).min(piece.shown.end);
        start..start + range.len()
    }
}

/// The nearest place at or before `offset` where a character starts.
fn floor_char(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    (0..=offset).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let source = Source::new("f", "a: ä\nbb: ok\r\n");
        assert_eq!(source.position(Span::new(3..5)), Position { line: 1, column: 4, length: 1 });
        assert_eq!(source.position(Span::new(10..12)), Position { line: 2, column: 5, length: 2 });
        assert_eq!(source.line(2), "bb: ok");
        assert_eq!(source.position(Span::new(99..120)), Position { line: 3, column: 1, length: 1 });
    }

    #[test]
    fn a_place_in_a_value_is_shown_at_its_variable() {
        // `x: $NAME!` became `x: somebody!`
        let mut source = Source::new("f", "x: $NAME!");
        source.set_pieces(vec![
            Piece { at: 0, shown: 0..3, copied: true },
            Piece { at: 3, shown: 3..8, copied: false },
            Piece { at: 11, shown: 8..9, copied: true },
        ]);
        assert_eq!(source.position(Span::new(5..7)), Position { line: 1, column: 4, length: 5 });
        assert_eq!(source.position(Span::new(11..12)), Position { line: 1, column: 9, length: 1 });
    }
}
