//! What makes a container ours: labels given in the call that makes it.

use std::collections::HashMap;

use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::plugin::HostContext;
use lifecycle_core::plugin::provider::InstanceRef;

const CONTROLLER: &str = "lifecycle.controller";
const HOST: &str = "lifecycle.host";
const LAB: &str = "lifecycle.lab";
const NODE: &str = "lifecycle.node";
const INCARNATION: &str = "lifecycle.incarnation";
const NAME: &str = "lifecycle.name";
const IDENTIFIER: &str = "lifecycle.identifier";
const PART: &str = "lifecycle.part";
/// Marks networks for management. They belong to no controller: labs of several may share one.
const MANAGEMENT: &str = "lifecycle.management";

/// Labels as the daemon takes them.
pub(crate) type Labels = HashMap<String, String>;

/// Which of an instance's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The node itself.
    Node,
    /// The one that holds the node's network namespace.
    Holder,
}

impl Part {
    const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Holder => "holder",
        }
    }

    /// The name of this container of an instance.
    pub(crate) fn name(self, identifier: &str) -> String {
        match self {
            Self::Node => identifier.to_owned(),
            Self::Holder => format!("{identifier}.holder"),
        }
    }
}

/// On whose behalf containers are made: several of a controller's hosts may share a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub controller: ControllerId,
    /// Which of its hosts.
    pub host: String,
}

impl Owner {
    /// The owner that a context tells.
    pub(crate) fn of(context: &HostContext) -> Self {
        Self { controller: context.controller, host: context.host.to_string() }
    }
}

/// Whose a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub owner: Owner,
    pub lab: LabId,
    /// The node's name within its lab.
    pub name: String,
    pub instance: InstanceRef,
}

impl Mark {
    pub(crate) fn labels(&self, part: Part) -> Labels {
        let InstanceRef { node, incarnation, identifier } = &self.instance;
        [
            (CONTROLLER, self.owner.controller.to_string()),
            (HOST, self.owner.host.clone()),
            (LAB, self.lab.to_string()),
            (NAME, self.name.clone()),
            (NODE, node.to_string()),
            (INCARNATION, incarnation.to_string()),
            (IDENTIFIER, identifier.clone()),
            (PART, part.word().to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Reads a mark; nothing where there is none, or one that is not whole.
    pub(crate) fn read(labels: &Labels) -> Option<(Self, Part)> {
        let get = |name: &str| labels.get(name);
        let part = [Part::Node, Part::Holder].into_iter().find(|part| get(PART).is_some_and(|it| it == part.word()))?;
        let instance = InstanceRef {
            node: get(NODE)?.parse().ok()?,
            incarnation: get(INCARNATION)?.parse().ok()?,
            identifier: get(IDENTIFIER)?.clone(),
        };
        let owner = Owner { controller: get(CONTROLLER)?.parse().ok()?, host: get(HOST)?.clone() };
        Some((Self { owner, lab: get(LAB)?.parse().ok()?, name: get(NAME)?.clone(), instance }, part))
    }
}

/// Labels of a management network.
pub(crate) fn of_management() -> Labels {
    HashMap::from([(MANAGEMENT.to_owned(), "1".to_owned())])
}

/// Whether a network is one that we made for management.
pub(crate) fn is_management(labels: Option<&Labels>) -> bool {
    labels.is_some_and(|labels| labels.contains_key(MANAGEMENT))
}

/// Filters that find what is an owner's, or one node's of it.
pub(crate) fn filters(owner: &Owner, node: Option<NodeId>) -> HashMap<String, Vec<String>> {
    let mut labels = vec![format!("{CONTROLLER}={}", owner.controller), format!("{HOST}={}", owner.host)];
    labels.extend(node.map(|node| format!("{NODE}={node}")));
    HashMap::from([("label".to_owned(), labels)])
}

/// The name of a node's container: its long name in the letters that a daemon takes, and its identifier, which no other
/// node has.
pub(crate) fn identifier(node: NodeId, long_name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
    let name: String = long_name.chars().map(letter).collect();
    let first = if name.starts_with(|c: char| c.is_ascii_alphanumeric()) { "" } else { "n" };
    format!("{first}{name}.{node}")
}

#[cfg(test)]
mod tests {
    use lifecycle_core::name::HostName;

    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark {
            owner: Owner { controller: ControllerId::from_u64(1), host: "local".into() },
            lab: LabId::from_u64(2),
            name: "n".into(),
            instance: InstanceRef { node: NodeId::from_u64(3), incarnation: 4, identifier: "clab-l-n".into() },
        };
        for part in [Part::Node, Part::Holder] {
            assert_eq!(Mark::read(&mark.labels(part)), Some((mark.clone(), part)));
        }
        for missing in [CONTROLLER, HOST, LAB, NAME, NODE, INCARNATION, IDENTIFIER, PART] {
            let mut labels = mark.labels(Part::Node);
            labels.remove(missing);
            assert_eq!(Mark::read(&labels), None, "{missing}");
        }
    }

    #[test]
    fn hosts_of_one_controller_are_told_apart() {
        let context = HostContext::without_directories(ControllerId::from_u64(1), serde_json::Value::Null);
        assert_eq!(Owner::of(&context).host, "local");
        let further = HostContext { host: HostName::new("h2").unwrap(), ..context };
        assert_eq!(Owner::of(&further).host, "h2");
    }

    #[test]
    fn names_are_such_as_daemons_take() {
        let node = NodeId::from_u64(7);
        assert_eq!(identifier(node, "clab-lab-r1"), format!("clab-lab-r1.{node}"));
        assert_eq!(identifier(node, "_a b/c"), format!("n_a-b-c.{node}"));
        assert_eq!(identifier(node, ""), format!("n.{node}"));
    }
}
