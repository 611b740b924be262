//! What a lab file says about a machine.

use std::path::PathBuf;

use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::provider::{CreateNode, MediumKind};
use lifecycle_core::plugin::vendor::{Chipset, DiskBus, Firmware, NicModel};
use lifecycle_core::topology::{NetworkMode, NodeSpec};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::image::{self, Base};
use crate::settings::Settings;

/// What the lab file may say besides, in a node's `extras: {libvirt: {...}}`. What is left open is as the node's kind has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Kernel to boot without a boot loader.
    pub kernel: Option<String>,
    /// Its initial RAM disk.
    pub initrd: Option<String>,
    /// Model of the machine, `q35` for example; libvirt's choice when neither says.
    pub machine: Option<String>,
    /// What it boots with.
    pub firmware: Option<Firmware>,
    /// Model of its network cards.
    pub nic: Option<Nic>,
    /// Network cards that it has at least; those without a link have no carrier.
    pub nics: u32,
    /// Network cards before those, which lead nowhere.
    pub reserved_nics: Option<u8>,
    /// How it sees its disk.
    pub disk: Option<Bus>,
    /// Serial lines, the first of which is its console.
    pub serial_ports: Option<u8>,
    /// Whether it has a port for QEMU's guest agent, which runs commands in it.
    pub agent: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kernel: None,
            initrd: None,
            machine: None,
            firmware: None,
            nic: None,
            nics: 0,
            reserved_nics: None,
            disk: None,
            serial_ports: None,
            agent: true,
        }
    }
}

/// Models of network cards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Nic {
    #[default]
    Virtio,
    E1000,
    E1000e,
    Rtl8139,
    Vmxnet3,
}

impl Nic {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Rtl8139 => "rtl8139",
            Self::Vmxnet3 => "vmxnet3",
        }
    }
}

/// Where disks are plugged in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bus {
    #[default]
    Virtio,
    Ide,
    Sata,
}

impl Bus {
    /// The bus and what the first and the second disk on it are called.
    pub(crate) const fn words(self) -> (&'static str, [&'static str; 2]) {
        match self {
            Self::Virtio => ("virtio", ["vda", "vdb"]),
            Self::Ide => ("ide", ["hda", "hdb"]),
            Self::Sata => ("sata", ["sda", "sdb"]),
        }
    }
}

impl From<DiskBus> for Bus {
    fn from(bus: DiskBus) -> Self {
        match bus {
            DiskBus::Virtio => Self::Virtio,
            DiskBus::Ide => Self::Ide,
            DiskBus::Sata => Self::Sata,
        }
    }
}

impl From<NicModel> for Nic {
    fn from(model: NicModel) -> Self {
        match model {
            NicModel::Virtio => Self::Virtio,
            NicModel::E1000 => Self::E1000,
        }
    }
}

/// What libvirt calls a chipset, in the version that it prefers.
const fn model(chipset: Chipset) -> &'static str {
    match chipset {
        Chipset::Q35 => "q35",
        Chipset::I440fx => "pc",
    }
}

/// A machine as it is to be built, again with every start. It is kept with the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Whether KVM runs its processors.
    pub kvm: bool,
    /// Memory in KiB.
    pub memory: u64,
    /// Processors.
    pub cpus: u64,
    /// Those of the host that they run on.
    pub cpu_set: Option<String>,
    pub model: Option<String>,
    pub disk: Option<Base>,
    pub bus: Bus,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    pub nic: Nic,
    pub nics: u32,
    #[serde(default)]
    pub agent: bool,
    #[serde(default)]
    pub firmware: Firmware,
    #[serde(default)]
    pub reserved_nics: u8,
    /// How many; none are one.
    #[serde(default)]
    pub serial_ports: u8,
    /// A medium that is plugged in besides.
    #[serde(default)]
    pub medium: Option<MediumKind>,
}

impl Options {
    pub(crate) fn of(spec: &NodeSpec) -> Outcome<Self> {
        let Some(given) = spec.extra.get("extras").and_then(|extras| extras.get("libvirt")) else {
            return Ok(Self::default());
        };
        serde_json::from_value(given.clone())
            .map_err(|error| Failure::invalid(format!("`extras: {{libvirt: ...}}` is not understood: {error}")))
    }
}

/// Refuses, by name, what a machine cannot be given from outside.
fn refuse(spec: &NodeSpec) -> Outcome<()> {
    let network = !matches!(spec.network_mode, NetworkMode::Own | NetworkMode::None);
    let asks = [
        ("entrypoint", spec.entrypoint.is_some()),
        ("binds", !spec.binds.is_empty()),
        ("tmpfs", !spec.tmpfs.is_empty()),
        ("sysctls", !spec.sysctls.is_empty()),
        ("user", spec.user.is_some()),
        ("network-mode", network),
        ("mgmt-ipv6", spec.mgmt_ipv6.is_some()),
    ];
    match asks.into_iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((field, _)) => {
            let text = format!("a virtual machine has no `{field}`; leave it out of this node");
            Err(Failure::new(ErrorKind::Unsupported, text))
        }
    }
}

impl Machine {
    /// Where a drive for discs is plugged in: behind the disks, and where the chipset has room for one.
    pub(crate) fn drive(&self) -> (&'static str, &'static str) {
        if self.is_q35() { ("sata", "sdb") } else { ("ide", "hdc") }
    }

    pub(crate) fn is_q35(&self) -> bool {
        self.model.as_deref().is_some_and(|model| model.contains("q35"))
    }

