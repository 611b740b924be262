//! Starting and stopping instances, and taking in how they end.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::provider::InstanceState;
use lifecycle_core::time::Timestamp;

use super::launch::{EXIT_FILE, Launch, RUN_FILE, Report};
use super::node::{Init, Last, Node, Phase, Reports, Waiter, find_init, read_last};
use super::poller::Source;
use super::{Keeper, Outcome, skeleton};
use crate::crash::crash_point;
use crate::failure::{Doing, Failure};
use crate::layout::{Mark, remove_file, write_json};
use crate::process;
use crate::spec::{ExitFile, FILE_VERSION, Root};
use crate::wire::{self, Answer, Ask, AskWhat};

/// How long an init may take to end its node once the grace is over, before it is killed itself.
const PATIENCE: Duration = Duration::from_secs(2);

impl Keeper {
    /// Starts an instance.
    pub(super) fn start(&mut self, mark: &Mark, waiter: Waiter) -> Outcome {
        let Some(node) = self.nodes.get_mut(mark) else { return Outcome::Now(Ok(Answer::Done)) };
        let refuse = |text: String| Outcome::Now(Err(Failure::new(ErrorKind::Conflict, text)));
        match &node.phase {
            _ if node.doomed => return refuse("it is being removed".into()),
            Phase::Running(_) => return Outcome::Now(Ok(Answer::Done)),
            Phase::Launching { .. } => {}
            Phase::Stopping { .. } | Phase::Removing => return refuse("it is stopping; wait for its end".into()),
            Phase::Idle => {
                if let InstanceState::Broken { reason } = node.status(mark).state {
                    return refuse(format!("{reason}; create it again, or destroy it"));
                }
                if let Err(failure) = self.launch(mark) {
                    return Outcome::Now(Err(failure));
                }
                self.changed(mark);
            }
        }
        if let Some(node) = self.nodes.get_mut(mark) {
            node.waiting.push(Waiter { starting: true, ..waiter });
        }
        Outcome::Later
    }

    fn launch(&mut self, mark: &Mark) -> Result<(), Failure> {
        let groups = self.cgroups()?.groups(mark);
        let Some(Node { file: Ok(file), namespaces: Some(namespaces), .. }) = self.nodes.get(mark) else {
            return Err(Failure::new(ErrorKind::Conflict, "the instance is not whole"));
        };
        let direct = self.pins.is_some();
        if !direct && file.run.root == Root::Host {
            skeleton::ensure(&self.layout.skeleton())?;
        }
        let launch = Launch {
            layout: &self.layout,
            file,
            namespaces,
            hub: (!direct).then(|| self.home.net()),
            groups: &groups,
            direct,
            boot: self.boot,
            descriptors: self.descriptors,
        };
        let stream = launch.start()?;
        crash_point("start-forked");
        let token = self.poller.add(&stream, Source::Launch(*mark)).doing("watch the launch")?;
        if let Some(node) = self.nodes.get_mut(mark) {
            let reports = Reports { stream, token, buffer: Vec::new() };
            node.phase = Phase::Launching { reports, init: None, failure: None };
        }
        Ok(())
    }

    /// Takes in what a launch reports.
    pub(super) fn hear_launch(&mut self, mark: &Mark) {
        let Some(Node { phase: Phase::Launching { reports, .. }, .. }) = self.nodes.get_mut(mark) else { return };
        let (said, over) = reports.read();
        for report in said {
            match report {
                Report::Launched => self.launched(mark),
                Report::Ready => self.ready(mark),
                Report::Failed(found) => {
                    if let Some(Node { phase: Phase::Launching { failure, .. }, .. }) = self.nodes.get_mut(mark) {
                        *failure = Some(found);
                    }
                }
            }
        }
        let Some(Node { phase: Phase::Launching { reports, init, .. }, .. }) = self.nodes.get_mut(mark) else { return };
        if over {
            self.poller.remove(&reports.stream, reports.token);
            match init {
                // Its end is what is waited for; it may be stuck, so it is helped.
                Some(init) => drop(process::kill(&init.handle)),
                None => self.ended(mark),
            }
        }
    }

    fn launched(&mut self, mark: &Mark) {
        let found = find_init(&self.layout.run(mark), self.boot);
        let Some(node) = self.nodes.get_mut(mark) else { return };
        let doomed = node.doomed;
        if let (Phase::Launching { init, failure, .. }, Ok(Some((handle, file)))) = (&mut node.phase, found)
            && let Ok(token) = self.poller.add(&handle, Source::Init(*mark))
        {
            if doomed || failure.is_some() {
                drop(process::kill(&handle));
            }
            *init = Some(Init { handle, token, started_at: file.started_at });
        }
    }

