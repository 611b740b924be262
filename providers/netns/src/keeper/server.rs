//! The keeper's loop: clients, epochs, and what the kernel has to say.

use std::fs;
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::{ControllerId, LabId};
use lifecycle_linux::namespace::broker::{self, Answered};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with};

use super::node::Waiter;
use super::poller::Source;
use super::{Keeper, Outcome, log};
use crate::failure::{Doing, Failure};
use crate::layout::{Layout, Mark, absent_is_fine, remove_file, write_whole};
use crate::peer::Peer;
use crate::wire::{Answer, Call, FromKeeper, JSON, Key, ToKeeper, VERSION, parse};

/// How long a keeper stays that nobody needs.
const IDLE: Duration = Duration::from_secs(3);
/// How often the pins are looked at, besides the news of their deletion.
const PIN_CHECK: Duration = Duration::from_secs(10);
/// A client that lets this much wait is disconnected.
const BACKLOG: usize = 64 << 20;

/// A connection of a controller.
#[derive(Debug)]
pub(super) struct Client {
    peer: Peer,
    /// Its controller and epoch, once it has said hello.
    hello: Option<(ControllerId, u64)>,
    /// Whether it is watched for room to write.
    blocked: bool,
}

/// What new clients arrive on.
#[derive(Debug)]
pub(super) struct Listeners {
    clients: UnixListener,
    brokers: OwnedFd,
    children: SignalFd,
}

