//! Turning what a user wants of a node into what the keeper and the init do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::HostContext;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::topology::{Bind, Dns, NetworkMode, NodeSpec};
use lifecycle_linux::management::{Register, names_of};

use super::{NAME, NetnsProvider};
use crate::failure::Failure;
use crate::image::{self, StandInRoot};
use crate::layout::{Layout, Mark};
use crate::settings::Settings;
use crate::spec::{FILE_VERSION, HostBind, Limits, Network, NodeFile, Root, Run};
use crate::tarball;

/// Size of `/dev/shm` of nodes that do not say: a container's.
const SHM: u64 = 64 << 20;
/// Mount options of binds that change nothing here.
const HARMLESS: [&str; 8] = ["z", "Z", "bind", "rbind", "cached", "delegated", "consistent", "nocopy"];
/// Fields of a lab file that a container would have and a node here has not.
const NOT_HERE: [&str; 7] = ["ports", "volumes", "devices", "cap-add", "pid-mode", "runtime", "cgroup-parent"];

fn invalid(text: String) -> Failure {
    Failure::new(ErrorKind::InvalidInput, text)
}

impl NetnsProvider {
    /// Whose network a new node uses.
    pub(super) async fn network(&self, request: &CreateNode) -> Result<Network, Failure> {
        match &request.spec.network_mode {
            NetworkMode::Own | NetworkMode::None => Ok(Network::Own),
            NetworkMode::Host => Ok(Network::Host),
            NetworkMode::Node(name) => {
                let is_it = |names: &[String]| names.get(1).is_some_and(|known| known == name.as_str());
                let all = self.all().await?;
                let found = all.into_iter().find(|status| status.mark.lab == request.lab && is_it(&status.names));
                found.map(|status| Network::Shared(status.mark)).ok_or_else(|| {
                    let text = format!("node `{name}`, whose network it shares, was not created yet");
                    Failure::new(ErrorKind::Conflict, text)
                })
            }
            NetworkMode::External(container) => {
                let text = format!("network-mode: container `{container}` is not a node of this provider");
                Err(Failure::new(ErrorKind::Unsupported, text))
            }
        }
    }
}

/// Everything that the keeper has to know. Blocks: it may unpack a tarball.
pub(super) fn node_file(
    settings: &Settings,
    layout: &Layout,
    context: &HostContext,
    request: &CreateNode,
    mark: Mark,
    network: Network,
    identifier: String,
) -> Result<NodeFile, Failure> {
    let spec = &request.spec;
    for field in NOT_HERE.iter().filter(|field| spec.extra.contains_key(**field)) {
        tracing::warn!(node = %request.long_name, field, "the provider `netns` does not have this; it goes unheeded");
    }
    let stand_in = image::resolve(settings, spec)?;
    let root = match &stand_in.root {
        StandInRoot::Host => Root::Host,
        StandInRoot::Directory(path) if path.is_dir() => Root::Directory(path.clone()),
        StandInRoot::Directory(path) => {
            let text = format!("{}, which stands in for the image, is not a directory", path.display());
            return Err(Failure::new(ErrorKind::ImageUnavailable, text));
        }
        StandInRoot::Tarball(path) => Root::Directory(tarball::ensure(layout, path)?),
    };
    let mut env = stand_in.env.clone();
    env.insert("CLAB_INTFS".into(), request.interfaces.to_string());
    let label = |name: &str| name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    env.extend(spec.labels.iter().map(|(name, value)| (format!("CLAB_LABEL_{}", label(name)), value.clone())));
    env.extend(spec.env.clone());
    let name = request.name.to_string();
    let command = image::command(&stand_in, spec);
    Ok(NodeFile {
        version: FILE_VERSION,
        mark,
        controller: context.controller,
        identifier,
        names: names_of(request),
        management: None,
        hostname: hostname(spec.hostname.as_deref().unwrap_or(&name))?,
        sysctls: sysctls(spec, network == Network::Own),
        network,
        resolver: resolver(&spec.dns),
        limits: Limits { memory: spec.resources.memory, cpu: spec.resources.cpu },
        run: Run {
            root,
            terminal: stand_in.terminal && !command.is_empty(),
            command,
            console: stand_in.console,
            env,
            user: spec.user.clone(),
            directory: "/".into(),
            binds: binds(settings, &request.directory, &spec.binds)?,
            tmpfs: tmpfs(&spec.tmpfs)?,
            hosts: Register::new(&context.state_dir, NAME).hosts(request.lab),
            hidden: vec![context.state_dir.clone(), context.runtime_dir.clone()],
            processors: spec.resources.cpu_set.as_deref().map(processors).transpose()?.unwrap_or_default(),
            shm: spec.extra.get("shm-size").map(size).transpose()?.unwrap_or(SHM),
            privileged: settings.privileged || stand_in.privileged,
            log_bytes: settings.log_bytes.max(64 << 10),
        },
    })
}

/// A node forwards packets unless it says otherwise, as containers do wherever their daemon runs: it may be a router.
fn sysctls(spec: &NodeSpec, own_network: bool) -> BTreeMap<String, String> {
    let mut all = spec.sysctls.clone();
    if own_network {
        all.entry("net.ipv4.ip_forward".to_owned()).or_insert_with(|| "1".to_owned());
    }
    all
}

fn hostname(name: &str) -> Result<String, Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(good) {
        return Ok(name.to_owned());
    }
    Err(invalid(format!("`{name}` cannot be a host name: 1 to 64 letters, digits, dots, underscores or dashes")))
}

