//! What the providers of a host do.

use std::time::Duration;

use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::name::PluginName;
use lifecycle_core::plugin::provider::{
    CreateNode, CreatedNode, ExitRecord, InstanceRef, InstanceState, ManagementAddresses, ObservedNode,
};
use lifecycle_core::time::Timestamp;
use lifecycle_core::topology::NodeSpec;
use lifecycle_engine::decide::{Done, News, Outcome, ReadyProbe};

use super::{Host, missing};

/// The first word of a node's command that makes its process end soon after each start.
pub(crate) const CRASHES: &str = "crash";
/// The first word of a node's command that cannot be started at all.
pub(crate) const BAD_BINARY: &str = "bad";

/// A process that is going to end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) plugin: PluginName,
    pub(crate) identifier: String,
    /// Which of its starts.
    pub(crate) starts: u32,
    pub(crate) after: Duration,
}

/// An instance, or something foreign that bears the name of one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) lab: LabId,
    pub(crate) state: InstanceState,
    /// Cookie of its network namespace.
    pub(crate) cookie: u64,
    /// How often it was started.
    pub(crate) starts: u32,
    /// It is not ours, whatever its name.
    pub(crate) foreign: bool,
    /// Somebody else's hand made it, or set it running.
    pub(crate) by_hand: bool,
    /// What it was made of.
    pub(crate) spec: Option<Box<NodeSpec>>,
}

impl Instance {
    pub(crate) fn runs(&self) -> bool {
        matches!(self.state, InstanceState::Running | InstanceState::Paused)
    }

    fn bears(&self, instance: &InstanceRef) -> bool {
        !self.foreign && self.node == instance.node && self.incarnation == instance.incarnation
    }

    fn command(&self) -> &str {
        let words = self.spec.as_ref().and_then(|spec| spec.cmd.as_ref());
        words.and_then(|words| words.first()).map_or("", String::as_str)
    }

    pub(super) fn reboot(&mut self, cookie: u64) {
        self.cookie = cookie;
        self.by_hand = false;
        if self.runs() {
            self.state = InstanceState::Exited(ExitRecord { code: None, signal: None, at: None });
        }
    }
}

impl Host {
    /// The key of the instance that a reference means. Where a hand made a second one of the same mark, the name counts.
    fn key(&self, plugin: &PluginName, wanted: &InstanceRef) -> Option<(PluginName, String)> {
        let all = || self.instances.iter().filter(|((owner, _), found)| owner == plugin && found.bears(wanted));
        let named = all().find(|((_, name), _)| *name == wanted.identifier);
        named.or_else(|| all().next()).map(|(key, _)| key.clone())
    }

    pub(super) fn find(&self, plugin: &PluginName, wanted: &InstanceRef) -> Option<&Instance> {
        self.instances.get(&self.key(plugin, wanted)?)
    }

    pub(super) fn create(&mut self, plugin: &PluginName, request: &CreateNode) -> Result<CreatedNode> {
        let key = (plugin.clone(), request.long_name.clone());
        let instance =
            InstanceRef { node: request.node, incarnation: request.incarnation, identifier: request.long_name.clone() };
        let created = CreatedNode { instance, management: ManagementAddresses::default() };
        let fail = |kind, message: &str| Err(Error::new(kind, "create node", message).about(&request.long_name));
        match self.instances.get(&key) {
            Some(found) if found.foreign => return fail(ErrorKind::Foreign, "its name is taken"),
            Some(found) if found.bears(&created.instance) => return Ok(created),
            Some(_) => return fail(ErrorKind::Conflict, "another incarnation is there"),
            None => {}
        }
        if let Some(image) = &request.spec.image
            && !self.volatile.contains(plugin)
            && !self.images.contains(image)
        {
            return fail(ErrorKind::ImageUnavailable, "its image is not here");
        }
        let cookie = self.new_cookie();
        let made = Instance {
            node: request.node,
            incarnation: request.incarnation,
            lab: request.lab,
            state: InstanceState::Created,
            cookie,
            starts: 0,
            foreign: false,
            by_hand: false,
            spec: Some(Box::new(request.spec.clone())),
        };
        self.instances.insert(key, made);
        self.tell_node(plugin, &created.instance);
        Ok(created)
    }

