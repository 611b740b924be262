//! The only place where states change: every change is checked or marked, timed, and written into the audit trail.

use lifecycle_core::id::{JobId, LabId, LinkId, NodeId};
use lifecycle_core::machine::{Lifecycle, LinkState, NodeIntent, NodeState};
use lifecycle_core::model::{AuditAction, AuditResult, AuditRow, NodeRecord, ReadyState, SubjectKind, Trigger};
use lifecycle_core::policy::enforcement::EnforcementPolicy;
use lifecycle_core::policy::lab::LabNode;
use lifecycle_core::time::{Deadline, Now};
use rand_core::Rng;

use super::effect::Subject;
use super::link;
use super::planted::Bug;
use super::world::World;

/// Why something changes.
#[derive(Debug, Clone)]
pub struct Why {
    /// What set it off.
    pub trigger: Trigger,
    /// Who decided.
    pub by: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// The error, if there was one.
    pub error: Option<String>,
    /// The job it belongs to.
    pub job: Option<JobId>,
}

impl Why {
    /// Somebody called `user` asked for it.
    pub fn user(user: &str) -> Self {
        Self::new(Trigger::UserAction, user)
    }

    /// Enforcement of what somebody asked for.
    pub fn enforcement() -> Self {
        Self::new(Trigger::Enforcement, "enforcement")
    }

    /// An effect ended.
    pub fn outcome() -> Self {
        Self::new(Trigger::AgentResponse, "enforcement")
    }

    /// Somebody looked.
    pub fn sync() -> Self {
        Self::new(Trigger::Sync, "sync")
    }

    /// The world changed unasked.
    pub fn drift() -> Self {
        Self::new(Trigger::Drift, "sync")
    }

    /// A host was chosen.
    pub fn placement() -> Self {
        Self::new(Trigger::Placement, "placement")
    }

    fn new(trigger: Trigger, by: &str) -> Self {
        Self { trigger, by: by.to_owned(), reason: None, error: None, job: None }
    }

    /// Adds a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds an error.
    #[must_use]
    pub fn error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// Adds a job.
    #[must_use]
    pub fn of(mut self, job: Option<JobId>) -> Self {
        self.job = job;
        self
    }
}

/// The rows with the present moment and the part of the audit trail that the current step adds.
///
/// Whoever holds only a ledger can record what is true, but cannot ask for an effect: that is how synchronisation is
/// kept read-only.
pub struct Ledger<'a> {
    /// The rows and all else.
    pub world: &'a mut World,
    /// The present.
    pub now: Now,
    /// Chance, for identifiers and for the spread of retries.
    pub rng: &'a mut dyn Rng,
    /// Rows added to the audit trail in this step.
    pub audit: &'a mut Vec<AuditRow>,
}

impl std::fmt::Debug for Ledger<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("now", &self.now).field("audit", &self.audit.len()).finish_non_exhaustive()
    }
}

