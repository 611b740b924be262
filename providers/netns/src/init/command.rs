//! Running programs in a node.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use lifecycle_core::error::ErrorKind;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Pid, Uid, getgroups, setgroups, setresgid, setresuid, setsid};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::user::{self, User};
use crate::failure::{Doing, Failure};
use crate::process::fork_child;
use crate::spec::Run;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The rights that processes keep in a node of root's that is not privileged. Neither the host's devices, modules,
/// clock nor mounts are within their reach; the node's own network is.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_NICE)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::NET_BROADCAST)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// What is the same for all programs of a node.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) run: &'a Run,
    pub(super) hostname: &'a str,
    /// Whether rights of the host's root are to be given up.
    pub(super) guarded: bool,
    /// Number of open descriptors.
    pub(super) descriptors: u64,
}

/// A program to run.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) argv: &'a [String],
    /// Variables besides the node's.
    pub(super) env: &'a BTreeMap<String, String>,
    /// Another user than the node's.
    pub(super) user: Option<&'a str>,
}

/// Where a program reads and writes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Streams<'a> {
    /// It reads nothing, and writes into these.
    Pipes { out: BorrowedFd<'a>, err: BorrowedFd<'a> },
    /// It has a terminal, by its path in the node.
    Terminal(&'a Path),
}

impl Rules<'_> {
    /// Starts a program in a session of its own. Returns once it runs, or with the reason why it does not.
    pub(super) fn spawn(&self, program: &Program<'_>, streams: Streams<'_>) -> Result<Pid, Failure> {
        let user = user::find(program.user.or(self.run.user.as_deref()))?;
        let (ours, theirs) = UnixStream::pair().doing("make a socket pair")?;
        let mut keep = vec![theirs.as_fd()];
        if let Streams::Pipes { out, err } = streams {
            keep.extend([out, err]);
        }
        let pid = fork_child(&keep, || {
            // Comes back only when it failed.
            let Err(failure) = self.become_program(program, streams, &user);
            if let Ok(text) = serde_json::to_vec(&failure) {
                let _ = (&theirs).write_all(&text);
            }
            127
        })
        .doing("fork")?;
        drop(theirs);
        // The other end is closed by the kernel when the program takes over.
        let mut text = Vec::new();
        (&ours).read_to_end(&mut text).doing("hear whether the program runs")?;
        match serde_json::from_slice::<Failure>(&text) {
            Ok(failure) => Err(failure),
            Err(_) => Ok(pid),
        }
    }

    fn become_program(
        &self,
        program: &Program<'_>,
        streams: Streams<'_>,
        user: &User,
    ) -> Result<std::convert::Infallible, Failure> {
        setsid().doing("make a session")?;
        SigSet::empty().thread_set_mask().doing("unblock signals")?;
        match streams {
            Streams::Pipes { out, err } => {
                let null = File::open("/dev/null").doing("open /dev/null")?;
                connect(null.as_fd(), out, err).doing("connect the program's streams")?;
            }
            Streams::Terminal(path) => {
                // The first terminal that a session's leader opens becomes the session's own.
                let terminal = OpenOptions::new().read(true).write(true).open(path);
                let terminal: OwnedFd = terminal.doing(format_args!("open {}", path.display()))?.into();
                connect(terminal.as_fd(), terminal.as_fd(), terminal.as_fd()).doing("connect the terminal")?;
            }
        }
        self.limit(user)?;
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        env.insert("PATH".into(), PATH.into());
        env.insert("HOSTNAME".into(), self.hostname.into());
        env.insert("HOME".into(), user.home.clone().into());
        env.insert("USER".into(), user.name.clone().into());
        if matches!(streams, Streams::Terminal(_)) {
            env.insert("TERM".into(), "xterm-256color".into());
        }
        env.extend(self.run.env.iter().chain(program.env).map(|(name, value)| (name.into(), value.into())));
        let directory = &self.run.directory;
        std::env::set_current_dir(directory).doing(format_args!("enter the directory {}", directory.display()))?;
        let shell = [user.shell.clone()];
        let (name, arguments) = if program.argv.is_empty() { &shell[..] } else { program.argv }
            .split_first()
            .ok_or_else(|| Failure::new(ErrorKind::InvalidInput, "there is no program to run"))?;
        let error = Command::new(name).args(arguments).env_clear().envs(env).exec();
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Failed,
        };
        Err(Failure::new(kind, format!("cannot run `{name}` in the node: {error}")))
    }

    /// Gives up what the program is not to have.
    fn limit(&self, user: &User) -> Result<(), Failure> {
        if !self.run.processors.is_empty() {
            let mut set = CpuSet::new();
            let chosen = self.run.processors.iter().try_for_each(|processor| set.set(*processor));
            chosen.and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).doing("choose processors")?;
        }
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of descriptors")?;
        setrlimit(Resource::RLIMIT_NOFILE, self.descriptors.min(hard), hard).doing("limit descriptors")?;
        if self.guarded {
            for capability in (CapabilitySet::all() - KEPT).iter() {
                match remove_capability_from_bounding_set(capability) {
                    // The kernel knows fewer of them.
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                    Err(error) => return Err(error).doing("give up rights"),
                }
            }
        }
        become_user(user).map_err(|errno| {
            let hint = match errno {
                nix::errno::Errno::EINVAL | nix::errno::Errno::EPERM => {
                    "; an ordinary user's nodes know root only, unless newuidmap is installed and /etc/subuid and \
                     /etc/subgid give the user a range"
                }
                _ => "",
            };
            let text = format!("cannot run as user `{}` ({}:{}): {errno}{hint}", user.name, user.uid, user.gid);
            Failure::new(ErrorKind::Unsupported, text)
        })
    }
}

fn connect(input: BorrowedFd<'_>, out: BorrowedFd<'_>, err: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(out)?;
    rustix::stdio::dup2_stderr(err)
}

fn become_user(user: &User) -> nix::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    match setgroups(&groups) {
        // A user namespace with one user has one group, and the kernel lets nobody give up the others: they are what
        // the caller has anyway.
        Err(nix::errno::Errno::EPERM) if groups.is_empty() || getgroups()? == groups => {}
        other => other?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}
