//! `ping`, as far as labs need it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use clap::Args;
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, Output};

/// Bytes of data in a request.
const DATA: usize = 56;
/// The answer of a host, by IP version.
const ECHO_REPLY: (u8, u8) = (0, 129);
/// The request to a host, by IP version.
const ECHO_REQUEST: (u8, u8) = (8, 128);

/// Send echo requests and wait for the answers
#[derive(Debug, Clone, Args)]
pub struct Ping {
    /// Stop after so many answers [default: go on]
    #[arg(short, value_name = "COUNT")]
    count: Option<u32>,
    /// Seconds between two requests
    #[arg(short, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
    /// Seconds after which it ends whatever was answered
    #[arg(short = 'w', value_name = "SECONDS", value_parser = seconds)]
    deadline: Option<f64>,
    /// Address or name
    destination: String,
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.001..=86_400.0).contains(number));
    number.ok_or_else(|| "expected a number of seconds".to_owned())
}

/// Succeeds when all requests that were wanted were answered, and with a deadline when one was.
pub(super) fn run(ping: &Ping) -> Result {
    let address = resolve(&ping.destination)?;
    let mut echo = Echo::open(address).map_err(|error| Failure::io("open a socket for echo requests", &error))?;
    let (out, began) = (Output::new(Format::Table), Instant::now());
    let deadline = ping.deadline.map(|seconds| began + Duration::from_secs_f64(seconds));
    let interval = Duration::from_secs_f64(ping.interval);
    let wanted = ping.count.unwrap_or(u32::MAX);
    let (mut sent, mut answered) = (0u32, 0u32);
    out.text(&format!("PING {} ({address})\n", ping.destination))?;
    // Without a deadline so many requests are sent as answers are wanted; with one, until they have come or it is over.
    let more = |sent: u32, answered: u32| match deadline {
        Some(deadline) => answered < wanted && Instant::now() < deadline,
        None => sent < wanted,
    };
    while more(sent, answered) {
        let (start, sequence) = (Instant::now(), sent as u16);
        sent += 1;
        let problem = echo.send(sequence).err();
        let until = deadline.map_or(start + interval, |deadline| deadline.min(start + interval));
        match problem {
            Some(error) => out.text(&format!("seq={sequence} {error}\n"))?,
            None => {
                if echo.wait(sequence, until).map_err(|error| Failure::io("wait for an answer", &error))? {
                    answered += 1;
                    let took = start.elapsed().as_secs_f64() * 1000.0;
                    out.text(&format!("answer from {address}: seq={sequence} time={took:.3} ms\n"))?;
                }
            }
        }
        if more(sent, answered) {
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }
    out.text(&format!("{sent} sent, {answered} answered\n"))?;
    let enough = if deadline.is_some() { answered > 0 } else { answered == sent };
    Ok(if enough { Exit::Ok } else { Exit::Failure })
}

fn resolve(name: &str) -> Result<IpAddr> {
    if let Ok(address) = name.parse() {
        return Ok(address);
    }
    let unknown = |why: String| Failure::new(Exit::NotFound, format!("the name `{name}` is not known: {why}"));
    let mut found = (name, 0).to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
    found.next().map(|address| address.ip()).ok_or_else(|| unknown("it has no address".to_owned()))
}

/// A socket for echo requests to one address.
struct Echo {
    socket: OwnedFd,
    address: IpAddr,
    /// The kernel gives requests a number of its own, and hands out only the answers to them, without headers.
    datagram: bool,
    identifier: u16,
}

impl Echo {
    /// A raw socket where this process may have one, as in a node it may; otherwise the kind for ordinary users.
    fn open(address: IpAddr) -> io::Result<Self> {
        let (family, protocol) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
            IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let open = |kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol);
        let (socket, datagram) = match open(SockType::Raw) {
            Err(Errno::EPERM | Errno::EACCES) => (open(SockType::Datagram)?, true),
            opened => (opened?, false),
        };
        Ok(Self { socket, address, datagram, identifier: std::process::id() as u16 })
    }

    fn send(&mut self, sequence: u16) -> io::Result<()> {
        let message = request(self.address, self.identifier, sequence);
        let fd = self.socket.as_raw_fd();
        match self.address {
            IpAddr::V4(address) => sendto(fd, &message, &to_v4(address), MsgFlags::empty())?,
            IpAddr::V6(address) => sendto(fd, &message, &to_v6(address), MsgFlags::empty())?,
        };
        Ok(())
    }

    /// Waits for the answer to a request; false when the time is over.
    fn wait(&mut self, sequence: u16, until: Instant) -> io::Result<bool> {
        let mut buffer = [0; 2048];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
            setsockopt(&self.socket, ReceiveTimeout, &TimeVal::new(micros / 1_000_000, micros % 1_000_000))?;
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) if self.is_answer(&buffer[..length], sequence) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_answer(&self, packet: &[u8], sequence: u16) -> bool {
        // A raw socket of IPv4 hands out the header of the packet too.
        let header = match (self.address, packet.first()) {
            (IpAddr::V4(_), Some(first)) if !self.datagram => usize::from(first & 0xf) * 4,
            _ => 0,
        };
        let kind = if self.address.is_ipv4() { ECHO_REPLY.0 } else { ECHO_REPLY.1 };
        match packet.get(header..) {
            Some([found, 0, _, _, id_high, id_low, high, low, ..]) => {
                let ours = self.datagram || u16::from_be_bytes([*id_high, *id_low]) == self.identifier;
                *found == kind && ours && u16::from_be_bytes([*high, *low]) == sequence
            }
            _ => false,
        }
    }
}

fn to_v4(address: Ipv4Addr) -> SockaddrIn {
    std::net::SocketAddrV4::new(address, 0).into()
}

fn to_v6(address: Ipv6Addr) -> SockaddrIn6 {
    std::net::SocketAddrV6::new(address, 0, 0, 0).into()
}

/// An echo request. The kernel fills in the checksum of IPv6 itself.
fn request(address: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    let kind = if address.is_ipv4() { ECHO_REQUEST.0 } else { ECHO_REQUEST.1 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend((0..DATA).map(|n| n as u8));
    let checksum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    message
}

/// The checksum of the internet protocols: the complement of the sum in ones' complement.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_nothing() {
        let message = request(IpAddr::V4(Ipv4Addr::LOCALHOST), 0x1234, 7);
        assert_eq!((message.len(), message[0], &message[4..8]), (64, 8, &[0x12, 0x34, 0, 7][..]));
        assert_eq!(checksum(&message), 0);
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }

    #[test]
    fn only_the_own_answer_counts() {
        let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::empty(), None).unwrap();
        let mut echo = Echo { socket, address: IpAddr::V4(Ipv4Addr::LOCALHOST), datagram: false, identifier: 7 };
        let mut packet = vec![0x45; 20];
        packet.extend([0, 0, 0, 0, 0, 7, 0, 3]);
        assert!(echo.is_answer(&packet, 3));
        assert!(!echo.is_answer(&packet, 4));
        echo.identifier = 8;
        assert!(!echo.is_answer(&packet, 3));
        assert!(!echo.is_answer(&packet[..24], 3));
        assert!(!echo.is_answer(&[], 3));
        echo.datagram = true;
        assert!(echo.is_answer(&packet[20..], 3));
    }

    #[test]
    fn names_and_addresses() {
        assert_eq!(resolve("10.0.0.1").unwrap(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(resolve("::1").unwrap(), IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert!(resolve("localhost").unwrap().is_loopback());
        assert!(["0", "-1", "x", ""].iter().all(|text| seconds(text).is_err()));
    }
}
