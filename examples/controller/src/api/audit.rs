//! The audit trail.

use std::collections::VecDeque;

use axum::extract::State;
use lifecycle_core::id::LabId;
use lifecycle_core::model::{AuditQuery, SubjectKind};
use lifecycle_core::name::{LabName, NodeName};
use serde::Deserialize;

use super::Api;
use super::extract::{Json, Path, Query};
use super::labs::no_node;
use super::problem::Problem;
use super::wire::{AuditRow, List};

/// Rows that are returned when nobody sets a limit, and at most.
const LIMIT: (usize, usize) = (100, 1000);
/// Rows that are read at once where the store cannot choose.
const PAGE: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuditFilter {
    lab: Option<LabId>,
    subject: Option<SubjectKind>,
    id: Option<String>,
    after: u64,
    limit: Option<usize>,
}

/// Rows in ascending order, after the one that is named.
pub(super) async fn audit(
    State(api): State<Api>,
    Query(filter): Query<AuditFilter>,
) -> Result<Json<List<AuditRow>>, Problem> {
    let AuditFilter { lab, subject, id, after, limit } = filter;
    let limit = limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    let rows = api.controller.audit(&AuditQuery { subject, id, lab, after, limit }).await?;
    Ok(Json(List { items: rows.into_iter().map(Into::into).collect() }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HistoryQuery {
    limit: Option<usize>,
}

/// The last rows about a node, newest first. For a node that is gone, those of the last one of its name.
pub(super) async fn history(
    State(api): State<Api>,
    Path((lab, node)): Path<(LabName, NodeName)>,
    Query(query): Query<HistoryQuery>,
) -> Result<Json<List<AuditRow>>, Problem> {
    let limit = query.limit.unwrap_or(LIMIT.0).clamp(1, LIMIT.1);
    let id = match api.controller.node_id(&lab, &node).await? {
        Some((_, id)) => Some(id.to_string()),
        None => former(&api, &lab, &node).await?,
    };
    let Some(id) = id else { return Err(no_node(&api, &lab, &node).await) };
    let filter = AuditQuery { subject: Some(SubjectKind::Node), id: Some(id), ..AuditQuery::default() };
    let mut rows = VecDeque::new();
    each(&api, filter, |row| {
        if rows.len() == limit {
            rows.pop_back();
        }
        rows.push_front(row);
    })
    .await?;
    Ok(Json(List { items: rows.into() }))
}

/// The identifier of the last node of a name in a lab of a name, by what the trail says about both.
async fn former(api: &Api, lab: &LabName, node: &NodeName) -> Result<Option<String>, Problem> {
    let mut labs = Vec::new();
    let all = AuditQuery { subject: Some(SubjectKind::Lab), ..AuditQuery::default() };
    each(api, all, |row| {
        if row.name == lab.as_str() {
            labs.extend(row.lab_id);
        }
    })
    .await?;
    let mut found = None;
    let all = AuditQuery { subject: Some(SubjectKind::Node), ..AuditQuery::default() };
    each(api, all, |row| {
        if row.name == node.as_str() && row.lab_id.is_some_and(|lab| labs.contains(&lab)) {
            found = Some(row.id);
        }
    })
    .await?;
    Ok(found)
}

/// Looks at every row that a filter lets through, in ascending order.
async fn each(api: &Api, mut filter: AuditQuery, mut look: impl FnMut(AuditRow)) -> Result<(), Problem> {
    filter.limit = PAGE;
    loop {
        let rows = api.controller.audit(&filter).await?;
        let (count, last) = (rows.len(), rows.last().map_or(0, |row| row.seq));
        rows.into_iter().for_each(|row| look(row.into()));
        if count < PAGE {
            return Ok(());
        }
        filter.after = last;
    }
}
