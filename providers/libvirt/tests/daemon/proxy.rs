//! A socket between a provider and its daemon that breaks for good at a changing call of the test's choice, as if the
//! controller had died there.
//!
//! Messages are those of libvirt's `src/rpc/virnetprotocol.x`: a length that counts itself, then program, version,
//! procedure, type, serial and status, 4 bytes each. Numbers of procedures are from `src/remote/remote_protocol.x`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The program of the daemon's own calls; others keep the connection alive.
const REMOTE: u32 = 0x2000_8086;
/// Calls that change a domain: create, define, destroy, shut down, undefine, and the same with flags.
const CHANGES: [u32; 11] = [9, 10, 11, 12, 33, 35, 196, 231, 234, 258, 350];

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The call does not arrive.
    Dropped,
    /// The call is carried out, and its answer does not arrive.
    Unanswered,
}

#[derive(Debug)]
struct Plan {
    wrong: Wrong,
    /// The changing call at which it breaks, counted from 0.
    at: usize,
    seen: AtomicUsize,
    broken: AtomicBool,
}

/// The proxy. Nobody gets through it any more once this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    path: PathBuf,
    plan: Arc<Plan>,
    _directory: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn start(daemon: &Path, wrong: Wrong, at: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy");
        let listener = UnixListener::bind(&path).unwrap();
        let plan = Arc::new(Plan { wrong, at, seen: AtomicUsize::new(0), broken: AtomicBool::new(false) });
        let (daemon, shared) = (daemon.to_owned(), Arc::clone(&plan));
        // It waits for clients until the program ends.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !shared.broken.load(Ordering::SeqCst) {
                    serve(client, UnixStream::connect(&daemon).unwrap(), &shared);
                }
            }
        });
        Self { path, plan, _directory: directory }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.path
    }

    /// Whether it broke.
    pub(crate) fn is_broken(&self) -> bool {
        self.plan.broken.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.plan.broken.store(true, Ordering::SeqCst);
    }
}

fn serve(client: UnixStream, daemon: UnixStream, plan: &Arc<Plan>) {
    let ends = |from: &UnixStream, to: &UnixStream| (from.try_clone().unwrap(), to.try_clone().unwrap());
    let ((mut from_client, mut to_daemon), (mut from_daemon, mut to_client)) =
        (ends(&client, &daemon), ends(&daemon, &client));
    let plan = Arc::clone(plan);
    let answers = Arc::clone(&plan);
    std::thread::spawn(move || {
        while let Some(message) = read(&mut from_client) {
            if changes(&message) && plan.seen.fetch_add(1, Ordering::SeqCst) == plan.at {
                // From here on no answer gets through either.
                plan.broken.store(true, Ordering::SeqCst);
                if plan.wrong == Wrong::Dropped {
                    break;
                }
            } else if plan.broken.load(Ordering::SeqCst) {
                break;
            }
            if to_daemon.write_all(&message).is_err() {
                break;
            }
            if plan.broken.load(Ordering::SeqCst) {
                // The daemon carries out what it has received before it looks for more.
                return;
            }
        }
        let _ = to_daemon.shutdown(Shutdown::Both);
        let _ = from_client.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        while let Some(message) = read(&mut from_daemon) {
            if answers.broken.load(Ordering::SeqCst) || to_client.write_all(&message).is_err() {
                break;
            }
        }
        let _ = from_daemon.shutdown(Shutdown::Both);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

fn read(from: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[..4].try_into().ok()?) as usize;
    message.resize(length, 0);
    from.read_exact(&mut message[4..]).ok()?;
    Some(message)
}

/// Whether a message is a call that changes a domain.
fn changes(message: &[u8]) -> bool {
    let word =
        |index: usize| message.get(index * 4..index * 4 + 4).map(|it| u32::from_be_bytes(it.try_into().unwrap()));
    word(1) == Some(REMOTE) && word(4) == Some(0) && word(3).is_some_and(|procedure| CHANGES.contains(&procedure))
}
