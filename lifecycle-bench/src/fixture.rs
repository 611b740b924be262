//! Rows of labs that exist only as rows, for what is measured without a kernel.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::machine::{NodeIntent, NodeState};
use lifecycle_core::model::{
    Batch, Change, Head, LabRecord, NodeInstance, NodeRecord, NodeTimes, ReadyState, Snapshot,
};
use lifecycle_core::name::{HostName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::provider::{InstanceRef, ManagementAddresses, ProviderCapabilities};
use lifecycle_core::policy::enforcement::Budget;
use lifecycle_core::time::{BootId, BootInstant, Now};
use lifecycle_core::topology::{NodeSpec, Topology};
use lifecycle_engine::Settings;
use lifecycle_engine::decide::{HostState, Kinds, World};

use crate::measure::Result;

/// A moment of a boot that never was.
pub(crate) fn now(millis: u64) -> Now {
    Now { wall: Timestamp::UNIX_EPOCH, boot: BootInstant { boot: BootId(1), millis } }
}

/// Labs of so many nodes each, all as their user wants them: running.
pub(crate) fn labs(count: usize, nodes: usize) -> Result<(Vec<LabRecord>, Vec<NodeRecord>)> {
    let (mut labs, mut rows) = (Vec::with_capacity(count), Vec::with_capacity(count * nodes));
    let at = Timestamp::UNIX_EPOCH;
    for number in 0..count {
        let id = LabId::from_u64(number as u64 + 1);
        let mut topology = Topology::new(LabName::new(format!("lab{number}"))?, "/");
        for node in 0..nodes {
            let name = NodeName::new(format!("n{node}"))?;
            topology.nodes.push(NodeSpec::new(name.clone(), "linux"));
            rows.push(running(NodeId::from_u64((number * nodes + node) as u64 + 1), id, name)?);
        }
        let topology = Arc::new(topology);
        labs.push(LabRecord { id, topology, deleting: false, generation: 1, created_at: at, updated_at: at });
    }
    Ok((labs, rows))
}

fn running(id: NodeId, lab: LabId, name: NodeName) -> Result<NodeRecord> {
    let at = Timestamp::UNIX_EPOCH;
    let reference = InstanceRef { node: id, incarnation: 1, identifier: id.to_string() };
    Ok(NodeRecord {
        id,
        lab,
        name,
        desired: NodeIntent::Running,
        actual: NodeState::Running,
        state_since: at,
        provider: PluginName::new("netns")?,
        host: Some(HostName::local()),
        instance: Some(NodeInstance { reference, management: ManagementAddresses::default() }),
        incarnation: 1,
        budget: Budget::default(),
        blocked: None,
        stale_since: None,
        ready: ReadyState { ready: true, ..ReadyState::default() },
        configured: true,
        healthy_commands: None,
        exit: None,
        job: None,
        deadline: None,
        running_since: Some(now(0).boot),
        recreate: false,
        deleting: false,
        times: NodeTimes {
            created_at: at,
            updated_at: at,
            starting_started_at: Some(at),
            stopping_started_at: None,
            boot_started_at: Some(at),
        },
        generation: 1,
    })
}

/// Where a store stands that has nothing but what one batch brought.
pub(crate) fn head() -> Head {
    Head { controller: ControllerId::from_u64(7), epoch: 1, batch: 0, audit: 0, event: 0 }
}

/// The batch that brings rows into a store.
pub(crate) fn first_batch(head: &Head, labs: &[LabRecord], nodes: &[NodeRecord]) -> Batch {
    let labs = labs.iter().cloned().map(|row| Change::PutLab(Box::new(row)));
    let nodes = nodes.iter().cloned().map(|row| Change::PutNode(Box::new(row)));
    let changes = labs.chain(nodes).collect();
    Batch { epoch: head.epoch, number: head.batch + 1, changes, audit: Vec::new(), events: Vec::new() }
}

/// A world of stored rows on one host, whose engine does nothing but what it is measured for: it never lists a provider
/// again, and begins as much at once as it likes.
pub(crate) fn world(snapshot: Snapshot) -> Result<World> {
    let mut settings = Settings::default();
    settings.limits.enforcement_rate = 0;
    settings.limits.sync_pass = Duration::from_secs(1 << 30);
    let provider = (PluginName::new("netns")?, ProviderCapabilities::default());
    let host = HostState::new(HostName::local(), [provider], []);
    Ok(World::new(snapshot, settings, Kinds::default(), vec![host]))
}
