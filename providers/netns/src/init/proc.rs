//! `/proc` and `/sys` of a node.

use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::root::NOTHING;
use super::target::Tree;
use crate::failure::{Doing, Failure};

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
/// What root of the host could use to reach the host, and a node's root must not.
const READ_ONLY: [&str; 5] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];
/// What shows the host's memory and secrets.
const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug"];

/// Mounts both. With `guarded`, what would let the node's root change the host is taken away; an ordinary user's root
/// has no rights there in the first place.
pub(super) fn mount_all(tree: &Tree, guarded: bool) -> Result<(), Failure> {
    tree.mount("proc", Path::new("/proc"), QUIET, "")?;
    let sys = Path::new("/sys");
    // Refused where parts of the host's are covered, as in a container: then the host's own is shown.
    if tree.mount("sysfs", sys, QUIET | MsFlags::MS_RDONLY, "").is_err() {
        tree.bind(sys, sys)?;
        tree.make_read_only(sys)?;
    }
    if guarded {
        // Bound before its parent, and so still writable: these are the node's own network namespace's.
        bind_itself(tree, Path::new("/proc/sys/net"))?;
        for path in READ_ONLY.map(Path::new) {
            if tree.has(path) {
                bind_itself(tree, path)?;
                tree.make_top_read_only(path)?;
            }
        }
        for path in MASKED.map(Path::new) {
            if tree.has(path) {
                tree.bind(Path::new("/dev/null"), path)?;
            }
        }
    }
    Ok(())
}

fn bind_itself(tree: &Tree, path: &Path) -> Result<(), Failure> {
    let place = tree.path(path)?;
    mount(Some(place.as_str()), place.as_str(), NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
        .doing(format_args!("guard {}", path.display()))
}
