//! The configuration file: what an operator allows and settles for all labs of a controller.
//!
//! It is `config.yaml` in the state directory unless another one is named. Command line options win over `LIFECYCLE_*`
//! variables, and those over the file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifecycle_core::name::{HostName, PluginName};
use lifecycle_core::policy::enforcement::EnforcementPolicy;
use lifecycle_engine::Settings;
use lifecycle_engine::decide::Limits;
use lifecycle_topology::Permissions;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::args::{LogFormat, LogLevel};
use crate::failure::{Exit, Failure, Result};
use crate::output::Format;
use crate::span::Span;

/// Name of the file in the state directory.
pub const FILE: &str = "config.yaml";
/// More than anybody writes by hand, in bytes.
const LONGEST: usize = 1 << 20;

/// The configuration of a controller.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What is logged.
    pub log_level: Option<LogLevel>,
    /// How it is logged.
    pub log_format: Option<LogFormat>,
    /// How results are printed.
    pub output: Option<Format>,
    /// Provider of nodes for which nobody chose one.
    pub provider: Option<PluginName>,
    /// Network backend of links for which nobody chose one.
    pub backend: Option<PluginName>,
    /// What labs may use beyond their own directory.
    pub permissions: Permissions,
    /// Directories of vendor files, relative to this file; what they say wins over the kinds that are built in.
    pub vendors: Vec<PathBuf>,
    /// What stands in for images where nodes are no containers, for the provider `netns`.
    pub images: Vec<Value>,
    /// Retries of nodes.
    pub enforcement: Retries,
    /// Retries of links.
    pub repair: Retries,
    /// Times and limits.
    pub limits: GivenLimits,
    /// Settings of plugins, by their names.
    pub plugins: BTreeMap<String, Value>,
    /// Hosts besides the local one, by their names.
    pub hosts: BTreeMap<HostName, FurtherHost>,
    /// Where it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// Directories of vendor files that the command line or the environment named.
    #[serde(skip)]
    pub more_vendors: Vec<PathBuf>,
}

/// A host besides the local one: a part of this machine that stands for a machine of its own, such as a network namespace
/// that the settings of its plugins name.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct FurtherHost {
    /// Settings of its plugins, by their names; where nothing is said, those of the local host hold.
    pub plugins: BTreeMap<String, Value>,
}

/// How often and how soon something is tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retries {
    /// Longest wait after the first failure; it doubles with each further one.
    pub base: Option<Span>,
    /// Longest wait of all.
    pub cap: Option<Span>,
    /// Attempts before giving up.
    pub max_attempts: Option<u32>,
    /// What ran for so long gets its attempts back.
    pub stable_after: Option<Span>,
}

impl Retries {
    fn over(self, policy: EnforcementPolicy) -> EnforcementPolicy {
        let span = |given: Option<Span>, default| given.map_or(default, |span| span.0);
        EnforcementPolicy {
            base: span(self.base, policy.base),
            cap: span(self.cap, policy.cap),
            max_attempts: self.max_attempts.unwrap_or(policy.max_attempts),
            stable_after: span(self.stable_after, policy.stable_after),
        }
    }
}

macro_rules! limits {
    ($($field:ident),* $(,)?) => {
        /// Times and limits, as the engine's own are called; what is not given keeps its default.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
        #[allow(missing_docs)]
        pub struct GivenLimits {
            $(pub $field: Option<Span>,)*
            pub enforcement_rate: Option<u32>,
        }

        impl GivenLimits {
            fn over(self, limits: Limits) -> Limits {
                let span = |given: Option<Span>, default: Duration| given.map_or(default, |span| span.0);
                Limits {
                    $($field: span(self.$field, limits.$field),)*
                    enforcement_rate: self.enforcement_rate.unwrap_or(limits.enforcement_rate),
                }
            }
        }
    };
}

limits!(
    enforcement_pass,
    sync_pass,
    link_pass,
    pending,
    starting,
    stopping,
    stop_grace,
    connecting,
    collection_grace,
    reading,
    commands,
    reconnect,
);

