//! Links.

use lifecycle_core::id::{LabId, LinkId};
use lifecycle_core::machine::{LinkIntent, LinkState};
use lifecycle_core::model::{EndView, LinkView};
use lifecycle_core::name::{IfName, NodeName, PluginName};
use lifecycle_core::policy::link::OperReason;
use lifecycle_core::time::Timestamp;
use lifecycle_core::topology::LinkAttrs;
use serde::{Deserialize, Serialize};

/// A link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Its identifier.
    pub id: LinkId,
    /// Identifier of its lab.
    pub lab_id: LabId,
    /// Its two ends, in the order of the lab file.
    pub ends: [End; 2],
    /// Network backend that builds it.
    pub backend: PluginName,
    /// What its user wants.
    pub desired_state: LinkIntent,
    /// What is true.
    pub actual_state: LinkState,
    /// Since when.
    pub state_since: Timestamp,
    /// Attributes that can change in place.
    pub attrs: LinkAttrs,
    /// The last error.
    pub error_message: Option<String>,
    /// When it was last verified.
    pub verified_at: Option<Timestamp>,
    /// It is being removed.
    pub deleting: bool,
    /// Number of the last change.
    pub generation: u64,
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The node; none for an end elsewhere.
    pub node: Option<NodeName>,
    /// The port as its user wrote it, or what stands at an end elsewhere.
    pub port: String,
    /// Name of the interface.
    pub interface: Option<IfName>,
    /// Whether it carries frames.
    pub up: bool,
    /// Why not, or why not as well as it should; the first cause.
    pub reason: Option<OperReason>,
    /// Grows by one with each change of the two fields above.
    pub epoch: u64,
}

impl End {
    /// The end as people write it: `r1:eth1`.
    pub fn label(&self) -> String {
        match (&self.node, &self.interface) {
            (Some(node), _) => format!("{node}:{}", self.port),
            (None, Some(interface)) => format!("{}:{interface}", self.port),
            (None, None) => self.port.clone(),
        }
    }
}

impl From<EndView> for End {
    fn from(view: EndView) -> Self {
        let EndView { node, port, interface, oper } = view;
        Self { node, port, interface, up: oper.up, reason: oper.reason, epoch: oper.epoch }
    }
}

impl From<LinkView> for Link {
    fn from(view: LinkView) -> Self {
        Self {
            id: view.id,
            lab_id: view.lab_id,
            ends: view.ends.map(Into::into),
            backend: view.backend,
            desired_state: view.desired_state,
            actual_state: view.actual_state,
            state_since: view.state_since,
            attrs: view.attrs,
            error_message: view.error_message,
            verified_at: view.verified_at,
            deleting: view.deleting,
            generation: view.generation,
        }
    }
}
