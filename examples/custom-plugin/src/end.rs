//! One end of a link: a directory in the place of its node.
//!
//! ```text
//! <place>/eth1/mark    which link it belongs to, its number, and how it is set
//! <place>/eth1/peer    leads to the other end
//! <place>/eth1/rx      a named pipe from which the node reads what the other end sent; `.rx` without carrier
//! ```
//!
//! A node sends by writing to `eth1/peer/rx`. An end whose `peer` leads nowhere does not exist, whatever is left of it.
//! So both ends begin to exist when the second one is moved into its place, and cease to when either goes, just as those
//! of a veth do.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsRef};
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::EndIdentity;
use lifecycle_core::{Error, ErrorKind, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::{Deserialize, Serialize};

use crate::{files, place};

/// Which link an end belongs to, its number, and how it is set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) controller: ControllerId,
    pub(crate) link: LinkId,
    pub(crate) incarnation: u64,
    /// Drawn anew for every end, so that one made again is not taken for the old one.
    pub(crate) number: u32,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
}

/// The directory of an end, which may not be there.
#[derive(Debug)]
pub(crate) struct End(PathBuf);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl End {
    /// The place of a point, if it is of our kind.
    pub(crate) fn place(point: &AttachPoint) -> Option<NsRef> {
        match &point.place {
            AttachKind::Namespace(place) => Some(place.clone()),
            _ => None,
        }
    }

    /// The end at a point.
    pub(crate) fn at(point: &AttachPoint) -> Result<Self> {
        let refuse = |message: &str| Error::new(ErrorKind::Unsupported, "find end", message).about(&point.ifname);
        let place = Self::place(point).ok_or_else(|| refuse("a cable joins directories only"))?;
        if point.ifname.as_str().starts_with('.') {
            return Err(refuse("names that begin with a dot are taken"));
        }
        Ok(Self(place::find(&place)?.join(point.ifname.as_str())))
    }

    /// All ends in a place, ours or not; none when the place has gone, since it took everything with it.
    pub(crate) fn all(place: &NsRef) -> io::Result<Vec<Self>> {
        let Ok(place) = place::find(place) else { return Ok(Vec::new()) };
        let ends = fs::read_dir(place)?.map(|entry| Ok(Self(entry?.path()))).collect::<io::Result<Vec<_>>>()?;
        Ok(ends.into_iter().filter(|end| end.name().is_some_and(|name| !name.as_str().starts_with('.'))).collect())
    }

    pub(crate) fn name(&self) -> Option<IfName> {
        IfName::new(self.0.file_name()?.to_str()?).ok()
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.join("peer").is_dir()
    }

    pub(crate) fn is_joined_to(&self, other: &Self) -> bool {
        fs::read_link(self.0.join("peer")).is_ok_and(|peer| peer == other.0)
    }

    pub(crate) fn has_carrier(&self) -> bool {
        self.0.join("rx").exists()
    }

    /// The mark that this controller gave it; nothing when it is not ours.
    pub(crate) fn mark(&self, controller: ControllerId) -> Option<Mark> {
        files::read::<Mark>(&self.0.join("mark")).ok()?.filter(|mark| mark.controller == controller)
    }

    /// Whether something stands here that a link must not replace: anything but its own ends and what is left of ours.
    pub(crate) fn is_taken(&self, controller: ControllerId, link: LinkId) -> bool {
        let ours = self.mark(controller).is_some_and(|mark| mark.link == link || !self.exists());
        fs::symlink_metadata(&self.0).is_ok() && !ours
    }

    /// Makes the end aside, to be moved to its place by [`End::land`].
    pub(crate) fn prepare(&self, peer: &Self, mark: &Mark) -> io::Result<()> {
        let aside = self.aside();
        files::remove(&aside)?;
        fs::create_dir(&aside)?;
        mknodat(CWD, aside.join(".rx"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        symlink(&peer.0, aside.join("peer"))?;
        files::write(&aside.join("mark"), mark)
    }

    pub(crate) fn land(&self) -> io::Result<()> {
        fs::rename(self.aside(), &self.0)
    }

    /// Removes it; succeeds when it is not there.
    pub(crate) fn remove(&self) -> io::Result<()> {
        files::remove(&self.aside())?;
        match fs::rename(&self.0, self.aside()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.and_then(|()| files::remove(&self.aside())),
        }
    }

    /// Writes down how it is set.
    pub(crate) fn set(&self, mark: &Mark) -> io::Result<()> {
        files::write(&self.0.join("mark"), mark)
    }

    /// Gives or takes carrier. The pipe stays the same, so that whoever waits at it goes on when carrier is back.
    pub(crate) fn plug(&self, carrier: bool) -> io::Result<()> {
        let (from, to) = if carrier { (".rx", "rx") } else { ("rx", ".rx") };
        if self.has_carrier() == carrier { Ok(()) } else { fs::rename(self.0.join(from), self.0.join(to)) }
    }

    pub(crate) fn identity(&self, mark: &Mark, point: &AttachPoint) -> EndIdentity {
        let namespace = Self::place(point).map_or(0, |place| place.cookie);
        EndIdentity { point: point.clone(), namespace, ifindex: mark.number, mac: mark.mac, plugged: None }
    }

    fn aside(&self) -> PathBuf {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.0.with_file_name(format!(".{name}"))
    }
}
