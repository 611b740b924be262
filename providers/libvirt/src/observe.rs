//! What is true of instances.

use std::collections::BTreeMap;

use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::provider::{ExitRecord, InstanceRef, InstanceState, ManagementAddresses, ObservedNode};
use lifecycle_core::time::Timestamp;
use virt::domain::Domain;
use virt::sys;

use crate::daemon::Daemon;
use crate::failure::{Outcome, optional};
use crate::files::Record;
use crate::life::{Yard, mark_of};
use crate::mark::Mark;

/// An instance, and which of its runs it is: the daemon numbers them.
pub(crate) type Seen = (ObservedNode, Option<u32>);

/// What a domain does, where it is there at all and does something.
fn doing(state: sys::virDomainState, reason: i32) -> Option<InstanceState> {
    let is_reason = |known: sys::virDomainPausedReason| u32::try_from(reason).is_ok_and(|it| it == known);
    match state {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => Some(InstanceState::Running),
        sys::VIR_DOMAIN_PAUSED if is_reason(sys::VIR_DOMAIN_PAUSED_STARTING_UP) => Some(InstanceState::Starting),
        sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => Some(InstanceState::Paused),
        sys::VIR_DOMAIN_SHUTDOWN => Some(InstanceState::Stopping),
        _ => None,
    }
}

fn node(
    mark: &Mark,
    state: InstanceState,
    started_at: Option<Timestamp>,
    management: ManagementAddresses,
) -> ObservedNode {
    ObservedNode { instance: mark.instance.clone(), lab: mark.lab, state, started_at, management, namespace: None }
}

impl Yard {
    /// What an instance with a record does, whose domain is this one.
    fn seen(&self, daemon: &mut Daemon, record: &Record, domain: Option<&Domain>) -> Outcome<Seen> {
        let state = match domain {
            // One that was not persistent goes when it ends.
            Some(domain) => optional(daemon.ask(|_| domain.get_state()))?,
            None => None,
        };
        if let Some(state) = state.and_then(|(state, reason)| doing(state, reason)) {
            let run = domain.and_then(Domain::get_id);
            return Ok((node(&record.mark, state, record.started, record.addresses()), run));
        }
        let state = if record.machine.disk.is_some() && !self.files.disk(record).exists() {
            InstanceState::Broken { reason: "its disk is gone".to_owned() }
        } else if record.started.is_some() {
            // A machine has no exit code.
            InstanceState::Exited(ExitRecord { code: None, signal: None, at: None })
        } else {
            InstanceState::Created
        };
        Ok((node(&record.mark, state, None, record.addresses()), None))
    }

    /// One instance.
    pub(crate) fn observe(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<Option<ObservedNode>> {
        let domain = self.domain(daemon, instance)?;
        let record = self.files.find(instance.node)?;
        if let Some(record) = record.filter(|it| it.mark.instance.incarnation == instance.incarnation) {
            return Ok(Some(self.seen(daemon, &record, domain.as_ref())?.0));
        }
        match domain {
            Some(domain) => Ok(mark_of(daemon, &domain)?.map(|mark| without_files(&mark).0)),
            None => Ok(None),
        }
    }

    /// All instances.
    pub(crate) fn list(&self, daemon: &mut Daemon) -> Outcome<Vec<Seen>> {
        let domains = daemon.ask(|connection| connection.list_all_domains(0))?;
        let mut by_uuid = BTreeMap::new();
        for domain in domains {
            // Both are known from the list itself.
            let (uuid, name) = daemon.ask(|_| Ok((domain.get_uuid_string()?, domain.get_name()?)))?;
            by_uuid.insert(uuid, (name, domain));
        }
        let mut all = Vec::new();
        let records = self.files.all()?;
        self.management.resume(&records);
        for record in records {
            let domain = by_uuid.remove(&record.mark.uuid());
            all.push(self.seen(daemon, &record, domain.as_ref().map(|(_, domain)| domain))?);
        }
        // What is left is somebody else's, or ours without its files. Only names such as ours are looked at further.
        for (uuid, (name, domain)) in by_uuid {
            if name.rsplit('.').next().is_none_or(|end| end.parse::<NodeId>().is_err()) {
                continue;
            }
            let mark = mark_of(daemon, &domain)?.filter(|mark| mark.owner == self.owner && mark.uuid() == uuid);
            // One that was made since its files were looked for has them.
            if let Some(mark) = mark
                && self.existing(&mark.instance).is_err_and(|failure| failure.is_not_found())
            {
                all.push(without_files(&mark));
            }
        }
        Ok(all)
    }
}

fn without_files(mark: &Mark) -> Seen {
    let state = InstanceState::Broken { reason: "its files are gone".to_owned() };
    (node(mark, state, None, ManagementAddresses::default()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_being_started_is_not_paused() {
        let reason = |known: u32| i32::try_from(known).unwrap();
        let starting = doing(sys::VIR_DOMAIN_PAUSED, reason(sys::VIR_DOMAIN_PAUSED_STARTING_UP));
        assert_eq!(starting, Some(InstanceState::Starting));
        assert_eq!(doing(sys::VIR_DOMAIN_PAUSED, reason(sys::VIR_DOMAIN_PAUSED_USER)), Some(InstanceState::Paused));
        assert_eq!(doing(sys::VIR_DOMAIN_SHUTOFF, 1), None);
    }
}
