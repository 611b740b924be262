//! The management network of a lab.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lifecycle_core::name::IfName;
use lifecycle_core::topology::ManagementNetwork;

use crate::decode::At;
use crate::diagnostics::Problems;
use crate::file::Mgmt;
use crate::node::MTU;

const DEFAULT_NAME: &str = "clab";
const DEFAULT_IPV4: &str = "172.20.20.0/24";
const DEFAULT_IPV6: &str = "3fff:172:20:20::/64";

/// Reads the network; both default subnets count only while the file gives neither.
pub(crate) fn network(mgmt: Option<&Mgmt>, problems: &mut Problems) -> ManagementNetwork {
    let none = Mgmt::default();
    let mgmt = mgmt.unwrap_or(&none);
    let mut extra = BTreeMap::new();
    let subnets = [
        ("ipv4-subnet", &mgmt.ipv4_subnet, &mgmt.ipv4_subnet_old),
        ("ipv6-subnet", &mgmt.ipv6_subnet, &mgmt.ipv6_subnet_old),
    ];
    let [ipv4, ipv6] = subnets.map(|(name, given, old)| {
        let given = given.as_ref().or(old.as_ref()).filter(|text| !text.is_empty());
        if given.is_some_and(|text| text.trim() == "auto") {
            extra.insert(name.to_owned(), "auto".into());
            return None;
        }
        given
    });
    let given = ipv4.is_some() || ipv6.is_some() || !extra.is_empty();
    let default = |text: &str| (!given).then(|| text.parse::<IpNet>().ok()).flatten();
    let ipv4 = ipv4.map_or_else(|| default(DEFAULT_IPV4), |text| subnet(text, true, problems)).and_then(v4);
    let ipv6 = ipv6.map_or_else(|| default(DEFAULT_IPV6), |text| subnet(text, false, problems)).and_then(v6);
    if let Some(allowed) = &mgmt.external_access {
        extra.insert("external-access".to_owned(), allowed.value.into());
    }
    for (key, entry) in mgmt.driver_opts.iter().flat_map(|options| &options.value) {
        let options = extra.entry("driver-opts".to_owned()).or_insert_with(|| serde_json::json!({}));
        options[key] = entry.value.as_ref().map_or_else(String::new, |value| value.value.clone()).into();
    }
    if let Some(mtu) = mgmt.mtu.as_ref().filter(|mtu| !MTU.contains(&mtu.value)) {
        problems.error(mtu.span, "this MTU is out of range", format!("expected {} to {}", MTU.start(), MTU.end()));
    }
    ManagementNetwork {
        name: name(mgmt, problems),
        bridge: mgmt.bridge.as_ref().filter(|text| !text.is_empty()).and_then(|text| {
            IfName::new(&text.value).map_err(|error| problems.error(text.span, error.to_string(), "")).ok()
        }),
        ipv4_gateway: mgmt.ipv4_gw.as_ref().and_then(|text| gateway(text, ipv4.map(IpNet::V4), problems)),
        ipv6_gateway: mgmt.ipv6_gw.as_ref().and_then(|text| gateway(text, ipv6.map(IpNet::V6), problems)),
        ipv4_range: mgmt
            .ipv4_range
            .as_ref()
            .and_then(|text| range(text, ipv4.map(IpNet::V4), true, problems))
            .and_then(v4),
        ipv6_range: mgmt
            .ipv6_range
            .as_ref()
            .and_then(|text| range(text, ipv6.map(IpNet::V6), false, problems))
            .and_then(v6),
        ipv4,
        ipv6,
        mtu: mgmt.mtu.as_deref().copied(),
        extra,
    }
}

fn name(mgmt: &Mgmt, problems: &mut Problems) -> String {
    let Some(name) = mgmt.network.as_ref().filter(|text| !text.is_empty()) else { return DEFAULT_NAME.to_owned() };
    if let Err(error) = lifecycle_core::name::LabName::new(&name.value) {
        problems.error(name.span, format!("`{:.80}` cannot be the name of a network", name.value), error.rule);
    }
    name.value.clone()
}

fn v4(net: IpNet) -> Option<Ipv4Net> {
    if let IpNet::V4(net) = net { Some(net) } else { None }
}

fn v6(net: IpNet) -> Option<Ipv6Net> {
    if let IpNet::V6(net) = net { Some(net) } else { None }
}

fn subnet(text: &At<String>, is_v4: bool, problems: &mut Problems) -> Option<IpNet> {
    let net = text.trim().parse::<IpNet>().ok().filter(|net| matches!(net, IpNet::V4(_)) == is_v4);
    let Some(net) = net else {
        let expected =
            if is_v4 { "an IPv4 subnet such as 172.20.20.0/24" } else { "an IPv6 subnet such as 3fff:172:20:20::/64" };
        problems.error(
            text.span,
            format!("`{:.80}` is not a subnet of this family", text.value),
            format!("expected {expected}"),
        );
        return None;
    };
    if net.addr() != net.network() {
        let message = format!("`{}` is an address within a subnet", text.value);
        problems.error(text.span, message, format!("expected {}", net.trunc()));
    }
    Some(net.trunc())
}

fn range(text: &At<String>, of: Option<IpNet>, is_v4: bool, problems: &mut Problems) -> Option<IpNet> {
    let range = subnet(text, is_v4, problems)?;
    match of {
        Some(of) if of.contains(&range) => {}
        Some(of) => problems.error(
            text.span,
            format!("the range {range} is not within the subnet"),
            format!("expected a part of {of}"),
        ),
        None => problems.error(text.span, "a range needs a subnet", "give the subnet of this family as well"),
    }
    Some(range)
}

fn gateway(text: &At<String>, of: Option<IpNet>, problems: &mut Problems) -> Option<IpAddr> {
    let Ok(address) = text.trim().parse::<IpAddr>() else {
        problems.error(text.span, format!("`{:.80}` is not an address", text.value), "");
        return None;
    };
    match of {
        Some(of) if of.contains(&address) && address != of.network() => {}
        Some(of) => problems.error(
            text.span,
            format!("the gateway {address} is not an address of the subnet"),
            format!("expected one of {of}"),
        ),
        None => problems.error(text.span, "a gateway needs a subnet", "give the subnet of this family as well"),
    }
    Some(address)
}
