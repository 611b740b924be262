//! Kernel parameters of a node's own namespaces.

use std::fs;
use std::path::PathBuf;

use lifecycle_core::error::ErrorKind;

use crate::failure::{Doing, Failure};

/// Writes a parameter for the namespaces of the calling thread. `own_net` says whether the network namespace is the
/// node's own.
pub(super) fn set(name: &str, value: &str, own_net: bool) -> Result<(), Failure> {
    let path = path_of(name, own_net)?;
    if !path.exists() {
        return Err(Failure::new(
            ErrorKind::InvalidInput,
            format!("the kernel has no sysctl `{name}` in a namespace (no {})", path.display()),
        ));
    }
    fs::write(&path, value).doing(format_args!("set the sysctl `{name}` to `{value}`"))
}

/// The file behind a parameter, if it is one that belongs to a namespace.
fn path_of(name: &str, own_net: bool) -> Result<PathBuf, Failure> {
    // As sysctl(8): the first separator decides, so that `net.ipv4.conf.eth0/100.forwarding` can be said.
    let dotted = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'.');
    let swap = |c| match c {
        '.' if dotted => '/',
        '/' if dotted => '.',
        other => other,
    };
    let path: String = name.chars().map(swap).collect();
    let clean = path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'));
    let refuse = |why: &str| Err(Failure::new(ErrorKind::Unsupported, format!("sysctl `{name}` {why}")));
    if !clean {
        return Err(Failure::new(ErrorKind::InvalidInput, format!("`{name}` is not the name of a sysctl")));
    }
    let of_ipc = ["kernel/shm", "kernel/msg", "fs/mqueue/"].iter().any(|prefix| path.starts_with(prefix));
    match path.as_str() {
        _ if path.starts_with("net/") && !own_net => refuse("is of a network namespace that is not the node's own"),
        _ if path.starts_with("net/") || of_ipc => Ok(PathBuf::from("/proc/sys").join(path)),
        "kernel/sem" | "kernel/domainname" => Ok(PathBuf::from("/proc/sys").join(path)),
        _ => refuse(
            "is the whole host's: a node may only set net.*, kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* \
                     and kernel.domainname",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_namespaces_are_taken() {
        let path = |name| path_of(name, true).map(|path| path.display().to_string());
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net.ipv4.conf.eth0/1.mtu").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/mtu");
        assert_eq!(path("net/ipv4/conf/eth0.1/mtu").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/mtu");
        assert_eq!(path("kernel.shmmax").unwrap(), "/proc/sys/kernel/shmmax");
        for bad in ["kernel.panic", "vm.swappiness", "kernel.hostname", "fs.file-max"] {
            assert_eq!(path(bad).unwrap_err().kind, ErrorKind::Unsupported, "{bad}");
            assert!(path(bad).unwrap_err().message.contains(bad), "{bad}");
        }
        for bad in ["", "net.", "net/../kernel/panic", "net..ipv4", "net/./x", "net.ipv4/\0"] {
            assert_eq!(path(bad).unwrap_err().kind, ErrorKind::InvalidInput, "{bad}");
        }
        assert_eq!(path_of("net.ipv4.ip_forward", false).unwrap_err().kind, ErrorKind::Unsupported);
    }
}
