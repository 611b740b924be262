//! Turning what a user wants of a node into what a daemon is asked for.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::topology::{Dns, ManagementNetwork, NetworkMode, NodeSpec};
use serde_json::Value;

use crate::failure::Failure;
use crate::mark::{Mark, Part};
use crate::permit;
use crate::settings::Settings;

mod ports;

pub(crate) use ports::Ports;

/// Bytes of a node's output that are kept, in each of two files.
const LOG_SIZE: &str = "4m";
/// What a node may do in its own network namespace, besides what every container may: it is there to be configured.
const OWN_NETWORK: &str = "NET_ADMIN";

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::InvalidInput, text)
}

fn unsupported(text: impl Into<String>) -> Failure {
    Failure::new(ErrorKind::Unsupported, text)
}

/// A texts' list of a lab file's further fields.
fn list(spec: &NodeSpec, field: &str) -> Vec<String> {
    let items = spec.extra.get(field).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn text<'a>(spec: &'a NodeSpec, field: &str) -> Option<&'a str> {
    spec.extra.get(field).and_then(Value::as_str)
}

/// Nothing in place of what is empty, which is how daemons like it.
fn some<T: IntoIterator + Default + PartialEq>(all: T) -> Option<T> {
    (all != T::default()).then_some(all)
}

/// Kernel parameters of network namespaces, and the others.
fn sysctls(spec: &NodeSpec) -> (HashMap<String, String>, HashMap<String, String>) {
    spec.sysctls.clone().into_iter().partition(|(name, _)| name.starts_with("net."))
}

/// Refuses what an instance cannot have, by name.
fn check(spec: &NodeSpec, provider: &str) -> Result<(), Failure> {
    if spec.extra.get("auto-remove").and_then(Value::as_bool) == Some(true) {
        return Err(unsupported("`auto-remove`: a node that removed itself would only be made again"));
    }
    if let Some(runtime) = text(spec, "runtime").filter(|runtime| *runtime != provider) {
        let advice = format!("choose the provider with `provider: {runtime}`");
        return Err(unsupported(format!("`runtime: {runtime}` is not what `{provider}` is; {advice}")));
    }
    let owns_network = matches!(spec.network_mode, NetworkMode::Own | NetworkMode::None);
    let shares = [
        ("ports", !list(spec, "ports").is_empty()),
        ("sysctls net.*", !sysctls(spec).0.is_empty()),
        ("aliases", !spec.aliases.is_empty()),
        ("mgmt-ipv4", spec.mgmt_ipv4.is_some()),
        ("mgmt-ipv6", spec.mgmt_ipv6.is_some()),
    ];
    if let Some((field, _)) = shares.iter().find(|(_, given)| *given && !owns_network) {
        return Err(unsupported(format!("`{field}` belongs to whoever owns the network that `network-mode` names")));
    }
    let joins = matches!(spec.network_mode, NetworkMode::Node(_) | NetworkMode::External(_));
    if joins && (spec.hostname.is_some() || spec.dns != Dns::default()) {
        return Err(unsupported(
            "`hostname` and `dns` are those of whoever owns the network that `network-mode` names",
        ));
    }
    Ok(())
}

