//! On which host a node runs: where its user says, else where it last ran, else the lab's default, else the least
//! loaded that fits.
//!
//! What a user says is inviolable: the node runs there or not at all. The other rules only prefer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::blocked::Blocked;
use crate::machine::HostState;
use crate::name::HostName;

/// An amount of what hosts have and nodes need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Memory in bytes.
    pub memory: u64,
    /// Thousandths of a processor.
    pub cpu_milli: u64,
}

/// What a host lacks for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "lacks", rename_all = "snake_case")]
pub enum Shortage {
    /// Memory, in bytes.
    Memory {
        /// What the node needs.
        required: u64,
        /// What is left.
        available: u64,
    },
    /// Processors, in thousandths.
    Cpu {
        /// What the node needs.
        required: u64,
        /// What is left.
        available: u64,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MB: u64 = 1 << 20;
        match *self {
            // Rounded so that the numbers never seem to fit.
            Self::Memory { required, available } => {
                write!(f, "requires {} MB, {} MB available", required.div_ceil(MB), available / MB)
            }
            Self::Cpu { required, available } => {
                let (required, available) = (required as f64 / 1000.0, available as f64 / 1000.0);
                write!(f, "requires {required} CPUs, {available} CPUs available")
            }
        }
    }
}

/// What placement looks at in a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostFacts<'a> {
    /// Its name.
    pub name: &'a HostName,
    /// Whether it answers.
    pub state: HostState,
    /// What it has for nodes in total.
    pub capacity: Amount,
    /// What is reserved on it, jobs in flight included, the node itself excluded.
    pub reserved: Amount,
}

impl HostFacts<'_> {
    fn reachable(&self) -> bool {
        matches!(self.state, HostState::Online | HostState::Degraded)
    }

    /// The lower, the rather a node goes there, whatever the load.
    fn rank(&self) -> u8 {
        match self.state {
            HostState::Online => 0,
            HostState::Degraded => 1,
            HostState::Unknown | HostState::Offline => 2,
        }
    }

    /// What it lacks for `need`, if anything.
    pub fn shortage(&self, need: Amount) -> Option<Shortage> {
        let memory = self.capacity.memory.saturating_sub(self.reserved.memory);
        let cpu = self.capacity.cpu_milli.saturating_sub(self.reserved.cpu_milli);
        if need.memory > memory {
            Some(Shortage::Memory { required: need.memory, available: memory })
        } else if need.cpu_milli > cpu {
            Some(Shortage::Cpu { required: need.cpu_milli, available: cpu })
        } else {
            None
        }
    }

    /// The larger of the shares of memory and processors that are reserved.
    fn load(&self) -> f64 {
        let share = |used: u64, total: u64| if total == 0 { 1.0 } else { used as f64 / total as f64 };
        let memory = share(self.reserved.memory, self.capacity.memory);
        memory.max(share(self.reserved.cpu_milli, self.capacity.cpu_milli))
    }
}

/// Which node is to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementRequest<'a> {
    /// The host that its user named.
    pub explicit: Option<&'a HostName>,
    /// The host where it last ran.
    pub last: Option<&'a HostName>,
    /// The default of its lab.
    pub lab_default: Option<&'a HostName>,
    /// What it needs.
    pub need: Amount,
}

/// The rule by which a host was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Rule {
    /// The node's user named it.
    Explicit,
    /// The node last ran there.
    Last,
    /// It is the default of the lab.
    LabDefault,
    /// It is the least loaded of those that are left.
    LeastLoaded,
}

/// One host that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Why.
    pub rule: Rule,
    /// Which.
    pub host: HostName,
    /// Why it was passed over; nothing for the chosen one.
    pub refused: Option<String>,
}

/// Where a node goes, and how that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The host, or why there is none.
    pub host: Result<HostName, Blocked>,
    /// The hosts that were looked at, in order, for the log.
    pub chain: Vec<Considered>,
}