    /// The machine that a node wants.
    pub(crate) fn of(request: &CreateNode, settings: &Settings, kvm: bool) -> Outcome<Self> {
        let spec = &request.spec;
        refuse(spec)?;
        let (options, kind) = (Options::of(spec)?, request.machine.as_ref());
        let found = image::find(settings, spec, &options)?;
        if spec.cmd.is_some() && found.kernel.is_none() {
            return Err(Failure::invalid("`cmd` is the command line of a kernel, and the image has no kernel"));
        }
        let words = spec.cmd.clone().unwrap_or_default();
        let cmdline = ["console=ttyS0".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
        let memory = spec.resources.memory.unwrap_or(settings.memory_mb << 20);
        // A part of a processor still needs one.
        let cpus = spec.resources.cpu.unwrap_or(1.0).ceil().clamp(1.0, 512.0);
        Ok(Self {
            kvm,
            memory: (memory >> 10).max(1),
            cpus: cpus as u64,
            cpu_set: spec.resources.cpu_set.clone(),
            model: options.machine.or_else(|| kind.map(|kind| model(kind.chipset).to_owned())),
            disk: found.disk,
            bus: options.disk.or_else(|| kind.map(|kind| kind.disk.into())).unwrap_or_default(),
            kernel: found.kernel,
            initrd: found.initrd,
            cmdline,
            nic: options.nic.or_else(|| kind.map(|kind| kind.nic.into())).unwrap_or_default(),
            nics: options.nics.max(request.interfaces),
            agent: options.agent,
            firmware: options.firmware.or_else(|| kind.map(|kind| kind.firmware)).unwrap_or_default(),
            reserved_nics: options.reserved_nics.or_else(|| kind.map(|kind| kind.reserved_nics)).unwrap_or_default(),
            serial_ports: options.serial_ports.or_else(|| kind.map(|kind| kind.serial_ports)).unwrap_or_default(),
            medium: request.medium.as_ref().map(|medium| medium.kind),
        })
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::id::{LabId, NodeId};
    use lifecycle_core::name::{LabName, NodeName};
    use lifecycle_core::plugin::vendor;
    use serde_json::json;

    use super::*;

    fn request(extras: serde_json::Value) -> CreateNode {
        let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
        spec.extra.insert("extras".to_owned(), json!({ "libvirt": extras }));
        let lab = (LabId::from_u64(1), LabName::new("lab").unwrap());
        CreateNode { interfaces: 2, ..CreateNode::new(NodeId::from_u64(1), lab, "clab-lab-r1", spec) }
    }

    fn with_kernel() -> (tempfile::TempDir, Settings) {
        let images = tempfile::tempdir().unwrap();
        std::fs::write(images.path().join("vmlinuz"), "x").unwrap();
        let settings = Settings { images: vec![images.path().into()], ..Settings::default() };
        (images, settings)
    }

    #[test]
    fn a_machine_is_what_the_lab_file_says() {
        let (_images, settings) = with_kernel();
        let mut request = request(json!({ "kernel": "vmlinuz", "nic": "e1000", "nics": 3 }));
        request.spec.cmd = Some(vec!["a=1".to_owned(), "quiet".to_owned()]);
        request.spec.resources.cpu = Some(1.5);
        let machine = Machine::of(&request, &settings, false).unwrap();
        assert_eq!((machine.cpus, machine.memory, machine.nics), (2, 512 << 10, 3));
        assert_eq!((machine.cmdline.as_str(), machine.nic), ("console=ttyS0 a=1 quiet", Nic::E1000));
        request.spec.user = Some("root".to_owned());
        let failure = Machine::of(&request, &settings, false).unwrap_err();
        assert!(failure.kind == ErrorKind::Unsupported && failure.message.contains("`user`"), "{failure:?}");
        request.spec.extra.insert("extras".to_owned(), json!({ "libvirt": { "kernle": "vmlinuz" } }));
        assert_eq!(Options::of(&request.spec).unwrap_err().kind, ErrorKind::InvalidInput);
    }

    #[test]
    fn what_it_leaves_open_is_as_its_kind_has_it() {
        let (_images, settings) = with_kernel();
        let kind = vendor::Machine {
            disk: DiskBus::Sata,
            nic: NicModel::E1000,
            chipset: Chipset::I440fx,
            firmware: Firmware::Efi,
            serial_ports: 4,
            reserved_nics: 2,
            ..vendor::Machine::default()
        };
        let silent = CreateNode { machine: Some(kind), ..request(json!({ "kernel": "vmlinuz" })) };
        let machine = Machine::of(&silent, &settings, false).unwrap();
        assert_eq!((machine.bus, machine.nic, machine.model.as_deref()), (Bus::Sata, Nic::E1000, Some("pc")));
        assert_eq!((machine.firmware, machine.serial_ports, machine.reserved_nics), (Firmware::Efi, 4, 2));
        let told = json!({ "kernel": "vmlinuz", "disk": "ide", "nic": "rtl8139", "machine": "q35", "firmware": "bios",
                           "serial-ports": 1, "reserved-nics": 0 });
        let told = CreateNode { machine: Some(kind), ..request(told) };
        let machine = Machine::of(&told, &settings, false).unwrap();
        assert_eq!((machine.bus, machine.nic, machine.model.as_deref()), (Bus::Ide, Nic::Rtl8139, Some("q35")));
        assert_eq!((machine.firmware, machine.serial_ports, machine.reserved_nics), (Firmware::Bios, 1, 0));
        let unknown = Machine::of(&request(json!({ "kernel": "vmlinuz" })), &settings, false).unwrap();
        assert_eq!((unknown.bus, unknown.nic, unknown.model), (Bus::Virtio, Nic::Virtio, None));
    }
}
