//! A change of a node's state with its audit row and its event, durable, beside the least that SQLite needs for it.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use lifecycle_core::machine::NodeState;
use lifecycle_core::model::{
    AuditAction, AuditResult, AuditRow, Batch, Change, Event, EventBody, Head, NodeRecord, NodeView, SubjectKind,
    Trigger,
};
use lifecycle_core::plugin::StateStore;
use lifecycle_core::policy::enforcement::EnforcementPolicy;
use lifecycle_store_sqlite::SqliteStore;
use rusqlite::{Connection, TransactionBehavior, params};

use super::Row;
use crate::fixture;
use crate::measure::{Result, sample};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "store", about: "state changes with audit, durable, one by one and a hundred at once", measure };

const NODES: usize = 1000;
const RUNS: usize = 5;

fn measure() -> Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut lines = Vec::new();
    for (what, changes, commits) in [("one by one", 1, 2000), ("100 at once", 100, 100)] {
        let per_change = move |seconds: f64| seconds * 1e6 / (changes * commits) as f64;
        let floor = sample(RUNS, || {
            let directory = tempfile::tempdir()?;
            Ok(per_change(raw(directory.path(), changes, commits)?))
        })?;
        let ours = sample(RUNS, || {
            let directory = tempfile::tempdir()?;
            Ok(per_change(runtime.block_on(ours(directory.path(), changes, commits))?))
        })?;
        let line = Line::new(format!("state change with audit, {what}"), "µs", ours);
        lines.push(line.floor(floor).goal(Goal::TimesFloor(2.0)));
    }
    Ok(lines)
}

/// Seconds for state changes in plain SQLite with the same durability: one row updated and one added for each.
fn raw(directory: &Path, changes: usize, commits: usize) -> Result<f64> {
    let mut connection = Connection::open(directory.join("floor.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE nodes (id INTEGER PRIMARY KEY, state TEXT NOT NULL, generation INTEGER NOT NULL);
         CREATE TABLE audit (seq INTEGER PRIMARY KEY, node INTEGER NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL);",
    )?;
    let filling = connection.transaction()?;
    for id in 0..NODES {
        filling.execute("INSERT INTO nodes VALUES (?, 'running', 1)", [id as i64])?;
    }
    filling.commit()?;
    let begin = Instant::now();
    for commit in 0..commits {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in 0..changes {
            let id = ((commit * changes + change) % NODES) as i64;
            let sql = "UPDATE nodes SET state = ?, generation = generation + 1 WHERE id = ?";
            transaction.prepare_cached(sql)?.execute(params!["stopped", id])?;
            let sql = "INSERT INTO audit (node, old, new) VALUES (?, ?, ?)";
            transaction.prepare_cached(sql)?.execute(params![id, "running", "stopped"])?;
        }
        transaction.commit()?;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Seconds for state changes in our store, each with the whole row, its audit row and its event.
async fn ours(directory: &Path, changes: usize, commits: usize) -> Result<f64> {
    let store = SqliteStore::open(directory, lifecycle_store_sqlite::Settings::default())?;
    let mut head = store.take_over("bench").await?;
    let (labs, mut nodes) = fixture::labs(1, NODES)?;
    store.commit(&fixture::first_batch(&head, &labs, &nodes)).await?;
    head.batch += 1;
    let mut batches = Vec::with_capacity(commits);
    for commit in 0..commits {
        let touched = (0..changes).map(|change| (commit * changes + change) % NODES);
        batches.push(batch(&mut head, &mut nodes, touched));
    }
    let begin = Instant::now();
    for batch in &batches {
        store.commit(batch).await?;
    }
    Ok(begin.elapsed().as_secs_f64())
}

fn batch(head: &mut Head, nodes: &mut [NodeRecord], touched: impl Iterator<Item = usize>) -> Batch {
    head.batch += 1;
    let (epoch, number) = (head.epoch, head.batch);
    let mut batch = Batch { epoch, number, changes: Vec::new(), audit: Vec::new(), events: Vec::new() };
    for at in touched {
        let row = &mut nodes[at];
        let from = row.actual;
        row.actual = if from == NodeState::Running { NodeState::Stopped } else { NodeState::Running };
        row.generation += 1;
        head.audit += 1;
        head.event += 1;
        batch.audit.push(audit(head.audit, row, from));
        let body = EventBody::Node(Box::new(NodeView::new(row, None, &EnforcementPolicy::default())));
        batch.events.push(Event { seq: head.event, at: Timestamp::UNIX_EPOCH, lab: Some(row.lab), body });
        batch.changes.push(Change::PutNode(Box::new(row.clone())));
    }
    batch
}

fn audit(seq: u64, row: &NodeRecord, from: NodeState) -> AuditRow {
    AuditRow {
        seq,
        at: Timestamp::UNIX_EPOCH,
        subject: SubjectKind::Node,
        id: row.id.to_string(),
        name: row.name.to_string(),
        lab: Some(row.lab),
        action: AuditAction::StateChanged,
        from: Some(from.to_string()),
        to: Some(row.actual.to_string()),
        trigger: Trigger::AgentResponse,
        result: AuditResult::Success,
        decided_by: "enforcement".to_owned(),
        reason: None,
        error: None,
        attempt: None,
        job: None,
        metadata: serde_json::Value::Null,
    }
}
