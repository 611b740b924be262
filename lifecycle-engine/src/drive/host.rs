//! Hosts: where effects are carried out. A host bundles the plugins of one machine.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream;
use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::LinkId;
use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::plugin::OverlayBackend;
use lifecycle_core::plugin::network::{EndMark, LinkIdentity, LinkRequest, NetworkBackend, NetworkEvent};
use lifecycle_core::plugin::provider::{ExecOutput, ExecRequest, InstanceRef, Provider, ProviderEvent};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::Admin;

use crate::decide::{Action, ConnectPlan, Done, Effect, EndPlan, HostState, News, Outcome};

/// A machine with plugins on it. The engine speaks to hosts and never to plugins directly, so that a host may also be at
/// the other end of a wire.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Its name.
    fn name(&self) -> &HostName;

    /// Its plugins and what they can do.
    fn describe(&self) -> HostState;

    /// Gets the plugins ready.
    ///
    /// # Errors
    /// When one of them cannot work at all.
    async fn initialize(&self) -> Result<()>;

    /// Carries an effect out. Dropping the future is safe as far as the plugins say so.
    async fn perform(&self, effect: &Effect) -> Outcome;

    /// News of all plugins, from now on.
    fn watch(&self) -> BoxStream<'static, (PluginName, News)>;

    /// A provider of this host, for what people do with a node directly: commands, logs and consoles.
    fn provider(&self, name: &PluginName) -> Option<Arc<dyn Provider>>;
}

/// A host in this process.
#[derive(Debug, Clone)]
pub struct LocalHost {
    name: HostName,
    providers: BTreeMap<PluginName, Arc<dyn Provider>>,
    backends: BTreeMap<PluginName, Arc<dyn NetworkBackend>>,
}

impl LocalHost {
    /// A host with these plugins.
    pub fn new(
        name: HostName,
        providers: BTreeMap<PluginName, Arc<dyn Provider>>,
        backends: BTreeMap<PluginName, Arc<dyn NetworkBackend>>,
    ) -> Self {
        Self { name, providers, backends }
    }

    fn get_provider(&self, name: &PluginName) -> Result<&dyn Provider> {
        self.providers.get(name).map(AsRef::as_ref).ok_or_else(|| unknown(&self.name, name))
    }

    fn get_backend(&self, name: &PluginName) -> Result<&dyn NetworkBackend> {
        self.backends.get(name).map(AsRef::as_ref).ok_or_else(|| unknown(&self.name, name))
    }

    async fn on_provider(&self, provider: &dyn Provider, action: &Action) -> Outcome {
        match action {
            Action::EnsureImage(spec) => match provider.images() {
                None => Ok(Done::Nothing),
                Some(images) => images.ensure(spec, spec.image_pull_policy).await.map(|()| Done::Nothing),
            },
            Action::CreateNode(request) => provider.create_node(request).await.map(Done::Created),
            Action::StartNode(instance) => provider.start_node(instance).await.map(|()| Done::Nothing),
            Action::StopNode { instance, grace } => provider.stop_node(instance, *grace).await.map(|()| Done::Nothing),
            Action::DestroyNode(instance) => provider.destroy_node(instance).await.map(|()| Done::Nothing),
            Action::ObserveNode(instance) => provider.observe_node(instance).await.map(Done::Node),
            Action::RunCommands { instance, commands } => run_commands(provider, instance, commands).await,
            Action::ProbeReady { instance, probe } => super::probe::ready(provider, instance, probe).await,
            Action::ListNodes => provider.list_nodes().await.map(Done::Nodes),
            Action::ReadCapacity => match provider.resources() {
                None => Err(Error::new(ErrorKind::Unsupported, "read capacity", "the provider does not tell it")),
                Some(resources) => resources.capacity().await.map(Done::Capacity),
            },
            _ => Err(Error::new(ErrorKind::InvalidInput, action.name(), "this is not for a provider")),
        }
    }

