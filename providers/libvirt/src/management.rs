//! Machines on a management network: each has a tap in the network's bridge as its first network card, and is told its
//! address by DHCP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::{CreateNode, InstanceRef};
use lifecycle_core::topology::ManagementNetwork;
use lifecycle_crash::crash_point;
use lifecycle_linux::management::{
    Dhcp, Entry, Hub, INTERFACE, Lease, Offer, Register, bridge_addresses, bridge_of, mac_of, names_of, net_of,
};
use lifecycle_linux::namespace::{NamespaceAccess, SocketKind, Want};
use lifecycle_linux::netlink::RouteSocket;
use lifecycle_linux::wiring;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::files::{Files, Port, Record};
use crate::settings::Settings;
use crate::taps;

/// What a machine has on a management network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Managed {
    pub lease: Lease,
    pub network: ManagementNetwork,
    pub names: Vec<String>,
}

/// The management networks of a host, as far as machines are on them.
#[derive(Debug)]
pub(crate) struct Management {
    register: Register,
    namespace: Option<PathBuf>,
    files: Files,
    served: Arc<Served>,
    resumed: AtomicBool,
}

/// The bridges on which machines are answered, each with its index: one that was made anew is another.
type Served = Mutex<BTreeMap<IfName, u32>>;

fn lock(served: &Served) -> MutexGuard<'_, BTreeMap<IfName, u32>> {
    served.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_served(network: &ManagementNetwork, failure: &Failure) {
    tracing::warn!(reason = failure.message, network = network.name, "nobody tells machines their addresses");
}

impl Drop for Management {
    fn drop(&mut self) {
        // Whoever answers there ends with that.
        lock(&self.served).clear();
    }
}

impl Management {
    pub(crate) fn new(state_dir: &Path, settings: &Settings, files: &Files) -> Self {
        let register = Register::new(state_dir, "libvirt");
        let (namespace, files) = (settings.namespace.clone(), files.clone());
        Self { register, namespace, files, served: Arc::default(), resumed: AtomicBool::new(false) }
    }

    /// Reserves addresses for a new instance, and writes its record down with them. What it has already it keeps.
    pub(crate) fn enter(&self, record: &mut Record, request: &CreateNode) -> Outcome<()> {
        let Some(network) = request.management.clone() else { return Ok(()) };
        let register = self.register.lock()?;
        let mut entries = self.entries(record)?;
        if record.management.is_none() {
            // Nobody would tell a machine its IPv6 address.
            let mut asked = request.clone();
            asked.management = Some(ManagementNetwork { ipv6: None, ..network.clone() });
            let Some(lease) = register.lease(entries.iter(), &asked)? else { return Ok(()) };
            record.management = Some(Managed { lease, network, names: names_of(request) });
            self.files.begin(record)?;
            crash_point("machine-address-reserved");
        }
        entries.extend(entry_of(record));
        Ok(register.write(entries.iter(), record.mark.lab)?)
    }

    /// Takes back what an instance has on its network. The last one takes the bridge along.
    pub(crate) fn strike(&self, record: &Record) -> Outcome<()> {
        let Some(managed) = &record.management else { return Ok(()) };
        // Of several that go at once one is the last, so the record says in the end who has gone.
        let register = self.register.lock()?;
        let mut hub = self.hub()?;
        hub.remove_port(record.mark.instance.node)?;
        crash_point("machine-tap-removed");
        let entries = self.entries(record)?;
        register.write(entries.iter(), record.mark.lab)?;
        let bridge = &managed.lease.bridge;
        let is_there = |entry: &Entry| entry.lease.as_ref().is_some_and(|lease| lease.bridge == *bridge);
        if !entries.iter().any(is_there) {
            let bridge = bridge_of(&managed.network);
            lock(&self.served).remove(&bridge);
            if !register.is_used_by_others(bridge.as_str()) {
                hub.remove_bridge(&bridge, &BTreeSet::new())?;
            }
        }
        crash_point("machine-address-given-back");
        let mut record = record.clone();
        record.management = None;
        self.files.write(&record)
    }

    /// Removes the tap of an instance whose files are gone, if it had one.
    pub(crate) fn untap(&self, instance: &InstanceRef) {
        let removed = self.hub().and_then(|mut hub| Ok(hub.remove_port(instance.node)?));
        if let Err(failure) = removed {
            tracing::warn!(%instance, reason = failure.message, "whether its management tap is left is not known");
        }
    }

