//! One node: its levels merged, its values read.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use lifecycle_core::name::{IfName, NodeName};
use lifecycle_core::topology::{
    CommandTarget, Dns, Healthcheck, ImagePullPolicy, NetworkMode, NodeSpec, Resources, StageCommand, StagePhase,
};

use crate::decode::{At, Map};
use crate::diagnostics::Problems;
use crate::file::{DnsDef, HealthcheckDef, NodeDef};
use crate::precedence::{Given, Layers};
use crate::source::Span;
use crate::{Options, binds, env_files, extra, values};

/// What the kernel takes as the MTU of an Ethernet interface, in bytes.
pub(crate) const MTU: RangeInclusive<u32> = 68..=65535;

/// What a node needs to know of its surroundings.
pub(crate) struct Scope<'a> {
    pub(crate) options: &'a Options,
    /// The lab's directory.
    pub(crate) directory: &'a Path,
    /// The lab's name.
    pub(crate) lab: &'a str,
    /// The names of all nodes, as the file has them and as they are.
    pub(crate) names: &'a BTreeMap<String, NodeName>,
}

impl Scope<'_> {
    /// Replaces containerlab's own variables in a path or a command of the node called `node` in the file.
    pub(crate) fn replace_magic(&self, text: &str, node: &str) -> String {
        if !text.contains("__clab") {
            return text.to_owned();
        }
        let base = self.options.environment.get("CLAB_LABDIR_BASE").map_or(self.directory, Path::new);
        let name = format!("clab-{}", self.lab);
        let lab = base.join(&name);
        text.replace("__clabNodeDir__", &lab.join(node).to_string_lossy())
            .replace("__clabDir__", &lab.to_string_lossy())
            .replace("__clabLabName__", &name)
            .replace("__clabNodeName__", node)
    }

    pub(crate) fn home(&self) -> Option<&str> {
        self.options.environment.get("HOME").map(String::as_str)
    }
}

/// A node's values before they become a [`NodeSpec`], with the places that later checks point at.
pub(crate) struct Resolved {
    pub(crate) spec: NodeSpec,
    pub(crate) key: Span,
    pub(crate) mgmt: [Option<Span>; 2],
}