    pub(super) fn start(&mut self, plugin: &PluginName, wanted: &InstanceRef, wall: Timestamp) -> Result<()> {
        let key = self.key(plugin, wanted).ok_or_else(|| missing("start node", wanted))?;
        let Some(instance) = self.instances.get_mut(&key) else { return Ok(()) };
        if let InstanceState::Broken { reason } = &instance.state {
            return Err(Error::new(ErrorKind::Failed, "start node", reason.clone()).about(wanted));
        }
        if instance.runs() {
            return Ok(());
        }
        if instance.command() == BAD_BINARY {
            return Err(Error::new(ErrorKind::Failed, "start node", "its program cannot be run").about(wanted));
        }
        instance.state = InstanceState::Running;
        instance.starts += 1;
        instance.by_hand = false;
        let (starts, crashes) = (instance.starts, instance.command() == CRASHES);
        if crashes {
            let after =
                Duration::from_millis(300 + 400 * u64::from(starts) + wall.as_millisecond().unsigned_abs() % 900);
            self.exits.push(Exit { plugin: key.0.clone(), identifier: key.1.clone(), starts, after });
        }
        self.tell_node(plugin, wanted);
        Ok(())
    }

    pub(super) fn stop(&mut self, plugin: &PluginName, wanted: &InstanceRef, wall: Timestamp) -> Result<()> {
        let key = self.key(plugin, wanted).ok_or_else(|| missing("stop node", wanted))?;
        let Some(instance) = self.instances.get_mut(&key) else { return Ok(()) };
        if instance.runs() {
            instance.state = InstanceState::Exited(ExitRecord { code: Some(0), signal: None, at: Some(wall) });
            self.tell_node(plugin, wanted);
        }
        Ok(())
    }

    pub(super) fn destroy(&mut self, plugin: &PluginName, wanted: &InstanceRef) {
        let Some(key) = self.key(plugin, wanted) else { return };
        let Some(gone) = self.instances.remove(&key) else { return };
        self.drop_namespace(gone.cookie);
        self.tell_node(plugin, wanted);
    }

    pub(super) fn observe(&self, plugin: &PluginName, wanted: &InstanceRef) -> Option<ObservedNode> {
        let key = self.key(plugin, wanted)?;
        self.instances.get(&key).map(|found| self.observed(&key.1, found))
    }

    /// All instances of ours; foreign ones only bear our names.
    pub(super) fn list(&self, plugin: &PluginName) -> Vec<ObservedNode> {
        let ours = self.instances.iter().filter(|((owner, _), found)| owner == plugin && !found.foreign);
        ours.map(|((_, name), found)| self.observed(name, found)).collect()
    }

    pub(super) fn run(&self, plugin: &PluginName, wanted: &InstanceRef, commands: &[Vec<String>]) -> Outcome {
        let found = self.find(plugin, wanted).ok_or_else(|| missing("run command", wanted))?;
        if found.state != InstanceState::Running {
            return Err(Error::new(ErrorKind::Conflict, "run command", "it does not run").about(wanted));
        }
        let log = commands.iter().map(|argv| argv.join(" ")).collect();
        Ok(Done::Commands { log, ok: true })
    }

    pub(super) fn probe(&self, plugin: &PluginName, wanted: &InstanceRef, probe: &ReadyProbe) -> Outcome {
        let found = self.find(plugin, wanted).ok_or_else(|| missing("probe", wanted))?;
        let ready = found.state == InstanceState::Running;
        let progress = probe.progress.first().filter(|_| ready).map(|mark| mark.percent);
        let verdict = if ready { Ok(()) } else { Err(format!("{:?} failed", probe.check)) };
        Ok(Done::Ready { verdict, progress })
    }

    /// A process ends by itself, unless it was started again since.
    pub(crate) fn end_process(&mut self, exit: &Exit, wall: Timestamp) {
        let key = (exit.plugin.clone(), exit.identifier.clone());
        let Some(instance) = self.instances.get_mut(&key) else { return };
        if !instance.runs() || instance.starts != exit.starts {
            return;
        }
        instance.state = InstanceState::Exited(ExitRecord { code: Some(1), signal: None, at: Some(wall) });
        let reference = reference(&exit.identifier, instance);
        self.tell_node(&exit.plugin, &reference);
    }

    pub(super) fn observed(&self, identifier: &str, instance: &Instance) -> ObservedNode {
        ObservedNode {
            instance: reference(identifier, instance),
            lab: instance.lab,
            state: instance.state.clone(),
            started_at: None,
            management: ManagementAddresses::default(),
            namespace: Some(self.namespace(instance.cookie)),
        }
    }

    pub(super) fn tell_node(&mut self, plugin: &PluginName, instance: &InstanceRef) {
        self.news.push((plugin.clone(), News::Node(instance.clone())));
    }
}

pub(super) fn reference(identifier: &str, instance: &Instance) -> InstanceRef {
    InstanceRef { node: instance.node, incarnation: instance.incarnation, identifier: identifier.to_owned() }
}
