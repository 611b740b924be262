//! The parts of what is known of a kind.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::Pattern;

/// In which forms a kind's image comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ImageForm {
    /// A container image.
    Container,
    /// The disk of a virtual machine.
    Qcow2,
    /// A binary of IOS on Linux.
    Iol,
}

/// What a node of a kind uses when its lab file says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KindResources {
    /// Memory in MiB.
    pub memory: Option<u32>,
    /// Processors, fractions allowed.
    pub cpu: Option<f64>,
}

/// How a node gets its initial configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartupConfig {
    /// By which means.
    pub method: StartupMethod,
    /// Where the node looks for it: a path in the node, or a file name on the medium.
    #[serde(default)]
    pub path: PathBuf,
    /// Whether the node may write to the file that its user named.
    #[serde(default)]
    pub writable: bool,
    /// What the medium is called, where the node looks for that.
    #[serde(default)]
    pub label: Option<String>,
    /// Name of the compressed tar archive on the medium that the file is in, where the node looks for one.
    #[serde(default)]
    pub archive: Option<String>,
}

/// Means of getting an initial configuration into a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StartupMethod {
    /// It gets none: a word about it in the lab file is left aside.
    Ignored,
    /// The file appears in the node's file system.
    Bind,
    /// It is on a disc image that the machine finds at its first boot.
    Iso,
    /// It is on a second disk.
    ConfigDisk,
}

/// How the configuration of a running node is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaveConfig {
    /// By which means.
    #[serde(default)]
    pub method: SaveMethod,
    /// Program and arguments that print it; on a serial console, what is typed there.
    pub command: Vec<String>,
    /// Name of the file that it is kept in.
    #[serde(default = "save_file", deserialize_with = "file_name")]
    pub file: String,
    /// Seconds that it may take.
    #[serde(default = "save_timeout")]
    pub timeout: u32,
    /// Bytes that it may have; more is refused, not cut.
    #[serde(default = "save_limit")]
    pub limit: u32,
    /// Lines that are no part of it.
    #[serde(default)]
    pub drop: Vec<Pattern>,
}

/// Means of reading a node's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum SaveMethod {
    /// A command in the node prints it.
    #[default]
    Exec,
    /// It is asked for on the serial console.
    Serial,
    /// It stands in a file of non-volatile memory beside the node.
    Nvram,
}

fn save_file() -> String {
    "startup-config".to_owned()
}

fn save_timeout() -> u32 {
    30
}

fn save_limit() -> u32 {
    1 << 20
}

fn file_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !plain || name.is_empty() || name.starts_with('.') || name.len() > 63 {
        let rule = "1 to 63 letters, digits, dots, underscores or dashes, not starting with a dot";
        return Err(serde::de::Error::custom(format!("`{name}` is not the name of a file: {rule}")));
    }
    Ok(name)
}

/// What people get who open a console of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConsoleMethod {
    /// The node's own: the terminal of its first process, or the serial port of its machine.
    #[default]
    Own,
    /// A program in a new terminal inside the node.
    Exec {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// A session over the management network.
    Ssh,
}

/// A platform that looks for its interfaces once, early, and must not do so before they are all there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceWait {
    /// Variable that holds the number of interfaces.
    pub env: String,
    /// Program that runs the script.
    pub entrypoint: Vec<String>,
    /// Waits for the interfaces and then becomes the node's own first process. Used only where a node has interfaces.
    pub script: String,
}

/// Something about a kind that users may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindOption {
    /// What it does.
    pub about: String,
    /// Variable by which the node is told; users set it in the `env` of the lab file.
    pub env: String,
    /// Its value when nobody set it.
    pub default: String,
}

/// What a virtual machine of the kind is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Machine {
    /// Bus of its disks.
    pub disk: DiskBus,
    /// Model of its network interfaces.
    pub nic: NicModel,
    /// Chipset and version.
    pub chipset: Chipset,
    /// What it boots with.
    pub firmware: Firmware,
    /// Kind of its serial ports.
    pub serial: SerialPort,
    /// How many serial ports it has.
    pub serial_ports: u8,
    /// Network interfaces that stand between the management interface and the first port and lead nowhere.
    pub reserved_nics: u8,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            disk: DiskBus::default(),
            nic: NicModel::default(),
            chipset: Chipset::default(),
            firmware: Firmware::default(),
            serial: SerialPort::default(),
            serial_ports: 1,
            reserved_nics: 0,
        }
    }
}

/// Bus of a machine's disks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskBus {
    /// Virtio.
    #[default]
    Virtio,
    /// IDE.
    Ide,
    /// SATA.
    Sata,
}

/// Model of a machine's network interfaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NicModel {
    /// Virtio.
    #[default]
    Virtio,
    /// Intel's 82540EM.
    E1000,
}

/// Chipset of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chipset {
    /// PCI Express.
    #[default]
    Q35,
    /// PCI.
    I440fx,
}

/// What a machine boots with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// BIOS.
    #[default]
    Bios,
    /// UEFI.
    Efi,
}

/// Kind of a machine's serial ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SerialPort {
    /// A pseudo-terminal.
    #[default]
    Pty,
    /// A listening port of the host.
    Tcp,
}
