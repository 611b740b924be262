//! Management networks: one network of the daemon for each, made with its first node and removed with its last.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use lifecycle_core::ErrorKind;
use lifecycle_core::policy::naming::OurName;
use lifecycle_core::topology::ManagementNetwork;
use lifecycle_crash::crash_point;
use serde_json::Value;

use crate::client::{Client, optional};
use crate::failure::Failure;
use crate::mark;

/// How long the making of a network may take from its beginning until others see it.
const MAKING: Duration = Duration::from_secs(3);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Sees to it that the network is there. One that somebody else made under this name is used as it is, and stays theirs.
pub(crate) async fn ensure(client: &Client, network: &ManagementNetwork) -> Result<(), Failure> {
    let began = Instant::now();
    while find(client, &network.name).await?.is_none() {
        let request = request(network);
        match client.act(Duration::ZERO, async |docker| docker.create_network(request).await).await {
            Ok(_) => {
                crash_point("container-network-made");
                break;
            }
            Err(failure) if began.elapsed() > MAKING => return Err(failure),
            // Another node's creation was faster, or it took effect though no answer came; or Podman still has the bridge of a
            // network that just went. A network that is being made has its addresses and its bridge before others see its name.
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
    Ok(())
}

async fn find(client: &Client, name: &str) -> Result<Option<NetworkInspect>, Failure> {
    let found = client.ask(async |docker| docker.inspect_network(name, None::<InspectNetworkOptions>).await).await;
    // The beginning of an identifier is taken for a name.
    Ok(optional(found)?.filter(|network| network.name.as_deref() == Some(name)))
}

/// Takes a container off a network.
pub(crate) async fn leave(client: &Client, network: &str, container: &str) -> Result<(), Failure> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
    match client.act(Duration::ZERO, async |docker| docker.disconnect_network(network, request).await).await {
        // The network or the container went, or somebody else did it.
        Err(failure) if failure.status() == Some(404) || failure.message.contains("not connected") => Ok(()),
        other => other,
    }
}

/// Removes the networks of ours that no node is on.
pub(crate) async fn release(client: &Client) -> Result<(), Failure> {
    let labels: Vec<String> = mark::of_management().into_keys().collect();
    let filters = Some(HashMap::from([("label".to_owned(), labels)]));
    let listed = client.ask(async |docker| docker.list_networks(Some(ListNetworksOptions { filters })).await).await?;
    for name in listed.into_iter().filter_map(|network| network.name) {
        let Some(network) = find(client, &name).await? else { continue };
        let in_use = network.containers.as_ref().is_some_and(|containers| !containers.is_empty());
        let (true, false, Some(id)) = (mark::is_management(network.labels.as_ref()), in_use, network.id) else {
            continue;
        };
        match client.act(Duration::ZERO, async |docker| docker.remove_network(&id).await).await {
            Ok(()) => crash_point("container-network-removed"),
            // It went, or somebody came to be on it.
            Err(failure) if matches!(failure.status(), Some(403 | 404 | 409)) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn request(network: &ManagementNetwork) -> NetworkCreateRequest {
    let config = |subnet: String, range: Option<String>, gateway: Option<String>| IpamConfig {
        subnet: Some(subnet),
        ip_range: range,
        gateway,
        auxiliary_addresses: None,
    };
    let ipv4 = network.ipv4.map(|subnet| {
        let range = network.ipv4_range.map(|range| range.to_string());
        config(subnet.trunc().to_string(), range, network.ipv4_gateway.map(|address| address.to_string()))
    });
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let ipv6 = network.ipv6.filter(|_| has_ipv6).map(|subnet| {
        let range = network.ipv6_range.map(|range| range.to_string());
        config(subnet.trunc().to_string(), range, network.ipv6_gateway.map(|address| address.to_string()))
    });
    let wants_ipv6 = ipv6.is_some() || (has_ipv6 && network.extra.contains_key("ipv6-subnet"));
    // A bridge of one name cannot be made twice: so neither can the network.
    let bridge = network.bridge.clone().unwrap_or_else(|| OurName::management_bridge(&network.name).ifname());
    let mut options = HashMap::from([("com.docker.network.bridge.name".to_owned(), bridge.to_string())]);
    options.extend(network.mtu.map(|mtu| ("com.docker.network.driver.mtu".to_owned(), mtu.to_string())));
    let further = network.extra.get("driver-opts").and_then(Value::as_object);
    options.extend(
        further
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))),
    );
    let ranges: Vec<IpamConfig> = ipv4.into_iter().chain(ipv6).collect();
    NetworkCreateRequest {
        name: network.name.clone(),
        driver: Some("bridge".to_owned()),
        enable_ipv6: Some(wants_ipv6),
        ipam: (!ranges.is_empty()).then(|| Ipam { config: Some(ranges), ..Ipam::default() }),
        options: Some(options),
        labels: Some(mark::of_management()),
        ..NetworkCreateRequest::default()
    }
}

/// Why a node cannot have the addresses that are fixed for it.
pub(crate) fn check_fixed(
    network: Option<&ManagementNetwork>,
    fixed: [Option<std::net::IpAddr>; 2],
) -> Result<(), Failure> {
    let Some(network) = network else {
        return match fixed.iter().flatten().next() {
            None => Ok(()),
            Some(address) => {
                let text = format!("{address} is fixed for the node, but the node is on no management network");
                Err(Failure::new(ErrorKind::InvalidInput, text))
            }
        };
    };
    let automatic = |field: &str| network.extra.contains_key(field);
    let holds = |address: &std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => {
            automatic("ipv4-subnet") || network.ipv4.is_some_and(|subnet| subnet.contains(address))
        }
        std::net::IpAddr::V6(address) => {
            automatic("ipv6-subnet") || network.ipv6.is_some_and(|subnet| subnet.contains(address))
        }
    };
    match fixed.iter().flatten().find(|address| !holds(address)) {
        None => Ok(()),
        Some(address) => {
            let text = format!("the fixed address {address} is not in the management network {}", network.name);
            Err(Failure::new(ErrorKind::InvalidInput, text))
        }
    }
}
