//! How to tell that a node is ready, and how far it has come.

use std::fmt;

use regex_lite::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A regular expression that is looked for in a line of text.
#[derive(Clone)]
pub struct Pattern(Regex);

/// A text is no regular expression.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`{text}` is not a pattern that can be looked for: {source}; write `\\` before a character that is meant as itself"
)]
pub struct InvalidPattern {
    /// The text, shortened.
    pub text: String,
    /// What is wrong with it.
    #[source]
    source: regex_lite::Error,
}

impl Pattern {
    /// Reads a pattern: a regular expression without look-around and back-references.
    ///
    /// # Errors
    /// [`InvalidPattern`] when it is none.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        Regex::new(text).map(Self).map_err(|source| InvalidPattern { text: text.chars().take(80).collect(), source })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether `text` has something that the pattern means.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// How to tell that a node is ready. A health check of the lab file's wins over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Readiness {
    /// It is ready when it runs.
    #[default]
    WhenRunning,
    /// A command inside it succeeds; asked again and again, also once it is ready.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Seconds between two tries.
        #[serde(default = "interval")]
        interval: u32,
        /// Seconds after which it is running but not ready.
        #[serde(default = "timeout")]
        timeout: u32,
    },
    /// It has printed something since it was last started.
    Log {
        /// What a line must have.
        pattern: Pattern,
        /// Seconds between two looks.
        #[serde(default = "interval")]
        interval: u32,
        /// Seconds after which it is running but not ready.
        #[serde(default = "timeout")]
        timeout: u32,
    },
    /// A connection to its management address is taken; tried again and again, also once it is ready.
    Tcp {
        /// Port.
        port: u16,
        /// Seconds between two tries.
        #[serde(default = "interval")]
        interval: u32,
        /// Seconds after which it is running but not ready.
        #[serde(default = "timeout")]
        timeout: u32,
    },
}

fn interval() -> u32 {
    5
}

fn timeout() -> u32 {
    120
}

/// What a node prints when it has come so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// What a line must have.
    pub pattern: Pattern,
    /// How far that is, 0 to 100.
    #[serde(deserialize_with = "percent")]
    pub percent: u8,
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let percent = u32::deserialize(deserializer)?;
    let small = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
    small.ok_or_else(|| serde::de::Error::custom(format!("{percent} is more than 100 percent")))
}