    async fn on_backend(&self, backend: &dyn NetworkBackend, action: &Action) -> Outcome {
        match action {
            Action::Connect(plan) => self.connect(backend, plan).await,
            Action::Disconnect(identity) => backend.disconnect(identity).await.map(|()| Done::Nothing),
            Action::Release(identity) => backend.release(identity).await.map(|()| Done::Nothing),
            Action::Park { identity, heirs } => self.park(backend, identity, *heirs).await,
            Action::Verify(identity) => backend.verify(identity).await.map(|report| Done::Report(Box::new(report))),
            Action::SetParams { identity, attrs } => backend.set_params(identity, attrs).await.map(|()| Done::Nothing),
            Action::SetCarrier { identity, side, up } => {
                backend.set_carrier(identity, *side, *up).await?;
                // Without its carrier it is the other end that sees nobody there.
                if let Some(end) = identity.end(side.other()) {
                    self.tell_carrier(&end.point, *up).await?;
                }
                Ok(Done::Nothing)
            }
            Action::ObserveLinks(namespaces) => backend.observe(namespaces).await.map(Done::Links),
            Action::ReadUnderlay => overlay(backend)?.underlay().await.map(Done::Underlay),
            Action::Redirect { identity, to } => {
                overlay(backend)?.redirect(identity, to).await.map(|identity| Done::Connected(Box::new(identity)))
            }
            Action::RemoveLink { observed, namespaces } => {
                backend.remove(observed, namespaces).await.map(|()| Done::Nothing)
            }
            _ => Err(Error::new(ErrorKind::InvalidInput, action.name(), "this is not for a network backend")),
        }
    }

    async fn connect(&self, backend: &dyn NetworkBackend, plan: &ConnectPlan) -> Outcome {
        let a = self.point(&plan.ends[0]).await?;
        let b = self.point(&plan.ends[1]).await?;
        let request = LinkRequest {
            lab: Some(plan.lab),
            link: plan.link,
            incarnation: plan.incarnation,
            a,
            b,
            attrs: plan.attrs,
        };
        let identity = backend.connect(&request).await?;
        for point in [&request.a, &request.b] {
            self.try_tell_carrier(plan.link, point, plan.attrs.admin == Admin::Up).await;
        }
        Ok(Done::Connected(Box::new(identity)))
    }

    async fn park(
        &self,
        backend: &dyn NetworkBackend,
        identity: &LinkIdentity,
        heirs: [Option<EndMark>; 2],
    ) -> Outcome {
        backend.park(identity, heirs).await?;
        for (side, heir) in [Side::A, Side::B].into_iter().zip(heirs) {
            if let Some((heir, end)) = heir.zip(identity.end(side)) {
                self.try_tell_carrier(heir.link, &end.point, false).await;
            }
        }
        Ok(Done::Nothing)
    }

    /// Tells a machine what was done already: what it does not take of that is found when its link is verified.
    async fn try_tell_carrier(&self, link: LinkId, point: &AttachPoint, up: bool) {
        if let Err(error) = self.tell_carrier(point, up).await {
            tracing::warn!(%link, interface = %point.ifname, %error, "a machine does not take its link");
        }
    }

    /// Tells a virtual machine whether its link has carrier, which it does not see of a tap by itself. One that runs takes
    /// a tap that was made, or made anew, since it started.
    async fn tell_carrier(&self, point: &AttachPoint, up: bool) -> Result<()> {
        let (AttachKind::Tap { .. }, Some(node)) = (&point.place, point.node) else { return Ok(()) };
        let instance = InstanceRef { node, incarnation: point.incarnation, identifier: String::new() };
        for carrier in self.providers.values().filter_map(|provider| provider.carrier()) {
            match carrier.set_carrier(&instance, &point.ifname, up).await {
                // It is another provider's, or gone with its link.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                told => return told,
            }
        }
        Ok(())
    }

    async fn point(&self, end: &EndPlan) -> Result<AttachPoint> {
        match end {
            EndPlan::Place(point) => Ok(point.clone()),
            EndPlan::Port { provider, instance, port } => {
                self.get_provider(provider)?.attach_point(instance, port).await
            }
        }
    }
}

fn unknown(host: &HostName, plugin: &PluginName) -> Error {
    let message = format!("host {host} has no such plugin");
    Error::new(ErrorKind::InvalidInput, "find plugin", message).about(plugin)
}

fn overlay(backend: &dyn NetworkBackend) -> Result<&dyn OverlayBackend> {
    backend.overlay().ok_or_else(|| Error::new(ErrorKind::Unsupported, "make tunnels", "the network backend has none"))
}

