//! Network namespaces of containers, as this machine sees them.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{NsAccess, NsRef};
use lifecycle_linux::identity::{boot_id, netns_cookie};
use lifecycle_linux::namespace::{NamespaceAccess, NamespaceError, SocketKind, Want};

use crate::failure::Failure;

/// The network namespace of a container's first process; nothing when that has ended.
pub(crate) async fn of_container(access: &Arc<NamespaceAccess>, id: &str, pid: i64) -> Result<Option<NsRef>, Failure> {
    let (access, id) = (Arc::clone(access), id.to_owned());
    // It enters the namespace for a moment, on a thread of its own, and waits for that.
    tokio::task::spawn_blocking(move || look(&access, &id, pid))
        .await
        .unwrap_or_else(|error| Err(Failure::new(ErrorKind::Failed, error.to_string())))
}

fn look(access: &NamespaceAccess, id: &str, pid: i64) -> Result<Option<NsRef>, Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(denied(&error)),
    };
    // A daemon on another machine, or behind another pid namespace, tells numbers that mean other processes here. What is
    // asked for after the namespace was opened is known to have been true before.
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if !groups.contains(id) {
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            return Ok(None);
        }
        let text = format!("process {pid} is not the container's: does the daemon run on another machine?");
        return Err(Failure::new(ErrorKind::Unsupported, text));
    }
    let socket = access
        .open_inside(file.into(), None, &[Want::Socket(SocketKind::Route)])
        .map_err(|error: NamespaceError| denied(&io::Error::other(error)))?
        .pop()
        .ok_or_else(|| Failure::new(ErrorKind::Failed, "no socket came back from the container's namespace"))?;
    let cookie = netns_cookie(socket).map_err(|error| denied(&error))?;
    let boot = boot_id().map_err(|error| denied(&error))?;
    Ok(Some(NsRef { access: NsAccess::Path { path }, cookie, boot }))
}

fn denied(error: &io::Error) -> Failure {
    let source = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let text = format!("cannot enter the container's network namespace, which needs root: {error}{source}");
    Failure::new(ErrorKind::PermissionDenied, text)
}
