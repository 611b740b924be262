//! One kind of node as data.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    ConsoleMethod, ImageForm, InterfaceWait, KindOption, KindResources, Machine, Progress, Readiness, SaveConfig,
    StartupConfig,
};
use crate::name::PluginName;
use crate::policy::port_names::PortNames;
use crate::topology::NodeSpec;

/// One kind of node as data. Everything but the name may be left out; deserialising refuses what cannot be meant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KindData {
    /// Its name in lab files, in lower case.
    #[serde(deserialize_with = "name")]
    pub kind: String,
    /// Other names for it, in lower case.
    #[serde(default, deserialize_with = "names")]
    pub aliases: Vec<String>,
    /// Its name for people.
    #[serde(default)]
    pub label: String,
    /// Provider that runs it when the node names none.
    #[serde(default)]
    pub provider: Option<PluginName>,
    /// Forms in which its image comes, the usual one first.
    #[serde(default)]
    pub forms: Vec<ImageForm>,
    /// Image of nodes that name none.
    #[serde(default)]
    pub image: Option<String>,
    /// What its nodes use when they say nothing about it.
    #[serde(default)]
    pub resources: KindResources,
    /// Whether its containers have all rights when they say nothing about it.
    #[serde(default)]
    pub privileged: bool,
    /// It is no machine that runs something, but a bridge or the like: it gets no variables and runs no commands.
    #[serde(default)]
    pub passive: bool,
    /// Its file system may be anything, so that a program which has network tools of its own lends it those. The engine
    /// hides this, and [`interface_wait`](Self::interface_wait), from the hooks for nodes that are virtual machines.
    #[serde(default)]
    pub lend_tools: bool,
    /// Names of its ports.
    #[serde(default)]
    pub interfaces: PortNames,
    /// How to tell that it is ready; ready when running without a word about it.
    #[serde(default)]
    pub readiness: Readiness,
    /// What it prints on its way.
    #[serde(default)]
    pub progress: Vec<Progress>,
    /// Seconds that its provider may take to start it.
    #[serde(default)]
    pub start_timeout: Option<u32>,
    /// Seconds between the starts of two of its nodes on one host.
    #[serde(default)]
    pub stagger: u32,
    /// Variables that it gets unless its user sets them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What users may set about it.
    #[serde(default)]
    pub options: BTreeMap<String, KindOption>,
    /// Keeps it from looking for its interfaces too early.
    #[serde(default)]
    pub interface_wait: Option<InterfaceWait>,
    /// How it gets its initial configuration.
    #[serde(default)]
    pub startup_config: Option<StartupConfig>,
    /// How its configuration is read.
    #[serde(default)]
    pub save: Option<SaveConfig>,
    /// What people get who open its console.
    #[serde(default)]
    pub console: ConsoleMethod,
    /// What a virtual machine of this kind is made of.
    #[serde(default)]
    pub machine: Option<Machine>,
}

impl KindData {
    /// A kind of which nothing but the name is known.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            aliases: Vec::new(),
            label: String::new(),
            provider: None,
            forms: Vec::new(),
            image: None,
            resources: KindResources::default(),
            privileged: false,
            passive: false,
            lend_tools: false,
            interfaces: PortNames::default(),
            readiness: Readiness::default(),
            progress: Vec::new(),
            start_timeout: None,
            stagger: 0,
            env: BTreeMap::new(),
            options: BTreeMap::new(),
            interface_wait: None,
            startup_config: None,
            save: None,
            console: ConsoleMethod::default(),
            machine: None,
        }
    }

    /// All its names, its own first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.kind).chain(&self.aliases).map(String::as_str)
    }

    /// Fills in what the kind has for nodes that say nothing: the image, and what it uses.
    pub fn complete(&self, spec: &mut NodeSpec) {
        if spec.image.is_none() {
            spec.image.clone_from(&self.image);
        }
        (spec.resources.memory, spec.resources.cpu) = self.resources(spec);
    }

    /// Memory in bytes and processors that a node uses.
    pub fn resources(&self, spec: &NodeSpec) -> (Option<u64>, Option<f64>) {
        let memory = self.resources.memory.map(|mib| u64::from(mib) << 20);
        (spec.resources.memory.or(memory), spec.resources.cpu.or(self.resources.cpu))
    }
}

fn check(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        let shown: String = name.chars().take(80).collect();
        return Err(format!(
            "`{shown}` cannot name a kind: expected 1 to 63 lower-case letters, digits, dots, underscores or dashes"
        ));
    }
    Ok(())
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    check(&name).map_err(serde::de::Error::custom)?;
    Ok(name)
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().try_for_each(|name| check(name)).map_err(serde::de::Error::custom)?;
    Ok(names)
}
