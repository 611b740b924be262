//! Printing results: data to standard output, in the format that was asked for; everything else to standard error.

mod labs;
pub mod progress;
mod table;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure, Result};

pub use labs::{Details, links_table, nodes_table};
pub(crate) use labs::{ended, note};
pub use table::{Cell, Color, Table};

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// One document for programs.
    Json,
    /// One document for people and programs.
    Yaml,
    /// One document per line for programs.
    Jsonl,
    /// Names only, one per line.
    Name,
}

impl Format {
    /// Whether it is for people.
    pub const fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The format.
    pub format: Format,
    /// Whether tables are coloured.
    pub color: bool,
}

/// Whether `NO_COLOR` asks for none.
pub fn wants_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

impl Output {
    /// The standard output of this process.
    pub fn new(format: Format) -> Self {
        Self { format, color: io::stdout().is_terminal() && !wants_no_color() }
    }

    /// Prints things, each a row of the table that `table` makes of all.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn list<T: Serialize>(
        self,
        items: &[T],
        name: impl Fn(&T) -> String,
        table: impl FnOnce(&[T]) -> Table,
    ) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide => self.text(&table(items).render(self.color)),
            Format::Json => self.text(&json(&items)?),
            Format::Yaml => self.text(&yaml(&items)?),
            Format::Jsonl => items.iter().try_for_each(|item| self.line(item)),
            Format::Name => items.iter().try_for_each(|item| self.text(&format!("{}\n", name(item)))),
        }
    }

    /// Prints one thing, or the text that stands for it where people read.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn one<T: Serialize>(self, item: &T, text: impl FnOnce() -> String) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide | Format::Name => self.text(&text()),
            Format::Json => self.text(&json(item)?),
            Format::Yaml => self.text(&yaml(item)?),
            Format::Jsonl => self.line(item),
        }
    }

    /// Prints one thing as one line of JSON.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn line(self, item: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(item).map_err(|error| unwritable(&error))?;
        self.text(&format!("{text}\n"))
    }

    /// Prints a text as it is.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn text(self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub fn bytes(self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| unheard(&error))
    }
}

/// Prints bytes to standard error.
///
/// # Errors
/// When nobody reads any more.
pub fn complain(bytes: &[u8]) -> Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| unheard(&error))
}

/// Tells people something, on standard error.
pub fn say(text: impl std::fmt::Display) {
    // Whoever closed their standard error does not want to know.
    let _ = complain(format!("{text}\n").as_bytes());
}

/// The end of output. That the reader went away is no failure worth a word.
fn unheard(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Exit::Ok, ""),
        _ => Failure::io("write the result", error),
    }
}

fn json(item: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(item).map(|text| text + "\n").map_err(|error| unwritable(&error))
}

fn yaml(item: &impl Serialize) -> Result<String> {
    // By way of JSON, so that both formats have the same fields, whatever they are made of.
    let value = serde_json::to_value(item).map_err(|error| unwritable(&error))?;
    let text = serde_saphyr::to_string(&value).map_err(|error| unwritable(&error))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

fn unwritable(error: &dyn std::error::Error) -> Failure {
    Failure::plain(format!("the result cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn yaml_is_what_json_is() {
        let value = json!({"a": [1, "yes", null, "2026-01-01T00:00:00Z"], "b": {"c": "x: y", "d": []}, "e": "on"});
        let text = yaml(&value).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = unheard(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Ok, ""));
        assert_eq!(unheard(&io::ErrorKind::StorageFull.into()).exit, Exit::Failure);
    }
}
