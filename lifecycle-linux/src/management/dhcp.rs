//! The part of DHCP (RFC 2131) that a machine needs to be told the address that is reserved for it, and no more: no pool, no
//! time after which an address would be somebody else's, and no word to whoever is not known.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use ipnet::Ipv4Net;
use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use nix::sys::socket::{SockaddrIn, bind, setsockopt, sockopt};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// Length of what stands before the options.
const FIXED: usize = 240;
/// Length below which some old clients drop an answer.
const SHORTEST: usize = 300;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Time after which whoever waits for a question looks at whether it still should.
const PATIENCE: Duration = Duration::from_secs(1);

/// Kinds of messages, as option 53 has them.
mod kind {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const ACK: u8 = 5;
    pub(super) const NAK: u8 = 6;
    pub(super) const INFORM: u8 = 8;
}

/// What a machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its address, with the length of the subnet.
    pub address: Ipv4Net,
    /// The address of the bridge, in whose name it is told.
    pub server: Ipv4Addr,
    /// Its name.
    pub hostname: String,
    /// Maximum transmission unit in bytes, where the network has one of its own.
    pub mtu: Option<u16>,
}

/// Answers machines on one bridge.
#[derive(Debug)]
pub struct Dhcp(UdpSocket);

impl Dhcp {
    /// Takes a UDP socket of the bridge's namespace, and listens on the bridge alone.
    ///
    /// # Errors
    /// When the kernel refuses, or somebody else listens there.
    pub fn listen(socket: OwnedFd, bridge: &IfName) -> io::Result<Self> {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::BindToDevice, &bridge.as_str().into())?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(0, 0, 0, 0, SERVER))?;
        let socket = UdpSocket::from(socket);
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Waits for a question, for a second at most, and answers it if `find` knows the machine. Blocks.
    ///
    /// # Errors
    /// When the socket is of no use any more.
    pub fn answer(&self, find: impl FnOnce(Mac) -> Option<Offer>) -> io::Result<()> {
        let mut bytes = [0; 1500];
        let length = match self.0.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(answer) = answer(&bytes[..length], find) {
            self.0.send_to(&answer, SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT))?;
        }
        Ok(())
    }
}

/// The answer to a question, if it is one for us.
fn answer(question: &[u8], find: impl FnOnce(Mac) -> Option<Offer>) -> Option<Vec<u8>> {
    // A question of an Ethernet card, not passed on by anybody.
    let is_ours = question.len() >= FIXED && question[..3] == [1, 1, 6] && question[236..FIXED] == COOKIE;
    if !is_ours || question[24..28] != [0; 4] {
        return None;
    }
    let asked = |option| find_option(&question[FIXED..], option);
    let offer = find(Mac(question[28..34].try_into().ok()?))?;
    let own = offer.address.addr().octets();
    if asked(54).is_some_and(|server| server != offer.server.octets()) {
        // It chose another server.
        return None;
    }
    let current = &question[12..16];
    let kind = match *asked(53)?.first()? {
        kind::DISCOVER => kind::OFFER,
        // What it asks for, or has.
        kind::REQUEST if asked(50).unwrap_or(current) == own => kind::ACK,
        kind::REQUEST => kind::NAK,
        kind::INFORM => kind::ACK,
        _ => return None,
    };
    let mut answer = vec![0; FIXED];
    answer[..3].copy_from_slice(&[2, 1, 6]);
    // Which question it answers, flags, and whose.
    answer[4..8].copy_from_slice(&question[4..8]);
    answer[10..12].copy_from_slice(&question[10..12]);
    answer[28..44].copy_from_slice(&question[28..44]);
    answer[236..].copy_from_slice(&COOKIE);
    let mut option = |number: u8, value: &[u8]| {
        let value = &value[..value.len().min(255)];
        answer.extend([number, value.len() as u8]);
        answer.extend(value);
    };
    option(53, &[kind]);
    option(54, &offer.server.octets());
    if kind != kind::NAK {
        option(1, &offer.address.netmask().octets());
        option(12, offer.hostname.as_bytes());
        if let Some(mtu) = offer.mtu {
            option(26, &mtu.to_be_bytes());
        }
        if asked(53) != Some(&[kind::INFORM]) {
            // For ever.
            option(51, &[0xff; 4]);
            answer[16..20].copy_from_slice(&own);
        }
    }
    answer.push(255);
    answer.resize(answer.len().max(SHORTEST), 0);
    Some(answer)
}

/// The value of an option.
fn find_option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [number, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *number == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn question(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[..8].copy_from_slice(&[1, 1, 6, 0, 9, 8, 7, 6]);
        bytes[28..34].copy_from_slice(&MAC.0);
        bytes[236..].copy_from_slice(&COOKIE);
        bytes.extend(options);
        bytes
    }

    fn asked(question: &[u8]) -> Option<Vec<u8>> {
        let offer = Offer {
            address: "10.0.0.9/24".parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 0, 1),
            hostname: "r1".to_owned(),
            mtu: Some(1400),
        };
        answer(question, |mac| (mac == MAC).then_some(offer))
    }

    #[test]
    fn a_machine_is_offered_and_given_its_address() {
        let offered = asked(&question(&[53, 1, kind::DISCOVER, 255])).unwrap();
        assert_eq!((&offered[4..8], &offered[16..20]), (&[9, 8, 7, 6][..], &[10, 0, 0, 9][..]));
        let option = |number| find_option(&offered[FIXED..], number);
        assert_eq!((option(53), option(54)), (Some(&[kind::OFFER][..]), Some(&[10, 0, 0, 1][..])));
        assert_eq!((option(1), option(26)), (Some(&[255, 255, 255, 0][..]), Some(&[5, 120][..])));
        assert!(option(3).is_none() && offered.len() >= SHORTEST);
        let kind_of = |options: &[u8]| Some(find_option(&asked(&question(options))?[FIXED..], 53)?[0]);
        assert_eq!(kind_of(&[53, 1, kind::REQUEST, 50, 4, 10, 0, 0, 9, 54, 4, 10, 0, 0, 1]), Some(kind::ACK));
        assert_eq!(kind_of(&[53, 1, kind::REQUEST, 50, 4, 10, 0, 0, 8]), Some(kind::NAK));
        assert_eq!(kind_of(&[53, 1, kind::REQUEST, 50, 4, 10, 0, 0, 9, 54, 4, 10, 0, 0, 2]), None);
    }

    #[test]
    fn what_is_no_question_has_no_answer() {
        let whole = question(&[53, 1, kind::DISCOVER, 255]);
        for end in 0..whole.len() - 1 {
            assert!(asked(&whole[..end]).is_none(), "{end}");
        }
        assert!(answer(&whole, |_| None).is_none() && asked(&question(&[53, 200, 1])).is_none());
        let mut relayed = whole;
        relayed[24] = 10;
        assert!(asked(&relayed).is_none());
    }
}
