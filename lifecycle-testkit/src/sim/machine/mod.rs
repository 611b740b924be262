//! The world outside: two hosts with providers and network backends each, as truthful as a model can be.
//!
//! What is here is what *is*. Controllers learn of it only through calls, whose answers may be late, lost or lies.

mod bridge;
mod census;
mod hands;
mod instances;
mod mistakes;
mod network;
mod park;
mod plug;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::model::LabRecord;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::plugin::provider::Capacity;
use lifecycle_core::time::{BootId, Timestamp};
use lifecycle_core::topology::{ImagePullPolicy, NodeSpec};
use lifecycle_engine::decide::{Action, ConnectPlan, Done, Effect, EndPlan, News, Outcome};

pub(super) use census::Foreign;
pub(super) use hands::make_pair_again;
pub(super) use instances::{BAD_BINARY, CRASHES, Exit, Instance};
pub(super) use mistakes::Mistake;
pub(super) use network::{HOST_NAMESPACE, Interface, UPLINK};
pub(super) use switch::Switch;

/// An image that no registry has.
pub(super) const LOST_IMAGE: &str = "lost:1";

/// All machines. They are of one boot: the engine of today knows one machine only, and the hosts stand for parts of it.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) hosts: BTreeMap<HostName, Host>,
}

/// One host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) name: HostName,
    pub(super) boot: BootId,
    pub(super) capacity: Capacity,
    pub(super) images: BTreeSet<String>,
    /// Instances by provider and name.
    pub(super) instances: BTreeMap<(PluginName, String), Instance>,
    /// Interfaces by cookie of their namespace and index.
    pub(super) interfaces: BTreeMap<(u64, u32), Interface>,
    /// Providers whose instances do not outlive a boot.
    pub(super) volatile: BTreeSet<PluginName>,
    /// What the plugins have to tell.
    pub(super) news: Vec<(PluginName, News)>,
    /// The plugins that tell of links: the one with a cable or a switch, and the one with bridges.
    pub(super) backends: [PluginName; 2],
    /// Address at which other hosts reach it.
    pub(super) address: IpAddr,
    /// Largest packet that passes between the hosts, in bytes.
    pub(super) packet: u32,
    /// The switch to which its links are plugged; none where the ends of a link are each other's peers.
    pub(super) switch: Option<Switch>,
    /// The mistake that the backend makes.
    pub(super) mistake: Option<Mistake>,
    /// How often tunnels were asked for, less how often they were not wanted any more: for who counts.
    counted: BTreeMap<IpAddr, u64>,
    /// Processes that are going to end by themselves.
    pub(super) exits: Vec<Exit>,
    next_cookie: u64,
    next_ifindex: u32,
    /// The call that is being performed.
    call: u64,
}

impl Host {
    pub(super) fn new(name: HostName, boot: BootId, backends: [PluginName; 2], volatile: BTreeSet<PluginName>) -> Self {
        Self {
            name,
            boot,
            capacity: Capacity { memory: 8 << 30, cpu: 8.0 },
            images: BTreeSet::new(),
            instances: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            volatile,
            news: Vec::new(),
            backends,
            address: IpAddr::from([10, 0, 0, 1]),
            packet: 1500,
            switch: None,
            mistake: None,
            counted: BTreeMap::new(),
            exits: Vec::new(),
            next_cookie: HOST_NAMESPACE,
            next_ifindex: 1,
            call: 0,
        }
    }

