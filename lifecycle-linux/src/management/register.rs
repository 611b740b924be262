//! Who holds which names and addresses, over all labs and providers of a host.
//!
//! Each provider writes down its own part, out of what its instances say; the parts of all are read before an address is
//! chosen. Whoever works on the register has it to itself.
//!
//! ```text
//! <state>/management/lock
//! <state>/management/<provider>.json     its part
//! <state>/management/labs/<lab>/hosts    /etc/hosts of the nodes of a lab
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lifecycle_core::ErrorKind;
use lifecycle_core::id::LabId;
use lifecycle_core::plugin::provider::{CreateNode, ManagementAddresses};
use lifecycle_core::topology::NetworkMode;
use serde::{Deserialize, Serialize};

use super::address::{choose, has_ipv6};
use super::{Lease, bridge_of};
use crate::wiring::{Failure, Outcome};

/// What is known of an instance by name and address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its lab.
    pub lab: LabId,
    /// Its names, the long one first.
    pub names: Vec<String>,
    /// Its addresses, if it is on a management network.
    pub lease: Option<Lease>,
}

/// The register of a host, as one of its providers sees it.
#[derive(Debug, Clone)]
pub struct Register {
    directory: PathBuf,
    provider: &'static str,
}

impl Register {
    /// The register below a host's state directory.
    pub fn new(state_dir: &Path, provider: &'static str) -> Self {
        Self { directory: state_dir.join("management"), provider }
    }

    /// `/etc/hosts` of a lab's nodes. It is one file that all nodes show, and it is written in place: a node's view of it
    /// would not follow a file of another inode.
    pub fn hosts(&self, lab: LabId) -> PathBuf {
        self.directory.join("labs").join(lab.to_string()).join("hosts")
    }

    /// Takes the register for oneself, until what is returned goes. Blocks while somebody else has it.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    pub fn lock(&self) -> Outcome<Locked> {
        fs::create_dir_all(&self.directory)?;
        let path = self.directory.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        let mut others = Vec::new();
        for found in fs::read_dir(&self.directory)? {
            let path = found?.path();
            let is_part = path.extension().is_some_and(|it| it == "json");
            if is_part && path != self.part() {
                others.extend(read(&path)?);
            }
        }
        Ok(Locked { register: self.clone(), _file: file, others })
    }

    fn part(&self) -> PathBuf {
        self.directory.join(self.provider).with_extension("json")
    }
}

/// The register, which nobody else works on.
#[derive(Debug)]
pub struct Locked {
    register: Register,
    _file: File,
    others: Vec<Entry>,
}

impl Locked {
    /// The addresses for a new instance, besides all others of the same provider; nothing for one that is on no
    /// management network.
    ///
    /// # Errors
    /// `InvalidInput` or `Conflict` for a fixed address that it cannot have, `Exhausted` when there is none left,
    /// `Unsupported` where a subnet would have to be chosen.
    pub fn lease<'e>(&'e self, own: impl Iterator<Item = &'e Entry>, request: &CreateNode) -> Outcome<Option<Lease>> {
        let (Some(network), NetworkMode::Own) = (&request.management, &request.spec.network_mode) else {
            return Ok(None);
        };
        for field in ["ipv4-subnet", "ipv6-subnet"] {
            if network.extra.contains_key(field) {
                let text = format!("this provider cannot choose the management network's `{field}`; give a subnet");
                return Err(Failure::unsupported(text));
            }
        }
        let held: BTreeMap<IpAddr, &str> = own
            .chain(&self.others)
            .filter_map(|entry| Some((entry.lease.as_ref()?, entry.names.first()?)))
            .filter(|(lease, _)| lease.network == network.name)
            .flat_map(|(lease, name)| lease.all().map(move |address| (address, name.as_str())))
            .collect();
        let spec = &request.spec;
        let ipv4 = choose(network, network.ipv4, network.ipv4_range, spec.mgmt_ipv4, &held)?;
        let ipv6_subnet = network.ipv6.filter(|_| has_ipv6());
        let ipv6 = choose(network, ipv6_subnet, network.ipv6_range, spec.mgmt_ipv6, &held)?;
        let addresses = ManagementAddresses {
            ipv4: ipv4.and_then(|address| if let IpAddr::V4(address) = address { Some(address) } else { None }),
            ipv6: ipv6.and_then(|address| if let IpAddr::V6(address) = address { Some(address) } else { None }),
        };
        Ok(Some(Lease { network: network.name.clone(), bridge: bridge_of(network).to_string(), addresses }))
    }

    /// Whether an instance of another provider is on the network with this bridge.
    pub fn is_used_by_others(&self, bridge: &str) -> bool {
        self.others.iter().filter_map(|entry| entry.lease.as_ref()).any(|lease| lease.bridge == bridge)
    }

    /// Writes down all that the provider has, and the hosts file of a lab of which something came or went. That of a lab
    /// without nodes is removed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write<'e>(&'e self, own: impl Iterator<Item = &'e Entry> + Clone, lab: LabId) -> Outcome<()> {
        let part = self.register.part();
        let entries: Vec<&Entry> = own.clone().collect();
        if entries.is_empty() {
            absent_is_fine(fs::remove_file(&part))?;
        } else {
            let fresh = part.with_extension("new");
            fs::write(&fresh, serde_json::to_vec(&entries).map_err(io::Error::other)?)?;
            fs::rename(&fresh, &part)?;
        }
        let path = self.register.hosts(lab);
        let directory = path.parent().unwrap_or(&path);
        match hosts(own.chain(&self.others).filter(|entry| entry.lab == lab)) {
            None => Ok(absent_is_fine(fs::remove_dir_all(directory))?),
            Some(text) => {
                fs::create_dir_all(directory)?;
                let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
                // Cut afterwards: there is no moment in which the file is empty.
                file.write_all_at(text.as_bytes(), 0)?;
                Ok(file.set_len(text.len() as u64)?)
            }
        }
    }
}

