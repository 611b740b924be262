//! A machine in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::mpsc;

use crate::attach::{AttachKind, AttachPoint, Mac, NsAccess, NsRef};
use crate::id::{LabId, LinkId, NodeId};
use crate::memory::{MemoryNetwork, MemoryProvider};
use crate::name::IfName;
use crate::plugin::network::NetworkEvent;
use crate::plugin::provider::{ExitRecord, InstanceRef, InstanceState, ProviderEvent};
use crate::time::BootId;

/// Cookie of the machine's own network namespace.
pub(super) const HOST_NAMESPACE: u64 = 1;

/// A machine in memory. Clones are the same machine.
#[derive(Debug, Clone)]
pub struct MemoryHost {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) boot: BootId,
    pub(super) instances: BTreeMap<NodeId, Instance>,
    /// Interfaces by (cookie of the namespace, name).
    pub(super) interfaces: BTreeMap<(u64, IfName), Interface>,
    pub(super) provider_watchers: Vec<mpsc::UnboundedSender<ProviderEvent>>,
    pub(super) network_watchers: Vec<mpsc::UnboundedSender<NetworkEvent>>,
    next_cookie: u64,
    next_ifindex: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) reference: InstanceRef,
    pub(super) lab: LabId,
    pub(super) state: InstanceState,
    pub(super) cookie: u64,
    /// Whether it is ours; a foreign one only bears our name.
    pub(super) ours: bool,
}

/// An interface on the machine.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub(super) ifindex: u32,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    pub(super) admin_up: bool,
    /// Index of the other end, if there is one.
    pub(super) peer: Option<u32>,
    /// The link that it belongs to and its incarnation; none for what is not ours.
    pub(super) mark: Option<(LinkId, u64)>,
}

impl MemoryHost {
    /// A machine with nothing on it.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                boot: BootId(1),
                instances: BTreeMap::new(),
                interfaces: BTreeMap::new(),
                provider_watchers: Vec::new(),
                network_watchers: Vec::new(),
                next_cookie: HOST_NAMESPACE + 1,
                next_ifindex: 1,
            })),
        }
    }

    /// A machine that booted as `boot`: the boot id of its clock, for whoever reads that from elsewhere.
    #[must_use]
    pub fn with_boot(self, boot: BootId) -> Self {
        self.lock().boot = boot;
        self
    }

    /// The provider of this machine.
    pub fn provider(&self) -> MemoryProvider {
        MemoryProvider::new(self.clone())
    }

    /// The network backend of this machine.
    pub fn network(&self) -> MemoryNetwork {
        MemoryNetwork::new(self.clone())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No holder leaves the state half changed where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process of a node, as an accident would. False when it does not run.
    pub fn kill(&self, node: NodeId, exit: ExitRecord) -> bool {
        let mut state = self.lock();
        let Some(instance) = state.instances.get_mut(&node) else { return false };
        if instance.state != InstanceState::Running {
            return false;
        }
        instance.state = InstanceState::Exited(exit);
        state.tell_provider(node);
        true
    }

    /// Removes the instance of a node with its interfaces, as a hand that is not ours would. False when there is none.
    pub fn remove_instance(&self, node: NodeId) -> bool {
        let mut state = self.lock();
        let Some(instance) = state.instances.get(&node).cloned() else { return false };
        state.drop_namespace(instance.cookie);
        state.tell_provider(node);
        state.instances.remove(&node);
        true
    }

    /// Puts something that is not ours where the instance of a node would be.
    pub fn add_foreign_instance(&self, reference: InstanceRef, lab: LabId) {
        let mut state = self.lock();
        let cookie = state.new_cookie();
        let instance = Instance { lab, state: InstanceState::Running, cookie, ours: false, reference };
        state.instances.insert(instance.reference.node, instance);
    }

    /// Whether something of this node is there, ours or not.
    pub fn has_instance(&self, node: NodeId) -> bool {
        self.lock().instances.contains_key(&node)
    }

    /// Makes a namespace that belongs to no node, for tests of links alone.
    pub fn new_namespace(&self) -> NsRef {
        let mut state = self.lock();
        let cookie = state.new_cookie();
        state.namespace(cookie)
    }

    /// Removes a namespace with its interfaces and their other ends.
    pub fn remove_namespace(&self, namespace: &NsRef) {
        self.lock().drop_namespace(namespace.cookie);
    }

    /// Sets an interface up or down, as its node may. False when there is none.
    pub fn set_interface(&self, point: &AttachPoint, up: bool) -> bool {
        let mut state = self.lock();
        let Some(interface) = state.interfaces.get_mut(&place(point)) else { return false };
        interface.admin_up = up;
        let mark = interface.mark;
        state.tell_network(mark);
        true
    }

    /// Deletes an interface and its other end, as a hand that is not ours would. False when there is none.
    pub fn delete_interface(&self, point: &AttachPoint) -> bool {
        let mut state = self.lock();
        let Some(interface) = state.interfaces.get(&place(point)).cloned() else { return false };
        state.drop_pair(&interface);
        true
    }

    /// Puts an interface that is not ours at a point.
    pub fn add_foreign_interface(&self, point: &AttachPoint) {
        let mut state = self.lock();
        let ifindex = state.new_ifindex();
        let interface = Interface { ifindex, mac: point.mac, mtu: point.mtu, admin_up: true, peer: None, mark: None };
        state.interfaces.insert(place(point), interface);
    }

    /// Whether an interface is at a point.
    pub fn has_interface(&self, point: &AttachPoint) -> bool {
        self.lock().interfaces.contains_key(&place(point))
    }

    /// Number of instances and of interfaces, ours or not.
    pub fn census(&self) -> (usize, usize) {
        let state = self.lock();
        (state.instances.len(), state.interfaces.len())
    }
}

