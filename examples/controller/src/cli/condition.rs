//! What `wait` can wait for.

use std::fmt;
use std::str::FromStr;

use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::name::NodeName;
use strum::VariantArray;

use crate::api::wire::LabSnapshot;

/// Something that may be true of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// They are in this state.
    State(NodeState),
    /// They are ready for use.
    Ready,
    /// All their links are in this state.
    Link(LinkState),
    /// They do not exist.
    Gone,
}

/// The text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `ready`, `gone`, `link=up`, `link=down`, or `state=` with one of {}", states())]
pub struct InvalidCondition;

fn states() -> String {
    NodeState::VARIANTS.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        match text.split_once('=') {
            None if text == "ready" => Ok(Self::Ready),
            None if text == "gone" => Ok(Self::Gone),
            Some(("state", state)) => state.parse().map(Self::State).map_err(|_| InvalidCondition),
            Some(("link", "up")) => Ok(Self::Link(LinkState::Up)),
            Some(("link", "down")) => Ok(Self::Link(LinkState::Down)),
            _ => Err(InvalidCondition),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => write!(f, "state={state}"),
            Self::Ready => f.write_str("ready"),
            Self::Link(state) => write!(f, "link={state}"),
            Self::Gone => f.write_str("gone"),
        }
    }
}

impl Condition {
    /// Whether it is true of a node of a lab; nothing stands for a lab that does not exist.
    pub fn holds(self, lab: Option<&LabSnapshot>, name: &NodeName) -> bool {
        let node = lab.and_then(|lab| lab.nodes.iter().find(|node| node.node_name == *name));
        let Some((lab, node)) = lab.zip(node) else { return self == Self::Gone };
        match self {
            Self::State(state) => node.actual_state == state,
            Self::Ready => node.actual_state == NodeState::Running && node.is_ready,
            Self::Gone => false,
            Self::Link(state) => {
                let mut links =
                    lab.links.iter().filter(|link| link.ends.iter().any(|end| end.node.as_ref() == Some(name)));
                links.all(|link| link.actual_state == state)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_have_a_text() {
        for text in ["state=running", "state=error", "ready", "link=up", "link=down", "gone"] {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        for bad in ["", "running", "state", "state=", "state=up", "link", "link=running", "ready=yes", "gone="] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
        assert!(InvalidCondition.to_string().contains("undeployed, pending"));
    }
}
