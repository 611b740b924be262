//! The provider of multi-point segments: nodes of kind `bridge`, which are a Linux bridge and nothing else.
//!
//! The bridge itself is made with the first port that is attached to it and removed with the last, by the backend. What
//! an instance is, beyond that, is the record that it exists: a small file below the state directory, so that the next
//! controller finds it, and its links with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_channel::mpsc;
use futures_core::stream::BoxStream;
use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind};
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::{
    CreateNode, CreatedNode, InstanceRef, InstanceState, ManagementAddresses, ObservedNode, PortRequest, Provider,
    ProviderCapabilities, ProviderEvent,
};
use lifecycle_core::plugin::{HostContext, ProviderPlugin};
use lifecycle_crash::crash_point;
use serde::{Deserialize, Serialize};

/// The provider as a plugin.
pub const SEGMENT_PLUGIN: ProviderPlugin =
    ProviderPlugin { name: "bridge", make: |context| Ok(Arc::new(SegmentProvider::new(context))) };

inventory::submit! { SEGMENT_PLUGIN }

/// The provider of multi-point segments.
#[derive(Debug)]
pub struct SegmentProvider {
    folder: PathBuf,
    watchers: Mutex<Vec<mpsc::UnboundedSender<ProviderEvent>>>,
}

/// What is recorded of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Segment {
    /// Version of this form.
    version: u32,
    instance: InstanceRef,
    lab: LabId,
    bridge: IfName,
    running: bool,
}

const VERSION: u32 = 1;

impl SegmentProvider {
    /// A provider that keeps its records below the state directory.
    pub fn new(context: &HostContext) -> Self {
        Self { folder: context.state_dir.join("segments"), watchers: Mutex::new(Vec::new()) }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<mpsc::UnboundedSender<ProviderEvent>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, instance: &InstanceRef) {
        let event = ProviderEvent::Changed(instance.clone());
        self.watchers().retain(|watcher| watcher.unbounded_send(event.clone()).is_ok());
    }

    fn path(&self, node: NodeId) -> PathBuf {
        self.folder.join(format!("{node}.json"))
    }

    fn read(&self, node: NodeId, operation: &'static str) -> Result<Option<Segment>> {
        read(&self.path(node), operation)
    }

    /// The record of just this incarnation.
    fn find(&self, instance: &InstanceRef, operation: &'static str) -> Result<Option<Segment>> {
        let found = self.read(instance.node, operation)?;
        Ok(found.filter(|segment| segment.instance.incarnation == instance.incarnation))
    }

    fn require(&self, instance: &InstanceRef, operation: &'static str) -> Result<Segment> {
        let missing = || Error::new(ErrorKind::NotFound, operation, "there is no such segment").about(instance);
        self.find(instance, operation)?.ok_or_else(missing)
    }

    /// Writes a record whole or not at all.
    fn write(&self, segment: &Segment, operation: &'static str) -> Result<()> {
        let path = self.path(segment.instance.node);
        let fail = |error: io::Error| failed(operation, &path, error);
        let text = serde_json::to_vec(segment).map_err(|error| fail(error.into()))?;
        fs::create_dir_all(&self.folder).map_err(fail)?;
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).map_err(fail)?;
        crash_point("segment-unnamed");
        fs::rename(&fresh, &path).map_err(fail)
    }

    fn set_running(&self, instance: &InstanceRef, running: bool, operation: &'static str) -> Result<()> {
        let segment = self.require(instance, operation)?;
        if segment.running != running {
            self.write(&Segment { running, ..segment }, operation)?;
            self.tell(instance);
        }
        Ok(())
    }
}

fn failed(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        _ => ErrorKind::Failed,
    };
    Error::new(kind, operation, "the record of the segment cannot be used").about(path.display()).because(error)
}

fn read(path: &Path, operation: &'static str) -> Result<Option<Segment>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| failed(operation, path, error))?,
    };
    let segment: Segment = serde_json::from_slice(&text).map_err(|error| {
        let message = "the record of a segment is damaged; remove the file to have the segment made anew";
        Error::new(ErrorKind::Corrupt, operation, message).about(path.display()).because(error)
    })?;
    if segment.version > VERSION {
        let message = format!("version {} is newer than this program knows ({VERSION})", segment.version);
        return Err(Error::new(ErrorKind::Corrupt, operation, message).about(path.display()));
    }
    Ok(Some(segment))
}

fn observed(segment: Segment) -> ObservedNode {
    let state = if segment.running { InstanceState::Running } else { InstanceState::Created };
    let management = ManagementAddresses::default();
    ObservedNode { instance: segment.instance, lab: segment.lab, state, started_at: None, management, namespace: None }
}

#[async_trait]
impl Provider for SegmentProvider {
    fn capabilities(&self) -> ProviderCapabilities {
        ProviderCapabilities {
            place: PlaceKind::Bridge,
            restart_keeps_interfaces: true,
            ..ProviderCapabilities::default()
        }
    }

    fn node_identifier(&self, node: NodeId, _long_name: &str) -> String {
        format!("segment-{node}")
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        const OPERATION: &str = "create segment";
        let identifier = self.node_identifier(request.node, &request.long_name);
        let instance = InstanceRef { node: request.node, incarnation: request.incarnation, identifier };
        let created = CreatedNode { instance: instance.clone(), management: ManagementAddresses::default() };
        match self.read(request.node, OPERATION)? {
            Some(found) if found.instance.incarnation == request.incarnation => return Ok(created),
            Some(found) => {
                let message = format!("incarnation {} is still there", found.instance.incarnation);
                return Err(Error::new(ErrorKind::Conflict, OPERATION, message).about(&instance));
            }
            None => {}
        }
        let named = request.spec.bridge.clone().map_or_else(|| IfName::new(&request.name), Ok);
        let bridge = named.map_err(|error| {
            Error::new(ErrorKind::InvalidInput, OPERATION, "a bridge is named after its node").because(error)
        })?;
        let segment =
            Segment { version: VERSION, instance: instance.clone(), lab: request.lab, bridge, running: false };
        self.write(&segment, OPERATION)?;
        self.tell(&instance);
        Ok(created)
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        self.set_running(instance, true, "start segment")
    }

    async fn stop_node(&self, instance: &InstanceRef, _grace: Duration) -> Result<()> {
        self.set_running(instance, false, "stop segment")
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        const OPERATION: &str = "destroy segment";
        if self.find(instance, OPERATION)?.is_none() {
            return Ok(());
        }
        let path = self.path(instance.node);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(OPERATION, &path, error)),
            _ => {}
        }
        crash_point("segment-removed");
        // It goes with its last record; one that is not empty belongs to others.
        let _ = fs::remove_dir(&self.folder);
        self.tell(instance);
        Ok(())
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        const OPERATION: &str = "list segments";
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed(OPERATION, &self.folder, error))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| failed(OPERATION, &self.folder, error))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(read(&path, OPERATION)?.map(observed));
            }
        }
        Ok(found)
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        Ok(self.find(instance, "observe segment")?.map(observed))
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        let (sender, receiver) = mpsc::unbounded();
        self.watchers().push(sender);
        Box::pin(receiver)
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        let segment = self.require(instance, "find attach point")?;
        Ok(port.at(instance, AttachKind::Bridge { bridge: segment.bridge }))
    }
}
