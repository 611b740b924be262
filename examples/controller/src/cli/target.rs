//! Nodes as people name them on the command line.

use std::fmt;
use std::str::FromStr;

use lifecycle_core::name::{InvalidName, LabName, NodeName};

use crate::client::Client;
use crate::failure::{Exit, Failure, Result};

/// A node as it is named on the command line: `NODE` or `LAB/NODE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeArg {
    /// Its lab, where it was named.
    pub lab: Option<LabName>,
    /// Its name within the lab.
    pub node: NodeName,
}

impl FromStr for NodeArg {
    type Err = InvalidName;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidName> {
        match text.split_once('/') {
            Some((lab, node)) => Ok(Self { lab: Some(lab.parse()?), node: node.parse()? }),
            None => Ok(Self { lab: None, node: text.parse()? }),
        }
    }
}

/// A node of a known lab.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its lab.
    pub lab: LabName,
    /// Its name within the lab.
    pub node: NodeName,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.lab, self.node)
    }
}

/// Finds the lab that is meant: the one that was named, or the only one there is.
///
/// # Errors
/// When none was named and there is none, or more than one.
pub async fn lab(client: &Client, named: Option<&LabName>) -> Result<LabName> {
    if let Some(lab) = named {
        return Ok(lab.clone());
    }
    let labs = client.labs().await?;
    match &labs[..] {
        [] => Err(Failure::new(Exit::NotFound, "there is no lab; deploy one with `lifecycle deploy -t FILE`")),
        [lab] => Ok(lab.name.clone()),
        labs => {
            let names: Vec<&str> = labs.iter().map(|lab| lab.name.as_str()).collect();
            let message = format!("there are several labs; name one of {}", names.join(", "));
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// Finds the labs of nodes that were named with or without one.
///
/// # Errors
/// When no lab, or more than one, has a node that was named without its lab.
pub async fn nodes(client: &Client, named: &[NodeArg], lab: Option<&LabName>) -> Result<Vec<Target>> {
    let mut found = Vec::with_capacity(named.len());
    let mut everywhere = None;
    for arg in named {
        if let Some(lab) = arg.lab.as_ref().or(lab) {
            found.push(Target { lab: lab.clone(), node: arg.node.clone() });
            continue;
        }
        if everywhere.is_none() {
            everywhere = Some(all(client).await?);
        }
        found.push(choose(everywhere.as_deref().unwrap_or_default(), &arg.node)?);
    }
    Ok(found)
}

/// Finds the lab of one node.
///
/// # Errors
/// As [`nodes`].
pub async fn node(client: &Client, named: &NodeArg, lab: Option<&LabName>) -> Result<Target> {
    let mut found = nodes(client, std::slice::from_ref(named), lab).await?;
    found.pop().ok_or_else(|| Failure::new(Exit::Usage, "no node was named"))
}

/// All nodes of all labs.
async fn all(client: &Client) -> Result<Vec<Target>> {
    let mut found = Vec::new();
    for lab in client.labs().await? {
        let lab = lab.name;
        let nodes = client.lab(&lab).await?.nodes;
        found.extend(nodes.into_iter().map(|node| Target { lab: lab.clone(), node: node.node_name }));
    }
    Ok(found)
}

fn choose(all: &[Target], name: &NodeName) -> Result<Target> {
    let matching: Vec<&Target> = all.iter().filter(|target| target.node == *name).collect();
    match &matching[..] {
        [target] => Ok((*target).clone()),
        [] => {
            let some: Vec<String> = all.iter().take(20).map(ToString::to_string).collect();
            let there =
                if some.is_empty() { "there is no lab".to_owned() } else { format!("there is {}", some.join(", ")) };
            Err(Failure::new(Exit::NotFound, format!("no node is called `{name}`; {there}")))
        }
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            let message = format!("several labs have a node `{name}`; say which: {}", several.join(", "));
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(lab: &str, node: &str) -> Target {
        Target { lab: LabName::new(lab).unwrap(), node: NodeName::new(node).unwrap() }
    }

    #[test]
    fn a_node_may_be_named_with_its_lab() {
        let arg: NodeArg = "ring/r1".parse().unwrap();
        assert_eq!((arg.lab.unwrap().as_str(), arg.node.as_str()), ("ring", "r1"));
        assert!("r1".parse::<NodeArg>().unwrap().lab.is_none());
        for bad in ["", "/", "a/", "/a", "a/b/c", "../x", "a b"] {
            assert!(bad.parse::<NodeArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn without_its_lab_a_node_must_be_the_only_one() {
        let all = [target("a", "r1"), target("b", "r1"), target("b", "r2")];
        let name = |text: &str| NodeName::new(text).unwrap();
        assert_eq!(choose(&all, &name("r2")).unwrap(), all[2]);
        let error = choose(&all, &name("r1")).unwrap_err();
        assert_eq!((error.exit, error.message.contains("a/r1, b/r1")), (Exit::Usage, true));
        let error = choose(&all, &name("r3")).unwrap_err();
        assert_eq!((error.exit, error.message.contains("there is a/r1")), (Exit::NotFound, true));
        assert!(choose(&[], &name("r3")).unwrap_err().message.contains("there is no lab"));
    }
}
