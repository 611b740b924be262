//! Open vSwitch, as trials showed it to be: a database that takes at once what is committed, and a switch that carries
//! it out later.
//!
//! The switch goes by names. It opens the interface of a port when it first sees the port, and keeps what it opened as
//! long as each configuration that it sees has a port of that name: also when the interface is gone, when another one
//! bears its name by now, and when the port was taken off and put on again between two looks. Number and tag stay as they
//! were then, and nothing passes.

use std::collections::{BTreeMap, BTreeSet};

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::LinkId;
use lifecycle_core::name::IfName;

/// The most that a tag can be.
const MOST_TAGS: u16 = 4094;

/// An Open vSwitch with one bridge, on a datapath in user space.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switch {
    /// What the database says, by names of ports.
    ports: BTreeMap<IfName, Port>,
    /// What the switch has opened, by names of ports.
    opened: BTreeMap<IfName, Opened>,
    /// Numbers of the configuration that was committed last, and of the one that is carried out.
    next_cfg: u64,
    cur_cfg: u64,
    /// The last number that was given to anything.
    last: u64,
    /// The switch does not look into its database. It forwards as before.
    pub(crate) hangs: bool,
}

/// A port as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Port {
    /// No two ports ever have the same.
    pub(crate) row: u64,
    pub(crate) tag: u16,
    /// The link and incarnation that it bears the mark of.
    pub(crate) mark: (LinkId, u64),
    /// What the switch says once it has taken it up: the port's number, and the interface that it opened.
    pub(crate) attached: Option<Opened>,
}

/// What the switch has opened for a port.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Opened {
    pub(crate) number: u64,
    pub(crate) ifindex: u32,
    tag: u16,
}

/// One change of the database.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Add(IfName, u16, (LinkId, u64)),
    Remove(IfName),
    Retag(IfName, u16),
    /// A port gets another tag, and the mark of another link.
    Park(IfName, u16, (LinkId, u64)),
}

impl Switch {
    pub(crate) fn port(&self, name: &IfName) -> Option<&Port> {
        self.ports.get(name)
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = (&IfName, &Port)> {
        self.ports.iter()
    }

    /// Commits all changes, or none.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<()> {
        let mut ports = self.ports.clone();
        for change in changes {
            match change {
                Change::Add(name, ..) if ports.contains_key(name) => {
                    return Err(Error::new(ErrorKind::Failed, "transact", "constraint violation").about(name));
                }
                Change::Add(name, tag, mark) => {
                    self.last += 1;
                    ports.insert(name.clone(), Port { row: self.last, tag: *tag, mark: *mark, attached: None });
                }
                Change::Park(name, tag, mark) => {
                    if let Some(port) = ports.get_mut(name) {
                        (port.tag, port.mark) = (*tag, *mark);
                    }
                }
                Change::Remove(name) => drop(ports.remove(name)),
                Change::Retag(name, tag) => {
                    if let Some(port) = ports.get_mut(name) {
                        port.tag = *tag;
                    }
                }
            }
        }
        self.ports = ports;
        self.next_cfg += 1;
        Ok(())
    }

    /// Whether changes were committed.
    pub(crate) fn has(&self, changes: &[Change]) -> bool {
        changes.iter().all(|change| match change {
            Change::Add(name, tag, mark) | Change::Park(name, tag, mark) => {
                self.ports.get(name).is_some_and(|port| (port.tag, port.mark) == (*tag, *mark))
            }
            Change::Remove(name) => !self.ports.contains_key(name),
            Change::Retag(name, tag) => self.ports.get(name).is_some_and(|port| port.tag == *tag),
        })
    }

    /// The switch looks into its database, and carries out what it finds; `at` tells the index of an interface.
    pub(crate) fn look(&mut self, at: impl Fn(&IfName) -> Option<u32>) {
        if self.hangs {
            return;
        }
        self.opened.retain(|name, _| self.ports.contains_key(name));
        for (name, port) in &mut self.ports {
            if !self.opened.contains_key(name)
                && let Some(ifindex) = at(name)
            {
                self.last += 1;
                self.opened.insert(name.clone(), Opened { number: self.last, ifindex, tag: port.tag });
            }
            if let Some(opened) = self.opened.get_mut(name) {
                opened.tag = port.tag;
            }
            port.attached = self.opened.get(name).copied();
        }
        self.cur_cfg = self.next_cfg;
    }

    /// Whether all that was committed is carried out.
    pub(crate) const fn is_current(&self) -> bool {
        self.cur_cfg >= self.next_cfg
    }

    /// Whether frames pass between two ports that stand for the interfaces with these indexes.
    pub(crate) fn joins(&self, ends: [(&IfName, u32); 2]) -> bool {
        let tag = |(name, index): (&IfName, u32)| {
            self.opened.get(name).filter(|opened| opened.ifindex == index).map(|opened| opened.tag)
        };
        tag(ends[0]).is_some() && tag(ends[0]) == tag(ends[1])
    }

    /// The smallest tag that no port has of which `counts` holds.
    pub(crate) fn free_tag(&self, counts: impl Fn(&IfName) -> bool) -> Result<u16> {
        let taken: BTreeSet<u16> =
            self.ports.iter().filter(|(name, _)| counts(name)).map(|(_, port)| port.tag).collect();
        least(|tag| !taken.contains(&tag))
    }

    /// The smallest tag that no port has and that is none of `given`.
    pub(crate) fn free_tag_but(&self, given: &[u16]) -> Result<u16> {
        least(|tag| self.users(tag) == 0 && !given.contains(&tag))
    }

    /// How many ports have a tag.
    pub(crate) fn users(&self, tag: u16) -> usize {
        self.ports.values().filter(|port| port.tag == tag).count()
    }

    /// A hand gives a port a tag that no other has.
    pub(crate) fn retag_by_hand(&mut self, name: &IfName) {
        let taken = |tag: &u16| self.ports.values().any(|port| port.tag == *tag);
        let tag = (1..=MOST_TAGS).rev().find(|tag| !taken(tag));
        if let (Some(tag), Some(port)) = (tag, self.ports.get_mut(name)) {
            port.tag = tag;
            self.next_cfg += 1;
        }
    }

    /// A hand takes a port off.
    pub(crate) fn remove_by_hand(&mut self, name: &IfName) {
        self.ports.remove(name);
        self.next_cfg += 1;
    }

    /// It starts with nothing: its database lies where nothing outlives a boot.
    pub(crate) fn reboot(&mut self) {
        *self = Self { last: self.last, ..Self::default() };
    }
}

fn least(is_free: impl Fn(u16) -> bool) -> Result<u16> {
    let exhausted = || Error::new(ErrorKind::Exhausted, "connect", "no tag is left");
    (1..=MOST_TAGS).find(|tag| is_free(*tag)).ok_or_else(exhausted)
}
