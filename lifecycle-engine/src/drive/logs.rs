//! Structured log events, derived from what was committed and what was asked and answered.

use lifecycle_core::model::{AuditAction, AuditRow, SubjectKind};

use crate::decide::{Action, Effect, Outcome, Subject, World};

/// Tells of the rows that a step added to the audit trail.
pub(super) fn audited(world: &World, rows: &[AuditRow]) {
    for row in rows {
        match (row.action, row.subject) {
            (AuditAction::StateChanged, SubjectKind::Node) => node_transition(world, row),
            (AuditAction::StateChanged, SubjectKind::Link) => link_transition(world, row),
            (AuditAction::DesiredChanged, _) => tracing::info!(
                event = "user_state_request",
                user_id = row.decided_by,
                lab_id = row.lab.map(tracing::field::display),
                subject = %row.subject,
                subject_id = row.id,
                requested_state = row.to,
            ),
            (AuditAction::Placed, SubjectKind::Link) => tracing::info!(
                event = "placement_decision",
                lab_id = row.lab.map(tracing::field::display),
                link_id = row.id,
                link_name = row.name,
                old_backend = row.from,
                backend = row.to,
                decision_chain = row.reason,
            ),
            (AuditAction::Placed, _) => tracing::info!(
                event = "placement_decision",
                lab_id = row.lab.map(tracing::field::display),
                node_id = row.id,
                node_name = row.name,
                host_id = row.to,
                decision_chain = row.reason,
            ),
            (AuditAction::Refused, _) => tracing::info!(
                event = "enforcement_decision",
                action = "refuse",
                subject_id = row.id,
                skip_reason = row.reason,
            ),
            (AuditAction::Collected, _) => tracing::info!(
                event = "enforcement_decision",
                action = "collect",
                subject_id = row.id,
                reason = row.reason,
            ),
            _ => tracing::debug!(event = "audit", action = %row.action, subject = %row.subject, subject_id = row.id),
        }
    }
}

fn node_transition(world: &World, row: &AuditRow) {
    let host = row.id.parse().ok().and_then(|id| world.nodes.get(&id)).and_then(|node| node.host.clone());
    tracing::info!(
        event = "node_state_transition",
        lab_id = row.lab.map(tracing::field::display),
        node_id = row.id,
        node_name = row.name,
        old_state = row.from,
        new_state = row.to,
        trigger = %row.trigger,
        host_id = host.map(tracing::field::display),
        job_id = row.job.map(tracing::field::display),
        attempt = row.attempt,
        user_id = row.decided_by,
        reason = row.reason,
        error_message = row.error,
    );
}

fn link_transition(world: &World, row: &AuditRow) {
    let link = row.id.parse().ok().and_then(|id| world.links.get(&id));
    let [source, target] =
        link.map(|link| link.spec.ends().map(|end| end.as_node().map(|end| end.node.clone()))).unwrap_or_default();
    tracing::info!(
        event = "link_state_transition",
        lab_id = row.lab.map(tracing::field::display),
        link_id = row.id,
        link_name = row.name,
        old_state = row.from,
        new_state = row.to,
        trigger = %row.trigger,
        source_node = source.map(tracing::field::display),
        target_node = target.map(tracing::field::display),
        reason = row.reason,
        error_message = row.error,
    );
}

/// Tells what was asked of a host.
pub(super) fn requested(effect: &Effect) {
    tracing::debug!(
        event = "agent_request",
        method = effect.action.name(),
        host_id = %effect.host,
        plugin = %effect.plugin,
        effect = %effect.id,
        subject_id = subject(effect),
    );
}

/// Tells how it ended.
pub(super) fn answered(effect: &Effect, outcome: &Outcome, took: std::time::Duration) {
    let duration_ms = took.as_secs_f64() * 1000.0;
    let (method, host_id, subject_id) = (effect.action.name(), &effect.host, subject(effect));
    match outcome {
        Ok(_) => tracing::debug!(
            event = "agent_response", method, %host_id, subject_id, status = "ok", duration_ms, effect = %effect.id,
        ),
        // Asked again every few seconds, of daemons that are installed nowhere as well. Nodes say that they are stale.
        Err(error) if matches!(effect.action, Action::ListNodes) && error.kind().is_unreachable() => tracing::debug!(
            event = "agent_response", method, %host_id, subject_id, status = "error", duration_ms,
            effect = %effect.id, kind = %error.kind(), error = error.chain(),
        ),
        Err(error) => tracing::info!(
            event = "agent_response", method, %host_id, subject_id, status = "error", duration_ms,
            effect = %effect.id, kind = %error.kind(), error = error.chain(),
        ),
    }
}

fn subject(effect: &Effect) -> String {
    match effect.subject {
        Subject::Node(id) => id.to_string(),
        Subject::Link(id) => id.to_string(),
        Subject::Host => effect.host.to_string(),
    }
}
