//! Making, describing and removing instances.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::time::Instant;

use lifecycle_core::error::ErrorKind;

use super::namespaces::{Furnish, Namespaces};
use super::node::{IDENTITY_FILE, Node, Phase, Waiter};
use super::{Keeper, Outcome};
use crate::crash::crash_point;
use crate::failure::{Doing, Failure};
use crate::layout::{Mark, absent_is_fine, write_json};
use crate::process;
use crate::spec::{Network, NodeFile};
use crate::wire::Answer;

/// A fresh directory that only its owner may enter; says whether it was there already.
fn make_directory(path: &std::path::Path) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(error),
    }
}

impl Keeper {
    /// Makes an instance, or what is missing of it, and runs nothing.
    pub(super) fn create(&mut self, file: NodeFile) -> Result<Answer, Failure> {
        let mark = file.mark;
        if let Some(other) = self.nodes.keys().find(|other| other.node == mark.node && **other != mark) {
            return Err(Failure::new(
                ErrorKind::Conflict,
                format!("incarnation {} of the node exists; destroy it first", other.incarnation),
            ));
        }
        match self.nodes.get(&mark) {
            None => self.create_new(file)?,
            Some(node) if node.doomed => {
                return Err(Failure::new(ErrorKind::Conflict, "the instance is being removed"));
            }
            Some(Node { file: Ok(found), .. }) if found.controller != file.controller => {
                let text = format!("an instance of controller {} stands under this name", found.controller);
                return Err(Failure::new(ErrorKind::Foreign, text));
            }
            // The files of an instance that was never completed are written again; those of a whole one stay.
            Some(Node { file: Err(_), .. }) => {
                self.write_files(&file)?;
                self.furnish(file)?;
            }
            Some(Node { file: Ok(found), namespaces: None, .. }) => {
                let found = found.clone();
                self.furnish(found)?;
            }
            Some(_) => {}
        }
        Ok(Answer::Status(self.nodes.get(&mark).map(|node| Box::new(node.status(&mark)))))
    }

    fn create_new(&mut self, file: NodeFile) -> Result<(), Failure> {
        let mark = file.mark;
        let directory = self.layout.node(&mark);
        fs::create_dir_all(self.layout.nodes()).doing("make the state directory")?;
        if make_directory(&directory).doing(format_args!("make {}", directory.display()))? {
            let text = format!("{} stands in the place of the instance and is not ours", directory.display());
            return Err(Failure::new(ErrorKind::Foreign, text));
        }
        crash_point("create-directory");
        self.nodes.insert(mark, Node::new(Err("it is being made".into())));
        let made = self.write_files(&file).and_then(|()| self.furnish(file));
        if made.is_err() {
            // What was made goes at once; if that fails too, the instance is listed, broken, and can be destroyed.
            if self.unmake(&mark).and_then(|()| remove_files(&directory)).is_ok() {
                self.nodes.remove(&mark);
            }
        }
        made
    }

    fn write_files(&self, file: &NodeFile) -> Result<(), Failure> {
        let directory = self.layout.node(&file.mark);
        let doing = || format!("write what the instance is below {}", directory.display());
        write_json(&directory.join(IDENTITY_FILE), file).doing(doing())?;
        crash_point("create-identity");
        Ok(())
    }

    /// Makes everything of an instance that lives in the kernel.
    fn furnish(&mut self, file: NodeFile) -> Result<(), Failure> {
        let mark = file.mark;
        let run = self.layout.run(&mark);
        make_directory(&run).doing(format_args!("make {}", run.display()))?;
        if !file.limits.is_none() {
            self.cgroups()?.prepare(&mark, &file.limits)?;
        }
        let shared = self.shared_network(&file.network)?;
        let furnish = Furnish { hostname: &file.hostname, sysctls: &file.sysctls };
        let namespaces = Namespaces::create(&self.home, shared.as_ref(), &furnish)?;
        crash_point("create-namespaces");
        if let Some(pins) = &self.pins {
            pins.pin(&mark, &namespaces)?;
            crash_point("create-pinned");
        }
        if let Some(node) = self.nodes.get_mut(&mark) {
            node.namespaces = Some(namespaces);
            node.file = Ok(file);
        }
        self.changed(&mark);
        Ok(())
    }