/// The container that holds a node's network namespace, and with it everything that a daemon ties to one: host name,
/// resolver, published ports, kernel parameters of the network, the management network.
pub(crate) fn holder(
    request: &CreateNode,
    mark: &Mark,
    image: String,
    network: Option<&ManagementNetwork>,
) -> Result<ContainerCreateBody, Failure> {
    let spec = &request.spec;
    let ports = Ports::read(&list(spec, "ports")).map_err(invalid)?;
    if network.is_none() && !ports.is_empty() {
        return Err(invalid("`ports` can be published on the management network only, and the node is not on it"));
    }
    let name = request.name.to_string();
    let domain = format!("{}.io", request.lab_name);
    // Labs may share a network and have nodes of one name. So a short name is found in its lab's own domain, and asked
    // for there first; it never leaves the daemon's resolver.
    let search: Vec<String> = [domain.clone()].into_iter().chain(spec.dns.search.clone()).collect();
    let mut options = spec.dns.options.clone();
    if !options.iter().any(|option| option.starts_with("ndots")) {
        options.push("ndots:1".to_owned());
    }
    let endpoint = network.map(|network| {
        let fixed = EndpointIpamConfig {
            ipv4_address: spec.mgmt_ipv4.map(|address| address.to_string()),
            ipv6_address: spec.mgmt_ipv6.map(|address| address.to_string()),
            link_local_ips: None,
        };
        let own = [request.long_name.clone(), format!("{name}.{domain}")].into_iter();
        let aliases = spec.aliases.iter().flat_map(|alias| [alias.clone(), format!("{alias}.{domain}")]);
        let settings = EndpointSettings {
            aliases: Some(own.chain(aliases).collect()),
            ipam_config: Some(fixed),
            ..EndpointSettings::default()
        };
        HashMap::from([(network.name.clone(), settings)])
    });
    // Daemons let containers forward packets by what they set on the host, and only there.
    let mut parameters = sysctls(spec).0;
    parameters.entry("net.ipv4.ip_forward".to_owned()).or_insert_with(|| "1".to_owned());
    let servers = spec.dns.servers.iter().map(ToString::to_string).collect::<Vec<_>>();
    let on_network = network.is_some();
    Ok(ContainerCreateBody {
        image: Some(image),
        hostname: Some(spec.hostname.clone().unwrap_or(name)),
        labels: Some(mark.labels(Part::Holder)),
        exposed_ports: some(ports.exposed()),
        // What it runs is deaf to anything else.
        stop_signal: Some("SIGKILL".to_owned()),
        networking_config: endpoint.map(|endpoint| NetworkingConfig { endpoints_config: Some(endpoint) }),
        host_config: Some(HostConfig {
            network_mode: Some(network.map_or_else(|| "none".to_owned(), |network| network.name.clone())),
            port_bindings: some(ports.bindings()),
            dns: some(servers),
            dns_search: on_network.then_some(search).or_else(|| some(spec.dns.search.clone())),
            dns_options: on_network.then_some(options).or_else(|| some(spec.dns.options.clone())),
            sysctls: Some(parameters),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// The container of the node itself, still without the network that it uses.
pub(crate) fn node(
    request: &CreateNode,
    mark: &Mark,
    settings: &Settings,
    provider: &str,
) -> Result<ContainerCreateBody, Failure> {
    let spec = &request.spec;
    let image = image_of(spec)?;
    check(spec, provider)?;
    permit::check(settings, spec)?;
    let own_network = matches!(spec.network_mode, NetworkMode::Own | NetworkMode::None | NetworkMode::Node(_));
    let privileged = settings.privileged || spec.extra.get("privileged").and_then(Value::as_bool) == Some(true);
    let mut capabilities = list(spec, "cap-add");
    for name in settings.capabilities.iter().map(String::as_str).chain(own_network.then_some(OWN_NETWORK)) {
        let bare = |name: &str| name.trim_start_matches("CAP_").to_owned();
        if !capabilities.iter().any(|known| bare(known) == bare(name)) {
            capabilities.push(name.to_owned());
        }
    }
    let binds = spec.binds.iter().map(|bind| permit::bind(settings, &request.directory, bind));
    let binds: Vec<String> = binds.collect::<Result<_, _>>()?;
    let (volumes, named): (Vec<_>, Vec<_>) = list(spec, "volumes").into_iter().partition(|text| text.starts_with('/'));
    let devices: Vec<DeviceMapping> = list(spec, "devices").iter().map(|text| device(text)).collect();
    let host_network = spec.network_mode == NetworkMode::Host;
    let hostname = match spec.network_mode {
        NetworkMode::Host => spec.hostname.clone(),
        // Podman's containers have a host name of their own where Docker's have that of the holder which they join.
        NetworkMode::Own | NetworkMode::None if provider == crate::PODMAN.name => {
            Some(spec.hostname.clone().unwrap_or_else(|| request.name.to_string()))
        }
        _ => None,
    };
    let log = HashMap::from([("max-size".to_owned(), LOG_SIZE.to_owned()), ("max-file".to_owned(), "2".to_owned())]);
    Ok(ContainerCreateBody {
        image: Some(image.to_owned()),
        hostname,
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.cmd.clone(),
        env: Some(environment(request)),
        user: spec.user.clone(),
        labels: Some(spec.labels.clone().into_iter().chain(mark.labels(Part::Node)).collect()),
        volumes: some(volumes),
        // As in other network labs, the command runs on a terminal, which is the node's console.
        tty: Some(true),
        open_stdin: Some(true),
        host_config: Some(HostConfig {
            binds: some(binds.into_iter().chain(named).collect::<Vec<_>>()),
            tmpfs: some(tmpfs(spec)?),
            memory: spec.resources.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            nano_cpus: spec.resources.cpu.map(|cpus| (cpus * 1e9) as i64),
            cpuset_cpus: spec.resources.cpu_set.clone(),
            sysctls: some(sysctls(spec).1),
            cap_add: some(capabilities),
            devices: some(devices),
            privileged: Some(privileged),
            security_opt: some(list(spec, "security-opts")),
            restart_policy: Some(restart_policy(text(spec, "restart-policy"))?),
            shm_size: spec.extra.get("shm-size").map(size).transpose()?,
            pid_mode: text(spec, "pid-mode").map(str::to_owned),
            cgroup_parent: text(spec, "cgroup-parent").map(str::to_owned),
            cgroupns_mode: text(spec, "cgroupns-mode").map(cgroup_namespace).transpose()?,
            dns: host_network.then(|| some(spec.dns.servers.iter().map(ToString::to_string).collect())).flatten(),
            dns_search: host_network.then(|| some(spec.dns.search.clone())).flatten(),
            dns_options: host_network.then(|| some(spec.dns.options.clone())).flatten(),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// The image that a node runs.
pub(crate) fn image_of(spec: &NodeSpec) -> Result<&str, Failure> {
    spec.image.as_deref().ok_or_else(|| {
        let text = format!("a node of kind `{}` names no image, and a container needs one; give it `image`", spec.kind);
        Failure::new(ErrorKind::ImageUnavailable, text)
    })
}

fn environment(request: &CreateNode) -> Vec<String> {
    let spec = &request.spec;
    let label = |name: &str| name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let mut env: HashMap<String, String> =
        spec.labels.iter().map(|(name, value)| (format!("CLAB_LABEL_{}", label(name)), value.clone())).collect();
    env.insert("CLAB_INTFS".to_owned(), request.interfaces.to_string());
    env.extend(spec.env.clone());
    let mut lines: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.sort();
    lines
}

fn tmpfs(spec: &NodeSpec) -> Result<HashMap<String, String>, Failure> {
    match spec.tmpfs.keys().find(|path| !Path::new(path).is_absolute()) {
        Some(path) => Err(invalid(format!("tmpfs `{path}` is not an absolute path"))),
        None => Ok(spec.tmpfs.clone().into_iter().collect()),
    }
}

/// A device such as `/dev/net/tun`, or `/dev/sda:/dev/xvda:r`.
fn device(text: &str) -> DeviceMapping {
    let mut parts = text.splitn(3, ':');
    let host = parts.next().unwrap_or_default().to_owned();
    let (inside, rights) = match (parts.next(), parts.next()) {
        (None, _) => (host.clone(), None),
        (Some(rights), None) if !rights.starts_with('/') => (host.clone(), Some(rights)),
        (Some(inside), rights) => (inside.to_owned(), rights),
    };
    let rights = rights.unwrap_or("rwm").to_owned();
    DeviceMapping { path_on_host: Some(host), path_in_container: Some(inside), cgroup_permissions: Some(rights) }
}

fn restart_policy(text: Option<&str>) -> Result<RestartPolicy, Failure> {
    let (word, count) = match text {
        None => ("no", None),
        Some(text) => text.split_once(':').map_or((text, None), |(word, count)| (word, Some(count))),
    };
    let name = match word.to_ascii_lowercase().as_str() {
        "no" => RestartPolicyNameEnum::NO,
        "always" => RestartPolicyNameEnum::ALWAYS,
        "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
        "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
        _ => return Err(invalid(format!("restart-policy `{word}` is not known"))),
    };
    let bad = |count: &str| invalid(format!("restart-policy: `{count}` is not a number of attempts"));
    let maximum_retry_count = count.map(|count| count.parse().map_err(|_| bad(count))).transpose()?;
    Ok(RestartPolicy { name: Some(name), maximum_retry_count })
}

fn cgroup_namespace(text: &str) -> Result<HostConfigCgroupnsModeEnum, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "host" => Ok(HostConfigCgroupnsModeEnum::HOST),
        "private" => Ok(HostConfigCgroupnsModeEnum::PRIVATE),
        _ => Err(invalid(format!("cgroupns-mode `{text}` is not known; it is host or private"))),
    }
}

/// A number of bytes, as a number or as text with a unit.
fn size(value: &Value) -> Result<i64, Failure> {
    let parse = |text: &str| {
        let lower = text.trim().to_lowercase();
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: i64 = match lower[digits.len()..].trim() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return None,
        };
        digits.trim().parse::<i64>().ok()?.checked_mul(factor)
    };
    let found = value.as_i64().or_else(|| parse(value.as_str()?));
    found.ok_or_else(|| invalid(format!("shm-size {value} is not a size such as 64m")))
}

#[cfg(test)]
mod tests;
