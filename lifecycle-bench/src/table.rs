//! What is printed: lines with a floor, a peer, our own figure and the goal.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::measure::Sample;

/// One figure of a line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cell {
    /// There is no such thing.
    None,
    /// It was measured in this run.
    Measured(Sample),
    /// It could not be, and why.
    Skipped(String),
}

impl Cell {
    fn median(&self) -> Option<f64> {
        match self {
            Self::Measured(sample) => Some(sample.median),
            Self::None | Self::Skipped(_) => None,
        }
    }
}

impl From<Sample> for Cell {
    fn from(sample: Sample) -> Self {
        Self::Measured(sample)
    }
}

/// What our figure is to be. Figures are costs: less is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most so many times the floor.
    TimesFloor(f64),
    /// The peer takes at least so many times as much.
    FasterThanPeer(f64),
    /// At most so much.
    AtMost(f64),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// Unit of all its figures.
    pub(crate) unit: String,
    pub(crate) floor: Cell,
    pub(crate) peer: Cell,
    pub(crate) ours: Cell,
    pub(crate) goals: Vec<Goal>,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, unit: &str, ours: impl Into<Cell>) -> Self {
        let (what, unit) = (what.into(), unit.to_owned());
        Self { what, unit, floor: Cell::None, peer: Cell::None, ours: ours.into(), goals: Vec::new() }
    }

    /// A line of which nothing could be measured.
    pub(crate) fn skipped(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, "", Cell::Skipped(why.into()))
    }

    pub(crate) fn floor(self, floor: impl Into<Cell>) -> Self {
        Self { floor: floor.into(), ..self }
    }

    pub(crate) fn peer(self, peer: impl Into<Cell>) -> Self {
        Self { peer: peer.into(), ..self }
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }

    /// Our figure as a multiple of the floor, and the peer's as a multiple of ours.
    fn ratios(&self) -> String {
        let ours = self.ours.median();
        let floor = ours.zip(self.floor.median()).map(|(ours, floor)| format!("{} × floor", digits(ours / floor)));
        let peer = ours.zip(self.peer.median()).map(|(ours, peer)| format!("peer {} ×", digits(peer / ours)));
        [floor, peer].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn goals(&self) -> String {
        let one = |goal: &Goal| {
            let ours = self.ours.median();
            let (text, met) = match *goal {
                Goal::TimesFloor(times) => {
                    let met = ours.zip(self.floor.median()).map(|(ours, floor)| ours <= times * floor);
                    (format!("≤ {times} × floor"), met)
                }
                Goal::FasterThanPeer(times) => {
                    let met = ours.zip(self.peer.median()).map(|(ours, peer)| peer >= times * ours);
                    (format!("peer ≥ {times} ×"), met)
                }
                Goal::AtMost(limit) => (format!("≤ {limit} {}", self.unit), ours.map(|ours| ours <= limit)),
            };
            let verdict = met.map_or("not measured", |met| if met { "met" } else { "MISSED" });
            format!("{text}: {verdict}")
        };
        self.goals.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// A figure with three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.3}"),
        _ => format!("{value:.6}"),
    }
}

fn short(cell: &Cell) -> String {
    match cell {
        Cell::None => "–".to_owned(),
        Cell::Skipped(_) => "skipped".to_owned(),
        Cell::Measured(sample) => digits(sample.median),
    }
}

fn with_range(cell: &Cell) -> String {
    match cell {
        Cell::Measured(sample) if sample.runs > 1 => {
            format!("{} ({}–{})", digits(sample.median), digits(sample.min), digits(sample.max))
        }
        _ => short(cell),
    }
}

/// The table as text: medians, ours with its range, and below it why anything was skipped.
pub(crate) fn render(lines: &[Line]) -> String {
    let mut rows = vec![["what", "unit", "floor", "peer", "ours (min–max)", "ratio", "goal"].map(str::to_owned)];
    rows.extend(lines.iter().map(|line| {
        let (floor, peer, ours) = (short(&line.floor), short(&line.peer), with_range(&line.ours));
        [line.what.clone(), line.unit.clone(), floor, peer, ours, line.ratios(), line.goals()]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    for line in lines {
        for (name, cell) in [("floor", &line.floor), ("peer", &line.peer), ("ours", &line.ours)] {
            if let Cell::Skipped(why) = cell {
                let _ = writeln!(text, "{}: {name} skipped: {why}", line.what);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_goals_are_those_of_the_medians() {
        let line = Line::new("a link", "ms", Sample::of(vec![3.0, 1.0, 2.0]))
            .floor(Sample::of(vec![1.0, 2.0]))
            .peer(Cell::Skipped("not installed".to_owned()))
            .goal(Goal::TimesFloor(1.5))
            .goal(Goal::FasterThanPeer(10.0))
            .goal(Goal::AtMost(1.0));
        assert_eq!(line.ratios(), "1.33 × floor");
        assert_eq!(line.goals(), "≤ 1.5 × floor: met; peer ≥ 10 ×: not measured; ≤ 1 ms: MISSED");
        let text = render(&[line]);
        assert!(text.contains("2.00 (1.00–3.00)"), "{text}");
        assert!(text.contains("a link: peer skipped: not installed"), "{text}");
    }

    #[test]
    fn three_digits_count() {
        assert_eq!([1234.5, 12.34, 1.234, 0.1234, 0.00001].map(digits), ["1234", "12.3", "1.23", "0.123", "0.000010"]);
    }
}
