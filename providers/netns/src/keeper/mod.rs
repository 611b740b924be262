//! The keeper: one small process with a single thread that holds the nodes' namespaces and starts their inits.
//!
//! It outlives the controller, and the nodes outlive it. It keeps nothing in memory that it could not rebuild: whose
//! an instance is stands in the names of directories, what it is in `identity.json`, which process its init is in
//! `run.json`, how that ended in `exit.json`; its namespaces are held by its init, and by pins where the keeper is
//! root. A new keeper enters the user namespace of any init that lives. What an ordinary user's keeper takes with it when
//! it dies are the namespaces of nodes that were *not* running at that moment; they are reported as broken.
//!
//! It ends by itself when there is neither an instance in the kernel nor a client for a few seconds.

mod cgroup;
mod create;
mod launch;
mod namespaces;
mod node;
mod parent;
mod pins;
mod poller;
mod rejoin;
mod run;
mod server;
mod skeleton;
mod sysctl;
pub(crate) mod userns;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifecycle_core::error::ErrorKind;
use lifecycle_core::time::BootId;
use lifecycle_linux::identity::boot_id;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::setsid;
use rustix::fs::{FlockOperation, flock};

pub(crate) use launch::{EXIT_FILE, Report, Reporter};

use crate::failure::{Doing, Failure};
use crate::layout::{Layout, Mark};
use crate::process::{fork_child, set_name};
use crate::wire::Answer;
use cgroup::Cgroups;
use namespaces::Home;
use node::Node;
use parent::Parent;
use pins::Pins;
use poller::Poller;
use server::Client;

/// First argument of a helper process that becomes a keeper; the state and the runtime directory follow.
pub(crate) const ARGUMENT: &str = "lifecycle-netns-keeper";

/// How long another keeper may take to end before this one gives up.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Bytes of the keeper's own log beyond which a new keeper starts it anew.
const LOG_BOUND: u64 = 1 << 20;

/// What came of a call.
#[derive(Debug)]
enum Outcome {
    Now(Result<Answer, Failure>),
    /// The caller waits.
    Later,
}

/// All that a keeper knows.
#[derive(Debug)]
struct Keeper {
    layout: Layout,
    boot: BootId,
    /// Its own namespaces; the network one is the hub.
    home: Home,
    /// Pins, for a keeper that is root of the host.
    pins: Option<Pins>,
    cgroups: Option<Cgroups>,
    nodes: BTreeMap<Mark, Node>,
    /// Processes that remove an instance's files.
    janitors: HashMap<i32, Mark>,
    clients: HashMap<u64, Client>,
    brokers: HashMap<u64, OwnedFd>,
    poller: Poller,
    epoch: u64,
    /// When something last happened that a keeper stays for.
    last_change: Instant,
    /// How many descriptors processes of nodes may have open.
    descriptors: u64,
}

/// Becomes a keeper: forks it, tells on the standard error how that went, and returns the exit code.
pub(crate) fn start(state: PathBuf, runtime: PathBuf) -> i32 {
    let layout = Layout { state, runtime };
    let started = UnixStream::pair().doing("make a socket pair").and_then(|(ours, theirs)| {
        fork_child(&[theirs.as_fd()], || {
            // The copy shares the descriptor with `theirs`, which this process does not use again.
            let Ok(stream) = theirs.try_clone() else { return 1 };
            keep(layout, Parent(stream))
        })
        .doing("fork the keeper")?;
        drop(theirs);
        parent::attend(ours)
    });
    match started {
        Ok(()) => 0,
        Err(failure) => {
            // The controller reads this line and shows it.
            let text = serde_json::to_string(&failure).unwrap_or_else(|_| failure.to_string());
            let _ = writeln!(io::stderr(), "{text}");
            1
        }
    }
}

/// The keeper's life.
fn keep(layout: Layout, mut parent: Parent) -> i32 {
    set_name("lc-keeper");
    let lock = match prepare(&layout) {
        Ok(Some(lock)) => lock,
        // Another keeper serves this directory, which is all that the caller wants.
        Ok(None) => {
            parent.finish(Ok(()));
            return 0;
        }
        Err(failure) => {
            parent.finish(Err(failure));
            return 1;
        }
    };
    let open = Keeper::new(layout, &mut parent).and_then(|mut keeper| Ok((keeper.listen()?, keeper)));
    match open {
        Ok((listeners, mut keeper)) => {
            parent.finish(Ok(()));
            let result = keeper.serve(listeners);
            let code = i32::from(result.is_err());
            if let Err(failure) = result {
                log(&format!("the keeper ends: {failure}"));
            }
            drop(lock);
            code
        }
        Err(failure) => {
            log(&failure.to_string());
            parent.finish(Err(failure));
            1
        }
    }
}

