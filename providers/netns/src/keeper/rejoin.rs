//! Finding again what an earlier keeper left, by the files and by the inits that live.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lifecycle_core::time::BootId;

use super::launch::{RUN_FILE, take_lock};
use super::namespaces::{KINDS, Namespaces};
use super::node::{Init, Node, Phase, find_init, open_of, read_identity, read_last};
use super::poller::Source;
use super::{Keeper, log, userns};
use crate::failure::{Doing, Failure};
use crate::layout::{Layout, Mark};

/// How long the helper of a dead keeper may take to write down which process its init is.
const LAUNCH: Duration = Duration::from_secs(3);

/// Enters the user namespace and the hub of an init that lives, if one does. Says whether one was found.
pub(super) fn join_any(layout: &Layout, boot: BootId) -> Result<bool, Failure> {
    let (marks, _) = layout.marks().doing("look for nodes of an earlier keeper")?;
    for mark in marks {
        let Ok(Some((_handle, file))) = settled_init(&layout.run(&mark), boot) else { continue };
        let Some(hub) = file.hub else { continue };
        let (user, hub) = (open_of(file.pid, "ns/user"), open_of(file.pid, &format!("fd/{hub}")));
        // An init that ends just now is no obstacle: the next one may live.
        if let (Ok(user), Ok(hub)) = (user, hub) {
            userns::join(user, hub)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// The living init of a node, once no helper of an earlier keeper is between forking it and writing it down.
fn settled_init(run: &Path, boot: BootId) -> io::Result<Option<(std::os::fd::OwnedFd, crate::spec::InitFile)>> {
    let give_up = Instant::now() + LAUNCH;
    loop {
        if let Some(found) = find_init(run, boot)? {
            return Ok(Some(found));
        }
        // Whoever holds the lock is an init or on the way to be one.
        if !run.exists() || take_lock(run)?.is_some() {
            return Ok(None);
        }
        if Instant::now() > give_up {
            let text = format!("{} is locked by a process that {RUN_FILE} does not name", run.display());
            return Err(io::Error::other(text));
        }
        sleep(Duration::from_millis(2));
    }
}

impl Keeper {
    /// Takes in everything that is marked as ours.
    pub(super) fn rejoin(&mut self) -> Result<(), Failure> {
        let (marks, foreign) = self.layout.marks().doing("look for nodes of an earlier keeper")?;
        for name in foreign {
            log(&format!("`{name}` is not the mark of an instance; left alone"));
        }
        for mark in marks {
            let node = self.found(&mark)?;
            self.nodes.insert(mark, node);
        }
        Ok(())
    }

    fn found(&mut self, mark: &Mark) -> Result<Node, Failure> {
        let mut node = Node::new(read_identity(&self.layout, mark));
        node.last = read_last(&self.layout, mark);
        match settled_init(&self.layout.run(mark), self.boot) {
            Ok(Some((handle, file))) => {
                let directory = PathBuf::from(format!("/proc/{}/ns", file.pid));
                let paths = KINDS.map(|(kind, _)| directory.join(kind));
                node.namespaces = self.open(&paths, mark);
                let token = self.poller.add(&handle, Source::Init(*mark)).doing("watch an init")?;
                node.phase = Phase::Running(Init { handle, token, started_at: file.started_at });
            }
            Ok(None) => {}
            Err(error) => node.file = Err(error.to_string()),
        }
        if let Some(pins) = &self.pins {
            match &node.namespaces {
                Some(namespaces) => pins.pin(mark, namespaces)?,
                None if pins.missing(vec![*mark]).is_empty() => {
                    let paths = pins.paths(mark);
                    node.namespaces = pins.at_host(|| Ok(self.open(&paths, mark)))?;
                }
                None => {}
            }
        }
        Ok(node)
    }

    /// Opens namespaces; those that cannot be opened are gone, which shows in the instance's state.
    fn open(&self, paths: &[PathBuf; 3], mark: &Mark) -> Option<Namespaces> {
        Namespaces::open(&self.home, [&paths[0], &paths[1], &paths[2]])
            .inspect_err(|failure| log(&format!("{mark}: {failure}")))
            .ok()
    }
}
