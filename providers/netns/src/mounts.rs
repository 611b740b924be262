//! The mount table of the calling process, and remounting with the flags that the kernel insists on.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Kind of its file system.
    pub kind: String,
    /// Options of its file system.
    pub options: String,
}

/// All mounts, in the order in which they were made.
pub(crate) fn table() -> io::Result<Vec<Mount>> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Mount> {
    let (place, file_system) = line.split_once(" - ")?;
    let point = unescape(place.split(' ').nth(4)?);
    let mut fields = file_system.split(' ');
    let kind = fields.next()?.to_owned();
    Some(Mount { point, kind, options: fields.nth(1)?.to_owned() })
}

/// Undoes the kernel's `\040` for a space and its like.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\' && tail.len() >= 3)
            .then(|| std::str::from_utf8(&tail[..3]).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok()))
            .flatten();
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes).into()
}

/// Takes the right to write from the mount at `point`. Flags that it has must be given again: in a user namespace the
/// kernel refuses to lose one.
pub(crate) fn make_read_only(point: &Path) -> nix::Result<()> {
    let has = statvfs(point)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (found, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if has.contains(found) {
            flags |= flag;
        }
    }
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = r"36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt two"));
        assert_eq!((mount.kind.as_str(), mount.options.as_str()), ("ext3", "rw,errors=continue"));
        assert!(table().unwrap().iter().any(|mount| mount.point == Path::new("/proc")));
    }
}