/// Runs commands one after the other. One that fails does not keep the next from running, as with a shell script.
async fn run_commands(provider: &dyn Provider, instance: &InstanceRef, commands: &[Vec<String>]) -> Outcome {
    let Some(exec) = provider.exec() else {
        return Err(Error::new(ErrorKind::Unsupported, "run commands", "the provider cannot run commands in nodes"));
    };
    if let Err(error) = exec.until_able(instance).await {
        return Ok(Done::Commands { log: vec![format!("no command was run: {}", error.chain())], ok: false });
    }
    let (mut log, mut ok) = (Vec::new(), true);
    for argv in commands {
        let shown = argv.join(" ");
        match exec.exec(instance, &ExecRequest::new(argv.iter())).await {
            Ok(output) => {
                let success = succeeded(&output);
                ok &= success;
                log.push(format!("`{shown}`: {}{}", output.exit, said(&output)));
            }
            Err(error) => {
                ok = false;
                log.push(format!("`{shown}`: {}", error.chain()));
            }
        }
    }
    Ok(Done::Commands { log, ok })
}

pub(super) fn succeeded(output: &ExecOutput) -> bool {
    output.exit.code == Some(0)
}

/// What a command said, on one line and shortened.
pub(super) fn said(output: &ExecOutput) -> String {
    const SHOWN: usize = 400;
    let bytes = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    let short: String = text.chars().take(SHOWN).collect();
    format!(": {}", short.replace('\n', " | "))
}

#[async_trait]
impl Host for LocalHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    fn describe(&self) -> HostState {
        let providers = self.providers.iter().map(|(name, provider)| (name.clone(), provider.capabilities()));
        let backends = self.backends.iter().map(|(name, backend)| (name.clone(), backend.capabilities()));
        HostState::new(self.name.clone(), providers, backends)
    }

    async fn initialize(&self) -> Result<()> {
        for backend in self.backends.values() {
            backend.initialize().await?;
        }
        Ok(())
    }

    async fn perform(&self, effect: &Effect) -> Outcome {
        if let Some(provider) = self.providers.get(&effect.plugin)
            && !is_for_backend(&effect.action)
        {
            return self.on_provider(provider.as_ref(), &effect.action).await;
        }
        self.on_backend(self.get_backend(&effect.plugin)?, &effect.action).await
    }

    fn watch(&self) -> BoxStream<'static, (PluginName, News)> {
        let mut streams: Vec<BoxStream<'static, (PluginName, News)>> = Vec::new();
        for (name, provider) in &self.providers {
            let name = name.clone();
            streams.push(
                provider
                    .watch()
                    .map(move |event| {
                        let news = match event {
                            ProviderEvent::Changed(instance) => News::Node(instance),
                            ProviderEvent::Resync => News::Resync,
                        };
                        (name.clone(), news)
                    })
                    .boxed(),
            );
        }
        for (name, backend) in &self.backends {
            let name = name.clone();
            streams.push(
                backend
                    .watch()
                    .map(move |event| {
                        let news = match event {
                            NetworkEvent::Changed(link) => News::Link(link),
                            NetworkEvent::Resync => News::Resync,
                        };
                        (name.clone(), news)
                    })
                    .boxed(),
            );
        }
        stream::select_all(streams).boxed()
    }

    fn provider(&self, name: &PluginName) -> Option<Arc<dyn Provider>> {
        self.providers.get(name).cloned()
    }
}

/// Whether an action is for a network backend: a provider and a backend may have one name.
fn is_for_backend(action: &Action) -> bool {
    match action {
        Action::Connect(_)
        | Action::Disconnect(_)
        | Action::Release(_)
        | Action::Park { .. }
        | Action::Verify(_)
        | Action::SetParams { .. }
        | Action::SetCarrier { .. }
        | Action::ObserveLinks(_)
        | Action::ReadUnderlay
        | Action::Redirect { .. }
        | Action::RemoveLink { .. } => true,
        Action::EnsureImage(_)
        | Action::CreateNode(_)
        | Action::StartNode(_)
        | Action::StopNode { .. }
        | Action::DestroyNode(_)
        | Action::ObserveNode(_)
        | Action::RunCommands { .. }
        | Action::ProbeReady { .. }
        | Action::ListNodes
        | Action::ReadCapacity => false,
    }
}
