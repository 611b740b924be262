//! Which field of a record stands in which column.
//!
//! A record is declared once, and its statements follow: `fixed` columns never change, the first of them being the key;
//! `columns` are what else SQL has to see; all other fields are JSON in `body`, where an `optional` one is left out while
//! it is `None`. A field that is in none of them does not compile.

use std::borrow::Cow;

use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::machine::{HostState, JobState, LinkIntent, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{
    AuditAction, AuditResult, AuditRow, HostRecord, JobAction, JobRecord, LabRecord, LinkRecord, NodeInstance,
    NodeRecord, NodeTimes, Parked, ReadyState, Span, SubjectKind, Trigger,
};
use lifecycle_core::name::{HostName, NodeName, PluginName};
use lifecycle_core::plugin::network::LinkIdentity;
use lifecycle_core::plugin::provider::{Capacity, ExitRecord};
use lifecycle_core::policy::blocked::Blocked;
use lifecycle_core::policy::enforcement::Budget;
use lifecycle_core::policy::link::{LinkKey, OperState};
use lifecycle_core::time::{BootInstant, Deadline, Timestamp};
use lifecycle_core::topology::{LinkAttrs, LinkSpec, StagePhase, Topology};
use rusqlite::Row;
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};

use crate::column::Column;

/// A record that has a table.
pub(crate) trait Table: Sized {
    /// Name of the table.
    const NAME: &'static str;
    /// Adds a row: `fixed`, `columns`, `body`.
    const INSERT: &'static str;
    /// Changes a row: `columns`, `body`, `fixed`, and the generation that it has. A `+` keeps SQLite from searching by
    /// anything but the key.
    const UPDATE: &'static str;
    /// Columns in the order of [`read`](Self::read), for a `SELECT`.
    const SELECT: &'static str;

    /// Columns that never change.
    fn fixed(&self) -> Vec<Value>;
    /// The other columns and the body.
    fn changing(&self) -> serde_json::Result<Vec<Value>>;
    /// A row as a record; the error says what is wrong with it.
    fn read(row: &Row<'_>) -> Result<Self, String>;
}

macro_rules! one {
    ($part:literal $column:ident) => {
        $part
    };
}

macro_rules! table {
    (
        $table:literal $record:ident,
        fixed { $key:ident: $key_type:ty $(, $fixed:ident: $fixed_type:ty)* $(,)? }
        columns { $($column:ident: $column_type:ty),* $(,)? }
        $body:ident { $($field:ident: $type:ty),* $(,)? }
        optional { $($option:ident: $option_type:ty),* $(,)? }
    ) => {
        #[derive(Serialize, Deserialize)]
        struct $body<'a> {
            $($field: Cow<'a, $type>,)*
            $(#[serde(default, skip_serializing_if = "Option::is_none")] $option: Option<Cow<'a, $option_type>>,)*
        }

        impl Table for $record {
            const NAME: &'static str = $table;
            const INSERT: &'static str = concat!(
                "INSERT INTO ", $table, " (\"", stringify!($key), "\"",
                $(", \"", stringify!($fixed), "\"",)* $(", \"", stringify!($column), "\"",)* ", body) VALUES (?",
                $(one!(", ?" $fixed),)* $(one!(", ?" $column),)* ", ?)",
            );
            const UPDATE: &'static str = concat!(
                "UPDATE ", $table, " SET (", $("\"", stringify!($column), "\", ",)* "body) = (",
                $(one!("?, " $column),)* "?) WHERE \"", stringify!($key), "\" = ?",
                $(" AND +\"", stringify!($fixed), "\" = ?",)* " AND generation = ?",
            );
            const SELECT: &'static str = concat!(
                "\"", stringify!($key), "\"", $(", \"", stringify!($fixed), "\"",)*
                $(", \"", stringify!($column), "\"",)* ", body",
            );

            fn fixed(&self) -> Vec<Value> {
                vec![self.$key.store() $(, self.$fixed.store())*]
            }

            fn changing(&self) -> serde_json::Result<Vec<Value>> {
                let Self { $key: _, $($fixed: _,)* $($column,)* $($field,)* $($option,)* } = self;
                let body = $body {
                    $($field: Cow::Borrowed($field),)*
                    $($option: $option.as_ref().map(Cow::Borrowed),)*
                };
                Ok(vec![$($column.store(),)* Value::Text(serde_json::to_string(&body)?)])
            }

            fn read(row: &Row<'_>) -> Result<Self, String> {
                let mut index = 0..;
                let mut next = || row.get_ref(index.next().unwrap_or(usize::MAX)).map_err(|error| error.to_string());
                let $key = <$key_type>::read(next()?)?;
                $(let $fixed = <$fixed_type>::read(next()?)?;)*
                $(let $column = <$column_type>::read(next()?)?;)*
                let text = next()?.as_str().map_err(|error| error.to_string())?;
                let body: $body<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
                Ok(Self {
                    $key,
                    $($fixed,)*
                    $($column,)*
                    $($field: body.$field.into_owned(),)*
                    $($option: body.$option.map(Cow::into_owned),)*
                })
            }
        }
    };
}

