//! A network namespace for a process that may make none: in a user namespace of its own, made by a forked child.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::passing;

/// Makes a user namespace with a network namespace in it; returns the network namespace and a route netlink socket
/// opened inside, which keep both alive. The caller, who owns the user namespace, has every right in it.
pub(crate) fn network_in_new_user_namespace() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: `child` makes system calls only, which are allowed after a fork of a process with threads, and the child
    // ends without unwinding or running anything else.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => unsafe { libc::_exit(child(theirs.as_raw_fd())) },
        pid => Pid::from_raw(pid),
    };
    drop(theirs);
    let received = passing::receive(ours.as_fd(), 1);
    match waitpid(pid, None) {
        Ok(WaitStatus::Exited(_, 0)) | Err(Errno::ECHILD) => {}
        Ok(WaitStatus::Exited(_, code)) => return Err(io::Error::from_raw_os_error(code)),
        Ok(status) => return Err(io::Error::other(format!("the helper ended with {status:?}"))),
        Err(errno) => return Err(errno.into()),
    }
    match <[OwnedFd; 2]>::try_from(received?.1) {
        Ok([ns, socket]) => Ok((ns, socket)),
        Err(_) => Err(io::Error::other("the helper sent no descriptors")),
    }
}

/// The forked child: enters new namespaces, sends their descriptors to `parent`, and returns an exit code, which is the
/// error number of what failed.
///
/// # Safety
/// Only for a child just forked: it makes system calls and touches no lock or heap.
unsafe fn child(parent: RawFd) -> libc::c_int {
    /// Two descriptors with their control header.
    #[repr(C)]
    struct Rights {
        header: libc::cmsghdr,
        descriptors: [RawFd; 2],
    }
    // SAFETY: plain system calls with arguments that live on this stack; `Rights` has the layout of a control message,
    // since its header's size is a multiple of the descriptors' alignment.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) != 0 {
            return Errno::last_raw();
        }
        let ns = libc::open(c"/proc/self/ns/net".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        let route = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
        if ns < 0 || route < 0 {
            return Errno::last_raw();
        }
        let mut byte = 1u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut rights = Rights { header: zeroed(), descriptors: [ns, route] };
        rights.header.cmsg_len = size_of::<Rights>() as _;
        rights.header.cmsg_level = libc::SOL_SOCKET;
        rights.header.cmsg_type = libc::SCM_RIGHTS;
        let mut message: libc::msghdr = zeroed();
        message.msg_name = ptr::null_mut();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut rights).cast();
        message.msg_controllen = size_of::<Rights>() as _;
        if libc::sendmsg(parent, &raw const message, libc::MSG_NOSIGNAL) == 1 { 0 } else { Errno::last_raw() }
    }
}