/// Leaves the controller's session and terminal, and takes the lock of the state directory; nothing when another keeper
/// holds it.
fn prepare(layout: &Layout) -> Result<Option<File>, Failure> {
    setsid().doing("make a session")?;
    std::env::set_current_dir("/").doing("leave the working directory")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for directory in [&layout.state, &layout.runtime] {
        fs::create_dir_all(directory).doing(format_args!("make {}", directory.display()))?;
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").doing("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).doing("redirect the standard input")?;
    rustix::stdio::dup2_stdout(&null).doing("redirect the standard output")?;
    let path = layout.keeper_log();
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.doing(format_args!("open {}", path.display()))?;
    if log.metadata().is_ok_and(|found| found.len() > LOG_BOUND) {
        log.set_len(0).doing("shorten the keeper's log")?;
    }
    rustix::stdio::dup2_stderr(&log).doing("redirect the standard error")?;
    let give_up = Instant::now() + TAKE_OVER;
    loop {
        let path = layout.lock();
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.doing(format_args!("open {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The file may have been removed by a keeper that ended between our opening and locking it.
            Ok(()) if is_same(&file, &path) => return Ok(Some(file)),
            Ok(()) => continue,
            Err(rustix::io::Errno::WOULDBLOCK) if UnixStream::connect(layout.keeper_socket()).is_ok() => {
                return Ok(None);
            }
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => sleep(Duration::from_millis(10)),
            Err(error) => return Err(error).doing(format_args!("lock {}: another keeper holds it", path.display())),
        }
    }
}

fn is_same(file: &File, path: &std::path::Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(found)) => (ours.dev(), ours.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

impl Keeper {
    fn new(layout: Layout, parent: &mut Parent) -> Result<Self, Failure> {
        let boot = boot_id().doing("read the boot id")?;
        let direct = userns::is_direct();
        fs::create_dir_all(layout.running()).doing("make the runtime directory")?;
        let pins = if direct {
            Some(Pins::prepare(layout.pins())?)
        } else {
            if !rejoin::join_any(&layout, boot)? {
                userns::create(parent)?;
            }
            // Of all kinds, since an ordinary user cannot come back into the host's from a node's.
            let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
            unshare(own).doing("make the keeper's own namespaces")?;
            None
        };
        nix::sys::prctl::set_child_subreaper(true).doing("become the one that inits are handed to")?;
        let descriptors = raise_descriptor_limit().doing("raise the limit of descriptors")?;
        let mut keeper = Self {
            epoch: server::read_epoch(&layout),
            layout,
            boot,
            home: Home::here()?,
            pins,
            cgroups: None,
            nodes: BTreeMap::new(),
            janitors: HashMap::new(),
            clients: HashMap::new(),
            brokers: HashMap::new(),
            poller: Poller::new().doing("make an epoll descriptor")?,
            last_change: Instant::now(),
            descriptors,
        };
        keeper.rejoin()?;
        Ok(keeper)
    }

    /// What can be limited, found out when it is first asked for.
    fn cgroups(&mut self) -> Result<&Cgroups, Failure> {
        if self.cgroups.is_none() {
            // Named after the state directory, so that two controllers on one machine do not share a group.
            let name = format!("lifecycle-{:016x}", fnv(self.layout.state.as_os_str().as_encoded_bytes()));
            self.cgroups = Some(Cgroups::detect(&name).doing("find out about control groups")?);
        }
        self.cgroups.as_ref().ok_or_else(|| Failure::new(ErrorKind::Failed, "control groups are not known"))
    }
}

/// Writes a line into the keeper's own log, which its standard error is.
fn log(line: &str) {
    // There is nobody to tell that the log cannot be written to.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Fowler, Noll and Vo's hash: short, and the same in every process and version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Lets the keeper hold as many descriptors as it may, and returns what the limit was.
fn raise_descriptor_limit() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(soft)
}