/// Content of `/etc/resolv.conf`: the host's, unless the node says something else.
fn resolver(dns: &Dns) -> String {
    if *dns == Dns::default() {
        // A host without one has nothing to hand on.
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    }
    let mut text = String::new();
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    for (keyword, words) in [("search", &dns.search), ("options", &dns.options)] {
        if !words.is_empty() {
            text.push_str(&format!("{keyword} {}\n", words.join(" ")));
        }
    }
    text
}

/// Which of the host's files appear where. Each must exist and lie below the lab's directory or one that the operator
/// allows.
fn binds(settings: &Settings, directory: &Path, binds: &[Bind]) -> Result<Vec<HostBind>, Failure> {
    let mut result = Vec::new();
    for bind in binds {
        if let Some(option) = bind.options.iter().find(|option| !HARMLESS.contains(&option.as_str())) {
            let text = format!("bind {}: option `{option}` is not supported", bind.source.display());
            return Err(Failure::new(ErrorKind::Unsupported, text));
        }
        if !bind.target.is_absolute() {
            return Err(invalid(format!("bind target {} is not an absolute path", bind.target.display())));
        }
        let source = flattened(&directory.join(&bind.source));
        let bases = settings.allow_binds.iter().map(PathBuf::as_path).chain([directory]);
        // The innermost that fits, so that no link above it matters.
        let base = bases
            .filter(|base| source.starts_with(flattened(base)))
            .max_by_key(|base| base.components().count())
            .ok_or_else(|| {
                let text = format!(
                    "bind {} is outside of the lab's directory {}; the operator may allow it with `allow_binds` in the \
                     settings of the provider `netns`",
                    source.display(),
                    directory.display()
                );
                Failure::new(ErrorKind::PermissionDenied, text)
            })?;
        fs::symlink_metadata(&source)
            .map_err(|error| invalid(format!("bind source {} cannot be used: {error}", source.display())))?;
        let path = source.strip_prefix(flattened(base)).unwrap_or(&source).to_path_buf();
        let (base, target) = (base.to_path_buf(), bind.target.clone());
        result.push(HostBind { base, path, target, read_only: bind.read_only });
    }
    // What lies above is mounted first, or it would cover what lies below.
    result.sort_by_key(|bind| bind.target.components().count());
    Ok(result)
}

/// The path without `.` and `..`, by its words alone.
fn flattened(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(flat.pop()),
            other => flat.push(other),
        }
    }
    flat
}

fn tmpfs(wanted: &BTreeMap<String, String>) -> Result<BTreeMap<PathBuf, String>, Failure> {
    let check = |(path, options): (&String, &String)| match Path::new(path).is_absolute() {
        true => Ok((PathBuf::from(path), options.clone())),
        false => Err(invalid(format!("tmpfs `{path}` is not an absolute path"))),
    };
    wanted.iter().map(check).collect()
}

/// A list of processors such as `0-1,3`.
fn processors(text: &str) -> Result<Vec<usize>, Failure> {
    let parse = || {
        let mut all = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
            if first > last || last >= 1024 {
                return None;
            }
            all.extend(first..=last);
        }
        Some(all)
    };
    parse().ok_or_else(|| invalid(format!("`{text}` is not a list of processors such as 0-1,3")))
}

/// A number of bytes, as a number or as text with a unit.
fn size(value: &serde_json::Value) -> Result<u64, Failure> {
    let parse = |text: &str| {
        let lower = text.trim().to_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &lower[digits.len()..] {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(factor)
    };
    let found = value.as_u64().or_else(|| parse(value.as_str()?));
    found.ok_or_else(|| invalid(format!("shm-size {value} is not a size such as 64m")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(source: &str) -> Bind {
        Bind { source: source.into(), target: "/x".into(), read_only: false, options: vec![] }
    }

    #[test]
    fn binds_stay_below_the_lab_or_what_is_allowed() {
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("file"), "").unwrap();
        let mut settings = Settings::default();
        let check = |settings: &Settings, source: &str| binds(settings, lab.path(), &[bind(source)]);
        assert_eq!(check(&settings, "./a/../file").unwrap()[0].path, Path::new("file"));
        assert_eq!(check(&settings, "missing").unwrap_err().kind, ErrorKind::InvalidInput);
        for outside in ["/etc/passwd", "../../etc/passwd", "/"] {
            let failure = check(&settings, outside).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::PermissionDenied, "{outside}");
            assert!(failure.message.contains("allow_binds"), "{failure}");
        }
        settings.allow_binds = vec!["/etc".into()];
        assert_eq!(check(&settings, "/etc/passwd").unwrap()[0].base, Path::new("/etc"));
        assert!(check(&settings, "/etcetera").is_err());
        let odd = Bind { options: vec!["rshared".into()], ..bind("file") };
        assert!(binds(&settings, lab.path(), &[odd]).unwrap_err().message.contains("`rshared`"));
    }

    #[test]
    fn sizes_and_processors() {
        assert_eq!(size(&serde_json::json!("64m")).unwrap(), 64 << 20);
        assert_eq!(size(&serde_json::json!(4096)).unwrap(), 4096);
        assert!(size(&serde_json::json!("64 apples")).is_err());
        assert_eq!(processors("0-1,3").unwrap(), [0, 1, 3]);
        for bad in ["", "a", "3-1", "0-99999"] {
            assert!(processors(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn host_names_are_checked() {
        assert!(hostname("r1.lab").is_ok());
        for bad in ["", "a b", "a/b", &"x".repeat(65)] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
    }
}
