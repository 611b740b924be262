//! Where things lie, and the mark that every instance bears in the name of its directories.
//!
//! ```text
//! <state>/netns/nodes/<mark>/      identity.json, exit.json, log*, upper/ work/ tmp/, an ordinary user's root/
//! <state>/netns/images/<digest>/   unpacked tarballs
//! <state>/netns/epoch              newest epoch seen
//! <runtime>/netns/keeper.sock      the keeper's protocol        <runtime>/netns/broker.sock   sockets in namespaces
//! <runtime>/netns/n/<mark>/        sock (the init's), run.json (which process it is), lock (held while it lives),
//!                                  hostname, resolv.conf, root/ where only mounts are in it
//! <runtime>/netns/pin/<mark>.net   namespace pins, as root
//! ```
//!
//! The mark is the name of a directory, and a directory is made in one step: from the moment anything of an instance
//! exists, it can be told whose it is, whatever else was or was not written before a crash.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::plugin::HostContext;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serializer};

/// Which instance something belongs to: node, incarnation and lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub node: NodeId,
    pub incarnation: u64,
    pub lab: LabId,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.incarnation, self.lab)
    }
}

/// The name is not a mark.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the mark of an instance")]
pub(crate) struct NotAMark(String);

impl FromStr for Mark {
    type Err = NotAMark;

    fn from_str(text: &str) -> Result<Self, NotAMark> {
        let parse = || {
            let mut parts = text.split('.');
            let (node, incarnation, lab) = (parts.next()?, parts.next()?, parts.next()?);
            let mark =
                Self { node: node.parse().ok()?, incarnation: incarnation.parse().ok()?, lab: lab.parse().ok()? };
            (parts.next().is_none() && mark.to_string() == text).then_some(mark)
        };
        parse().ok_or_else(|| NotAMark(text.into()))
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The directories of one provider.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// What outlives a reboot.
    pub state: PathBuf,
    /// Sockets and pins.
    pub runtime: PathBuf,
}

impl Layout {
    pub(crate) fn new(context: &HostContext) -> Self {
        Self { state: context.state_dir.join("netns"), runtime: context.runtime_dir.join("netns") }
    }

    pub(crate) fn nodes(&self) -> PathBuf {
        self.state.join("nodes")
    }

    pub(crate) fn node(&self, mark: &Mark) -> PathBuf {
        self.nodes().join(mark.to_string())
    }

    pub(crate) fn epoch(&self) -> PathBuf {
        self.state.join("epoch")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    pub(crate) fn skeleton(&self) -> PathBuf {
        self.state.join("skeleton")
    }

    pub(crate) fn keeper_log(&self) -> PathBuf {
        self.state.join("keeper.log")
    }

    pub(crate) fn keeper_socket(&self) -> PathBuf {
        self.runtime.join("keeper.sock")
    }

    pub(crate) fn broker_socket(&self) -> PathBuf {
        self.runtime.join("broker.sock")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.runtime.join("keeper.lock")
    }

    pub(crate) fn running(&self) -> PathBuf {
        self.runtime.join("n")
    }

    pub(crate) fn run(&self, mark: &Mark) -> PathBuf {
        self.running().join(mark.to_string())
    }

    pub(crate) fn init_socket(&self, mark: &Mark) -> PathBuf {
        self.run(mark).join("sock")
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.runtime.join("pin")
    }

    /// The marks of all instances of which anything is left, and the names in the places of marks that are none.
    pub(crate) fn marks(&self) -> io::Result<(Vec<Mark>, Vec<String>)> {
        let (mut marks, mut foreign) = (Vec::new(), Vec::new());
        for (directory, suffixed) in [(self.nodes(), false), (self.running(), false), (self.pins(), true)] {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let stem = if suffixed { name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem) } else { &name };
                match stem.parse() {
                    Ok(mark) if suffixed || entry.file_type()?.is_dir() => marks.push(mark),
                    _ => foreign.push(name),
                }
            }
        }
        marks.sort_unstable();
        marks.dedup();
        Ok((marks, foreign))
    }
}

/// Writes a file so that a reader sees all of it or its old content.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::File::create(&temporary)?.write_all(text)?;
    fs::rename(&temporary, path)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec(value)?)
}

/// Reads a file written by [`write_json`]; nothing when there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

/// Takes "it was not there" for success.
pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_its_text() {
        let mark = Mark { node: NodeId::from_u64(7), incarnation: 3, lab: LabId::from_u64(9) };
        assert_eq!(mark.to_string().parse::<Mark>().unwrap(), mark);
        for bad in ["", "..", "a.1.b", "000000000007.03.000000000009", "000000000007.3.000000000009.x"] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }
}
