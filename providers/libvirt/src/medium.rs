//! Media with one file, such as an initial configuration: discs by `xorriso`, as disks are made by `qemu-img`, and disks
//! with a FAT file system by the crate `fatfs`. Nothing is mounted.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use flate2::Compression;
use flate2::write::GzEncoder;
use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::provider::{Medium, MediumKind};
use lifecycle_crash::crash_point;

use crate::failure::{Failure, Outcome};

/// More than any configuration has, in bytes.
const LONGEST: u64 = 16 << 20;
/// Room on a disk besides the file, and what its size is a multiple of.
const ROOM: u64 = 1 << 20;
/// What a medium is called that nobody looks for by name.
const LABEL: &str = "config";

/// Makes a medium as the file `target`, for its owner alone: what is on it may not be for everybody. `directory` is the lab's.
pub(crate) fn make(medium: &Medium, directory: &Path, target: &Path) -> Outcome<()> {
    let content = read(&medium.source, directory)?;
    let path = plain(&medium.path)?;
    let (name, content) = match &medium.archive {
        Some(archive) => (plain(Path::new(archive))?, archived(&path, &content)?),
        None => (path, content),
    };
    let label = medium.label.as_deref().unwrap_or(LABEL);
    let fresh = target.with_extension("fresh");
    match medium.kind {
        MediumKind::Disc => disc(&name, &content, label, &fresh)?,
        MediumKind::Disk => disk(&name, &content, label, &fresh).map_err(|error| cannot(&error))?,
    }
    restrict(&fresh).map_err(|error| cannot(&error))?;
    crash_point("machine-medium-made");
    fs::rename(&fresh, target).map_err(|error| Failure::of_file(error, target.display()))
}

fn cannot(error: &std::io::Error) -> Failure {
    Failure::new(ErrorKind::Failed, format!("the medium with the startup-config cannot be made: {error}"))
}

fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// The file that a lab names: below the lab's directory, all links followed.
fn read(source: &Path, directory: &Path) -> Outcome<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let wanted = directory.join(source);
    let unusable =
        |why: String| Failure::invalid(format!("`startup-config` {} cannot be used: {why}", wanted.display()));
    let open = || {
        // What is no file may keep who opens it.
        if !fs::metadata(&wanted)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let file = File::open(&wanted)?;
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok((file, real, directory.canonicalize()?))
    };
    let (file, real, base) = open().map_err(|error| unusable(error.to_string()))?;
    if !real.starts_with(&base) {
        let text = format!("`startup-config` {} is outside of the lab's directory {}", real.display(), base.display());
        return Err(Failure::new(ErrorKind::PermissionDenied, text));
    }
    let mut content = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut content).map_err(|error| unusable(error.to_string()))?;
    if content.len() as u64 > LONGEST {
        return Err(unusable(format!("it has more than {LONGEST} bytes")));
    }
    Ok(content)
}

/// A path on a medium, of plain names from its top.
fn plain(path: &Path) -> Outcome<String> {
    let is_plain = |part: Component<'_>| match part {
        Component::Normal(name) => {
            name.to_string_lossy().bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
        _ => false,
    };
    match path.to_str().filter(|text| !text.is_empty() && path.components().all(is_plain)) {
        Some(text) => Ok(text.to_owned()),
        None => {
            let text = format!("the kind puts its startup-config at `{}`, which cannot be on a medium", path.display());
            Err(Failure::invalid(text))
        }
    }
}

fn archived(path: &str, content: &[u8]) -> Outcome<Vec<u8>> {
    let pack = || {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content)?;
        archive.into_inner()?.finish()
    };
    pack().map_err(|error| cannot(&error))
}

fn disk(name: &str, content: &[u8], label: &str, target: &Path) -> std::io::Result<()> {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(target)?;
    file.set_len((content.len() as u64 + ROOM).next_multiple_of(ROOM))?;
    let mut letters = [b' '; 11];
    letters.iter_mut().zip(label.bytes()).for_each(|(letter, byte)| *letter = byte);
    fatfs::format_volume(&mut file, FormatVolumeOptions::new().volume_label(letters))?;
    {
        let system = FileSystem::new(&mut file, FsOptions::new())?;
        let mut folder = system.root_dir();
        let (folders, name) = name.rsplit_once('/').map_or((None, name), |(folders, name)| (Some(folders), name));
        for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
            folder = folder.create_dir(part)?;
        }
        folder.create_file(name)?.write_all(content)?;
    }
    file.sync_all()
}