    /// The network namespace that an instance does not own.
    fn shared_network(&self, network: &Network) -> Result<Option<OwnedFd>, Failure> {
        let net = match network {
            Network::Own => return Ok(None),
            Network::Host if self.pins.is_some() => self.home.net(),
            Network::Host => {
                let text =
                    "an ordinary user's node cannot use the host's network; run as root, or remove `network-mode`";
                return Err(Failure::new(ErrorKind::Unsupported, text));
            }
            Network::Shared(other) => {
                self.nodes.get(other).and_then(|node| node.namespaces.as_ref()).map(Namespaces::net).ok_or_else(
                    || Failure::new(ErrorKind::Conflict, "the node whose network it shares does not exist"),
                )?
            }
        };
        Ok(Some(net.try_clone().doing("duplicate a namespace")?))
    }

    /// Removes an instance, now or as soon as its process has ended.
    pub(super) fn destroy(&mut self, mark: &Mark, waiter: Waiter) -> Outcome {
        let Some(node) = self.nodes.get_mut(mark) else { return Outcome::Now(Ok(Answer::Done)) };
        node.waiting.push(waiter);
        node.doomed = true;
        node.trouble = None;
        match (node.init(), &node.phase) {
            (Some(init), _) => {
                if let Err(error) = process::kill(&init.handle) {
                    let failure = Failure::new(ErrorKind::Failed, format!("cannot kill the node's init: {error}"));
                    self.conclude(mark, Err(failure));
                }
            }
            (None, Phase::Idle) => self.remove(mark),
            // Its helper or the removal of its files is under way; what follows when that ends is this.
            (None, _) => {}
        }
        Outcome::Later
    }

    /// Removes an instance whose process has ended: what is in the kernel first, its files, which bear its mark, last.
    pub(super) fn remove(&mut self, mark: &Mark) {
        crash_point("destroy-ended");
        let removal = self.unmake(mark).and_then(|()| {
            crash_point("destroy-unpinned");
            let directory = self.layout.node(mark);
            // In a process of its own: a node may have written very much.
            let work = || i32::from(remove_files(&directory).is_err());
            process::fork_child(&[], work).doing("fork")
        });
        match removal {
            Ok(pid) => {
                self.janitors.insert(pid.as_raw(), *mark);
                if let Some(node) = self.nodes.get_mut(mark) {
                    node.phase = Phase::Removing;
                }
            }
            Err(failure) => self.removed(mark, Err(failure)),
        }
    }

    /// Takes the end of a removal in.
    pub(super) fn removed(&mut self, mark: &Mark, result: Result<(), Failure>) {
        match &result {
            Ok(()) => crash_point("destroy-forgotten"),
            Err(failure) => {
                if let Some(node) = self.nodes.get_mut(mark) {
                    node.phase = Phase::Idle;
                    node.trouble = Some(format!("it could not be removed: {failure}"));
                }
            }
        }
        let succeeded = result.is_ok();
        self.changed(mark);
        self.conclude(mark, result.map(|()| Answer::Done));
        if succeeded {
            self.nodes.remove(mark);
            self.last_change = Instant::now();
        }
    }

    /// Removes everything of an instance but its files.
    fn unmake(&mut self, mark: &Mark) -> Result<(), Failure> {
        if let Some(pins) = &self.pins {
            pins.unpin(mark)?;
        }
        self.cgroups()?.remove(mark)?;
        if let Some(node) = self.nodes.get_mut(mark) {
            node.namespaces = None;
        }
        let run = self.layout.run(mark);
        crate::remove::tree(&run).doing(format_args!("remove {}", run.display()))
    }
}

/// Removes an instance's files. What says whose they are goes last, with the directory itself.
fn remove_files(directory: &std::path::Path) -> Result<(), Failure> {
    let doing = || format!("remove {}", directory.display());
    for part in ["root", "upper", "work"] {
        crate::remove::tree(&directory.join(part)).doing(doing())?;
    }
    absent_is_fine(crate::remove::tree(directory)).doing(doing())
}