/// Reads the node `raw` (its name in the file) called `name`.
pub(crate) fn resolve(
    scope: &Scope<'_>,
    raw: &str,
    name: NodeName,
    key: Span,
    own: Option<&NodeDef>,
    (layers, kind, group): (Layers<'_>, Option<&str>, Option<&str>),
    problems: &mut Problems,
) -> Resolved {
    if kind.is_none() {
        problems.error(
            key,
            format!("the node `{raw}` has no kind"),
            "give it `kind`, or a default one in `topology.defaults`",
        );
    }
    let mut node = NodeSpec::new(name, kind.unwrap_or_default().to_lowercase());
    let text = |field: fn(&NodeDef) -> &Option<At<String>>| layers.first(field).map(|text| text.trim().to_owned());
    node.group = group.map(str::to_owned);
    node.r#type = text(|level| &level.r#type);
    node.image = text(|level| &level.image);
    node.user = text(|level| &level.user);
    node.hostname = layers.first(|level| &level.hostname).and_then(|text| hostname(text, problems));
    node.bridge = bridge(&node.kind, raw, key, problems);
    node.image_pull_policy =
        layers.first(|level| &level.image_pull_policy).and_then(|text| pull_policy(text, problems)).unwrap_or_default();
    node.provider = parsed(layers.first(|level| &level.provider), problems);
    node.host = parsed(layers.first(|level| &level.host), problems);
    if let Some(intent) = layers.first(|level| &level.desired) {
        match intent.parse() {
            Ok(intent) => node.desired = intent,
            Err(_) => problems.error(intent.span, "this cannot be wanted of a node", "expected `running` or `stopped`"),
        }
    }
    node.entrypoint = layers.first(|level| &level.entrypoint).and_then(|text| words(text, problems));
    node.cmd = layers.first(|level| &level.cmd).and_then(|text| words(text, problems));
    node.exec = layers
        .concat(|level| &level.exec)
        .into_iter()
        .map(|exec| {
            words(exec, problems);
            scope.replace_magic(exec, raw)
        })
        .collect();
    node.stage_commands = stage_commands(&layers, &|text| scope.replace_magic(text, raw), problems);
    node.env = environment(scope, &layers, problems);
    node.labels = texts(&layers, |level| &level.labels);
    node.tmpfs = texts(&layers, |level| &level.tmpfs);
    for (path, (at, _)) in layers.merge(|level| &level.tmpfs) {
        if !path.starts_with('/') {
            problems.error(at, format!("`{path:.80}` is not an absolute path"), "");
        }
    }
    node.sysctls = sysctls(&layers, problems);
    let (mounts, volumes) = binds::read(scope, raw, &layers, problems);
    node.binds = mounts;
    node.dns = dns(&layers, problems);
    node.resources = resources(&layers, problems);
    node.healthcheck = layers.first(|level| &level.healthcheck).and_then(|check| healthcheck(check, problems));
    node.network_mode =
        layers.first(|level| &level.network_mode).map_or(NetworkMode::Own, |text| network_mode(scope, text, problems));
    node.startup_config = layers.first(|level| &level.startup_config).and_then(|text| {
        let replaced = scope.replace_magic(text, raw);
        let expanded = crate::paths::expand_home(&replaced, scope.home());
        expanded
            .map_err(|what| problems.error(text.span, what, ""))
            .ok()
            .map(|path| path.to_string_lossy().into_owned())
    });
    node.startup_delay = layers.first(|level| &level.startup_delay).map_or(0, |delay| delay.value);
    // These three are a node's own alone: nobody can inherit an address or a name.
    let nothing = NodeDef::default();
    let own = own.unwrap_or(&nothing);
    node.mgmt_ipv4 = parsed(own.mgmt_ipv4.as_ref(), problems);
    node.mgmt_ipv6 = parsed(own.mgmt_ipv6.as_ref(), problems);
    node.aliases = own.aliases.iter().flat_map(|list| &list.value).map(|alias| alias.value.clone()).collect();
    node.extra = extra::read(&layers, &|text| scope.replace_magic(text, raw), problems);
    if !volumes.is_empty() {
        node.extra.insert("volumes".to_owned(), volumes.into());
    }
    let mgmt = [&own.mgmt_ipv4, &own.mgmt_ipv6].map(|address| address.as_ref().map(|address| address.span));
    Resolved { spec: node, key, mgmt }
}

/// Reads a text as something that can say what is wrong with it.
pub(crate) fn parsed<T: FromStr<Err: Display>>(text: Option<&At<String>>, problems: &mut Problems) -> Option<T> {
    let text = text.filter(|text| !text.is_empty())?;
    text.trim()
        .parse()
        .map_err(|error: T::Err| problems.error(text.span, format!("`{:.80}`: {error}", text.value), ""))
        .ok()
}

fn words(text: &At<String>, problems: &mut Problems) -> Option<Vec<String>> {
    let words = values::words(text);
    if words.is_none() {
        problems.error(text.span, "this command cannot be split into words", "a quote is not closed");
    }
    words
}

/// The commands of a node's stages, least specific level first, without repeats.
fn stage_commands(layers: &Layers<'_>, replace: &dyn Fn(&str) -> String, problems: &mut Problems) -> Vec<StageCommand> {
    let mut found: Vec<StageCommand> = Vec::new();
    for (stage, exec) in layers.records(|level| &level.stages).rev().flat_map(|stages| stages.commands()) {
        let phase = word(exec.phase.as_ref(), [StagePhase::OnEnter, StagePhase::OnExit], problems);
        let target = word(exec.target.as_ref(), [CommandTarget::Container, CommandTarget::Host], problems);
        let Some(command) = &exec.command else { continue };
        let text = At { value: replace(command), span: command.span };
        let Some(argv) = words(&text, problems).filter(|argv| !argv.is_empty()) else { continue };
        let command = StageCommand { stage, phase, target, argv };
        if !found.contains(&command) {
            found.push(command);
        }
    }
    found
}

/// One of a few words, the first of which stands for none.
fn word<T: Copy + FromStr + Display, const N: usize>(
    given: Option<&At<String>>,
    known: [T; N],
    problems: &mut Problems,
) -> T {
    let read = given.and_then(|text| {
        let read = text.parse().ok();
        if read.is_none() {
            let expected = format!("expected {}", known.map(|word| word.to_string()).join(" or "));
            problems.error(text.span, format!("`{:.80}` is not known here", text.value), expected);
        }
        read
    });
    read.unwrap_or(known[0])
}

fn hostname(text: &At<String>, problems: &mut Problems) -> Option<String> {
    let is_valid = text.len() <= 64
        && text.split('.').all(|label| {
            let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        });
    if !is_valid {
        problems.error(
            text.span,
            format!("`{:.80}` is not a host name", text.value),
            "expected letters, digits, dashes and dots",
        );
    }
    is_valid.then(|| text.value.clone())
}

/// The bridge that a node of a bridge's kind is: its name in the file up to `|`.
fn bridge(kind: &str, raw: &str, key: Span, problems: &mut Problems) -> Option<IfName> {
    if !is_bridge(kind) {
        return None;
    }
    let name = IfName::new(raw.split('|').next().unwrap_or(raw));
    name.map_err(|error| problems.error(key, error.to_string(), "a bridge is an interface of its node's name")).ok()
}

/// Whether nodes of a kind are bridges.
pub(crate) fn is_bridge(kind: &str) -> bool {
    matches!(kind, "bridge" | "ovs-bridge")
}

fn pull_policy(text: &At<String>, problems: &mut Problems) -> Option<ImagePullPolicy> {
    match text.trim().to_ascii_lowercase().as_str() {
        "always" => Some(ImagePullPolicy::Always),
        "never" => Some(ImagePullPolicy::Never),
        "ifnotpresent" => Some(ImagePullPolicy::IfNotPresent),
        _ => {
            problems.error(text.span, "this is no policy for images", "expected `IfNotPresent`, `Never` or `Always`");
            None
        }
    }
}

fn network_mode(scope: &Scope<'_>, text: &At<String>, problems: &mut Problems) -> NetworkMode {
    match text.trim().split_once(':') {
        None if text.trim().eq_ignore_ascii_case("none") => NetworkMode::None,
        None if text.trim().eq_ignore_ascii_case("host") => NetworkMode::Host,
        Some((container, of)) if container.eq_ignore_ascii_case("container") && !of.is_empty() => {
            match scope.names.get(of) {
                Some(node) => NetworkMode::Node(node.clone()),
                None => NetworkMode::External(of.to_owned()),
            }
        }
        _ => {
            let expected = "expected `none`, `host` or `container:<node or container>`";
            problems.error(text.span, format!("`{:.80}` is no network mode", text.value), expected);
            NetworkMode::Own
        }
    }
}

/// The texts of a map; null is an empty text.
fn texts(layers: &Layers<'_>, field: fn(&NodeDef) -> &Option<At<Map<String>>>) -> BTreeMap<String, String> {
    let entries = layers.merge(field).into_iter();
    entries
        .map(|(key, (_, value))| (key.to_owned(), value.map(|value| value.value.clone()).unwrap_or_default()))
        .collect()
}

/// Asks for the caller's environment at the level where it stands.
const IMPORT: &str = "__IMPORT_ENVS";

fn environment(scope: &Scope<'_>, layers: &Layers<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut merged = env_files::read(scope, &layers.concat(|level| &level.env_files), problems);
    let levels: Vec<_> = layers.records(|level| &level.env).collect();
    for level in levels.into_iter().rev() {
        if level.get(IMPORT).and_then(|entry| entry.value.as_ref()).is_some_and(|value| value.value == "true") {
            merged.extend(scope.options.environment.clone());
        }
        for (key, entry) in &level.value {
            if key.is_empty() || key.contains(['=', '\0']) {
                problems.error(entry.key, format!("`{key:.80}` cannot be the name of a variable"), "");
            }
            let value = entry.value.as_ref().map(|value| value.value.clone()).unwrap_or_default();
            merged.insert(key.clone(), value);
        }
    }
    merged.remove(IMPORT);
    merged
}

fn sysctls(layers: &Layers<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    for (key, (at, _)) in layers.merge(|level| &level.sysctls) {
        // A key becomes a path below /proc/sys; a dash or a digit is an interface's.
        let is_part = |part: &str| {
            let inner = part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'@' | b':'));
            inner && !part.is_empty()
        };
        if !key.split(['.', '/']).all(is_part) {
            problems.error(
                at,
                format!("`{key:.80}` is no kernel parameter"),
                "expected a name such as net.ipv4.ip_forward",
            );
        }
    }
    texts(layers, |level| &level.sysctls)
}