fn disc(name: &str, content: &[u8], label: &str, target: &Path) -> Outcome<()> {
    let source = Scratch(target.with_extension("content"));
    fs::write(&source.0, content).map_err(|error| Failure::of_file(error, source.0.display()))?;
    // Left from another try, it would be added to.
    let _ = fs::remove_file(target);
    let mut command = Command::new("xorriso");
    // Long names for whoever knows them, and as long as they may be for others.
    command.args(["-as", "mkisofs", "-quiet", "-J", "-r", "-l", "-V", label, "-graft-points", "-o"]).arg(target);
    command.arg(format!("/{name}={}", source.0.display()));
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        let text = format!("discs are made by `xorriso` (Debian's package is xorriso), which cannot be run: {error}");
        Failure::new(ErrorKind::Unsupported, text)
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(cannot(&std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
}

/// A file that goes when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium(source: &str, path: &str) -> Medium {
        let (source, path) = (source.into(), path.into());
        Medium { kind: MediumKind::Disk, source, path, label: Some("vmm-data".to_owned()), archive: None }
    }

    #[test]
    fn a_disk_has_the_file_where_it_is_looked_for() {
        let lab = tempfile::tempdir().unwrap();
        let target = lab.path().join("medium.img");
        let text = "hostname r1\n".repeat(200_000);
        fs::write(lab.path().join("r1.cfg"), &text).unwrap();
        let archived = Medium { archive: Some("vmm-config.tgz".to_owned()), ..medium("r1.cfg", "config/juniper.conf") };
        for wanted in [medium("r1.cfg", "config/Startup-Config.txt"), archived] {
            make(&wanted, lab.path(), &target).unwrap();
            let system =
                FileSystem::new(File::options().read(true).write(true).open(&target).unwrap(), FsOptions::new());
            let system = system.unwrap();
            assert_eq!(system.volume_label(), "vmm-data");
            let mut found = Vec::new();
            match &wanted.archive {
                None => {
                    let mut file = system.root_dir().open_file("config/Startup-Config.txt").unwrap();
                    file.read_to_end(&mut found).unwrap();
                }
                Some(archive) => {
                    let packed = system.root_dir().open_file(archive).unwrap();
                    let mut packed = tar::Archive::new(flate2::read::GzDecoder::new(packed));
                    let mut file = packed.entries().unwrap().next().unwrap().unwrap();
                    assert_eq!(file.path().unwrap(), Path::new("config/juniper.conf"));
                    file.read_to_end(&mut found).unwrap();
                }
            }
            assert_eq!(found, text.as_bytes());
        }
    }

    #[test]
    fn what_a_lab_may_not_read_is_on_no_medium() {
        let (lab, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = outside.path().join("secret");
        fs::write(&secret, "x").unwrap();
        std::os::unix::fs::symlink(&secret, lab.path().join("link")).unwrap();
        fs::write(lab.path().join("r1.cfg"), "x").unwrap();
        let secret = secret.to_string_lossy();
        for (source, path, kind) in [
            ("link", "a.txt", ErrorKind::PermissionDenied),
            (&*secret, "a.txt", ErrorKind::PermissionDenied),
            ("none", "a.txt", ErrorKind::InvalidInput),
            (".", "a.txt", ErrorKind::InvalidInput),
            ("r1.cfg", "", ErrorKind::InvalidInput),
            ("r1.cfg", "../a.txt", ErrorKind::InvalidInput),
            ("r1.cfg", "a=b", ErrorKind::InvalidInput),
        ] {
            let target = outside.path().join("medium.img");
            let failure = make(&medium(source, path), lab.path(), &target).unwrap_err();
            assert!(failure.kind == kind && !target.exists(), "{source} at {path}: {failure:?}");
        }
    }
}
