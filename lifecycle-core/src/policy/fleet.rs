//! Worker hosts of a fleet: what events make of them, and when one may be removed.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, VariantArray};

use crate::id::FleetHostId;
use crate::machine::{FleetHealth, FleetState, InvalidTransition, Lifecycle};
use crate::name::HostName;
use crate::time::Timestamp;

/// The record of a worker host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRecord {
    /// Its identifier.
    pub id: FleetHostId,
    /// Its name as a host.
    pub name: HostName,
    /// Whether its machine was made by us in a cloud and may be removed there.
    pub managed: bool,
    /// Where it is in its life.
    pub state: FleetState,
    /// Since when.
    pub state_since: Timestamp,
    /// What its last health report said.
    pub health: FleetHealth,
    /// Workloads on it now.
    pub workloads: u32,
    /// Workloads that it ever had.
    pub total_workloads: u64,
    /// Memory that is still allocated on it, in bytes.
    pub allocated_memory: u64,
    /// When it got its first workload.
    pub first_workload_at: Option<Timestamp>,
    /// When it last lost a workload.
    pub last_workload_at: Option<Timestamp>,
    /// When its machine was there.
    pub provisioned_at: Option<Timestamp>,
    /// When it was ready for the first time.
    pub initialized_at: Option<Timestamp>,
    /// Whether it was found again after its record was lost, and if so when what runs on it was taken stock of.
    pub recovery: Option<Recovery>,
}

/// How far the recovery of a host whose record was lost is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Nobody knows yet what runs on it.
    Found,
    /// What runs on it was taken stock of at this time.
    Resynced(Timestamp),
}

impl FleetRecord {
    /// A host whose machine is being made.
    pub fn provisioning(id: FleetHostId, name: HostName, now: Timestamp) -> Self {
        Self {
            id,
            name,
            managed: true,
            state: FleetState::Provisioning,
            state_since: now,
            health: FleetHealth::Unknown,
            workloads: 0,
            total_workloads: 0,
            allocated_memory: 0,
            first_workload_at: None,
            last_workload_at: None,
            provisioned_at: None,
            initialized_at: None,
            recovery: None,
        }
    }

    /// A host that was there before and is not ours to remove, such as the controller's own.
    pub fn system(id: FleetHostId, name: HostName, now: Timestamp) -> Self {
        Self { managed: false, state: FleetState::Active, ..Self::provisioning(id, name, now) }
    }

    /// A host that we made, found again after its record was lost.
    pub fn recovered(id: FleetHostId, name: HostName, now: Timestamp) -> Self {
        Self {
            state: FleetState::Ready,
            initialized_at: Some(now),
            recovery: Some(Recovery::Found),
            ..Self::provisioning(id, name, now)
        }
    }
}

/// Something that happened to a host of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, EnumString, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FleetEvent {
    /// Its machine exists.
    MachineCreated,
    /// It signalled that it has set itself up. No time that passes says so.
    CloudInitCompleted,
    /// It got a workload.
    ContainerAdded,
    /// It lost a workload.
    ContainerRemoved,
    /// It does not do its duty.
    Failed,
    /// It does its duty again.
    Restored,
    /// What runs on it was taken stock of.
    Resynced,
    /// Its machine was removed after draining.
    Removed,
    /// Its machine is confirmed gone, or never came to be.
    Gone,
}

/// A change of a host's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetChange {
    /// State before.
    pub from: FleetState,
    /// State after.
    pub to: FleetState,
    /// What set it off, for the audit trail.
    pub trigger: &'static str,
}

/// Takes an event in. It answers with the changes of state, in order; an event that does not fit the state changes no
/// state, since what happened, happened.
pub fn apply(record: &mut FleetRecord, event: FleetEvent, now: Timestamp) -> Vec<FleetChange> {
    use FleetState as S;
    let mut changes = Vec::new();
    let mut enter = |record: &mut FleetRecord, to: FleetState, trigger| {
        if record.state.may_become(to) {
            changes.push(FleetChange { from: record.state, to, trigger });
            record.state = to;
            record.state_since = now;
        }
    };
    match event {
        FleetEvent::MachineCreated => {
            record.provisioned_at.get_or_insert(now);
            enter(record, S::Initializing, "machine_created");
        }
        FleetEvent::CloudInitCompleted => {
            if record.state == S::Provisioning {
                // Who signals, exists.
                record.provisioned_at.get_or_insert(now);
                enter(record, S::Initializing, "machine_created");
            }
            if record.state == S::Initializing {
                record.initialized_at.get_or_insert(now);
                enter(record, S::Ready, "cloud_init_completed");
            }
        }
        FleetEvent::ContainerAdded => {
            record.workloads += 1;
            record.total_workloads += 1;
            record.first_workload_at.get_or_insert(now);
            match record.state {
                S::Ready => enter(record, S::Active, "first_container_added"),
                S::Idle => enter(record, S::Active, "container_added"),
                _ => {}
            }
        }
        FleetEvent::ContainerRemoved => {
            record.workloads = record.workloads.saturating_sub(1);
            record.last_workload_at = Some(now);
            if record.state == S::Active && record.workloads == 0 {
                enter(record, S::Idle, "last_container_removed");
            }
        }
        FleetEvent::Failed => enter(record, S::Unhealthy, "failed"),
        FleetEvent::Restored => {
            if record.state == S::Unhealthy {
                record.initialized_at.get_or_insert(now);
                enter(record, S::Ready, "restored");
                if record.workloads > 0 {
                    enter(record, S::Active, "restored");
                }
            }
        }
        FleetEvent::Resynced => {
            if record.recovery.is_some() {
                record.recovery = Some(Recovery::Resynced(now));
            }
        }
        FleetEvent::Removed => {
            if record.state == S::Draining {
                enter(record, S::Decommissioned, "removed");
            }
        }
        FleetEvent::Gone => {
            if record.state == S::Active {
                enter(record, S::Unhealthy, "gone");
            }
            enter(record, S::Decommissioned, "gone");
        }
    }
    changes
}

