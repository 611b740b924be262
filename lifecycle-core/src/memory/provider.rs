//! The reference provider: the laws of [`Provider`] on plain maps.

use std::time::Duration;

use async_trait::async_trait;
use futures_channel::mpsc;
use futures_core::stream::BoxStream;

use super::host::{Instance, MemoryHost, State};
use crate::attach::{AttachKind, AttachPoint, PlaceKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::NodeId;
use crate::plugin::provider::{
    CreateNode, CreatedNode, Exec, ExecOutput, ExecRequest, ExitRecord, InstanceRef, InstanceState,
    ManagementAddresses, ObservedNode, PortRequest, Provider, ProviderCapabilities, ProviderEvent,
};

/// The provider of a machine in memory.
#[derive(Debug, Clone)]
pub struct MemoryProvider {
    host: MemoryHost,
}

impl MemoryProvider {
    pub(super) fn new(host: MemoryHost) -> Self {
        Self { host }
    }
}

/// Exit of a process that was asked to end.
const ENDED: ExitRecord = ExitRecord { code: Some(0), signal: None, at: None };

fn error(kind: ErrorKind, operation: &'static str, about: &InstanceRef, message: &str) -> Error {
    Error::new(kind, operation, message).about(about)
}

/// Finds our instance of just this incarnation.
fn find<'a>(
    instance: Option<&'a mut Instance>,
    wanted: &InstanceRef,
    operation: &'static str,
) -> Result<Option<&'a mut Instance>> {
    match instance {
        None => Ok(None),
        Some(found) if !found.ours => {
            Err(error(ErrorKind::Foreign, operation, wanted, "something that is not ours bears its name"))
        }
        Some(found) if found.reference.incarnation != wanted.incarnation => Ok(None),
        Some(found) => Ok(Some(found)),
    }
}

#[async_trait]
impl Provider for MemoryProvider {
    fn capabilities(&self) -> ProviderCapabilities {
        ProviderCapabilities {
            place: PlaceKind::Namespace,
            exec: true,
            restart_keeps_interfaces: true,
            ..ProviderCapabilities::default()
        }
    }

    fn node_identifier(&self, _node: NodeId, long_name: &str) -> String {
        long_name.to_owned()
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        let identifier = self.node_identifier(request.node, &request.long_name);
        let reference = InstanceRef { node: request.node, incarnation: request.incarnation, identifier };
        let mut state = self.host.lock();
        if let Some(found) = state.instances.get(&request.node) {
            if !found.ours {
                let message = "something that is not ours bears its name";
                return Err(error(ErrorKind::Foreign, "create node", &reference, message));
            }
            if found.reference.incarnation != request.incarnation {
                let message = format!("incarnation {} is still there", found.reference.incarnation);
                return Err(error(ErrorKind::Conflict, "create node", &reference, &message));
            }
        } else {
            let cookie = state.new_cookie();
            let lab = request.lab;
            let instance =
                Instance { reference: reference.clone(), lab, state: InstanceState::Created, cookie, ours: true };
            state.instances.insert(request.node, instance);
            state.tell_provider(request.node);
        }
        Ok(CreatedNode { instance: reference, management: ManagementAddresses::default() })
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        let mut state = self.host.lock();
        let found = find(state.instances.get_mut(&instance.node), instance, "start node")?;
        let found = found.ok_or_else(|| error(ErrorKind::NotFound, "start node", instance, "there is no instance"))?;
        found.state = InstanceState::Running;
        state.tell_provider(instance.node);
        Ok(())
    }

    async fn stop_node(&self, instance: &InstanceRef, _grace: Duration) -> Result<()> {
        let mut state = self.host.lock();
        let found = find(state.instances.get_mut(&instance.node), instance, "stop node")?;
        let found = found.ok_or_else(|| error(ErrorKind::NotFound, "stop node", instance, "there is no instance"))?;
        if found.state == InstanceState::Running {
            found.state = InstanceState::Exited(ENDED);
        }
        state.tell_provider(instance.node);
        Ok(())
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        let mut state = self.host.lock();
        let Some(found) = find(state.instances.get_mut(&instance.node), instance, "destroy node")? else {
            return Ok(());
        };
        let cookie = found.cookie;
        state.tell_provider(instance.node);
        state.instances.remove(&instance.node);
        state.drop_namespace(cookie);
        Ok(())
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        let state = self.host.lock();
        Ok(state.instances.values().filter(|instance| instance.ours).map(|it| observed(&state, it)).collect())
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        let mut state = self.host.lock();
        let found = find(state.instances.get_mut(&instance.node), instance, "observe node")?.cloned();
        Ok(found.map(|found| observed(&state, &found)))
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        let (sender, receiver) = mpsc::unbounded();
        self.host.lock().provider_watchers.push(sender);
        Box::pin(receiver)
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        let mut state = self.host.lock();
        let found = find(state.instances.get_mut(&instance.node), instance, "find attach point")?;
        let found =
            found.ok_or_else(|| error(ErrorKind::NotFound, "find attach point", instance, "there is no instance"))?;
        let cookie = found.cookie;
        Ok(port.at(instance, AttachKind::Namespace(state.namespace(cookie))))
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Some(self)
    }
}

fn observed(state: &State, instance: &Instance) -> ObservedNode {
    ObservedNode {
        instance: instance.reference.clone(),
        lab: instance.lab,
        state: instance.state.clone(),
        started_at: None,
        management: ManagementAddresses::default(),
        namespace: Some(state.namespace(instance.cookie)),
    }
}

#[async_trait]
impl Exec for MemoryProvider {
    /// Knows three commands: `true`, `false`, and `echo`.
    async fn exec(&self, instance: &InstanceRef, request: &ExecRequest) -> Result<ExecOutput> {
        let mut state = self.host.lock();
        let found = find(state.instances.get_mut(&instance.node), instance, "exec")?;
        if !found.is_some_and(|found| found.state == InstanceState::Running) {
            return Err(error(ErrorKind::Conflict, "exec", instance, "it does not run"));
        }
        let (code, stdout) = match request.argv.split_first() {
            Some((program, [])) if program == "true" => (0, Vec::new()),
            Some((program, [])) if program == "false" => (1, Vec::new()),
            Some((program, words)) if program == "echo" => (0, format!("{}\n", words.join(" ")).into_bytes()),
            _ => return Err(error(ErrorKind::NotFound, "exec", instance, "there is no such command")),
        };
        let exit = ExitRecord { code: Some(code), signal: None, at: None };
        Ok(ExecOutput { exit, stdout, stderr: Vec::new(), truncated: false })
    }
}