impl Config {
    /// Reads the file that was named, or the one in the state directory if there is one.
    ///
    /// # Errors
    /// When it cannot be read or understood, with the place in the file.
    pub fn read(named: Option<&Path>, state: &Path) -> Result<Self> {
        let file = named.map_or_else(|| state.join(FILE), Path::to_owned);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => String::new(),
            Err(error) => {
                return Err(Failure::io(format_args!("read the configuration {}", file.display()), &error));
            }
        };
        let mut config = Self::parse(&text).map_err(|why| {
            Failure::new(Exit::Usage, format!("the configuration {} is wrong: {why}", file.display()))
        })?;
        config.file = file;
        Ok(config)
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        if text.lines().all(|line| line.trim_start().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Directories of vendor files: those of the file, then those of the command line.
    pub fn vendor_directories(&self) -> Vec<PathBuf> {
        let beside = self.file.parent().unwrap_or(Path::new(""));
        self.vendors.iter().map(|path| beside.join(path)).chain(self.more_vendors.iter().cloned()).collect()
    }

    /// The engine's settings.
    pub fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            enforcement: self.enforcement.over(default.enforcement),
            repair: self.repair.over(default.repair),
            limits: self.limits.over(default.limits),
            provider: self.provider.clone().unwrap_or(default.provider),
            backend: self.backend.clone().unwrap_or(default.backend),
        }
    }

    /// The settings of each plugin of the local host. `binds` are files of this program that its nodes are shown.
    pub fn plugin_settings(&self, binds: &[PathBuf]) -> BTreeMap<String, Value> {
        self.completed(self.plugins.clone(), binds)
    }

    /// The settings of each plugin of the other hosts.
    pub fn further_hosts(&self, binds: &[PathBuf]) -> impl Iterator<Item = (HostName, BTreeMap<String, Value>)> {
        self.hosts.iter().map(|(name, host)| {
            let own = self.plugins.clone().into_iter().chain(host.plugins.clone()).collect();
            (name.clone(), self.completed(own, binds))
        })
    }

    fn completed(&self, mut plugins: BTreeMap<String, Value>, binds: &[PathBuf]) -> BTreeMap<String, Value> {
        let netns = plugins.entry("netns".to_owned()).or_insert_with(|| json!({}));
        if let Some(netns) = netns.as_object_mut() {
            let given = [
                ("images", json!(self.images)),
                ("images_file", json!(self.file)),
                ("allow_binds", json!(self.permissions.paths.iter().chain(binds).collect::<Vec<_>>())),
            ];
            for (name, value) in given {
                netns.entry(name).or_insert(value);
            }
        }
        for provider in ["docker", "podman"] {
            let settings = plugins.entry(provider.to_owned()).or_insert_with(|| json!({}));
            let Some(settings) = settings.as_object_mut() else { continue };
            let given = [
                ("allow_binds", json!(self.permissions.paths.iter().chain(binds).collect::<Vec<_>>())),
                ("allow_privileged", json!(self.permissions.privileged)),
                ("allow_devices", json!(self.permissions.devices)),
                ("allow_host_namespaces", json!(self.permissions.host_namespaces)),
            ];
            for (name, value) in given {
                settings.entry(name).or_insert(value);
            }
        }
        plugins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_settles_what_it_names() {
        let text = "
log-level: debug
images:
  - { image: 'alpine:*', root: host }
permissions: { paths: [/srv], host-namespaces: true }
enforcement: { base: 1s, max-attempts: 5 }
limits: { link-pass: 30s, enforcement-rate: 10 }
plugins: { sqlite: { keep_events: 5 }, linux-bridge: { underlay: eth0 } }
hosts: { h2: { plugins: { linux-bridge: { namespace: /run/netns/h2 } } } }
vendors: [vendors, /etc/lifecycle/vendors]
";
        let mut config = Config::parse(text).unwrap();
        config.file = "/srv/config.yaml".into();
        let directories = ["/srv/vendors", "/etc/lifecycle/vendors"].map(PathBuf::from);
        assert_eq!(config.vendor_directories(), directories);
        let settings = config.settings();
        assert_eq!(config.log_level, Some(LogLevel::Debug));
        assert_eq!((settings.enforcement.base, settings.enforcement.max_attempts), (Duration::from_secs(1), 5));
        assert_eq!(settings.enforcement.cap, EnforcementPolicy::default().cap);
        assert_eq!(settings.limits.link_pass, Duration::from_secs(30));
        assert_eq!(settings.limits.sync_pass, Limits::default().sync_pass);
        assert!(config.permissions.host_namespaces && !config.permissions.devices);
        let plugins = config.plugin_settings(&["/usr/bin/lifecycle".into()]);
        assert_eq!(plugins["sqlite"]["keep_events"], 5);
        assert_eq!(plugins["netns"]["images"][0]["image"], "alpine:*");
        assert_eq!(plugins["netns"]["allow_binds"], json!(["/srv", "/usr/bin/lifecycle"]));
        let (name, further) = config.further_hosts(&[]).next().unwrap();
        assert_eq!((name.as_str(), &further["sqlite"]), ("h2", &plugins["sqlite"]));
        assert_eq!(further["linux-bridge"], json!({ "namespace": "/run/netns/h2" }));
        assert_eq!(further["netns"]["images"], plugins["netns"]["images"]);
        assert_eq!(plugins["docker"]["allow_host_namespaces"], json!(true));
        assert_eq!(plugins["podman"]["allow_devices"], json!(false));
    }

    #[test]
    fn nothing_is_a_configuration_too() {
        for text in ["", "# only a remark\n\n", "{}"] {
            assert_eq!(Config::parse(text).unwrap(), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        let error = Config::parse("log-level: info\nenforcment: {}\n").unwrap_err();
        assert!(error.contains("enforcment") && error.contains('2'), "{error}");
        assert!(Config::parse("enforcement: { base: soon }").unwrap_err().contains("not a length of time"));
        assert!(Config::parse("log-level: loud").is_err());
        assert!(Config::parse(&"a".repeat(LONGEST + 1)).unwrap_err().contains("longer than"));
    }

    #[test]
    fn a_named_file_has_to_be_there() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Config::read(None, directory.path()).is_ok());
        let error = Config::read(Some(&directory.path().join("x.yaml")), directory.path()).unwrap_err();
        assert!(error.message.contains("x.yaml"), "{error}");
    }
}
