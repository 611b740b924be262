//! Unpacking tarballs that stand in for images, once per content.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use lifecycle_core::ErrorKind;
use nix::unistd::{Uid, getpid};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use crate::failure::{Doing, Failure};
use crate::layout::{Layout, read_json, write_json};

/// What an unpacked tarball was made of, so that an unchanged file need not be read again.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Seen {
    size: u64,
    modified: (i64, i64),
    inode: u64,
    digest: String,
}

/// The directory that holds what is in the tarball, if it was unpacked before.
pub(crate) fn find(layout: &Layout, tarball: &Path) -> Result<Option<PathBuf>, Failure> {
    let doing = || format!("look at {}", tarball.display());
    let Some(seen) = read_json::<Seen>(&note(layout, tarball)).doing(doing())? else { return Ok(None) };
    let meta = fs::metadata(tarball).doing(doing())?;
    let same = (seen.size, seen.modified, seen.inode) == (meta.len(), (meta.mtime(), meta.mtime_nsec()), meta.ino());
    let directory = layout.images().join(&seen.digest);
    Ok((same && directory.is_dir()).then_some(directory))
}

/// Where it is remembered what a tarball was.
fn note(layout: &Layout, tarball: &Path) -> PathBuf {
    let name = hex(&Sha256::digest(tarball.as_os_str().as_encoded_bytes()));
    layout.images().join(format!("{name}.json"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Unpacks a tarball, unless its content is there already, and returns the directory. Blocks.
pub(crate) fn ensure(layout: &Layout, tarball: &Path) -> Result<PathBuf, Failure> {
    if let Some(found) = find(layout, tarball)? {
        return Ok(found);
    }
    let unavailable = |error: &io::Error| {
        let text = format!("cannot read the tarball {}: {error}", tarball.display());
        Failure::new(ErrorKind::ImageUnavailable, text)
    };
    let mut file = File::open(tarball).map_err(|error| unavailable(&error))?;
    let meta = file.metadata().map_err(|error| unavailable(&error))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut chunk).map_err(|error| unavailable(&error))?;
        if n == 0 {
            break;
        }
        hasher.update(&chunk[..n]);
    }
    let digest = hex(&hasher.finalize());
    let directory = layout.images().join(&digest);
    if !directory.is_dir() {
        file.rewind().map_err(|error| unavailable(&error))?;
        let temporary = layout.images().join(format!("{digest}.{}", getpid()));
        crate::remove::tree(&temporary).doing("remove what an earlier try left")?;
        fs::create_dir_all(&temporary).doing(format_args!("make {}", temporary.display()))?;
        let unpacked = unpack(file, &temporary).and_then(|()| match fs::rename(&temporary, &directory) {
            // Somebody else was faster; what is there has the same content.
            Err(_) if directory.is_dir() => Ok(()),
            other => other,
        });
        if let Err(error) = unpacked {
            crate::remove::tree(&temporary).doing("remove what was unpacked")?;
            return Err(unavailable(&error));
        }
        crate::remove::tree(&temporary).doing("remove what was unpacked twice")?;
    }
    let modified = (meta.mtime(), meta.mtime_nsec());
    let seen = Seen { size: meta.len(), modified, inode: meta.ino(), digest };
    write_json(&note(layout, tarball), &seen).doing("remember what was unpacked")?;
    Ok(directory)
}

fn unpack(mut file: File, to: &Path) -> io::Result<()> {
    let mut magic = [0; 2];
    let gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind()?;
    let reader: Box<dyn Read> =
        if gzip { Box::new(GzDecoder::new(BufReader::new(file))) } else { Box::new(BufReader::new(file)) };
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    // An ordinary user's files all belong to the one user that it has.
    archive.set_preserve_ownerships(Uid::effective().is_root());
    // Last, so that one that may not be written to does not refuse what belongs into it.
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let refuse = |why: &str| {
            let text = format!("entry `{}` {why}; nothing was unpacked", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        };
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return refuse("leaves the directory");
        }
        match entry.header().entry_type() {
            EntryType::Directory => {
                directories.push((path, entry));
                continue;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::Symlink | EntryType::Link => {}
            EntryType::XGlobalHeader => continue,
            // Nodes get a `/dev` of their own, so that nothing is missed.
            EntryType::Char | EntryType::Block | EntryType::Fifo => continue,
            _ => return refuse("is of a kind that is not known"),
        }
        // Refuses to write or link through a symbolic link that leads out.
        if !entry.unpack_in(to)? {
            return refuse("leaves the directory");
        }
    }
    directories.sort_by(|(a, _), (b, _)| b.cmp(a));
    for (_, mut directory) in directories {
        directory.unpack_in(to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn layout(directory: &Path) -> Layout {
        let layout = Layout { state: directory.join("state"), runtime: directory.join("run") };
        fs::create_dir_all(layout.images()).unwrap();
        layout
    }

    /// An archive with entries as (kind, path, link target or content), written without the library's own checks.
    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, path, text) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            let content = if *kind == EntryType::Regular { text.as_bytes() } else { &[] };
            if *kind != EntryType::Regular {
                header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_tarball_is_unpacked_once_per_content() {
        let directory = tempfile::tempdir().unwrap();
        let (layout, file) = (layout(directory.path()), directory.path().join("a.tar"));
        let entries = [(EntryType::Directory, "etc/", ""), (EntryType::Regular, "./etc/os-release", "NAME=test")];
        fs::write(&file, archive(&entries)).unwrap();
        assert_eq!(find(&layout, &file).unwrap(), None);
        let first = ensure(&layout, &file).unwrap();
        assert_eq!(fs::read_to_string(first.join("etc/os-release")).unwrap(), "NAME=test");
        assert_eq!(find(&layout, &file).unwrap(), Some(first.clone()));
        fs::write(&file, archive(&[(EntryType::Regular, "other", "x")])).unwrap();
        assert_eq!(find(&layout, &file).unwrap(), None);
        assert_ne!(ensure(&layout, &file).unwrap(), first);
    }

    #[test]
    fn entries_that_would_escape_are_refused_and_leave_nothing() {
        let regular = EntryType::Regular;
        let cases: &[&[(EntryType, &str, &str)]] = &[
            &[(regular, "../escaped", "x")],
            &[(regular, "/escaped", "x")],
            &[(regular, "a/../../escaped", "x")],
            &[(EntryType::Symlink, "out", ".."), (regular, "out/escaped", "x")],
            &[(EntryType::Symlink, "out", "/tmp"), (regular, "out/lifecycle-escaped", "x")],
            &[(EntryType::Symlink, "out", "../secret"), (EntryType::Link, "in", "out")],
            &[(EntryType::Link, "in", "../secret")],
        ];
        for entries in cases {
            let directory = tempfile::tempdir().unwrap();
            let (layout, file) = (layout(directory.path()), directory.path().join("a.tar"));
            fs::write(layout.images().join("secret"), "secret").unwrap();
            fs::write(&file, archive(entries)).unwrap();
            match ensure(&layout, &file) {
                Err(failure) => assert_eq!(failure.kind, ErrorKind::ImageUnavailable, "{failure}"),
                // A hard link to a symbolic link is one; it is not followed while unpacking.
                Ok(found) => assert!(fs::symlink_metadata(found.join("in")).unwrap().is_symlink(), "{entries:?}"),
            }
            for place in [layout.images(), directory.path().into(), "/tmp".into(), "/".into()] {
                assert!(!place.join("escaped").exists() && !place.join("lifecycle-escaped").exists(), "{entries:?}");
            }
        }
    }
}
