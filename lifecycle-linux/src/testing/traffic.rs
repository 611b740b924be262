//! What passes between two nodes of a test: much at once, and a little all the time.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lifecycle_core::attach::AttachPoint;
use nix::sched::{CloneFlags, setns};

use super::Nodes;
use crate::netlink::add_address;

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(20);
/// How often something is sent while a test does something else.
const BEAT: Duration = Duration::from_millis(1);

#[track_caller]
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

/// Runs something on a thread in the namespace of a point, which must be reached by path.
pub fn inside<T: Send + 'static>(
    nodes: &Nodes,
    point: &AttachPoint,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let ns = must(nodes.access.open_ns(Nodes::ns(point)));
    thread::spawn(move || {
        must(setns(ns, CloneFlags::CLONE_NEWNET));
        work()
    })
}

/// Gives the interface at a point the address 10.0.0.`last`/24.
pub fn address(nodes: &Nodes, point: &AttachPoint, last: u8) -> IpAddr {
    let index = must(nodes.link(point).ok_or("no interface")).index;
    let address = IpAddr::from([10, 0, 0, last]);
    must(nodes.route(point).run(add_address(index, must(ipnet::IpNet::new(address, 24)))));
    address
}

/// Sends bytes through TCP from one point to another, which has the address, and tells whether they arrive as they were
/// sent.
///
/// # Errors
/// When the connection cannot be made or breaks off.
pub fn bulk(nodes: &Nodes, from: &AttachPoint, to: &AttachPoint, address: IpAddr, bytes: usize) -> io::Result<bool> {
    let there = SocketAddr::from((address, PORT));
    let joined = |thread: JoinHandle<_>| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let listener = joined(inside(nodes, to, move || TcpListener::bind(there)))?;
    let sent: Arc<Vec<u8>> = Arc::new((0..bytes).map(|at| (at * 7 + at / 251) as u8).collect());
    let expected = Arc::clone(&sent);
    let sender = inside(nodes, from, move || {
        let mut stream = TcpStream::connect_timeout(&there, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&sent)
    });
    // What never connects is not waited for.
    listener.set_nonblocking(true)?;
    let end = Instant::now() + PATIENCE;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => thread::sleep(BEAT),
            Err(error) => return Err(error),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    Ok(received == *expected)
}

/// Datagrams that go from one point to another every millisecond until it is asked for what became of them.
#[derive(Debug)]
pub struct Stream {
    over: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<usize>>,
    receiver: JoinHandle<io::Result<(usize, Duration)>>,
}

/// What became of a [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Datagrams that were sent.
    pub sent: usize,
    /// Datagrams that arrived.
    pub received: usize,
    /// The longest time in which none arrived, after the first one.
    pub gap: Duration,
}

impl Stream {
    /// Starts to send to the point with the address.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn start(nodes: &Nodes, from: &AttachPoint, to: &AttachPoint, address: IpAddr) -> io::Result<Self> {
        let there = SocketAddr::from((address, PORT));
        let joined = |thread: JoinHandle<_>| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let socket: UdpSocket = joined(inside(nodes, to, move || UdpSocket::bind(there)))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, ours) = (Arc::clone(&over), Arc::clone(&over));
        let receiver = thread::spawn(move || {
            let (mut received, mut gap, mut last) = (0, Duration::ZERO, None::<Instant>);
            loop {
                match socket.recv(&mut [0; 64]) {
                    Ok(_) => {
                        received += 1;
                        gap = gap.max(last.map_or(Duration::ZERO, |last| last.elapsed()));
                        last = Some(Instant::now());
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if theirs.load(Ordering::Relaxed) {
                            return Ok((received, gap));
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        });
        let sender = inside(nodes, from, move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            let mut sent = 0;
            while !ours.load(Ordering::Relaxed) {
                // What cannot be sent now is a part of the gap.
                sent += usize::from(socket.send_to(b"beat", there).is_ok());
                thread::sleep(BEAT);
            }
            Ok(sent)
        });
        Ok(Self { over, sender, receiver })
    }

    /// Stops, and tells what became of it all.
    ///
    /// # Errors
    /// When a socket failed.
    pub fn finish(self) -> io::Result<Flow> {
        self.over.store(true, Ordering::Relaxed);
        let failed = |_| io::Error::other("a thread panicked");
        let sent = self.sender.join().map_err(failed)??;
        let (received, gap) = self.receiver.join().map_err(failed)??;
        Ok(Flow { sent, received, gap })
    }
}