impl Ledger<'_> {
    /// Adds a row to the audit trail.
    pub fn record(&mut self, subject: SubjectKind, id: String, name: String, lab: Option<LabId>, entry: Entry) {
        let seq = self.world.head.audit + self.audit.len() as u64 + 1;
        let Entry { action, from, to, result, why, attempt, metadata } = entry;
        let Why { trigger, by, reason, error, job } = why;
        self.audit.push(AuditRow {
            seq,
            at: self.now.wall,
            subject,
            id,
            name,
            lab,
            action,
            from,
            to,
            trigger,
            result,
            decided_by: by,
            reason,
            error,
            attempt,
            job,
            metadata,
        });
    }

    /// A commanded change of a node's state. A change that the table lacks is a defect of ours: it is not made, and
    /// debug builds stop.
    pub fn node_becomes(&mut self, id: NodeId, to: NodeState, why: Why) {
        let Some(node) = self.world.nodes.get(&id) else { return };
        let from = node.actual;
        if from == to {
            return;
        }
        if let Err(error) = from.go(to) {
            debug_assert!(false, "{} {}: {error}", node.name, node.id);
            return;
        }
        self.set_node(id, to, why);
    }

    /// An observed change of a node's state, which is always accepted, since the world is right.
    pub fn node_is(&mut self, id: NodeId, to: NodeState, mut why: Why) {
        let Some(node) = self.world.nodes.get(&id) else { return };
        if node.actual == to {
            return;
        }
        if !node.actual.may_become(to) {
            why.trigger = Trigger::Drift;
        }
        self.set_node(id, to, why);
    }

    fn set_node(&mut self, id: NodeId, to: NodeState, why: Why) {
        let now = self.now;
        let wait = self.deadline_of(id, to);
        let Some(node) = self.world.nodes.get_mut(&id) else { return };
        let from = node.actual;
        node.actual = to;
        node.state_since = now.wall;
        node.times.updated_at = now.wall;
        node.deadline = wait.map(|wait| Deadline::after(now.boot, wait));
        match to {
            NodeState::Starting => node.times.starting_started_at = Some(now.wall),
            NodeState::Stopping => node.times.stopping_started_at = Some(now.wall),
            NodeState::Running => {
                node.times.boot_started_at = Some(now.wall);
                node.running_since = Some(now.boot);
                node.exit = None;
            }
            _ => {}
        }
        if to != NodeState::Running {
            node.running_since = None;
            node.ready = ReadyState::default();
        }
        let (name, lab, attempt) = (node.name.to_string(), node.lab, node.budget.attempts);
        let entry = Entry::transition(from.to_string(), to.to_string(), why).attempt(attempt);
        if !(to == NodeState::Exited && self.world.has_bug(Bug::LosesAnAuditRow)) {
            self.record(SubjectKind::Node, id.to_string(), name, Some(lab), entry);
        }
        if let Some(deadline) = wait {
            self.world.wake(now.boot.after(deadline), Subject::Node(id));
        }
        self.world.probes.remove(&id);
        let keeps = self.world.has_bug(Bug::KeepsProofsOverARestart);
        if (from == NodeState::Running || to == NodeState::Running) && !keeps {
            link::doubt_proofs_at(self.world, id);
        }
        self.node_changed(id);
        self.world.touch_links_at(id);
    }

    /// Gives a node the whole time once more that its state may last.
    pub(super) fn renew_deadline(&mut self, id: NodeId) {
        let Some(wait) = self.world.nodes.get(&id).and_then(|node| self.deadline_of(id, node.actual)) else { return };
        let now = self.now.boot;
        self.change_node(id, |node| node.deadline = Some(Deadline::after(now, wait)));
        self.world.wake(now.after(wait), Subject::Node(id));
    }

    /// How long a node may be in a transitional state.
    pub(super) fn deadline_of(&self, id: NodeId, state: NodeState) -> Option<std::time::Duration> {
        let limits = &self.world.settings.limits;
        match state {
            NodeState::Pending => Some(limits.pending),
            NodeState::Starting => {
                let spec = self.world.spec(id);
                let kind = spec.and_then(|spec| self.world.kinds.get(&spec.kind)).map(|(_, kind)| kind);
                let own = kind.and_then(|kind| kind.start_timeout).map(|s| std::time::Duration::from_secs(s.into()));
                let delay = spec.map_or(0, |spec| spec.startup_delay);
                Some(own.unwrap_or(limits.starting) + std::time::Duration::from_secs(delay.into()))
            }
            NodeState::Stopping => Some(limits.stopping),
            _ => None,
        }
    }

    /// Changes a user's intent for a node.
    pub fn node_desired(&mut self, id: NodeId, to: NodeIntent, why: Why) {
        let now = self.now;
        let Some(node) = self.world.nodes.get(&id).filter(|node| node.desired != to) else { return };
        let (from, name, lab) = (node.desired, node.name.to_string(), node.lab);
        if let Some(node) = self.world.nodes.get_mut(&id) {
            node.desired = to;
            node.times.updated_at = now.wall;
        }
        let entry = Entry::new(AuditAction::DesiredChanged, why).states(Some(from.to_string()), Some(to.to_string()));
        self.record(SubjectKind::Node, id.to_string(), name, Some(lab), entry);
        self.node_changed(id);
    }

    /// Changes a node otherwise than in its state.
    pub fn change_node(&mut self, id: NodeId, change: impl FnOnce(&mut NodeRecord)) {
        let wall = self.now.wall;
        if let Some(node) = self.world.nodes.get_mut(&id) {
            change(node);
            node.times.updated_at = wall;
        }
        self.node_changed(id);
    }

    /// Keeps the index of unsettled nodes, and looks at the node in this step.
    fn node_changed(&mut self, id: NodeId) {
        let Some(node) = self.world.nodes.get(&id) else { return };
        let (lab, counted) = (node.lab, lab_node(node, &self.world.settings.enforcement));
        let settled = is_settled(node);
        self.world.tally.put(id, lab, counted);
        if settled {
            self.world.unsettled.remove(&id);
        } else {
            self.world.unsettled.insert(id);
        }
        if self.world.nodes.get(&id).is_some_and(|node| node.blocked.is_some()) {
            self.world.blocked.insert(id);
        } else {
            self.world.blocked.remove(&id);
        }
        self.world.touch_waiters(id);
        self.world.touch_node(id);
    }

    /// A commanded change of a link's state; see [`Ledger::node_becomes`].
    pub fn link_becomes(&mut self, id: LinkId, to: LinkState, why: Why) {
        let Some(link) = self.world.links.get(&id) else { return };
        let from = link.actual;
        if from == to {
            return;
        }
        if let Err(error) = from.go(to) {
            debug_assert!(false, "{} {}: {error}", link.key, link.id);
            return;
        }
        self.set_link(id, to, why);
    }

    /// An observed change of a link's state; see [`Ledger::node_is`].
    pub fn link_is(&mut self, id: LinkId, to: LinkState, mut why: Why) {
        let Some(link) = self.world.links.get(&id) else { return };
        if link.actual == to {
            return;
        }
        if !link.actual.may_become(to) {
            why.trigger = Trigger::Drift;
        }
        self.set_link(id, to, why);
    }

    fn set_link(&mut self, id: LinkId, to: LinkState, why: Why) {
        let now = self.now;
        let wait = (to == LinkState::Creating).then_some(self.world.settings.limits.connecting);
        let Some(link) = self.world.links.get_mut(&id) else { return };
        let from = link.actual;
        link.actual = to;
        link.state_since = now.wall;
        link.updated_at = now.wall;
        link.deadline = wait.map(|wait| Deadline::after(now.boot, wait));
        let (name, lab, attempt) = (link.spec.to_string(), link.lab, link.budget.attempts);
        let nodes = link.nodes;
        let entry = Entry::transition(from.to_string(), to.to_string(), why).attempt(attempt);
        self.record(SubjectKind::Link, id.to_string(), name, Some(lab), entry);
        self.world.touch_link(id);
        for node in nodes.into_iter().flatten() {
            self.world.touch_node(node);
        }
    }

    /// Changes a link otherwise than in its state.
    pub fn change_link(&mut self, id: LinkId, change: impl FnOnce(&mut lifecycle_core::model::LinkRecord)) {
        let wall = self.now.wall;
        if let Some(link) = self.world.links.get_mut(&id) {
            change(link);
            link.updated_at = wall;
        }
    }
}

