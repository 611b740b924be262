//! Carrier of a machine's links, and network cards that are plugged in while it runs.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::{Carrier, InstanceRef};
use lifecycle_core::{ErrorKind, Result};
use lifecycle_crash::crash_point;
use virt::domain::Domain;
use virt::sys;

use crate::daemon::Daemon;
use crate::domain;
use crate::failure::{Failure, Outcome};
use crate::files::{Port, Record};
use crate::life::Yard;
use crate::provider::LibvirtProvider;
use crate::taps::Taps;

/// Time that a machine has to let go of a network card.
const UNPLUG: Duration = Duration::from_secs(10);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(50);

impl Yard {
    /// Gives a machine carrier, or takes it: now if it runs, and from its next start on in any case. A card whose link was
    /// made since the machine started, or made anew, is plugged in.
    fn set_carrier(&self, daemon: &mut Daemon, instance: &InstanceRef, ifname: &IfName, up: bool) -> Outcome<()> {
        let mut record = self.existing(instance)?;
        let missing = || Failure::new(ErrorKind::NotFound, format!("no link ends at {ifname}"));
        let mut port = record.ports.get(ifname).cloned().ok_or_else(missing)?;
        if port.carrier != up {
            port.carrier = up;
            self.note(&mut record, ifname, &port)?;
        }
        let Some(domain) = self.running(daemon, &record.mark.instance)? else { return Ok(()) };
        let nic = record.machine.nic;
        let is_there = has_card(daemon, &domain, &port)?;
        let Some(tap) = Taps::open(&self.settings)?.look(&port.tap)? else {
            return Err(Failure::new(ErrorKind::NotFound, format!("the tap {} is gone", port.tap)));
        };
        let live = sys::VIR_DOMAIN_AFFECT_LIVE;
        let xml = domain::interface(nic, ifname, &port)?;
        if is_there && tap.held {
            return daemon.call(|_| domain.update_device_flags(&xml, live)).map(drop);
        }
        if is_there {
            // What the machine holds is a tap of the same name that was removed.
            unplug(daemon, &domain, &port)?;
        }
        port.offload = tap.in_kernel;
        self.note(&mut record, ifname, &port)?;
        let xml = domain::interface(nic, ifname, &port)?;
        crash_point("machine-plugging");
        daemon.call(|_| domain.attach_device_flags(&xml, live)).map(drop)
    }

    fn note(&self, record: &mut Record, ifname: &IfName, port: &Port) -> Outcome<()> {
        record.ports.insert(ifname.clone(), port.clone());
        self.files.write(record)
    }
}

fn has_card(daemon: &mut Daemon, domain: &Domain, port: &Port) -> Outcome<bool> {
    let now = daemon.ask(|_| domain.get_xml_desc(0))?;
    Ok(domain::has_device(&now, &domain::alias(port)))
}

/// Takes a card out. The machine itself has to let go of it.
fn unplug(daemon: &mut Daemon, domain: &Domain, port: &Port) -> Outcome<()> {
    let xml = domain::plugged(port)?;
    daemon.call(|_| domain.detach_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE))?;
    let began = Instant::now();
    while has_card(daemon, domain, port)? {
        if began.elapsed() > UNPLUG {
            let text = "the machine does not let go of the network card; restart the node";
            return Err(Failure::new(ErrorKind::Failed, text));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[async_trait]
impl Carrier for LibvirtProvider {
    async fn set_carrier(&self, instance: &InstanceRef, ifname: &IfName, up: bool) -> Result<()> {
        let (about, ifname) = (instance.clone(), ifname.clone());
        let set = self.act(instance, move |yard, daemon| yard.set_carrier(daemon, &about, &ifname, up)).await;
        set.map_err(|failure| failure.during("set carrier", instance))
    }
}
