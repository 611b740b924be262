//! Images: disks and kernels in directories that the operator named. Nothing is ever fetched.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use lifecycle_core::plugin::provider::Images;
use lifecycle_core::topology::{ImagePullPolicy, NodeSpec};
use lifecycle_core::{ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::machine::Options;
use crate::provider::LibvirtProvider;
use crate::settings::Settings;

/// How a disk's file is to be read. It is never guessed once the machine wrote to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Qcow2,
    Raw,
}

impl Format {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// A disk that machines read and never write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    pub path: PathBuf,
    pub format: Format,
}

/// What a node's image has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub disk: Option<Base>,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
}

/// Finds all that a node boots from: its image, a disk's file or a directory with `disk.qcow2`, `kernel` and `initrd` as
/// far as there are; and the kernel and RAM disk that are named besides.
pub(crate) fn find(settings: &Settings, spec: &NodeSpec, options: &Options) -> Outcome<Found> {
    let mut found = Found::default();
    if let Some(image) = &spec.image {
        let path = locate(settings, image)?;
        if path.is_dir() {
            let part = |name: &str| locate(settings, &path.join(name).to_string_lossy()).ok();
            found.disk = part("disk.qcow2").map(base).transpose()?;
            (found.kernel, found.initrd) = (part("kernel"), part("initrd"));
        } else {
            found.disk = Some(base(path)?);
        }
    }
    for (named, slot) in [(&options.kernel, &mut found.kernel), (&options.initrd, &mut found.initrd)] {
        if let Some(name) = named {
            *slot = Some(locate(settings, name)?);
        }
    }
    if found.disk.is_none() && found.kernel.is_none() {
        let text =
            "a machine needs something to boot: an `image` with a disk or a kernel, or `extras: {libvirt: {kernel}}`";
        return Err(Failure::invalid(text));
    }
    Ok(found)
}

/// The file that a name means: below one of the directories of images, all links followed.
fn locate(settings: &Settings, name: &str) -> Outcome<PathBuf> {
    let missing = || {
        let places: Vec<_> = settings.images.iter().map(|path| path.display().to_string()).collect();
        let text = format!("there is no `{name}` in {}; put it there, nothing is fetched", places.join(" or "));
        Failure::new(ErrorKind::ImageUnavailable, text)
    };
    let wanted = Path::new(name);
    if wanted.components().any(|part| part == Component::ParentDir) {
        return Err(missing());
    }
    let real = settings.images.iter().find_map(|directory| directory.join(wanted).canonicalize().ok());
    let real = real.ok_or_else(missing)?;
    if settings.images.iter().any(|directory| directory.canonicalize().is_ok_and(|it| real.starts_with(it))) {
        return Ok(real);
    }
    let text = format!(
        "{} is outside of the directories of images; the operator may name its directory with `images` in the settings of \
         the provider `libvirt`",
        real.display()
    );
    Err(Failure::new(ErrorKind::PermissionDenied, text))
}

/// A disk to lay changes over. One that leads to further files is refused: those could be any of the host's.
fn base(path: PathBuf) -> Outcome<Base> {
    const EXTERNAL_DATA: u64 = 1 << 2;
    const HEAD: usize = 80;
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(&path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    read.map_err(|error| Failure::of_file(error, path.display()))?;
    if head.len() < HEAD || head[..4] != *b"QFI\xfb" {
        return Ok(Base { path, format: Format::Raw });
    }
    let number = |at: usize, bytes: usize| head[at..at + bytes].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (version, backing, features) = (number(4, 4), number(8, 8), number(72, 8));
    if backing != 0 || version >= 3 && features & EXTERNAL_DATA != 0 {
        let text = format!("the disk {} leads to another file; make it whole with `qemu-img convert`", path.display());
        return Err(Failure::new(ErrorKind::PermissionDenied, text));
    }
    Ok(Base { path, format: Format::Qcow2 })
}

/// Whether all files that a machine boots from are there.
fn is_complete(settings: &Settings, spec: &NodeSpec) -> Outcome<()> {
    let found = find(settings, spec, &Options::of(spec)?)?;
    let files = found.disk.map(|disk| disk.path).into_iter().chain(found.kernel).chain(found.initrd);
    for file in files {
        fs::metadata(&file).map_err(|error| Failure::of_file(error, file.display()))?;
    }
    Ok(())
}

#[async_trait]
impl Images for LibvirtProvider {
    async fn is_present(&self, spec: &NodeSpec) -> Result<bool> {
        match is_complete(self.settings(), spec) {
            Ok(()) => Ok(true),
            Err(failure) if failure.kind == ErrorKind::ImageUnavailable => Ok(false),
            Err(failure) => Err(failure.during("look up image", spec.image.as_deref().unwrap_or_default())),
        }
    }

    async fn ensure(&self, spec: &NodeSpec, _policy: ImagePullPolicy) -> Result<()> {
        let image = spec.image.as_deref().unwrap_or_default();
        is_complete(self.settings(), spec).map_err(|failure| failure.during("provide image", image))
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_core::name::NodeName;

    use super::*;

    fn qcow2(backing: u8, features: u8) -> Vec<u8> {
        let mut head = b"QFI\xfb\0\0\0\x03".to_vec();
        head.resize(200, 0);
        (head[15], head[79]) = (backing, features);
        head
    }

    #[test]
    fn images_are_found_where_the_operator_said_and_nowhere_else() {
        let (images, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = Settings { images: vec![images.path().into()], ..Settings::default() };
        let put = |name: &str, bytes: &[u8]| fs::write(images.path().join(name), bytes).unwrap();
        fs::create_dir(images.path().join("box")).unwrap();
        for name in ["box/kernel", "box/initrd", "raw.img"] {
            put(name, b"x");
        }
        put("disk.qcow2", &qcow2(0, 0));
        put("chained.qcow2", &qcow2(1, 0));
        put("external.qcow2", &qcow2(0, 4));
        fs::write(outside.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), images.path().join("link")).unwrap();
        let look = |image: &str, kernel: Option<&str>| {
            let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
            spec.image = Some(image.to_owned());
            let options = Options { kernel: kernel.map(str::to_owned), ..Options::default() };
            find(&settings, &spec, &options)
        };
        let found = look("box", None).unwrap();
        assert!(found.disk.is_none() && found.kernel.is_some() && found.initrd.is_some());
        assert_eq!(look("disk.qcow2", None).unwrap().disk.unwrap().format, Format::Qcow2);
        let absolute = images.path().join("raw.img");
        let found = look(&absolute.to_string_lossy(), Some("box/kernel")).unwrap();
        assert_eq!((found.disk.unwrap().format, found.kernel.is_some()), (Format::Raw, true));
        let secret = outside.path().join("secret");
        for (image, kind) in [
            ("none.qcow2", ErrorKind::ImageUnavailable),
            ("box/../raw.img", ErrorKind::ImageUnavailable),
            ("link", ErrorKind::PermissionDenied),
            (&secret.to_string_lossy(), ErrorKind::PermissionDenied),
            ("chained.qcow2", ErrorKind::PermissionDenied),
            ("external.qcow2", ErrorKind::PermissionDenied),
        ] {
            assert_eq!(look(image, None).unwrap_err().kind, kind, "{image}");
        }
    }
}
