//! Domains in libvirt's XML, by a writer that escapes whatever it is given.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use lifecycle_core::ErrorKind;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::provider::MediumKind;
use lifecycle_core::plugin::vendor::Firmware;
use quick_xml::events::BytesText;
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use quick_xml::writer::Writer;

use crate::agent;
use crate::failure::{Failure, Outcome};
use crate::files::{DISK, LOG, MEDIUM, NVRAM, Port, Record};
use crate::image::Format;
use crate::machine::{Machine, Nic};
use crate::mark::{ELEMENT, URI, attribute};

type Xml = Writer<Vec<u8>>;

/// Places for what is no network card, and for cards that are plugged in while a machine runs, where each device needs a
/// place of its own from the start.
const PLACES: usize = 16;
/// Serial lines that a machine has room for.
const SERIAL_PORTS: u8 = 4;

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card<'a> {
    /// At the end of a link, which is there.
    Linked(&'a IfName, &'a Port),
    /// For want of a link: nothing goes in or out.
    Reserved(u32),
}

/// Network cards in the order of their numbers: gaps are filled, so that the third is the third whatever links there are.
/// Those that the machine has before its first are before them.
pub(crate) fn cards<'a>(
    ports: &'a BTreeMap<IfName, Port>,
    is_there: impl Fn(&Port) -> bool,
    machine: &Machine,
) -> Vec<Card<'a>> {
    /// More a machine has no room for.
    const MOST: u32 = 64;
    let number = |name: &IfName| {
        let digits = name.as_str().trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|number| (1..=MOST).contains(number))
    };
    let (mut numbered, mut others) = (BTreeMap::new(), Vec::new());
    for (name, port) in ports {
        match number(name).filter(|number| !numbered.contains_key(number)) {
            Some(number) => drop(numbered.insert(number, (name, port))),
            None => others.push((name, port)),
        }
    }
    let last = numbered.keys().next_back().copied().unwrap_or_default().max(machine.nics.min(MOST));
    let linked = |(name, port): &(&'a IfName, &'a Port)| is_there(port).then_some(Card::Linked(name, port));
    let in_order = (1..=last).map(|at| numbered.get(&at).and_then(linked).unwrap_or(Card::Reserved(at)));
    let before = (1..=u32::from(machine.reserved_nics)).map(|at| Card::Reserved(MOST + at));
    before.chain(in_order).chain(others.iter().filter_map(linked)).collect()
}

/// The alias by which the card at a tap is found in a running machine.
pub(crate) fn alias(port: &Port) -> String {
    format!("ua-{}", port.tap)
}

