//! What happens to instances: made, started, ended, removed. All of it on the thread that has the node's turn.

use std::path::Path;
use std::time::SystemTime;

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, AttachPoint};
use lifecycle_core::plugin::provider::{CreateNode, InstanceRef, PortRequest};
use lifecycle_core::time::Timestamp;
use lifecycle_crash::crash_point;
use virt::domain::Domain;
use virt::sys;

use crate::daemon::Daemon;
use crate::domain::{self, Card};
use crate::failure::{Failure, Outcome};
use crate::files::{Files, Port, Record};
use crate::machine::Machine;
use crate::management::Management;
use crate::mark::{self, ELEMENT, Mark, Owner, URI};
use crate::settings::{Acceleration, Settings};
use crate::taps::{self, Taps};

/// What instances are made of and with.
#[derive(Debug)]
pub(crate) struct Yard {
    pub settings: Settings,
    pub owner: Owner,
    pub files: Files,
    pub management: Management,
}

/// What is called by a name.
enum Holder {
    Nobody,
    /// The instance itself.
    Same,
    Other(Failure),
}

/// Whose a domain is.
pub(crate) fn mark_of(daemon: &mut Daemon, domain: &Domain) -> Outcome<Option<Mark>> {
    let kind = i32::try_from(sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default();
    let read = daemon.ask(|_| match domain.get_metadata(kind, Some(URI), 0) {
        Err(error) if error.code() == virt::error::ErrorNumber::NoDomainMetadata => Ok(None),
        read => read.map(Some),
    });
    Ok(crate::failure::optional(read)?.flatten().filter(|xml| xml.contains(ELEMENT)).and_then(|xml| Mark::read(&xml)))
}

impl Yard {
    /// The record of an instance that must exist.
    pub(crate) fn existing(&self, instance: &InstanceRef) -> Outcome<Record> {
        let record = self.files.find(instance.node)?;
        record.filter(|it| it.mark.instance.incarnation == instance.incarnation).ok_or_else(Failure::no_instance)
    }

    /// The domain of an instance.
    pub(crate) fn domain(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<Option<Domain>> {
        daemon.domain(&self.owner.uuid(instance.node, instance.incarnation))
    }

    /// The domain of an instance, if it runs.
    pub(crate) fn running(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<Option<Domain>> {
        let Some(domain) = self.domain(daemon, instance)? else { return Ok(None) };
        let active = crate::failure::optional(daemon.ask(|_| domain.is_active()))?.unwrap_or(false);
        Ok(active.then_some(domain))
    }

    fn holder(&self, daemon: &mut Daemon, mark: &Mark) -> Outcome<Holder> {
        let identifier = &mark.instance.identifier;
        let Some(domain) = daemon.named(identifier)? else { return Ok(Holder::Nobody) };
        let uuid = daemon.ask(|_| domain.get_uuid_string())?;
        if uuid == mark.uuid() {
            return Ok(Holder::Same);
        }
        let other = mark_of(daemon, &domain)?.filter(|other| other.owner == mark.owner);
        Ok(Holder::Other(match other {
            Some(other) => {
                let text = format!("incarnation {} of the node exists already", other.instance.incarnation);
                Failure::new(ErrorKind::Conflict, text)
            }
            None => {
                let text = format!("a domain {identifier} that is not ours stands in the way; rename or undefine it");
                Failure::new(ErrorKind::Foreign, text)
            }
        }))
    }

    /// Makes an instance; nothing of its runs.
    pub(crate) fn create(&self, daemon: &mut Daemon, request: &CreateNode) -> Outcome<Record> {
        let identifier = mark::identifier(request.node, &request.long_name);
        let instance = InstanceRef { node: request.node, incarnation: request.incarnation, identifier };
        let mark = Mark { owner: self.owner.clone(), lab: request.lab, instance };
        let found = self.files.find(request.node)?;
        if let Some(other) =
            found.as_ref().map(|it| it.mark.instance.incarnation).filter(|it| *it != request.incarnation)
        {
            let text = format!("incarnation {other} of the node exists already");
            return Err(Failure::new(ErrorKind::Conflict, text));
        }
        let mark = found.as_ref().map_or(mark, |record| record.mark.clone());
        let is_defined = match self.holder(daemon, &mark)? {
            Holder::Other(failure) => return Err(failure),
            Holder::Same if found.is_none() => {
                return Err(Failure::new(ErrorKind::Conflict, "its files are gone; destroy it first"));
            }
            Holder::Same => true,
            Holder::Nobody => false,
        };
        let is_new = found.is_none();
        let mut record = match found {
            Some(record) => record,
            None => {
                let kvm = self.has_kvm(daemon)?;
                let machine = Machine::of(request, &self.settings, kvm)?;
                Record::new(mark, machine)
            }
        };
        // Somebody may have died in the middle of this.
        let made = match is_defined {
            true => Ok(()),
            false => self.make(daemon, &mut record, request),
        };
        match made {
            Err(failure) if is_new && !failure.kind.is_unknown() => {
                self.management.strike(&record)?;
                self.files.remove(&record.mark.instance.identifier)?;
                Err(failure)
            }
            made => made.map(|()| record),
        }
    }

    fn make(&self, daemon: &mut Daemon, record: &mut Record, request: &CreateNode) -> Outcome<()> {
        self.management.enter(record, request)?;
        self.files.make(record, request)?;
        self.define(daemon, record).map(drop)
    }

    /// Whether KVM is to run processors.
    fn has_kvm(&self, daemon: &mut Daemon) -> Outcome<bool> {
        match self.settings.acceleration {
            Acceleration::Kvm => return Ok(true),
            Acceleration::Qemu => return Ok(false),
            Acceleration::Auto if !Path::new("/dev/kvm").exists() => return Ok(false),
            Acceleration::Auto => {}
        }
        match daemon.ask(|connection| connection.get_domain_capabilities(None, None, None, Some("kvm"), 0)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind.is_unreachable() => Err(failure),
            Err(failure) => {
                tracing::info!(reason = failure.message, "no KVM here: machines are emulated");
                Ok(false)
            }
        }
    }

    /// Defines the domain of an instance anew, with the links that there are now.
    fn define(&self, daemon: &mut Daemon, record: &mut Record) -> Outcome<Domain> {
        let mut there = Vec::new();
        if !record.ports.is_empty() {
            let mut taps = Taps::open(&self.settings)?;
            for port in record.ports.values_mut() {
                if let Some(tap) = taps.look(&port.tap)? {
                    port.offload = tap.in_kernel;
                    there.push(port.tap.clone());
                }
            }
        }
        let record = &*record;
        let management = self.management.connect(record)?;
        let first = management.iter().map(|(name, port)| Card::Linked(name, port));
        let others = domain::cards(&record.ports, |port| there.contains(&port.tap), &record.machine);
        let cards: Vec<Card<'_>> = first.chain(others).collect();
        let xml = domain::domain(record, &self.files.directory(&record.mark.instance.identifier), &cards)?;
        let defined = daemon.call(|connection| Domain::define_xml(connection, &xml));
        crash_point("machine-defined");
        defined.or_else(|failure| match failure.kind.is_unknown() {
            true => Err(failure),
            false => match self.holder(daemon, &record.mark)? {
                Holder::Other(why) => Err(why),
                Holder::Same | Holder::Nobody => Err(failure),
            },
        })
    }

    /// Starts an instance.
    pub(crate) fn start(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<()> {
        let mut record = self.existing(instance)?;
        if self.running(daemon, instance)?.is_some() {
            return Ok(());
        }
        if record.machine.disk.is_some() && !self.files.disk(&record).exists() {
            return Err(Failure::new(ErrorKind::Conflict, "its disk is gone; destroy it first"));
        }
        let domain = self.define(daemon, &mut record)?;
        let before = record.started;
        record.started = Timestamp::try_from(SystemTime::now()).ok();
        self.files.write(&record)?;
        crash_point("machine-starting");
        let started = daemon.call(|_| domain.create());
        crash_point("machine-started");
        match started {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind.is_unknown() => Err(failure),
            Err(failure) => {
                if self.running(daemon, instance)?.is_some() {
                    return Ok(());
                }
                record.started = before;
                self.files.write(&record)?;
                Err(failure)
            }
        }
    }

    /// Asks a machine to end, as its power button does; whether it still runs. One that does not listen yet hears it the
    /// next time.
    pub(crate) fn ask_to_end(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<bool> {
        self.existing(instance)?;
        let Some(domain) = self.running(daemon, instance)? else { return Ok(false) };
        // Never the guest's agent, whose answer would be waited for.
        match daemon.call(|_| domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)) {
            Ok(_) => Ok(true),
            Err(failure) if failure.kind.is_unknown() => Err(failure),
            Err(failure) => {
                tracing::info!(%instance, reason = failure.message, "it cannot be asked to end");
                Ok(self.running(daemon, instance)?.is_some())
            }
        }
    }

    /// Ends a machine by force.
    pub(crate) fn force_off(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<()> {
        let Some(domain) = self.running(daemon, instance)? else { return Ok(()) };
        let ended = daemon.call(|_| domain.destroy());
        crash_point("machine-off");
        match ended {
            Err(failure) if failure.kind.is_unknown() || self.running(daemon, instance)?.is_some() => Err(failure),
            _ => Ok(()),
        }
    }

    /// Records that an instance was stopped, and how.
    pub(crate) fn note_stop(&self, instance: &InstanceRef, how: Option<&str>) -> Outcome<()> {
        let mut record = self.existing(instance)?;
        if let Some(how) = how {
            tracing::info!(%instance, how, "stopped");
            self.files.note(&record.mark.instance.identifier, how);
        }
        if record.started.take().is_some() {
            self.files.write(&record)?;
        }
        Ok(())
    }

    /// Removes all that an instance has.
    pub(crate) fn destroy(&self, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<()> {
        let record = self.files.find(instance.node)?;
        if let Some(other) = record.as_ref().filter(|it| it.mark.instance.incarnation != instance.incarnation) {
            let text = format!("another incarnation, {}, is in its place", other.mark.instance.incarnation);
            return Err(Failure::new(ErrorKind::Conflict, text));
        }
        self.force_off(daemon, instance)?;
        if let Some(domain) = self.domain(daemon, instance)? {
            let with = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
            crate::failure::optional(daemon.call(|_| domain.undefine_flags(with)))?;
            crash_point("machine-undefined");
        }
        let Some(record) = record else {
            self.management.untap(instance);
            return Ok(());
        };
        self.management.strike(&record)?;
        self.files.remove(&record.mark.instance.identifier)
    }

    /// Where a link of an instance ends: at a tap, which the machine takes when it starts.
    pub(crate) fn attach_point(&self, instance: &InstanceRef, request: &PortRequest) -> Outcome<AttachPoint> {
        let mut record = self.existing(instance)?;
        let &PortRequest { ref ifname, mac, mtu } = request;
        let tap = taps::name(&self.owner, instance.node, ifname)?;
        if !self.is_wired(record.ports.get(ifname), request)? {
            record.ports.insert(ifname.clone(), Port { mac, mtu, tap: tap.clone(), carrier: true, offload: true });
            self.files.write(&record)?;
        }
        // Opened by the daemon, which is root, and handed down.
        Ok(request.at(instance, AttachKind::Tap { name: tap, owner: 0, flags: taps::FLAGS }))
    }

    /// Whether a port is known as it is wanted. The card at a tap that stands, as one that was parked does, keeps its MTU until
    /// it is plugged in anew: libvirt changes it of none that is plugged in.
    fn is_wired(&self, known: Option<&Port>, wanted: &PortRequest) -> Outcome<bool> {
        let Some(known) = known.filter(|known| known.mac == wanted.mac) else { return Ok(false) };
        Ok(known.mtu == wanted.mtu || Taps::open(&self.settings)?.look(&known.tap)?.is_some())
    }
}
