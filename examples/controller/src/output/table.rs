//! Tables for people: columns under headings, as wide as they need to be.

use std::fmt::Display;

/// Colours of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// It is as it should be.
    Green,
    /// It is on its way.
    Yellow,
    /// Somebody has to look at it.
    Red,
    /// It does not matter much.
    Dim,
}

impl Color {
    const fn code(self) -> &'static str {
        match self {
            Self::Green => "\u{1b}[32m",
            Self::Yellow => "\u{1b}[33m",
            Self::Red => "\u{1b}[31m",
            Self::Dim => "\u{1b}[2m",
        }
    }
}

/// One cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    color: Option<Color>,
}

impl Cell {
    /// A cell with a text; what a terminal would obey is taken out of it.
    pub fn new(text: impl Display) -> Self {
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        Self { text: text.to_string().chars().map(clean).collect(), color: None }
    }

    /// A cell with a text, or a dash where there is none.
    pub fn maybe(text: Option<impl Display>) -> Self {
        text.map_or_else(|| Self::new("-").colored(Color::Dim), Self::new)
    }

    /// The same in a colour.
    #[must_use]
    pub fn colored(self, color: Color) -> Self {
        Self { color: Some(color), ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with headings.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text. Columns without anything but dashes are left out, as long as there is a row.
    pub fn render(&self, color: bool) -> String {
        let nothing = |cell: &Cell| matches!(cell.text.as_str(), "" | "-");
        let shown =
            |column: usize| self.rows.is_empty() || !self.rows.iter().all(|row| row.get(column).is_none_or(nothing));
        let columns: Vec<usize> = (0..self.headings.len()).filter(|column| shown(*column)).collect();
        let headings: Vec<Cell> = self.headings.iter().map(Cell::new).collect();
        let width = |column: usize| {
            let all = std::iter::once(&headings).chain(&self.rows);
            all.filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0)
        };
        let widths: Vec<usize> = columns.iter().map(|column| width(*column)).collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (column, width) in columns.iter().zip(&widths) {
                let Some(cell) = row.get(*column) else { continue };
                match cell.color.filter(|_| color) {
                    Some(color) => line.extend([color.code(), &cell.text, "\u{1b}[0m"]),
                    None => line.push_str(&cell.text),
                }
                line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let mut table = Table::new(["NAME", "STATE", "EMPTY", "NOTE"]);
        table.row(["r1".into(), Cell::new("running").colored(Color::Green), Cell::maybe(None::<&str>), "".into()]);
        table.row(["router-2".into(), "error".into(), Cell::maybe(None::<&str>), "no\u{1b}[2J\nimage".into()]);
        let expected = "\
NAME      STATE    NOTE
r1        running
router-2  error    no [2J image
";
        assert_eq!(table.render(false), expected);
        assert!(table.render(true).contains("\u{1b}[32mrunning\u{1b}[0m"));
        assert_eq!(Table::new(["A", "B"]).render(false), "A  B\n");
    }
}