impl Default for MemoryHost {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a point is: the cookie of its namespace and its name there.
pub(super) fn place(point: &AttachPoint) -> (u64, IfName) {
    let cookie = match &point.place {
        AttachKind::Namespace(ns) => ns.cookie,
        AttachKind::Tap { .. }
        | AttachKind::HostNet
        | AttachKind::Bridge { .. }
        | AttachKind::Macvlan { .. }
        | AttachKind::Dummy
        | AttachKind::Tunnel(_) => HOST_NAMESPACE,
    };
    (cookie, point.ifname.clone())
}

impl State {
    pub(super) fn new_cookie(&mut self) -> u64 {
        self.next_cookie += 1;
        self.next_cookie
    }

    pub(super) fn new_ifindex(&mut self) -> u32 {
        self.next_ifindex += 1;
        self.next_ifindex
    }

    pub(super) fn namespace(&self, cookie: u64) -> NsRef {
        NsRef { access: NsAccess::Path { path: format!("memory:{cookie}").into() }, cookie, boot: self.boot }
    }

    /// Removes an interface with its other end, and tells of it.
    pub(super) fn drop_pair(&mut self, interface: &Interface) {
        let gone = |it: &Interface| it.ifindex == interface.ifindex || interface.peer == Some(it.ifindex);
        self.interfaces.retain(|_, it| !gone(it));
        self.tell_network(interface.mark);
    }

    pub(super) fn drop_namespace(&mut self, cookie: u64) {
        let inside: Vec<Interface> =
            self.interfaces.iter().filter(|((at, _), _)| *at == cookie).map(|(_, it)| it.clone()).collect();
        for interface in inside {
            self.drop_pair(&interface);
        }
    }

    pub(super) fn tell_provider(&mut self, node: NodeId) {
        let Some(instance) = self.instances.get(&node) else { return };
        let event = ProviderEvent::Changed(instance.reference.clone());
        self.provider_watchers.retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
    }

    pub(super) fn tell_network(&mut self, mark: Option<(LinkId, u64)>) {
        let Some((link, _)) = mark else { return };
        self.network_watchers.retain(|watcher| watcher.unbounded_send(NetworkEvent::Changed(link)).is_ok());
    }
}