/// A list of a resolver configuration.
type DnsField = fn(&DnsDef) -> &Option<At<Vec<At<String>>>>;

fn dns(layers: &Layers<'_>, problems: &mut Problems) -> Dns {
    let first = |field: DnsField| -> Vec<At<String>> {
        let mut given = layers.records(|level| &level.dns).filter_map(|dns| field(&dns.value).as_ref());
        given.find(|list| list.is_given()).map(|list| list.value.clone()).unwrap_or_default()
    };
    let plain = |list: Vec<At<String>>| list.into_iter().map(|item| item.value).collect();
    Dns {
        search: plain(first(|dns| &dns.search)),
        options: plain(first(|dns| &dns.options)),
        servers: first(|dns| &dns.servers).iter().filter_map(|server| parsed(Some(server), problems)).collect(),
    }
}

fn resources(layers: &Layers<'_>, problems: &mut Problems) -> Resources {
    let memory = layers.first(|level| &level.memory).and_then(|text| {
        let bytes = values::size(text).filter(|bytes| *bytes > 0);
        if bytes.is_none() {
            problems.error(
                text.span,
                format!("`{:.80}` is not a size", text.value),
                "expected a size such as 512MB, 1G or 2GiB",
            );
        }
        bytes
    });
    let cpu = layers.first(|level| &level.cpu);
    if let Some(cpu) = cpu.filter(|cpu| cpu.value < 0.0) {
        problems.error(cpu.span, "a node cannot have less than no processor", "expected a number such as 1.5");
    }
    let cpu_set = layers.first(|level| &level.cpu_set);
    if let Some(set) = cpu_set.filter(|set| !values::is_cpu_list(set)) {
        problems.error(
            set.span,
            format!("`{:.80}` is not a list of processors", set.value),
            "expected a list such as 0-1,3",
        );
    }
    Resources { memory, cpu: cpu.map(|cpu| cpu.value), cpu_set: cpu_set.map(|set| set.value.clone()) }
}

fn healthcheck(check: &At<HealthcheckDef>, problems: &mut Problems) -> Option<Healthcheck> {
    let words: Vec<&str> = check.test.iter().flat_map(|test| &test.value).map(|word| word.as_str()).collect();
    let test = match words[..] {
        ["NONE"] => return None,
        ["CMD", ref command @ ..] if !command.is_empty() => command.iter().map(|word| (*word).to_owned()).collect(),
        ["CMD-SHELL", command] => vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()],
        _ => {
            let at = check.test.as_ref().map_or(check.span, |test| test.span);
            problems.error(
                at,
                "this health check has no command",
                "expected [CMD, program, arguments…] or [CMD-SHELL, text]",
            );
            return None;
        }
    };
    let seconds = |field: &Option<At<u32>>, default| {
        field.as_ref().map(|value| value.value).filter(|value| *value > 0).unwrap_or(default)
    };
    Some(Healthcheck {
        test,
        interval: seconds(&check.interval, 30),
        timeout: seconds(&check.timeout, 30),
        retries: seconds(&check.retries, 3),
        start_period: seconds(&check.start_period, 0),
    })
}
