//! Sending requests and matching answers.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{MsgFlags, NetlinkAddr, recv, sendto, setsockopt};
use nix::sys::time::TimeVal;

use super::decode::{self, Message, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use super::{NetlinkError, Request};
use crate::identity::netns_cookie;
use crate::sys::sockopt::set_int;
use crate::sys::uninterrupted;

/// Requests in one system call. Bounded because all answers must fit the socket's receive buffer, which is some 200 KiB
/// unless somebody changed the system's default, at some 4 KiB each.
const WINDOW: usize = 32;
/// Room for one datagram of the kernel, which never makes them longer.
const DATAGRAM: usize = 32 << 10;
/// How often a list is tried again that changed while it was read.
const DUMP_TRIES: u32 = 20;
/// Wait before the second try; each further one waits so much longer, about a second in all. A host on which a thousand
/// interfaces go away changes for as long.
const DUMP_WAIT: Duration = Duration::from_millis(5);
/// The kernel answers at once; an answer that takes this many seconds was lost.
const ANSWER_SECONDS: i64 = 5;

/// Bodies of the messages that answered one request, without headers.
pub(super) type Answer = Vec<Vec<u8>>;

/// A route netlink socket of one namespace. What it does happens in that namespace, unless a request says otherwise.
#[derive(Debug)]
pub struct RouteSocket {
    fd: OwnedFd,
    sequence: u32,
}

impl RouteSocket {
    /// Prepares a socket that [`crate::namespace::NamespaceAccess::open`] gave.
    ///
    /// # Errors
    /// When the descriptor is no netlink socket.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            set_int(&fd, libc::SOL_NETLINK, option, 1)?;
        }
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(ANSWER_SECONDS, 0))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The cookie of the namespace that the socket belongs to.
    ///
    /// # Errors
    /// When the kernel is older than 5.14.
    pub fn cookie(&self) -> io::Result<u64> {
        netns_cookie(&self.fd)
    }

    /// Carries out one request that answers nothing but success.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] in the kernel's words, or a failure of the socket.
    pub fn run(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.ask(request).map(drop)
    }

    /// Carries out many requests, in order, in as few system calls as can be. A refused one does not stop the others.
    pub fn run_all(&mut self, requests: &[Request]) -> Vec<Result<(), NetlinkError>> {
        self.ask_all(requests).into_iter().map(|result| result.map(drop)).collect()
    }

    /// Carries out one request and returns what the kernel answers.
    pub(super) fn ask(&mut self, request: Request) -> Result<Answer, NetlinkError> {
        let operation = request.operation;
        self.ask_all(&[request]).pop().unwrap_or(Err(NetlinkError::Malformed { operation }))
    }

    /// As [`RouteSocket::run_all`], with the answers.
    pub(super) fn ask_all(&mut self, requests: &[Request]) -> Vec<Result<Answer, NetlinkError>> {
        let mut results = Vec::with_capacity(requests.len());
        for window in requests.chunks(WINDOW) {
            match self.exchange(window) {
                Ok(answers) => results.extend(answers),
                Err(source) => {
                    let again = |source: &io::Error| match source.raw_os_error() {
                        Some(code) => io::Error::from_raw_os_error(code),
                        None => io::Error::from(source.kind()),
                    };
                    let failed = |request: &Request| NetlinkError::Socket {
                        operation: request.operation,
                        source: again(&source),
                    };
                    results.extend(window.iter().map(|request| Err(failed(request))));
                }
            }
        }
        results
    }

    fn exchange(&mut self, window: &[Request]) -> io::Result<Vec<Result<Answer, NetlinkError>>> {
        let first = self.send(window)?;
        let mut answers: Vec<Answer> = vec![Vec::new(); window.len()];
        let mut results: Vec<Option<Result<(), NetlinkError>>> = window.iter().map(|_| None).collect();
        let mut missing = window.len();
        let mut buffer = [0; DATAGRAM];
        while missing > 0 {
            for message in decode::messages(self.receive(&mut buffer)?) {
                // Answers to requests that were given up earlier have sequence numbers outside the window.
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(result @ None) = results.get_mut(index) else { continue };
                if message.kind == NLMSG_ERROR {
                    *result = Some(refused(window[index].operation, message));
                    missing -= 1;
                } else {
                    answers[index].push(message.body.to_vec());
                }
            }
        }
        let both = results.into_iter().zip(answers);
        Ok(both.map(|(result, answer)| result.unwrap_or(Ok(())).map(|()| answer)).collect())
    }

    /// Asks for a list. A list during which something changed is asked for again, since it may lack entries.
    pub(super) fn list(&mut self, request: &Request) -> Result<Answer, NetlinkError> {
        let operation = request.operation;
        let mut buffer = [0; DATAGRAM];
        for tried in 0..DUMP_TRIES {
            thread::sleep(DUMP_WAIT * tried);
            let failed = |source| NetlinkError::Socket { operation, source };
            let first = self.send(std::slice::from_ref(request)).map_err(failed)?;
            let mut list = Vec::new();
            let mut disturbed = false;
            'datagrams: loop {
                for message in decode::messages(self.receive(&mut buffer).map_err(failed)?) {
                    if message.sequence != first {
                        continue;
                    }
                    disturbed |= message.flags & NLM_F_DUMP_INTR != 0;
                    match message.kind {
                        NLMSG_DONE | NLMSG_ERROR => {
                            refused(operation, message)?;
                            break 'datagrams;
                        }
                        _ => list.push(message.body.to_vec()),
                    }
                }
            }
            if !disturbed {
                return Ok(list);
            }
        }
        Err(NetlinkError::Restless { operation, tries: DUMP_TRIES })
    }

    /// Sends requests in one datagram; returns the sequence number of the first.
    fn send(&mut self, window: &[Request]) -> io::Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let mut outgoing = Vec::with_capacity(256 * window.len());
        for request in window {
            self.sequence = self.sequence.wrapping_add(1);
            request.encode(self.sequence, &mut outgoing);
        }
        // Naming the kernel as the destination makes it judge by the rights of who sends, not of who opened the socket.
        // An ordinary user has every right in all user namespaces of theirs; a socket opened in one has them there only.
        let kernel = NetlinkAddr::new(0, 0);
        uninterrupted(|| sendto(self.fd.as_raw_fd(), &outgoing, &kernel, MsgFlags::empty()))?;
        Ok(first)
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        match uninterrupted(|| recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => Ok(&buffer[..len]),
        }
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn refused(operation: &'static str, message: Message<'_>) -> Result<(), NetlinkError> {
    match decode::outcome(message) {
        None => Ok(()),
        Some((errno, message)) => Err(NetlinkError::Refused { operation, errno, message }),
    }
}
