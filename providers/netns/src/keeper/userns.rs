//! The user namespace that gives an ordinary user's keeper the rights over its nodes.
//!
//! Without `newuidmap` and a range in `/etc/subuid` the namespace knows one user: root inside, the caller outside. With
//! them it also knows 1 and up, so that nodes can run commands as other users.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, User};
use rustix::thread::{CapabilitySet, capabilities};

use super::parent::Parent;
use crate::failure::{Doing, Failure};

/// Whether the process has what it takes to act on the host itself.
pub(crate) fn is_direct() -> bool {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::SYS_CHROOT;
    Uid::effective().is_root() && capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Makes a user namespace and a hub in it, and enters both.
pub(super) fn create(parent: &mut Parent) -> Result<(), Failure> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(CloneFlags::CLONE_NEWUSER).doing(
        "make a user namespace; allow it with `sysctl kernel.unprivileged_userns_clone=1`, \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0` or a larger user.max_user_namespaces, or run as root",
    )?;
    if !parent.map_ids()? {
        let write = |file: &str, text: &str| {
            fs::write(Path::new("/proc/self").join(file), text).doing(format_args!("write /proc/self/{file}"))
        };
        write("setgroups", "deny")?;
        write("uid_map", &format!("0 {uid} 1"))?;
        write("gid_map", &format!("0 {gid} 1"))?;
    }
    unshare(CloneFlags::CLONE_NEWNET).doing(
        "make a network namespace; user namespaces without rights in them are what AppArmor gives where \
         kernel.apparmor_restrict_unprivileged_userns is 1",
    )?;
    super::namespaces::loopback_up().doing("set the hub's loopback interface up")
}

/// Enters the user namespace and the hub of a living init.
pub(super) fn join(user: impl AsFd, hub: impl AsFd) -> Result<(), Failure> {
    setns(user, CloneFlags::CLONE_NEWUSER).doing("enter the user namespace of a running node")?;
    setns(hub, CloneFlags::CLONE_NEWNET).doing("enter the hub that a running node holds")
}

/// Whether there is what it takes for nodes to know more users than one.
pub(crate) fn has_range() -> bool {
    let on_path = |program| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).exists())
    };
    on_path("newuidmap") && on_path("newgidmap") && range("/etc/subuid").is_some() && range("/etc/subgid").is_some()
}

/// The caller's range in `/etc/subuid` or `/etc/subgid`.
fn range(file: &str) -> Option<(u32, u32)> {
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    subordinate(&fs::read_to_string(file).ok()?, &[&name, &uid.to_string()])
}

/// Maps the caller's user and its subordinate range into the user namespace of `pid`, from outside of it. Says whether
/// that worked; when it did not, the map is still to be written.
pub(super) fn map_with_helpers(pid: i32) -> bool {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let map = |program: &str, own: u32, (first, count): (u32, u32)| {
        let words = [pid.to_string(), "0".into(), own.to_string(), "1".into(), "1".into()];
        let mut command = Command::new(program);
        command.args(words).args([first.to_string(), count.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let (Some(uids), Some(gids)) = (range("/etc/subuid"), range("/etc/subgid")) else { return false };
    // The groups first: a map of groups alone can be completed by hand, one of users alone cannot.
    map("newgidmap", gid.as_raw(), gids) && map("newuidmap", uid.as_raw(), uids)
}

/// The first range of a user in the text of `/etc/subuid`.
fn subordinate(text: &str, owners: &[&str]) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.trim().parse().ok()?, fields.next()?.trim().parse().ok()?);
        owners.contains(&owner).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let text = "# comment\nalice:100000:65536\n1000:200000:1000\n";
        assert_eq!(subordinate(text, &["alice", "7"]), Some((100_000, 65_536)));
        assert_eq!(subordinate(text, &["bob", "1000"]), Some((200_000, 1_000)));
        assert_eq!(subordinate(text, &["carol", "1001"]), None);
    }
}