/// How careful the removal of hosts is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecommissionPolicy {
    /// A ready host is not removed before this age.
    pub min_ready_age: Duration,
    /// An idle host is not removed before it was idle for so long.
    pub idle_grace: Duration,
    /// A recovered host is not removed before so long after what runs on it was taken stock of.
    pub resync_grace: Duration,
}

impl Default for DecommissionPolicy {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self { min_ready_age: minutes(30), idle_grace: minutes(30), resync_grace: minutes(10) }
    }
}

/// Why a host may not be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum DecommissionRefusal {
    /// Its machine is not ours to remove.
    #[error("cannot decommission dedicated node")]
    Dedicated,
    /// It is not ready yet.
    #[error("node is still starting ({state})")]
    StillStarting {
        /// Its state.
        state: FleetState,
    },
    /// Something runs on it.
    #[error("{workloads} workloads on it")]
    Workloads {
        /// How many.
        workloads: u32,
    },
    /// Something of it is still allocated.
    #[error("{megabytes} MB still allocated")]
    Allocated {
        /// How much, rounded up.
        megabytes: u64,
    },
    /// It was recovered and nobody knows what runs on it.
    #[error("recovered node not yet resynced")]
    NotResynced,
    /// It was recovered and resynced a short time ago.
    #[error("recovered node resynced only {seconds} s ago")]
    JustResynced {
        /// How long ago.
        seconds: u64,
    },
    /// It has hardly begun.
    #[error("Ready node too young ({seconds} s)")]
    TooYoung {
        /// Its age.
        seconds: u64,
    },
    /// It was idle for less than its grace.
    #[error("idle for only {seconds} s")]
    JustIdle {
        /// For how long.
        seconds: u64,
    },
}

/// Whether a host may be removed. To be asked in the transaction that enters draining; [`drain`] does both.
///
/// # Errors
/// The first [`DecommissionRefusal`] that holds, in the order of the enum.
pub fn may_decommission(
    record: &FleetRecord,
    policy: &DecommissionPolicy,
    now: Timestamp,
) -> Result<(), DecommissionRefusal> {
    use DecommissionRefusal as R;
    // A clock that went back makes everything young: that refuses, which is the safe side.
    let since = |then: Timestamp| Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO);
    let state = record.state;
    if !record.managed {
        return Err(R::Dedicated);
    }
    if matches!(state, FleetState::Provisioning | FleetState::Initializing) {
        return Err(R::StillStarting { state });
    }
    if record.workloads > 0 {
        return Err(R::Workloads { workloads: record.workloads });
    }
    if record.allocated_memory > 0 {
        return Err(R::Allocated { megabytes: record.allocated_memory.div_ceil(1 << 20) });
    }
    match record.recovery {
        Some(Recovery::Found) => return Err(R::NotResynced),
        Some(Recovery::Resynced(at)) if since(at) < policy.resync_grace => {
            return Err(R::JustResynced { seconds: since(at).as_secs() });
        }
        _ => {}
    }
    let age = since(record.initialized_at.unwrap_or(record.state_since));
    if state == FleetState::Ready && age < policy.min_ready_age {
        return Err(R::TooYoung { seconds: age.as_secs() });
    }
    let idle = since(record.state_since);
    if state == FleetState::Idle && idle < policy.idle_grace {
        return Err(R::JustIdle { seconds: idle.as_secs() });
    }
    Ok(())
}

/// A host that cannot be drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// It would not be safe.
    #[error(transparent)]
    Unsafe(#[from] DecommissionRefusal),
    /// The table lacks the step.
    #[error(transparent)]
    Transition(#[from] InvalidTransition<FleetState>),
}

/// Begins the removal of a host, if that is safe.
///
/// # Errors
/// [`DrainError`], and nothing changed.
pub fn drain(record: &mut FleetRecord, policy: &DecommissionPolicy, now: Timestamp) -> Result<FleetChange, DrainError> {
    let from = record.state;
    let to = from.go(FleetState::Draining)?;
    may_decommission(record, policy, now)?;
    record.state = to;
    record.state_since = now;
    Ok(FleetChange { from, to, trigger: "decommission" })
}