/// `/etc/hosts` of a lab's nodes; nothing when the lab has none.
fn hosts<'e>(entries: impl Iterator<Item = &'e Entry>) -> Option<String> {
    let mut lines = BTreeSet::new();
    let mut any = false;
    for entry in entries {
        any = true;
        let names = entry.names.join(" ");
        lines.extend(entry.lease.iter().flat_map(Lease::all).map(|address| format!("{address} {names}\n")));
    }
    let head = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    any.then(|| lines.into_iter().fold(head, |text, line| text + &line))
}

fn read(path: &Path) -> Outcome<Vec<Entry>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            let text = format!("{} is damaged; remove it and restart the controller", path.display());
            Failure::caused(ErrorKind::Corrupt, text, error)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::id::NodeId;
    use lifecycle_core::name::{LabName, NodeName};
    use lifecycle_core::topology::{ManagementNetwork, NodeSpec};

    use super::super::names_of;
    use super::*;

    fn request(name: &str) -> CreateNode {
        let text = serde_json::json!({ "name": "clab", "ipv4": "10.0.0.0/29" });
        let network: ManagementNetwork = serde_json::from_value(text).unwrap();
        let (long_name, spec) = (format!("clab-lab-{name}"), NodeSpec::new(NodeName::new(name).unwrap(), "linux"));
        let lab = (LabId::from_u64(3), LabName::new("lab").unwrap());
        let request = CreateNode::new(NodeId::from_u64(7), lab, long_name, spec);
        CreateNode { management: Some(network), ..request }
    }

    fn enter(register: &Register, own: &mut Vec<Entry>, request: &CreateNode) -> Outcome<Option<IpAddr>> {
        let locked = register.lock()?;
        let lease = locked.lease(own.iter(), request)?;
        let address = lease.as_ref().and_then(|lease| lease.all().next());
        own.push(Entry { lab: request.lab, names: names_of(request), lease });
        locked.write(own.iter(), request.lab).map(|()| address)
    }

    #[test]
    fn providers_share_addresses_and_names() {
        let state = tempfile::tempdir().unwrap();
        let (spaces, machines) = (Register::new(state.path(), "netns"), Register::new(state.path(), "libvirt"));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let given = [
            enter(&spaces, &mut a, &request("a1")).unwrap(),
            enter(&machines, &mut b, &request("b1")).unwrap(),
            enter(&spaces, &mut a, &request("a2")).unwrap(),
        ];
        assert_eq!(given, ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map(|address| Some(address.parse().unwrap())));
        let mut fixed = request("b2");
        fixed.spec.mgmt_ipv4 = Some("10.0.0.4".parse().unwrap());
        let error = enter(&machines, &mut b, &fixed).unwrap_err();
        assert!(error.is_conflict() && error.to_string().contains("in use by clab-lab-a2"), "{error}");
        let hosts = fs::read_to_string(machines.hosts(LabId::from_u64(3))).unwrap();
        assert!(
            hosts.contains("10.0.0.3 clab-lab-b1 b1 b1.lab.io\n") && hosts.contains("10.0.0.2 clab-lab-a1"),
            "{hosts}"
        );
        // The one goes, and its bridge is the other's still; the other goes, and nothing is left.
        let bridge = a[0].lease.as_ref().unwrap().bridge.clone();
        machines.lock().unwrap().write([].iter(), LabId::from_u64(3)).unwrap();
        assert!(machines.lock().unwrap().is_used_by_others(&bridge));
        assert!(!spaces.lock().unwrap().is_used_by_others(&bridge));
        spaces.lock().unwrap().write([].iter(), LabId::from_u64(3)).unwrap();
        assert!(!spaces.hosts(LabId::from_u64(3)).exists());
    }
}