    /// Carries out what a controller asks for.
    pub(super) fn perform(&mut self, call: u64, effect: &Effect, wall: Timestamp) -> Outcome {
        self.call = call;
        self.let_switch_look();
        let plugin = &effect.plugin;
        match &effect.action {
            Action::EnsureImage(spec) => self.ensure_image(spec).map(|()| Done::Nothing),
            Action::CreateNode(request) => self.create(plugin, request).map(Done::Created),
            Action::StartNode(instance) => self.start(plugin, instance, wall).map(|()| Done::Nothing),
            Action::StopNode { instance, .. } => self.stop(plugin, instance, wall).map(|()| Done::Nothing),
            Action::DestroyNode(instance) => {
                self.destroy(plugin, instance);
                Ok(Done::Nothing)
            }
            Action::ObserveNode(instance) => Ok(Done::Node(self.observe(plugin, instance))),
            Action::RunCommands { instance, commands } => self.run(plugin, instance, commands),
            Action::ProbeReady { instance, probe } => self.probe(plugin, instance, probe),
            Action::ListNodes => Ok(Done::Nodes(self.list(plugin))),
            Action::ReadCapacity => Ok(Done::Capacity(self.capacity)),
            Action::Connect(plan) => {
                self.connect_plan(plugin, plan).map(|identity| Done::Connected(Box::new(identity)))
            }
            Action::Disconnect(identity) => {
                self.disconnect(plugin, identity);
                Ok(Done::Nothing)
            }
            Action::Release(identity) => self.release(plugin, identity).map(|()| Done::Nothing),
            Action::Park { identity, heirs } => self.park(plugin, identity, *heirs).map(|()| Done::Nothing),
            Action::Verify(identity) => Ok(Done::Report(Box::new(self.verify(identity)))),
            Action::SetParams { identity, attrs } => self.set_params(identity, attrs).map(|()| Done::Nothing),
            Action::SetCarrier { identity, side, up } => self.set_carrier(identity, *side, *up).map(|()| Done::Nothing),
            Action::ObserveLinks(namespaces) => Ok(Done::Links(self.observe_links(plugin, namespaces))),
            Action::ReadUnderlay => Ok(Done::Underlay(self.underlay())),
            Action::Redirect { identity, to } => {
                self.redirect(identity, to).map(|identity| Done::Connected(Box::new(identity)))
            }
            Action::RemoveLink { observed, .. } => {
                self.remove_link(plugin, observed);
                Ok(Done::Nothing)
            }
        }
    }

    fn ensure_image(&mut self, spec: &NodeSpec) -> Result<()> {
        let Some(image) = &spec.image else { return Ok(()) };
        if self.images.contains(image) {
            return Ok(());
        }
        if spec.image_pull_policy == ImagePullPolicy::Never || image == LOST_IMAGE {
            return Err(Error::new(ErrorKind::ImageUnavailable, "fetch image", "it is nowhere to be had").about(image));
        }
        self.images.insert(image.clone());
        Ok(())
    }

    fn connect_plan(&mut self, plugin: &PluginName, plan: &ConnectPlan) -> Result<LinkIdentity> {
        let a = self.point(&plan.ends[0])?;
        let b = self.point(&plan.ends[1])?;
        let (lab, link, incarnation, attrs) = (Some(plan.lab), plan.link, plan.incarnation, plan.attrs);
        self.connect(plugin, &LinkRequest { lab, link, incarnation, a, b, attrs })
    }

    fn point(&self, end: &EndPlan) -> Result<AttachPoint> {
        match end {
            EndPlan::Place(point) => Ok(point.clone()),
            EndPlan::Port { provider, instance, port } => {
                let found = self.find(provider, instance).ok_or_else(|| missing("find attach point", instance))?;
                Ok(port.at(instance, AttachKind::Namespace(self.namespace(found.cookie))))
            }
        }
    }

    /// Power fails: processes end and all that the kernel held is gone.
    pub(super) fn reboot(&mut self, boot: BootId) {
        self.boot = boot;
        self.news.clear();
        self.exits.clear();
        self.counted.clear();
        self.switch.iter_mut().for_each(Switch::reboot);
        self.interfaces.retain(|(cookie, _), interface| *cookie == HOST_NAMESPACE && !interface.is_made());
        let volatile = self.volatile.clone();
        self.instances.retain(|(plugin, _), _| !volatile.contains(plugin));
        // Cookies and indexes are counted anew, so that old ones come up again and mean something else.
        (self.next_cookie, self.next_ifindex) = (HOST_NAMESPACE, 1_000);
        for instance in self.instances.values_mut() {
            self.next_cookie += 1;
            instance.reboot(self.next_cookie);
        }
    }
}

pub(super) fn missing(operation: &'static str, subject: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::NotFound, operation, "it does not exist").about(subject)
}

/// The name under which a node's instances are known to every provider here.
pub(super) fn identifier(lab: &LabRecord, node: &lifecycle_core::name::NodeName) -> String {
    lab.topology.long_name(node)
}
