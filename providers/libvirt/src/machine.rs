//! What a lab file says about a machine.

use std::path::PathBuf;

use lifecycle_core::ErrorKind;
use lifecycle_core::topology::{NetworkMode, NodeSpec};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::image::{self, Base};
use crate::settings::Settings;

/// What the lab file may say besides, in a node's `extras: {libvirt: {...}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Kernel to boot without a boot loader.
    pub kernel: Option<String>,
    /// Its initial RAM disk.
    pub initrd: Option<String>,
    /// Model of the machine, `q35` for example; libvirt's choice when absent.
    pub machine: Option<String>,
    /// Model of its network cards.
    pub nic: Nic,
    /// Network cards that it has at least; those without a link have no carrier.
    pub nics: u32,
    /// How it sees its disk.
    pub disk: Bus,
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
    /// The bus and what the first disk on it is called.
    pub(crate) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Virtio => ("virtio", "vda"),
            Self::Ide => ("ide", "hda"),
            Self::Sata => ("sata", "sda"),
        }
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
    /// The machine that a node wants.
    pub(crate) fn of(spec: &NodeSpec, settings: &Settings, interfaces: u32, kvm: bool) -> Outcome<Self> {
        refuse(spec)?;
        let options = Options::of(spec)?;
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
            model: options.machine,
            disk: found.disk,
            bus: options.disk,
            kernel: found.kernel,
            initrd: found.initrd,
            cmdline,
            nic: options.nic,
            nics: options.nics.max(interfaces),
        })
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::name::NodeName;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_is_what_the_lab_file_says() {
        let images = tempfile::tempdir().unwrap();
        std::fs::write(images.path().join("vmlinuz"), "x").unwrap();
        let settings = Settings { images: vec![images.path().into()], ..Settings::default() };
        let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
        spec.extra
            .insert("extras".to_owned(), json!({ "libvirt": { "kernel": "vmlinuz", "nic": "e1000", "nics": 3 } }));
        spec.cmd = Some(vec!["a=1".to_owned(), "quiet".to_owned()]);
        spec.resources.cpu = Some(1.5);
        let machine = Machine::of(&spec, &settings, 2, false).unwrap();
        assert_eq!((machine.cpus, machine.memory, machine.nics), (2, 512 << 10, 3));
        assert_eq!((machine.cmdline.as_str(), machine.nic), ("console=ttyS0 a=1 quiet", Nic::E1000));
        spec.user = Some("root".to_owned());
        let failure = Machine::of(&spec, &settings, 2, false).unwrap_err();
        assert!(failure.kind == ErrorKind::Unsupported && failure.message.contains("`user`"), "{failure:?}");
        spec.extra.insert("extras".to_owned(), json!({ "libvirt": { "kernle": "vmlinuz" } }));
        assert_eq!(Options::of(&spec).unwrap_err().kind, ErrorKind::InvalidInput);
    }
}