impl Placement {
    /// The chain in one line: `last h1: is offline; least_loaded h2: chosen`.
    pub fn chain_text(&self) -> String {
        let steps = self
            .chain
            .iter()
            .map(|step| format!("{} {}: {}", step.rule, step.host, step.refused.as_deref().unwrap_or("chosen")));
        steps.collect::<Vec<_>>().join("; ")
    }
}

/// Chooses a host for a node.
pub fn place(request: &PlacementRequest<'_>, hosts: &[HostFacts<'_>]) -> Placement {
    let mut chain = Vec::new();
    let mut consider = |rule, name: &HostName| {
        let verdict = judge(name, request.need, hosts);
        let refused = verdict.as_ref().err().map(reason);
        chain.push(Considered { rule, host: name.clone(), refused });
        verdict
    };
    if let Some(host) = request.explicit {
        let host = consider(Rule::Explicit, host);
        return Placement { host, chain };
    }
    for (rule, host) in [(Rule::Last, request.last), (Rule::LabDefault, request.lab_default)] {
        if let Some(Ok(host)) = host.map(|host| consider(rule, host)) {
            return Placement { host: Ok(host), chain };
        }
    }
    let mut others: Vec<&HostFacts<'_>> =
        hosts.iter().filter(|host| Some(host.name) != request.last && Some(host.name) != request.lab_default).collect();
    others.sort_by(|a, b| a.rank().cmp(&b.rank()).then(a.load().total_cmp(&b.load())).then_with(|| a.name.cmp(b.name)));
    for host in others {
        if let Ok(host) = consider(Rule::LeastLoaded, host.name) {
            return Placement { host: Ok(host), chain };
        }
    }
    let why = |step: &Considered| (step.host.clone(), step.refused.clone().unwrap_or_default());
    Placement { host: Err(Blocked::NoHost { tried: chain.iter().map(why).collect() }), chain }
}