/// A domain as it is to be defined, with its files in a directory.
pub(crate) fn domain(record: &Record, files: &Path, cards: &[Card<'_>]) -> Outcome<String> {
    let machine = &record.machine;
    written(|xml| {
        let kind = if machine.kvm { "kvm" } else { "qemu" };
        let domain = xml.create_element("domain").with_attribute(("type", kind));
        domain.write_inner_content(|xml| {
            text(xml, "name", &record.mark.instance.identifier)?;
            text(xml, "uuid", &record.mark.uuid())?;
            inside(xml, "metadata", |xml| {
                let attributes = record.mark.attributes();
                let pairs = attributes.iter().map(|(name, value)| (*name, value.as_str()));
                let element = format!("lc:{ELEMENT}");
                xml.create_element(&element).with_attribute(("xmlns:lc", URI)).with_attributes(pairs).write_empty()?;
                Ok(())
            })?;
            let memory = machine.memory.to_string();
            xml.create_element("memory").with_attribute(("unit", "KiB")).write_text_content(BytesText::new(&memory))?;
            let cpus = machine.cpus.to_string();
            let set = machine.cpu_set.as_deref().map(|set| ("cpuset", set));
            xml.create_element("vcpu").with_attributes(set).write_text_content(BytesText::new(&cpus))?;
            boot(xml, machine, files)?;
            inside(xml, "features", |xml| empty(xml, "acpi", &[]))?;
            if machine.kvm {
                empty(xml, "cpu", &[("mode", "host-passthrough")])?;
            }
            empty(xml, "clock", &[("offset", "utc")])?;
            text(xml, "on_poweroff", "destroy")?;
            text(xml, "on_reboot", "restart")?;
            text(xml, "on_crash", "destroy")?;
            inside(xml, "devices", |xml| devices(xml, machine, files, cards))
        })?;
        Ok(())
    })
}

fn boot(xml: &mut Xml, machine: &Machine, files: &Path) -> io::Result<()> {
    let efi = (machine.firmware == Firmware::Efi).then_some(("firmware", "efi"));
    let os = xml.create_element("os").with_attributes(efi);
    os.write_inner_content(|xml| {
        let model = machine.model.as_deref().map(|model| ("machine", model));
        xml.create_element("type").with_attributes(model).write_text_content(BytesText::new("hvm"))?;
        if efi.is_some() {
            text(xml, "nvram", &files.join(NVRAM).to_string_lossy())?;
        }
        match &machine.kernel {
            Some(kernel) => {
                text(xml, "kernel", &kernel.to_string_lossy())?;
                if let Some(initrd) = &machine.initrd {
                    text(xml, "initrd", &initrd.to_string_lossy())?;
                }
                text(xml, "cmdline", &machine.cmdline)
            }
            None => empty(xml, "boot", &[("dev", "hd")]),
        }
    })?;
    Ok(())
}

/// A disk or a disc: its file with its format, and where it is plugged in.
fn disk(xml: &mut Xml, device: &str, file: (&Path, Format), (bus, name): (&str, &str)) -> io::Result<()> {
    let element = xml.create_element("disk").with_attributes([("type", "file"), ("device", device)]);
    element.write_inner_content(|xml| {
        empty(xml, "driver", &[("name", "qemu"), ("type", file.1.word())])?;
        empty(xml, "source", &[("file", &file.0.to_string_lossy())])?;
        empty(xml, "target", &[("dev", name), ("bus", bus)])
    })?;
    Ok(())
}

fn devices(xml: &mut Xml, machine: &Machine, files: &Path, cards: &[Card<'_>]) -> io::Result<()> {
    let (bus, [first, second]) = machine.bus.words();
    if machine.disk.is_some() {
        disk(xml, "disk", (&files.join(DISK), Format::Qcow2), (bus, first))?;
    }
    let medium = files.join(MEDIUM);
    match machine.medium {
        Some(MediumKind::Disk) => disk(xml, "disk", (&medium, Format::Raw), (bus, second))?,
        Some(MediumKind::Disc) => disk(xml, "cdrom", (&medium, Format::Raw), machine.drive())?,
        None => {}
    }
    for one in cards {
        card(xml, machine.nic, *one)?;
    }
    for port in 0..machine.serial_ports.clamp(1, SERIAL_PORTS) {
        let serial = xml.create_element("serial").with_attribute(("type", "pty"));
        serial.write_inner_content(|xml| {
            if port == 0 {
                empty(xml, "log", &[("file", &files.join(LOG).to_string_lossy()), ("append", "on")])?;
            }
            empty(xml, "target", &[("port", &port.to_string())])
        })?;
    }
    let console = xml.create_element("console").with_attribute(("type", "pty"));
    console.write_inner_content(|xml| empty(xml, "target", &[("type", "serial"), ("port", "0")]))?;
    if machine.agent {
        let channel = xml.create_element("channel").with_attribute(("type", "unix"));
        channel.write_inner_content(|xml| empty(xml, "target", &[("type", "virtio"), ("name", agent::CHANNEL)]))?;
    }
    if machine.is_q35() {
        empty(xml, "controller", &[("type", "pci"), ("index", "0"), ("model", "pcie-root")])?;
        for _ in 0..cards.len() + PLACES {
            empty(xml, "controller", &[("type", "pci"), ("model", "pcie-root-port")])?;
        }
    }
    empty(xml, "controller", &[("type", "usb"), ("model", "none")])?;
    empty(xml, "memballoon", &[("model", "none")])
}

fn card(xml: &mut Xml, nic: Nic, card: Card<'_>) -> io::Result<()> {
    let kind = if matches!(card, Card::Linked(..)) { "ethernet" } else { "user" };
    let element = xml.create_element("interface").with_attribute(("type", kind));
    element.write_inner_content(|xml| {
        match card {
            Card::Linked(_, port) => {
                empty(xml, "mac", &[("address", &port.mac.to_string())])?;
                // Not managed: it is the network backend's, and stays when the machine ends.
                empty(xml, "target", &[("dev", port.tap.as_str()), ("managed", "no")])?;
                if nic == Nic::Virtio {
                    empty(xml, "mtu", &[("size", &port.mtu.to_string())])?;
                }
                // Other models leave nothing to others.
                if nic == Nic::Virtio && !port.offload {
                    let off = ["csum", "gso", "tso4", "tso6", "ecn", "ufo"].map(|what| (what, "off"));
                    inside(xml, "driver", |xml| empty(xml, "host", &off))?;
                }
                empty(xml, "link", &[("state", if port.carrier { "up" } else { "down" })])?;
                empty(xml, "alias", &[("name", &alias(port))])?;
            }
            Card::Reserved(number) => {
                empty(xml, "link", &[("state", "down")])?;
                empty(xml, "alias", &[("name", &format!("ua-reserved{number}"))])?;
            }
        }
        empty(xml, "model", &[("type", nic.word())])?;
        // Nothing boots from the network, and the firmware need not wait for whoever might want to.
        empty(xml, "rom", &[("enabled", "no")])
    })?;
    Ok(())
}

/// The network card at a tap, as it is taken out, whatever address it was plugged in with.
pub(crate) fn plugged(port: &Port) -> Outcome<String> {
    written(|xml| {
        let element = xml.create_element("interface").with_attribute(("type", "ethernet"));
        element.write_inner_content(|xml| empty(xml, "alias", &[("name", &alias(port))])).map(drop)
    })
}

/// A network card alone, as it is plugged in and changed while the machine runs.
pub(crate) fn interface(nic: Nic, name: &IfName, port: &Port) -> Outcome<String> {
    written(|xml| card(xml, nic, Card::Linked(name, port)))
}

/// Whether the XML of a running domain has a device with an alias.
pub(crate) fn has_device(xml: &str, alias: &str) -> bool {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Eof) | Err(_) => return false,
            Ok(Event::Start(element) | Event::Empty(element))
                if element.local_name().as_ref() == "alias"
                    && attribute(&element, "name").as_deref() == Some(alias) =>
            {
                return true;
            }
            Ok(_) => {}
        }
    }
}

