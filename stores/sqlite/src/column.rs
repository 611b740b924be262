//! How values of the model stand in columns.

use std::fmt::Display;
use std::str::FromStr;

use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::machine::{HostState, JobState, LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{AuditAction, AuditResult, SubjectKind, Trigger};
use lifecycle_core::name::{HostName, NodeName};
use lifecycle_core::policy::link::LinkKey;
use lifecycle_core::time::Timestamp;
use rusqlite::types::{Value, ValueRef};

/// A value that stands in a column of its own.
pub(crate) trait Column: Sized {
    /// As SQLite stores it.
    fn store(&self) -> Value;
    /// From what SQLite stored; the error says what is wrong with it.
    fn read(value: ValueRef<'_>) -> Result<Self, String>;
}

fn parse<T: FromStr<Err: Display>>(value: ValueRef<'_>) -> Result<T, String> {
    let text = value.as_str().map_err(|error| error.to_string())?;
    text.parse().map_err(|error| format!("`{text}`: {error}"))
}

macro_rules! as_text {
    ($($type:ty),* $(,)?) => {$(
        impl Column for $type {
            fn store(&self) -> Value {
                Value::Text(self.to_string())
            }

            fn read(value: ValueRef<'_>) -> Result<Self, String> {
                parse(value)
            }
        }
    )*};
}

as_text!(
    AuditAction,
    AuditResult,
    HostName,
    HostState,
    JobId,
    JobState,
    LabId,
    LinkId,
    LinkIntent,
    LinkKey,
    LinkState,
    NodeId,
    NodeIntent,
    NodeName,
    NodeState,
    String,
    SubjectKind,
    Timestamp,
    Trigger,
);

impl Column for bool {
    fn store(&self) -> Value {
        Value::Integer((*self).into())
    }

    fn read(value: ValueRef<'_>) -> Result<Self, String> {
        match value {
            ValueRef::Integer(0) => Ok(false),
            ValueRef::Integer(1) => Ok(true),
            other => Err(format!("{other:?} is neither 0 nor 1")),
        }
    }
}

/// Numbers of generations and places in sequences, which never come near the limit of a column. A number beyond it can
/// only be a caller's mistake, and becomes one that no row has.
impl Column for u64 {
    fn store(&self) -> Value {
        Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }

    fn read(value: ValueRef<'_>) -> Result<Self, String> {
        let number = value.as_i64().map_err(|error| error.to_string())?;
        number.try_into().map_err(|_| format!("{number} is below 0"))
    }
}

impl<T: Column> Column for Option<T> {
    fn store(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::store)
    }

    fn read(value: ValueRef<'_>) -> Result<Self, String> {
        match value {
            ValueRef::Null => Ok(None),
            value => T::read(value).map(Some),
        }
    }
}
