//! `ip`, as far as labs need it.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use lifecycle_core::name::IfName;
use lifecycle_linux::netlink::{Change, NetlinkError, RouteSocket, Which, add_address, add_default_route, change_link};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::failure::{Exit, Failure, Result};

/// Give interfaces addresses, set them up or down, and give the default route
#[derive(Debug, Clone, Args)]
pub struct Ip {
    #[command(subcommand)]
    object: Object,
}

#[derive(Debug, Clone, Subcommand)]
enum Object {
    /// address add ADDRESS/LENGTH dev INTERFACE
    #[command(visible_aliases = ["addr", "a"])]
    Address {
        #[command(subcommand)]
        action: AddressAction,
    },
    /// link set INTERFACE up|down
    #[command(visible_alias = "l")]
    Link {
        #[command(subcommand)]
        action: LinkAction,
    },
    /// route add default via ADDRESS
    #[command(visible_alias = "r")]
    Route {
        #[command(subcommand)]
        action: RouteAction,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum AddressAction {
    /// ADDRESS/LENGTH dev INTERFACE
    Add {
        /// Address with the length of its prefix
        address: IpNet,
        #[arg(value_parser = ["dev"], hide = true)]
        dev: String,
        /// Interface that gets it
        interface: IfName,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum LinkAction {
    /// [dev] INTERFACE up|down
    Set {
        /// Interface, and `up` or `down`
        #[arg(required = true, num_args = 2..=3)]
        words: Vec<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum RouteAction {
    /// default via ADDRESS
    Add {
        #[arg(value_parser = ["default"])]
        destination: String,
        #[arg(value_parser = ["via"], hide = true)]
        via: String,
        /// Router on a network of this node
        gateway: IpAddr,
    },
}

pub(super) fn run(ip: &Ip) -> Result {
    let mut socket = open()?;
    match &ip.object {
        Object::Address { action: AddressAction::Add { address, interface, .. } } => {
            let index = index_of(&mut socket, interface)?;
            socket.run(add_address(index, *address)).map_err(refused)?;
        }
        Object::Link { action: LinkAction::Set { words } } => {
            let (interface, up) = parse_set(words)?;
            let change = Change { up: Some(up), ..Change::default() };
            socket.run(change_link(Which::Name(&interface), &change)).map_err(refused)?;
        }
        Object::Route { action: RouteAction::Add { gateway, .. } } => {
            let through = network_of(&mut socket, *gateway)?;
            socket.run(add_default_route(*gateway, through)).map_err(refused)?;
        }
    }
    Ok(Exit::Ok)
}

/// A route socket of the namespace that this process is in.
fn open() -> Result<RouteSocket> {
    let raw = || -> std::io::Result<RouteSocket> {
        let fd: OwnedFd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        RouteSocket::new(fd)
    };
    raw().map_err(|error| Failure::io("talk to the kernel", &error))
}

fn refused(error: NetlinkError) -> Failure {
    Failure::plain(error.to_string())
}

fn index_of(socket: &mut RouteSocket, interface: &IfName) -> Result<u32> {
    let found = socket.link(Which::Name(interface)).map_err(refused)?;
    found
        .map(|link| link.index)
        .ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no interface {interface}")))
}

/// The interface whose network an address is in.
fn network_of(socket: &mut RouteSocket, address: IpAddr) -> Result<u32> {
    let addresses = socket.addresses().map_err(refused)?;
    let found = addresses.iter().filter(|own| own.net.contains(&address)).max_by_key(|own| own.net.prefix_len());
    found.map(|own| own.index).ok_or_else(|| {
        Failure::plain(format!("{address} is in no network of this node; give an interface an address in it first"))
    })
}

fn parse_set(words: &[String]) -> Result<(IfName, bool)> {
    let usage = || Failure::new(Exit::Usage, "expected: ip link set [dev] INTERFACE up|down");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (interface, state) = match words[..] {
        ["dev", interface, state] | [interface, state] => (interface, state),
        _ => return Err(usage()),
    };
    let up = match state {
        "up" => true,
        "down" => false,
        _ => return Err(usage()),
    };
    let interface = IfName::new(interface).map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
    Ok((interface, up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_set_up_or_down() {
        let parse = |text: &str| parse_set(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let eth1 = IfName::new("eth1").unwrap();
        assert_eq!(parse("eth1 up").unwrap(), (eth1.clone(), true));
        assert_eq!(parse("dev eth1 down").unwrap(), (eth1, false));
        for bad in ["eth1", "eth1 sideways", "dev eth1", "x y z", "a/b up"] {
            assert_eq!(parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
