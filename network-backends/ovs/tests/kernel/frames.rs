//! What a link lets through: what a cable does.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::ProbeResult;
use lifecycle_linux::netlink::{Which, add_address};
use lifecycle_linux::testing::{Nodes, number};
use lifecycle_testkit::laws::Verdict;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket};
use nix::sys::time::TimeVal;

use super::fixture::Fixture;

const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn link_local_frames_pass(fixture: &Fixture) -> Verdict {
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    // Spanning tree, pause, LACP, 802.1X, LLDP, and Cisco's own.
    let cisco = Mac([1, 0, 0x0c, 0xcc, 0xcc, 0xcc]);
    let groups = [0, 1, 2, 3, 0x0e].map(|last| Mac([1, 0x80, 0xc2, 0, 0, last]));
    for address in groups.into_iter().chain([cisco]) {
        assert!(fixture.frame_passes((&a, &a.ifname), (&b, &b.ifname), Some(address), PATIENCE), "{address}");
    }
    fixture.backend.disconnect(&identity).await.unwrap();
    Ok(())
}

/// Runs something on a thread in the namespace of a point.
fn inside<T: Send + 'static>(
    fixture: &Fixture,
    point: &AttachPoint,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let ns = fixture.access.open_ns(Nodes::ns(point)).unwrap();
    std::thread::spawn(move || {
        setns(ns, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Sends a frame with a VLAN tag from one point to all, and tells whether it arrives at another.
fn tagged_frame_passes(fixture: &Fixture, from: &AttachPoint, to: &AttachPoint, patience: Duration) -> bool {
    let text = format!("tagged frame {}", number());
    let mut frame = [[0xff; 6], from.mac.0].concat();
    // VLAN 7, then the ethertype that is set aside for trials.
    frame.extend([0x81, 0, 0, 7, 0x88, 0xb6]);
    frame.extend(text.as_bytes());
    frame.resize(64, 0);
    let open = || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    let (ready, is_ready) = mpsc::channel();
    let receiver = inside(fixture, to, move || {
        let socket = open();
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
        ready.send(()).unwrap();
        let (end, mut buffer) = (Instant::now() + patience, [0; 256]);
        while Instant::now() < end {
            let count = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
            if buffer[..count].windows(text.len()).any(|part| part == text.as_bytes()) {
                return true;
            }
        }
        false
    });
    is_ready.recv().unwrap();
    let ifname = from.ifname.clone();
    let sender = inside(fixture, from, move || {
        let mut all = getifaddrs().unwrap().filter(|it| it.interface_name == ifname.as_str());
        let address = all.find_map(|it| it.address?.as_link_addr().copied()).unwrap();
        sendto(open().as_raw_fd(), &frame, &address, MsgFlags::empty()).unwrap();
    });
    sender.join().unwrap();
    receiver.join().unwrap()
}

pub(crate) async fn tagged_frames_pass(fixture: &Fixture) -> Verdict {
    let (a, b, c, d) = (fixture.nodes.point(), fixture.nodes.point(), fixture.nodes.point(), fixture.nodes.point());
    let (one, other) = (fixture.connect(1, &a, &b).await, fixture.connect(2, &c, &d).await);
    assert!(tagged_frame_passes(fixture, &a, &b, PATIENCE));
    assert!(tagged_frame_passes(fixture, &d, &c, PATIENCE));
    // Tags of nodes do not lead out of their link, and neither does a broadcast.
    let short = Duration::from_millis(200);
    assert!(!tagged_frame_passes(fixture, &a, &d, short));
    let broadcast = Some(Mac([0xff; 6]));
    assert!(!fixture.frame_passes((&a, &a.ifname), (&d, &d.ifname), broadcast, short));
    assert!(fixture.is_up(&one).await && fixture.is_up(&other).await);
    Ok(())
}

pub(crate) async fn bulk_tcp_passes(fixture: &Fixture) -> Verdict {
    const BYTES: usize = 8 << 20;
    let (a, b) = (fixture.nodes.point(), fixture.nodes.point());
    let identity = fixture.connect(1, &a, &b).await;
    for (point, address) in [(&a, "10.0.0.1/24"), (&b, "10.0.0.2/24")] {
        let index = fixture.link(point).unwrap().index;
        fixture.route(point).run(add_address(index, address.parse().unwrap())).unwrap();
    }
    let there: SocketAddr = (IpAddr::from([10, 0, 0, 2]), 7000).into();
    let (ready, is_ready) = mpsc::channel();
    let server = inside(fixture, &b, move || {
        let listener = TcpListener::bind(there).unwrap();
        ready.send(()).unwrap();
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        received
    });
    is_ready.recv().unwrap();
    let sent: Vec<u8> = (0..BYTES).map(|index| (index * 7 % 251) as u8).collect();
    let expected = sent.clone();
    let client = inside(fixture, &a, move || {
        let mut stream = TcpStream::connect_timeout(&there, Duration::from_secs(5)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&sent).unwrap();
    });
    client.join().unwrap();
    assert!(server.join().unwrap() == expected, "what arrived is not what was sent");
    fixture.backend.disconnect(&identity).await.unwrap();
    Ok(())
}

pub(crate) async fn an_end_on_the_host(fixture: &Fixture) -> Verdict {
    let node = fixture.nodes.point();
    let host = AttachPoint {
        node: None,
        incarnation: 0,
        ifname: IfName::new("outside").unwrap(),
        place: AttachKind::HostNet,
        ..fixture.nodes.point()
    };
    for (number, a, b) in [(1, &node, &host), (2, &host, &node)] {
        let identity = fixture.connect(number, a, b).await;
        assert_eq!(identity, fixture.connect(number, a, b).await);
        let report = fixture.backend.verify(&identity).await.unwrap();
        assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
        assert_eq!(report.probe, ProbeResult::Passed);
        let found = fixture.backend.observe(&fixture.nodes.namespaces()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.interfaces.len()).collect::<Vec<_>>(), [3], "{found:?}");
        fixture.backend.disconnect(&identity).await.unwrap();
        fixture.assert_empty_switch();
        assert!(fixture.daemon().route().link(Which::Name(&host.ifname)).unwrap().is_none());
    }
    Ok(())
}