table! {
    "labs" LabRecord,
    fixed { id: LabId }
    columns { deleting: bool, generation: u64 }
    LabBody { topology: std::sync::Arc<Topology>, created_at: Timestamp, updated_at: Timestamp }
    optional {}
}

table! {
    "nodes" NodeRecord,
    fixed { id: NodeId, lab: LabId, name: NodeName }
    columns {
        desired: NodeIntent,
        actual: NodeState,
        host: Option<HostName>,
        job: Option<JobId>,
        deleting: bool,
        generation: u64,
    }
    NodeBody {
        state_since: Timestamp,
        provider: PluginName,
        incarnation: u64,
        budget: Budget,
        ready: ReadyState,
        configured: bool,
        recreate: bool,
        times: NodeTimes,
    }
    optional {
        instance: NodeInstance,
        blocked: Blocked,
        stale_since: Timestamp,
        exit: ExitRecord,
        deadline: Deadline,
        running_since: BootInstant,
        healthy_commands: StagePhase,
    }
}

table! {
    "links" LinkRecord,
    fixed { id: LinkId, lab: LabId, key: LinkKey }
    columns { desired: LinkIntent, actual: LinkState, host: Option<HostName>, deleting: bool, generation: u64 }
    LinkBody {
        spec: LinkSpec,
        nodes: [Option<NodeId>; 2],
        state_since: Timestamp,
        backend: PluginName,
        incarnation: u64,
        budget: Budget,
        carrier: [Option<bool>; 2],
        rebuild: bool,
        oper: [OperState; 2],
        created_at: Timestamp,
        updated_at: Timestamp,
    }
    optional {
        next_backend: PluginName,
        identity: LinkIdentity,
        span: Span,
        parked: Parked,
        path_mtu: u32,
        verified_at: Timestamp,
        applied: LinkAttrs,
        deadline: Deadline,
    }
}

table! {
    "jobs" JobRecord,
    fixed { id: JobId, lab: LabId }
    columns { intent: NodeIntent, state: JobState, generation: u64 }
    JobBody {
        action: JobAction,
        owner: String,
        epoch: u64,
        done: u32,
        failed: u32,
        log: Vec<String>,
        created_at: Timestamp,
    }
    optional { finished_at: Timestamp }
}

table! {
    "hosts" HostRecord,
    fixed { name: HostName }
    columns { state: HostState, generation: u64 }
    HostBody { state_since: Timestamp }
    optional { capacity: Capacity }
}

table! {
    "audit" AuditRow,
    fixed {
        seq: u64,
        at: Timestamp,
        subject: SubjectKind,
        id: String,
        name: String,
        lab: Option<LabId>,
        action: AuditAction,
        from: Option<String>,
        to: Option<String>,
        trigger: Trigger,
        result: AuditResult,
    }
    columns {}
    AuditBody { decided_by: String, metadata: serde_json::Value }
    optional { reason: String, error: String, attempt: u32, job: JobId }
}