    fn ready(&mut self, mark: &Mark) {
        crash_point("start-ready");
        let Some(node) = self.nodes.get_mut(mark) else { return };
        match std::mem::replace(&mut node.phase, Phase::Idle) {
            Phase::Launching { reports, init: Some(init), .. } => {
                self.poller.remove(&reports.stream, reports.token);
                node.phase = Phase::Running(init);
            }
            other => node.phase = other,
        }
        self.conclude_start(mark, Ok(Answer::Done));
        self.changed(mark);
    }

    /// Ends an instance's process, politely at first.
    pub(super) fn stop(&mut self, mark: &Mark, grace: Duration, waiter: Waiter) -> Outcome {
        let Some(node) = self.nodes.get_mut(mark) else { return Outcome::Now(Ok(Answer::Done)) };
        match std::mem::replace(&mut node.phase, Phase::Idle) {
            Phase::Idle => return Outcome::Now(Ok(Answer::Done)),
            Phase::Running(init) => {
                let asked = ask_to_stop(&self.layout.init_socket(mark), grace);
                // An init that does not listen is killed without more ado.
                let kill_at = Instant::now() + asked.map_or(Duration::ZERO, |()| grace + PATIENCE);
                node.phase = Phase::Stopping { init, kill_at };
                crash_point("stop-asked");
            }
            Phase::Stopping { init, kill_at } => {
                // Whoever is in a greater hurry wins.
                let sooner = kill_at.min(Instant::now() + grace + PATIENCE);
                drop(ask_to_stop(&self.layout.init_socket(mark), grace));
                node.phase = Phase::Stopping { init, kill_at: sooner };
            }
            Phase::Launching { reports, init, failure } => {
                if let Some(init) = &init {
                    drop(process::kill(&init.handle));
                }
                let stopped = Failure::new(ErrorKind::Conflict, "it was stopped while it was starting");
                node.phase = Phase::Launching { reports, init, failure: failure.or(Some(stopped)) };
            }
            Phase::Removing => {
                node.phase = Phase::Removing;
                return Outcome::Now(Ok(Answer::Done));
            }
        }
        node.waiting.push(waiter);
        self.changed(mark);
        Outcome::Later
    }

    /// Kills inits that had their time, and says when to look again.
    pub(super) fn kill_late(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for node in self.nodes.values() {
            let Phase::Stopping { init, kill_at } = &node.phase else { continue };
            if *kill_at <= now {
                drop(process::kill(&init.handle));
            } else {
                next = Some(next.map_or(*kill_at, |next| next.min(*kill_at)));
            }
        }
        next
    }

    /// Takes in that an instance's init has ended, or that its launch came to nothing.
    pub(super) fn ended(&mut self, mark: &Mark) {
        // It may have reported that it is ready, and ended, before anybody listened.
        if let Some(Node { phase: Phase::Launching { init: Some(_), .. }, .. }) = self.nodes.get(mark) {
            self.hear_launch(mark);
        }
        let Some(node) = self.nodes.get_mut(mark) else { return };
        let phase = std::mem::replace(&mut node.phase, Phase::Idle);
        if let Phase::Launching { init: Some(init), .. } | Phase::Running(init) | Phase::Stopping { init, .. } = &phase
        {
            self.poller.remove(&init.handle, init.token);
        }
        match phase {
            Phase::Launching { reports, failure, .. } => {
                self.poller.remove(&reports.stream, reports.token);
                let failure = failure
                    .unwrap_or_else(|| Failure::new(ErrorKind::Failed, "its init ended before the node was ready"));
                // It never ran, so there is no end that somebody could have missed.
                node.last = Last::Never;
                drop(remove_file(&self.layout.run(mark).join(RUN_FILE)));
                self.conclude_start(mark, Err(failure));
            }
            Phase::Stopping { .. } => {
                node.last = read_last(&self.layout, mark);
                if !matches!(&node.last, Last::Ended(file) if file.stopped) {
                    node.last = Last::Ended(stopped_unseen(mark));
                    // Without the record a later keeper says that nobody saw the end, which is true as well.
                    drop(write_json(&self.layout.node(mark).join(EXIT_FILE), &stopped_unseen(mark)));
                }
                crash_point("stop-seen");
            }
            Phase::Idle | Phase::Running(_) | Phase::Removing => node.last = read_last(&self.layout, mark),
        }
        if self.nodes.get(mark).is_some_and(|node| node.doomed) {
            self.remove(mark);
        } else {
            self.conclude(mark, Ok(Answer::Done));
        }
        self.changed(mark);
    }
}

/// The record of an end that we wanted and whose code nobody saw.
fn stopped_unseen(mark: &Mark) -> ExitFile {
    ExitFile {
        version: FILE_VERSION,
        incarnation: mark.incarnation,
        code: None,
        signal: None,
        at: Timestamp::try_from(SystemTime::now()).ok(),
        stopped: true,
    }
}

fn ask_to_stop(socket: &std::path::Path, grace: Duration) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    stream.set_nonblocking(true)?;
    stream.write_all(&wire::message(&Ask { version: wire::VERSION, what: AskWhat::Stop { grace_millis } })?)
}