/// What a node's lab looks at in it.
pub(super) fn lab_node(node: &NodeRecord, policy: &EnforcementPolicy) -> LabNode {
    LabNode { state: node.actual, will_retry: node.will_retry(policy), stale: node.stale_since.is_some() }
}

/// Whether enforcement has nothing to look at.
pub(super) fn is_settled(node: &NodeRecord) -> bool {
    let waits = node.recreate && node.desired == NodeIntent::Running;
    node.actual.matches(node.desired) && !node.deleting && !waits && node.stale_since.is_none()
}

/// What a row of the audit trail says besides its subject.
#[derive(Debug, Clone)]
pub struct Entry {
    action: AuditAction,
    from: Option<String>,
    to: Option<String>,
    result: AuditResult,
    why: Why,
    attempt: Option<u32>,
    metadata: serde_json::Value,
}

impl Entry {
    /// An action that succeeded.
    pub fn new(action: AuditAction, why: Why) -> Self {
        let (from, to, attempt) = (None, None, None);
        let result = if why.error.is_some() { AuditResult::Failed } else { AuditResult::Success };
        Self { action, from, to, result, why, attempt, metadata: serde_json::Value::Null }
    }

    fn transition(from: String, to: String, why: Why) -> Self {
        Self::new(AuditAction::StateChanged, why).states(Some(from), Some(to))
    }

    /// Adds the states before and after.
    #[must_use]
    pub fn states(self, from: Option<String>, to: Option<String>) -> Self {
        Self { from, to, ..self }
    }

    /// Adds the attempt of enforcement, if there was one.
    #[must_use]
    pub fn attempt(self, attempt: u32) -> Self {
        Self { attempt: Some(attempt).filter(|&n| n > 0), ..self }
    }

    /// Sets what became of it.
    #[must_use]
    pub fn result(self, result: AuditResult) -> Self {
        Self { result, ..self }
    }

    /// Adds whatever else helps to understand it.
    #[must_use]
    pub fn metadata(self, metadata: serde_json::Value) -> Self {
        Self { metadata, ..self }
    }
}