fn written(write: impl FnOnce(&mut Xml) -> io::Result<()>) -> Outcome<String> {
    let mut xml = Writer::new(Vec::new());
    write(&mut xml).map_err(|error| Failure::of_file(error, "the domain cannot be written down"))?;
    String::from_utf8(xml.into_inner()).map_err(|error| Failure::new(ErrorKind::InvalidInput, error.to_string()))
}

fn inside(xml: &mut Xml, name: &str, write: impl FnOnce(&mut Xml) -> io::Result<()>) -> io::Result<()> {
    xml.create_element(name).write_inner_content(write).map(drop)
}

fn text(xml: &mut Xml, name: &str, content: &str) -> io::Result<()> {
    xml.create_element(name).write_text_content(BytesText::new(content)).map(drop)
}

fn empty(xml: &mut Xml, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    xml.create_element(name).with_attributes(attributes.iter().copied()).write_empty().map(drop)
}

#[cfg(test)]
mod tests {
    use lifecycle_core::attach::Mac;
    use lifecycle_core::id::{ControllerId, LabId, NodeId};
    use lifecycle_core::plugin::provider::InstanceRef;

    use super::*;
    use crate::image::Base;
    use crate::machine::Bus;
    use crate::mark::{Mark, Owner};

    fn port(tap: &str) -> Port {
        Port { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 9500, tap: IfName::new(tap).unwrap(), carrier: true, offload: false }
    }

    fn machine() -> Machine {
        Machine {
            kvm: false,
            memory: 1024,
            cpus: 1,
            cpu_set: None,
            model: None,
            disk: None,
            bus: Bus::Virtio,
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            nic: Nic::E1000,
            nics: 0,
            agent: true,
            firmware: Firmware::Bios,
            reserved_nics: 0,
            serial_ports: 1,
            medium: None,
        }
    }

    #[test]
    fn what_users_wrote_stays_text() {
        let owner = Owner { controller: ControllerId::from_u64(1), host: "local".to_owned() };
        let instance = InstanceRef { node: NodeId::from_u64(2), incarnation: 1, identifier: "n.2".to_owned() };
        let evil = "a='1'\"</cmdline><kernel>/etc/shadow</kernel>&";
        let machine = Machine {
            model: Some("pc'/><x y='".to_owned()),
            disk: Some(Base { path: "/b".into(), format: Format::Raw }),
            kernel: Some("/k&<>".into()),
            cmdline: evil.to_owned(),
            ..machine()
        };
        let record = Record::new(Mark { owner, lab: LabId::from_u64(3), instance }, machine);
        let xml = domain(&record, Path::new("/d\"'"), &[]).unwrap();
        let mut reader = Reader::from_str(&xml);
        let (mut kernels, mut unknown) = (0, 0);
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => break,
                Event::Start(element) | Event::Empty(element) => {
                    kernels += usize::from(element.name().as_ref() == "kernel");
                    unknown += usize::from(element.name().as_ref() == "x");
                }
                _ => {}
            }
        }
        assert_eq!((kernels, unknown), (1, 0), "{xml}");
    }

    #[test]
    fn cards_keep_their_numbers() {
        let name = |text: &str| IfName::new(text).unwrap();
        let ports: BTreeMap<_, _> = [("eth10", "lt10"), ("eth2", "lt2"), ("eth3", "gone"), ("wan", "ltw")]
            .map(|(at, tap)| (name(at), port(tap)))
            .into();
        let shown = |nics, reserved_nics| {
            let machine = Machine { nics, reserved_nics, ..machine() };
            let cards = cards(&ports, |port| port.tap.as_str() != "gone", &machine);
            cards
                .iter()
                .map(|card| match card {
                    Card::Linked(name, _) => name.to_string(),
                    Card::Reserved(at) => at.to_string(),
                })
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(shown(0, 0), "1 eth2 3 4 5 6 7 8 9 eth10 wan");
        assert_eq!(shown(12, 2), "65 66 1 eth2 3 4 5 6 7 8 9 eth10 11 12 wan");
    }

    #[test]
    fn a_device_is_found_by_its_alias() {
        let xml = interface(Nic::Virtio, &IfName::new("eth1").unwrap(), &port("ltx")).unwrap();
        assert!(has_device(&xml, "ua-ltx") && !has_device(&xml, "ua-lt") && !has_device("<", "ua-ltx"), "{xml}");
    }
}