/// Whether a host can take a node.
fn judge(name: &HostName, need: Amount, hosts: &[HostFacts<'_>]) -> Result<HostName, Blocked> {
    let host = name.clone();
    match hosts.iter().find(|host| host.name == name) {
        None => Err(Blocked::HostUnknown { host }),
        Some(facts) if !facts.reachable() => Err(Blocked::HostOffline { host }),
        Some(facts) => match facts.shortage(need) {
            Some(shortage) => Err(Blocked::HostFull { host, shortage }),
            None => Ok(host),
        },
    }
}

/// Why a host was passed over, where the host's name stands beside it.
fn reason(blocked: &Blocked) -> String {
    match blocked {
        Blocked::HostUnknown { .. } => "not known".to_owned(),
        Blocked::HostOffline { .. } => "offline".to_owned(),
        Blocked::HostFull { shortage, .. } => shortage.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GB: u64 = 1 << 30;

    fn names() -> Vec<HostName> {
        ["h1", "h2", "h3", "h4"].iter().map(|name| HostName::new(name).unwrap()).collect()
    }

    fn host(name: &HostName, state: HostState, free_gb: u64) -> HostFacts<'_> {
        let capacity = Amount { memory: 8 * GB, cpu_milli: 4000 };
        let reserved = Amount { memory: (8 - free_gb) * GB, cpu_milli: 0 };
        HostFacts { name, state, capacity, reserved }
    }

    #[test]
    fn explicit_is_there_or_nowhere() {
        let names = names();
        let mut hosts = [host(&names[0], HostState::Online, 8), host(&names[1], HostState::Online, 1)];
        hosts[1].reserved.memory = 8 * GB - (512 << 20);
        let need = Amount { memory: 2 * GB, cpu_milli: 0 };
        let request = PlacementRequest { explicit: Some(&names[1]), need, ..Default::default() };
        let error = place(&request, &hosts).host.unwrap_err();
        assert_eq!(error.to_string(), "Insufficient resources on h2: requires 2048 MB, 512 MB available");
        hosts[1].state = HostState::Offline;
        assert_eq!(place(&request, &hosts).host.unwrap_err(), Blocked::HostOffline { host: names[1].clone() });
        let request = PlacementRequest { explicit: Some(&names[3]), need, ..Default::default() };
        let placement = place(&request, &hosts);
        assert_eq!(placement.host.as_ref().unwrap_err(), &Blocked::HostUnknown { host: names[3].clone() });
        assert_eq!(placement.chain_text(), "explicit h4: not known");
    }

    #[test]
    fn preferences_in_their_order() {
        let names = names();
        let online = HostState::Online;
        let mut hosts = [
            host(&names[0], HostState::Degraded, 8),
            host(&names[1], online, 2),
            host(&names[2], online, 4),
            host(&names[3], HostState::Unknown, 8),
        ];
        let need = Amount { memory: GB, cpu_milli: 500 };
        let all = PlacementRequest { explicit: None, last: Some(&names[1]), lab_default: Some(&names[2]), need };
        assert_eq!(place(&all, &hosts).chain_text(), "last h2: chosen");
        hosts[1].state = HostState::Offline;
        assert_eq!(place(&all, &hosts).chain_text(), "last h2: offline; lab_default h3: chosen");
        let none = PlacementRequest { need, ..Default::default() };
        assert_eq!(place(&none, &hosts).host.unwrap(), names[2]);
        hosts[2].reserved.cpu_milli = 3900;
        let text = "last h2: offline; lab_default h3: requires 0.5 CPUs, 0.1 CPUs available; least_loaded h1: chosen";
        assert_eq!(place(&all, &hosts).chain_text(), text);
        hosts[0].state = HostState::Offline;
        let text = "No host can run the node: h2: offline; h3: requires 0.5 CPUs, 0.1 CPUs available; h1: offline; \
                    h4: offline";
        assert_eq!(place(&all, &hosts).host.unwrap_err().to_string(), text);
    }

    proptest! {
        /// Nodes placed one after the other, with what they reserve: no host is overcommitted, an explicit node is on
        /// its host or nowhere, and a node is refused only when really no host fits.
        #[test]
        fn reservations_stay_within_capacity(
            hosts in prop::collection::vec((0usize..4, 1u64..16, 1u64..8), 4),
            nodes in prop::collection::vec((prop::option::of(0usize..4), prop::option::of(0usize..4), 0u64..6, 0u64..3), 1..30),
        ) {
            let names = names();
            let states = [HostState::Unknown, HostState::Online, HostState::Degraded, HostState::Offline];
            let mut facts: Vec<HostFacts<'_>> = hosts.iter().zip(&names).map(|(&(state, memory, cpu_milli), name)| {
                HostFacts { name, state: states[state], capacity: Amount { memory, cpu_milli }, reserved: Amount::default() }
            }).collect();
            for (explicit, last, memory, cpu_milli) in nodes {
                let need = Amount { memory, cpu_milli };
                let name = |index: Option<usize>| index.map(|index| &names[index]);
                let request = PlacementRequest { explicit: name(explicit), last: name(last), lab_default: None, need };
                let placement = place(&request, &facts);
                let chosen = placement.chain.iter().filter(|step| step.refused.is_none()).count();
                prop_assert_eq!(chosen, usize::from(placement.host.is_ok()));
                match placement.host {
                    Ok(host) => {
                        prop_assert!(explicit.is_none_or(|index| names[index] == host));
                        let host = facts.iter_mut().find(|facts| *facts.name == host).unwrap();
                        prop_assert!(host.reachable());
                        host.reserved.memory += memory;
                        host.reserved.cpu_milli += cpu_milli;
                        prop_assert!(host.reserved.memory <= host.capacity.memory);
                        prop_assert!(host.reserved.cpu_milli <= host.capacity.cpu_milli);
                    }
                    Err(_) => {
                        let allowed = |host: &HostFacts<'_>| explicit.is_none_or(|index| names[index] == *host.name);
                        let fits = |host: &HostFacts<'_>| host.reachable() && host.shortage(need).is_none();
                        prop_assert!(!facts.iter().any(|host| allowed(host) && fits(host)));
                    }
                }
            }
        }
    }
}