    /// Has the tap of a machine ready, and whoever answers it.
    pub(crate) fn connect(&self, record: &Record) -> Outcome<Option<(IfName, Port)>> {
        let Some(Managed { network, .. }) = &record.management else { return Ok(None) };
        let node = record.mark.instance.node;
        let [device] = self.open([Want::Tun])?;
        let mut hub = self.hub()?;
        let tap = hub.tap(network, node, device, (0, taps::FLAGS))?;
        crash_point("machine-tap-made");
        self.serve(&mut hub, network);
        let name = IfName::new(INTERFACE).map_err(|error| Failure::invalid(error.to_string()))?;
        let mtu = network.mtu.unwrap_or(1500);
        Ok(Some((name, Port { mac: mac_of(node), mtu, tap, carrier: true, offload: true })))
    }

    /// Goes on answering the machines that an earlier controller made. Does so once; who is started later is seen to then.
    pub(crate) fn resume(&self, records: &[Record]) {
        if self.resumed.swap(true, Ordering::Relaxed) {
            return;
        }
        for Managed { network, .. } in records.iter().filter_map(|record| record.management.as_ref()) {
            match self.hub() {
                Ok(mut hub) => self.serve(&mut hub, network),
                Err(failure) => not_served(network, &failure),
            }
        }
    }

    /// Sees to it that machines on a network are told their addresses. That this cannot be is no reason not to start them.
    fn serve(&self, hub: &mut Hub, network: &ManagementNetwork) {
        if let Err(failure) = self.try_serve(hub, network) {
            not_served(network, &failure);
        }
    }

    /// Answers on a network's bridge, in a thread of its own.
    fn try_serve(&self, hub: &mut Hub, network: &ManagementNetwork) -> Outcome<()> {
        let bridge = bridge_of(network);
        let Some(index) = hub.index_of(&bridge)? else { return Ok(()) };
        let mut served = lock(&self.served);
        if served.get(&bridge) == Some(&index) {
            return Ok(());
        }
        let [socket] = self.open([Want::Socket(SocketKind::Udp)])?;
        let dhcp = Dhcp::listen(socket, &bridge).map_err(wiring::Failure::from)?;
        let (files, all, on) = (self.files.clone(), Arc::clone(&self.served), bridge.clone());
        let answer = move || {
            while lock(&all).get(&on) == Some(&index) {
                if let Err(error) = dhcp.answer(|mac| offer(&files, &on, mac)) {
                    tracing::warn!(%error, bridge = %on, "a machine was not told its address");
                    thread::sleep(Duration::from_secs(1));
                }
            }
        };
        thread::Builder::new().name("lc-dhcp".to_owned()).spawn(answer).map_err(wiring::Failure::from)?;
        served.insert(bridge, index);
        Ok(())
    }

    /// All entries of this provider but that of one instance.
    fn entries(&self, but: &Record) -> Outcome<Vec<Entry>> {
        let all = self.files.all()?;
        Ok(all.iter().filter(|it| it.mark.instance.node != but.mark.instance.node).filter_map(entry_of).collect())
    }

    fn hub(&self) -> Outcome<Hub> {
        let [socket] = self.open([Want::Socket(SocketKind::Route)])?;
        Ok(Hub::new(RouteSocket::new(socket).map_err(wiring::Failure::from)?))
    }

    fn open<const N: usize>(&self, want: [Want; N]) -> Outcome<[OwnedFd; N]> {
        let path = self.namespace.as_deref().unwrap_or_else(|| Path::new("/proc/self/ns/net"));
        let file = File::open(path).map_err(|error| Failure::of_file(error, path.display()))?;
        let opened = NamespaceAccess::new().open_inside(file.into(), None, &want).map_err(wiring::Failure::from)?;
        opened.try_into().map_err(|_| Failure::new(ErrorKind::Failed, "a descriptor did not come back"))
    }
}

fn entry_of(record: &Record) -> Option<Entry> {
    let Managed { lease, names, .. } = record.management.clone()?;
    Some(Entry { lab: record.mark.lab, names, lease: Some(lease) })
}

/// What the machine with an address of a network card is told.
fn offer(files: &Files, bridge: &IfName, mac: Mac) -> Option<Offer> {
    let all = files
        .all()
        .map_err(|failure| tracing::warn!(reason = failure.message, "a machine was not told its address"))
        .ok()?;
    let record = all.into_iter().find(|record| mac_of(record.mark.instance.node) == mac)?;
    let Managed { lease, network, names } = record.management.filter(|it| it.lease.bridge == bridge.as_str())?;
    let IpNet::V4(address) = net_of(&network, IpAddr::V4(lease.addresses.ipv4?))? else { return None };
    let server = bridge_addresses(&network).into_iter().find_map(|net| match net.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })?;
    let mtu = network.mtu.and_then(|mtu| u16::try_from(mtu).ok());
    // The short name is the second.
    Some(Offer { address, server, hostname: names.into_iter().nth(1)?, mtu })
}
