//! `/dev` of a node: what every program expects, and nothing that leads to hardware.

use std::path::Path;

use nix::mount::MsFlags;

use super::target::Tree;
use crate::failure::Failure;

/// Devices of the host that are safe in every hand.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Mounts all of it, with `shm` bytes of shared memory.
pub(super) fn mount_all(tree: &Tree, shm: u64) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    tree.mount("tmpfs", dev, MsFlags::MS_NOSUID, "mode=755,size=64k")?;
    for name in DEVICES {
        let device = dev.join(name);
        tree.bind(&device, &device)?;
    }
    let tun = dev.join("net/tun");
    if tun.exists() {
        tree.bind(&tun, &tun)?;
    }
    for (pointee, name) in LINKS {
        tree.link(pointee, &dev.join(name))?;
    }
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    tree.mount("devpts", &dev.join("pts"), quiet, "newinstance,ptmxmode=0666,mode=620")?;
    tree.mount("tmpfs", &dev.join("shm"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &format!("mode=1777,size={shm}"))
}