/// The newest epoch that any keeper of this state directory has seen.
pub(super) fn read_epoch(layout: &Layout) -> u64 {
    fs::read_to_string(layout.epoch()).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl Keeper {
    /// Opens the doors.
    pub(super) fn listen(&mut self) -> Result<Listeners, Failure> {
        let (path, broker_path) = (self.layout.keeper_socket(), self.layout.broker_socket());
        remove_file(&path).doing("remove an old socket")?;
        remove_file(&broker_path).doing("remove an old socket")?;
        let doing = || format!("listen in {}; socket paths end at 107 bytes", self.layout.runtime.display());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let brokers = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).doing(doing())?;
        bind(&brokers, &SocketAddrUnix::new(&broker_path).doing(doing())?).doing(doing())?;
        listen(&brokers, 128).doing(doing())?;
        let clients = UnixListener::bind(&path).doing(doing())?;
        clients.set_nonblocking(true).doing(doing())?;
        let mask = SigSet::from(Signal::SIGCHLD);
        mask.thread_block().doing("block SIGCHLD")?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let children = children.doing("watch for children")?;
        self.poller.add(&clients, Source::Clients).doing("watch for clients")?;
        self.poller.add(&brokers, Source::Brokers).doing("watch for clients")?;
        self.poller.add(&children, Source::Children).doing("watch for children")?;
        if let Some(pins) = &self.pins {
            self.poller.add(pins.watch(), Source::Pins).doing("watch the pins")?;
        }
        Ok(Listeners { clients, brokers, children })
    }

    /// Serves until nobody needs it any more.
    pub(super) fn serve(&mut self, listeners: Listeners) -> Result<(), Failure> {
        let mut pin_check = Instant::now();
        loop {
            let now = Instant::now();
            let needed = !self.clients.is_empty() || self.nodes.values().any(super::node::Node::is_alive);
            if needed {
                self.last_change = now;
            } else if now.duration_since(self.last_change) > IDLE {
                return self.retire(listeners);
            }
            let mut limit = if needed { PIN_CHECK } else { IDLE };
            if let Some(next) = self.kill_late() {
                limit = limit.min(next.saturating_duration_since(now));
            }
            for (token, source) in self.poller.wait(limit).doing("wait")? {
                self.attend(&listeners, token, source)?;
            }
            if self.pins.is_some() && pin_check.elapsed() >= PIN_CHECK {
                pin_check = Instant::now();
                self.put_pins_back(self.nodes.keys().copied().collect());
            }
        }
    }

    fn attend(&mut self, listeners: &Listeners, token: u64, source: Source) -> Result<(), Failure> {
        match source {
            Source::Clients => self.accept_clients(&listeners.clients),
            Source::Brokers => self.accept_brokers(&listeners.brokers),
            Source::Children => {
                while let Ok(Some(_)) = listeners.children.read_signal() {}
                self.reap();
                Ok(())
            }
            Source::Pins => {
                // News may be lost when there are very many: then all are looked at.
                let deleted = self.pins.as_ref().and_then(super::pins::Pins::deleted);
                self.put_pins_back(deleted.unwrap_or_else(|| self.nodes.keys().copied().collect()));
                Ok(())
            }
            Source::Client => {
                self.hear_client(token);
                Ok(())
            }
            Source::Broker => {
                self.answer_broker(token);
                Ok(())
            }
            Source::Launch(mark) => {
                self.hear_launch(&mark);
                Ok(())
            }
            Source::Init(mark) => {
                self.ended(&mark);
                Ok(())
            }
        }
    }

    fn accept_clients(&mut self, listener: &UnixListener) -> Result<(), Failure> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == IoErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).doing("accept a client"),
            };
            let peer = Peer::new(stream).doing("prepare a client's socket")?;
            let token = self.poller.add(&peer, Source::Client).doing("watch a client")?;
            self.clients.insert(token, Client { peer, hello: None, blocked: false });
        }
    }

    fn accept_brokers(&mut self, listener: &OwnedFd) -> Result<(), Failure> {
        loop {
            match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => {
                    let token = self.poller.add(&fd, Source::Broker).doing("watch a client of the broker")?;
                    self.brokers.insert(token, fd);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
                Err(error) => return Err(error).doing("accept a client of the broker"),
            }
        }
    }

    fn answer_broker(&mut self, token: u64) {
        let Some(connection) = self.brokers.get(&token) else { return };
        let missing = || io::Error::new(IoErrorKind::NotFound, "there is no such namespace");
        let over = loop {
            let answered = broker::answer(connection, |name| {
                let mark: Mark = name.parse().map_err(|_| missing())?;
                let namespaces = self.nodes.get(&mark).and_then(|node| node.namespaces.as_ref());
                Ok(namespaces.ok_or_else(missing)?.net().as_fd())
            });
            match answered {
                Ok(Answered::Served | Answered::Refused(_)) => {}
                Ok(Answered::Closed) => break true,
                Err(error) if error.kind() == IoErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        if over && let Some(connection) = self.brokers.remove(&token) {
            self.poller.remove(&connection, token);
        }
    }

    /// Takes in which children have ended.
    fn reap(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.reaped(pid.as_raw(), code == 0),
                Ok(WaitStatus::Signaled(pid, ..)) => self.reaped(pid.as_raw(), false),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn reaped(&mut self, pid: i32, well: bool) {
        // Inits are heard of by their handles; here they only stop being zombies.
        if let Some(mark) = self.janitors.remove(&pid) {
            let directory = self.layout.node(&mark);
            let result = if well && !directory.exists() {
                Ok(())
            } else {
                Err(Failure::new(ErrorKind::Failed, format!("cannot remove all of {}", directory.display())))
            };
            self.removed(&mark, result);
        }
    }

    /// Makes the pins again that are missing of `marks`.
    fn put_pins_back(&mut self, mut marks: Vec<Mark>) {
        let Some(pins) = &self.pins else { return };
        // What is being removed loses its pins by our own doing.
        marks.retain(|mark| self.nodes.get(mark).is_some_and(|node| !node.doomed));
        let lost = if marks.is_empty() { marks } else { pins.missing(marks) };
        for mark in lost {
            let Some(namespaces) = self.nodes.get(&mark).and_then(|node| node.namespaces.as_ref()) else { continue };
            if let Some(pins) = &self.pins {
                let put_back = pins.pin(&mark, namespaces);
                log(&format!("{mark}: a namespace pin was gone; put back: {put_back:?}"));
            }
            self.changed(&mark);
        }
    }

    fn hear_client(&mut self, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.peer.flush();
        client.peer.fill();
        // A call may close this very connection, or others.
        while let Some((kind, payload)) = self.clients.get_mut(&token).and_then(|client| client.peer.next()) {
            let message = if kind == JSON { parse::<ToKeeper>(&payload).ok() } else { None };
            match message {
                Some(ToKeeper::Hello { version, controller, epoch }) => self.hello(token, version, controller, epoch),
                Some(ToKeeper::Call { id, call }) => self.call(token, id, call),
                // A version that we greeted says nothing that we do not know, so this is no client of ours.
                None => self.drop_client(token),
            }
        }
        self.look_after(token);
    }

    fn hello(&mut self, token: u64, version: u16, controller: ControllerId, epoch: u64) {
        let refusal = if version == 0 {
            Some(Failure::new(ErrorKind::Unsupported, "version 0 of the keeper's protocol was never spoken"))
        } else if epoch < self.epoch {
            let text = format!("epoch {epoch} is over: the keeper serves epoch {}", self.epoch);
            Some(Failure::new(ErrorKind::Fenced, text))
        } else if epoch > self.epoch {
            // Written before it counts, so that a keeper which dies now does not forget it.
            let written = write_whole(&self.layout.epoch(), epoch.to_string().as_bytes()).doing("write the epoch");
            written.err()
        } else {
            None
        };
        if refusal.is_none() {
            self.epoch = epoch;
            let older = |client: &Client| client.hello.is_some_and(|(_, theirs)| theirs < epoch);
            let fenced: Vec<u64> = self.clients.iter().filter(|(_, client)| older(client)).map(|(t, _)| *t).collect();
            fenced.into_iter().for_each(|token| self.drop_client(token));
        }
        let direct = self.pins.is_some();
        let Some(client) = self.clients.get_mut(&token) else { return };
        match refusal {
            None => {
                client.hello = Some((controller, epoch));
                client.peer.tell(&FromKeeper::Welcome { version: version.min(VERSION), direct });
            }
            Some(failure) => {
                client.peer.tell(&FromKeeper::Refused(failure));
                client.peer.close();
            }
        }
    }

    fn call(&mut self, client: u64, id: u64, call: Call) {
        let waiter = Waiter { client, call: id, starting: false };
        let Some((controller, _)) = self.clients.get(&client).and_then(|client| client.hello) else {
            return self.drop_client(client);
        };
        let outcome = match call {
            Call::Create(file) => Outcome::Now(self.create(*file)),
            Call::Start(key) => self.for_one(key, controller, |keeper, mark| keeper.start(mark, waiter)),
            Call::Stop { key, grace_millis } => {
                let grace = Duration::from_millis(grace_millis);
                self.for_one(key, controller, |keeper, mark| keeper.stop(mark, grace, waiter))
            }
            Call::Destroy(key) => match self.for_one(key, controller, |keeper, mark| keeper.destroy(mark, waiter)) {
                Outcome::Now(Err(failure)) if failure.kind == ErrorKind::NotFound => Outcome::Now(Ok(Answer::Done)),
                other => other,
            },
            Call::Observe(key) => {
                let status = self.find(key).ok().and_then(|mark| Some(self.nodes.get(&mark)?.status(&mark)));
                Outcome::Now(Ok(Answer::Status(status.filter(|s| is_of(controller, s.controller)).map(Box::new))))
            }
            Call::List => {
                let all = self.nodes.iter().map(|(mark, node)| node.status(mark));
                Outcome::Now(Ok(Answer::List(all.filter(|status| is_of(controller, status.controller)).collect())))
            }
        };
        if let Outcome::Now(result) = outcome {
            self.tell(client, &FromKeeper::Reply { id, result });
        }
    }

    /// Does something to an instance, if it is there and the caller's.
    fn for_one(
        &mut self,
        key: Key,
        controller: ControllerId,
        act: impl FnOnce(&mut Self, &Mark) -> Outcome,
    ) -> Outcome {
        let mark = match self.find(key) {
            Ok(mark) => mark,
            Err(failure) => return Outcome::Now(Err(failure)),
        };
        let owner = self.nodes.get(&mark).and_then(|node| Some(node.file.as_ref().ok()?.controller));
        match owner.filter(|owner| *owner != controller) {
            Some(owner) => {
                let text = format!("the instance is of controller {owner}");
                Outcome::Now(Err(Failure::new(ErrorKind::Foreign, text)))
            }
            None => act(self, &mark),
        }
    }

    /// The instance that a call is about.
    fn find(&self, key: Key) -> Result<Mark, Failure> {
        let first = Mark { node: key.node, incarnation: 0, lab: LabId::from_u64(0) };
        let mut of_node = self.nodes.range(first..).map(|(mark, _)| *mark).take_while(|mark| mark.node == key.node);
        let any = of_node.clone().next();
        of_node.find(|mark| mark.incarnation == key.incarnation).ok_or_else(|| match any {
            Some(other) => {
                let text = format!("incarnation {} of the node exists, not {}", other.incarnation, key.incarnation);
                Failure::new(ErrorKind::Conflict, text)
            }
            None => Failure::new(ErrorKind::NotFound, format!("node {} has no instance", key.node)),
        })
    }

    /// Answers all that wait for an instance.
    pub(super) fn conclude(&mut self, mark: &Mark, result: Result<Answer, Failure>) {
        let waiting = self.nodes.get_mut(mark).map(|node| std::mem::take(&mut node.waiting)).unwrap_or_default();
        for waiter in waiting {
            let result = result.as_ref().map(|_| Answer::Done).map_err(Clone::clone);
            self.tell(waiter.client, &FromKeeper::Reply { id: waiter.call, result });
        }
    }

    /// Answers those that wait for an instance to run.
    pub(super) fn conclude_start(&mut self, mark: &Mark, result: Result<Answer, Failure>) {
        let Some(node) = self.nodes.get_mut(mark) else { return };
        let (starting, others) = std::mem::take(&mut node.waiting).into_iter().partition(|waiter| waiter.starting);
        node.waiting = starting;
        self.conclude(mark, result);
        if let Some(node) = self.nodes.get_mut(mark) {
            node.waiting = others;
        }
    }

    /// Tells everybody that an instance changed.
    pub(super) fn changed(&mut self, mark: &Mark) {
        let identifier = match self.nodes.get(mark).map(|node| &node.file) {
            Some(Ok(file)) => file.identifier.clone(),
            _ => mark.node.to_string(),
        };
        let news = FromKeeper::Changed { key: Key { node: mark.node, incarnation: mark.incarnation }, identifier };
        let tokens: Vec<u64> = self.clients.keys().copied().collect();
        for token in tokens {
            self.tell(token, &news);
        }
    }

    fn tell(&mut self, token: u64, message: &FromKeeper) {
        if let Some(client) = self.clients.get_mut(&token).filter(|client| client.hello.is_some()) {
            client.peer.tell(message);
            self.look_after(token);
        }
    }

    /// Closes a connection that is over, or watches it for room to write.
    fn look_after(&mut self, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let backlog = client.peer.backlog();
        let mut lost = client.peer.is_closed() || backlog > BACKLOG;
        if client.blocked != (backlog > 0) {
            client.blocked = backlog > 0;
            lost |= self.poller.want_room(&client.peer, token, client.blocked).is_err();
        }
        if lost {
            self.drop_client(token);
        }
    }

    fn drop_client(&mut self, token: u64) {
        if let Some(client) = self.clients.remove(&token) {
            self.poller.remove(&client.peer, token);
        }
    }

    /// Ends: removes what is only there for the keeper's own sake.
    fn retire(&mut self, listeners: Listeners) -> Result<(), Failure> {
        remove_file(&self.layout.keeper_socket()).doing("remove the keeper's socket")?;
        remove_file(&self.layout.broker_socket()).doing("remove the broker's socket")?;
        drop(listeners);
        if self.nodes.is_empty() {
            if let Some(pins) = &self.pins {
                pins.remove()?;
            }
            crate::remove::tree(&self.layout.skeleton()).doing("remove the skeleton")?;
            absent_is_fine(fs::remove_dir(self.layout.running())).doing("remove the runtime directory")?;
        }
        remove_file(&self.layout.lock()).doing("remove the lock")
    }
}

/// Whether an instance is a controller's; one that cannot be read is everybody's, so that somebody sees it.
fn is_of(controller: ControllerId, owner: Option<ControllerId>) -> bool {
    owner.is_none_or(|owner| owner == controller)
}
