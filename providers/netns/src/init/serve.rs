//! The init's loop: its command, its clients, and its end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind as IoErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::provider::ExitRecord;
use lifecycle_core::time::Timestamp;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use rustix::fs::{Mode, OFlags, openat, renameat};

use super::Start;
use super::command::{Program, Rules, Streams};
use super::log::{From, Log};
use super::session::{Role, Running, Session};
use super::terminal::Terminal;
use crate::crash::crash_point;
use crate::failure::{Doing, Failure};
use crate::keeper::{EXIT_FILE, Report};
use crate::peer::{CHUNK, Peer};
use crate::spec::{ExitFile, FILE_VERSION};
use crate::wire::{Ask, AskWhat, JSON, STDIN, STDOUT, Tell, Typed, VERSION, parse};

/// How long the command may take after a signal from outside that did not come through us.
const FOREIGN_GRACE: Duration = Duration::from_secs(10);
/// A viewer that lets this much wait is let go.
const VIEWER_BACKLOG: usize = 1 << 20;

/// What can have something to say.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Main(usize),
    Session(u64),
    Stream(u64, usize),
    Terminal(u64),
}

/// An end that is under way.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    kill_at: Instant,
    /// Whether it was asked for through our protocol.
    wanted: bool,
}

/// All that an init knows.
#[derive(Debug)]
struct Init<'a> {
    start: &'a Start<'a>,
    rules: Rules<'a>,
    signals: SignalFd,
    log: Log,
    /// The command, while it runs.
    main: Option<Pid>,
    /// Its output and its error stream.
    streams: [Option<File>; 2],
    /// How it ended.
    end: Option<ExitRecord>,
    stopping: Option<Stopping>,
    sessions: BTreeMap<u64, Session>,
    terminals: BTreeMap<u64, Terminal>,
    /// The node's own console, once somebody has opened it.
    console: Option<u64>,
    next: u64,
}

/// Runs the node until it ends, and writes down how it did.
pub(super) fn run(start: &Start<'_>, state: OwnedFd) -> Result<(), Failure> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_set_mask().doing("block signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).doing("take signals")?;
    let run = &start.file.run;
    let log = Log::open(state.try_clone().doing("duplicate a descriptor")?, run.log_bytes).doing("open the log")?;
    start.listener.set_nonblocking(true).doing("prepare the socket")?;
    let mut init = Init {
        start,
        rules: Rules {
            run,
            hostname: &start.file.hostname,
            guarded: start.direct && !run.privileged,
            descriptors: start.descriptors,
        },
        signals,
        log,
        main: None,
        streams: [None, None],
        end: None,
        stopping: None,
        sessions: BTreeMap::new(),
        terminals: BTreeMap::new(),
        console: None,
        next: 1,
    };
    init.start_command()?;
    crash_point("init-command");
    start.reporter.say(&Report::Ready);
    while !init.is_over() {
        init.turn().doing("wait")?;
    }
    let record = init.finish();
    crash_point("init-ended");
    write_exit(&state, &record).doing("write down how the node ended")?;
    crash_point("init-recorded");
    Ok(())
}

/// Two ends of a pipe; ours does not block.
fn pipe() -> Result<(File, OwnedFd), Failure> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).doing("make a pipe")?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK).doing("prepare a pipe")?;
    Ok((ours.into(), theirs))
}

fn write_exit(state: &OwnedFd, record: &ExitFile) -> io::Result<()> {
    use std::io::Write;
    let temporary = "exit.new";
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(state, temporary, flags, Mode::from(0o600))?);
    file.write_all(&serde_json::to_vec(record)?)?;
    Ok(renameat(state, temporary, state, EXIT_FILE)?)
}

impl Init<'_> {
    fn start_command(&mut self) -> Result<(), Failure> {
        let run = &self.start.file.run;
        if run.command.is_empty() {
            return Ok(());
        }
        let program = Program { argv: &run.command, env: &BTreeMap::new(), user: None };
        if run.terminal {
            let terminal = Terminal::start(&self.rules, &program, 80, 24)?;
            self.main = Some(terminal.pid);
            self.console = Some(self.next);
            self.terminals.insert(self.next, terminal);
            self.next += 1;
        } else {
            let ((out, out_theirs), (err, err_theirs)) = (pipe()?, pipe()?);
            let streams = Streams::Pipes { out: out_theirs.as_fd(), err: err_theirs.as_fd() };
            self.main = Some(self.rules.spawn(&program, streams)?);
            self.streams = [Some(out), Some(err)];
        }
        Ok(())
    }

    /// Whether the node has come to its end: its command has, or it has none and was stopped.
    fn is_over(&self) -> bool {
        self.end.is_some() || (self.main.is_none() && self.stopping.is_some())
    }

    /// Waits for something to happen, and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        for (token, flags) in ready {
            let readable = flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR);
            match token {
                Token::Signals => self.take_signals(),
                Token::Listener => self.accept(),
                Token::Main(stream) => {
                    self.pump_main(stream);
                }
                Token::Session(id) => self.hear(id, readable),
                Token::Stream(id, stream) => {
                    if let Some(session) = self.sessions.get_mut(&id) {
                        session.pump(stream);
                    }
                }
                Token::Terminal(id) => {
                    self.pump_terminal(id, readable);
                }
            }
        }
        if self.stopping.is_some_and(|stopping| stopping.kill_at <= Instant::now()) {
            // Everything in the namespace but this process.
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
        self.sweep();
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<(Token, PollFlags)>> {
        let input = |wanted| if wanted { PollFlags::POLLIN } else { PollFlags::empty() };
        let room = |wanted| if wanted { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut watched = vec![
            (Token::Signals, PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)),
            (Token::Listener, PollFd::new(self.start.listener.as_fd(), PollFlags::POLLIN)),
        ];
        for (stream, file) in self.streams.iter().enumerate() {
            watched.extend(file.as_ref().map(|f| (Token::Main(stream), PollFd::new(f.as_fd(), PollFlags::POLLIN))));
        }
        for (id, session) in &self.sessions {
            let flags = PollFlags::POLLIN | room(session.peer.backlog() > 0);
            watched.push((Token::Session(*id), PollFd::new(session.peer.as_fd(), flags)));
            if let (Role::Exec(running), true) = (&session.role, session.has_room()) {
                for (stream, file) in running.streams.iter().enumerate() {
                    let token = Token::Stream(*id, stream);
                    watched.extend(file.as_ref().map(|f| (token, PollFd::new(f.as_fd(), PollFlags::POLLIN))));
                }
            }
        }
        for (id, terminal) in &self.terminals {
            let flags = input(terminal.open) | room(terminal.has_typed());
            if !flags.is_empty() {
                watched.push((Token::Terminal(*id), PollFd::new(terminal.master.as_fd(), flags)));
            }
        }
        let limit = self.stopping.map_or(PollTimeout::NONE, |stopping| {
            let left = stopping.kill_at.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let (tokens, mut fds): (Vec<Token>, Vec<PollFd<'_>>) = watched.into_iter().unzip();
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        Ok(tokens.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                self.stop(FOREIGN_GRACE, false);
            }
        }
        self.reap(WaitPidFlag::WNOHANG);
    }

    /// Asks the command to end.
    fn stop(&mut self, grace: Duration, wanted: bool) {
        let kill_at = Instant::now() + grace;
        if let Some(stopping) = &mut self.stopping {
            stopping.kill_at = stopping.kill_at.min(kill_at);
            stopping.wanted |= wanted;
        } else {
            self.stopping = Some(Stopping { kill_at, wanted });
            if let Some(main) = self.main {
                // It may have ended just now.
                let _ = kill(main, Signal::SIGTERM);
            }
        }
    }

    /// Takes in which processes have ended: the command, those of clients and terminals, and orphans of all of them.
    fn reap(&mut self, how: WaitPidFlag) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(how)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => continue,
            };
            let record = ExitRecord { code, signal, at: Timestamp::try_from(SystemTime::now()).ok() };
            let mine = |session: &&mut Session| matches!(&session.role, Role::Exec(running) if running.pid == pid);
            if let Some(session) = self.sessions.values_mut().find(mine) {
                session.command_ended(record.clone());
            }
            if let Some(id) = self.terminals.iter().find(|(_, terminal)| terminal.pid == pid).map(|(id, _)| *id) {
                self.terminal_ended(id, record.clone());
            }
            // Last, since what it printed on a terminal is logged only while it is the command.
            if self.main == Some(pid) {
                self.main = None;
                self.end = Some(record);
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.start.listener.accept() {
            if let Ok(peer) = Peer::new(stream) {
                self.sessions.insert(self.next, Session::new(peer));
                self.next += 1;
            }
        }
    }

    /// Logs what the command printed; says whether there was anything.
    fn pump_main(&mut self, stream: usize) -> bool {
        let Some(file) = &mut self.streams[stream] else { return false };
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => self.streams[stream] = None,
            Ok(n) => {
                self.log.write(if stream == 0 { From::Output } else { From::Error }, &chunk[..n]);
                return true;
            }
            Err(error) if matches!(error.kind(), IoErrorKind::WouldBlock | IoErrorKind::Interrupted) => {}
            Err(_) => self.streams[stream] = None,
        }
        false
    }

    /// Passes on what a terminal shows, and what was typed into it; says whether it showed anything.
    fn pump_terminal(&mut self, id: u64, readable: bool) -> bool {
        let Some(terminal) = self.terminals.get_mut(&id) else { return false };
        terminal.pass_on();
        let shown = if readable && terminal.open { terminal.read() } else { Vec::new() };
        if self.main == Some(terminal.pid) {
            self.log.write(From::Output, &shown);
        }
        if let (Some(viewer), false) = (terminal.viewer, shown.is_empty())
            && let Some(session) = self.sessions.get_mut(&viewer)
        {
            session.peer.send(STDOUT, &shown);
            if session.peer.backlog() > VIEWER_BACKLOG {
                session.peer.close();
            }
        }
        !shown.is_empty()
    }

    fn terminal_ended(&mut self, id: u64, record: ExitRecord) {
        let mut chunks = 4;
        while chunks > 0 && self.pump_terminal(id, true) {
            chunks -= 1;
        }
        if self.console == Some(id) {
            self.console = None;
        }
        if let Some(viewer) = self.terminals.remove(&id).and_then(|terminal| terminal.viewer)
            && let Some(session) = self.sessions.get_mut(&viewer)
        {
            session.finish(&Tell::Ended(record));
        }
    }

    /// Takes in what a client says.
    fn hear(&mut self, id: u64, readable: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.peer.flush();
        if readable {
            session.peer.fill();
        }
        while let Some((kind, payload)) = self.sessions.get_mut(&id).and_then(|session| session.peer.next()) {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            match (&session.role, kind) {
                (Role::New, JSON) => match parse::<Ask>(&payload) {
                    Ok(ask) if ask.version <= VERSION => self.serve(id, ask.what),
                    Ok(_) => session.refuse(ErrorKind::Unsupported, "the node's init is older than this request"),
                    Err(error) => session.refuse(ErrorKind::InvalidInput, &format!("not understood: {error}")),
                },
                (Role::Viewer(terminal), _) => {
                    let Some(terminal) = self.terminals.get_mut(terminal) else { continue };
                    match (kind, parse::<Typed>(&payload)) {
                        (STDIN, _) => terminal.enter(&payload),
                        (JSON, Ok(Typed::Resize { columns, rows })) => terminal.resize(columns, rows),
                        _ => {}
                    }
                }
                // Nothing else is expected of a client; it may speak a newer version.
                _ => {}
            }
        }
    }

    fn serve(&mut self, id: u64, what: AskWhat) {
        let served = match what {
            AskWhat::Exec { argv, env, user } => self.exec(id, &argv, &env, user.as_deref()),
            AskWhat::Console { argv, columns, rows } => self.open_console(id, argv.as_deref(), columns, rows),
            AskWhat::Stop { grace_millis } => {
                self.stop(Duration::from_millis(grace_millis), true);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.finish(&Tell::Started);
                }
                Ok(())
            }
        };
        if let (Err(failure), Some(session)) = (served, self.sessions.get_mut(&id)) {
            session.finish(&Tell::Refused(failure));
        }
    }

    fn exec(
        &mut self,
        id: u64,
        argv: &[String],
        env: &BTreeMap<String, String>,
        user: Option<&str>,
    ) -> Result<(), Failure> {
        if argv.is_empty() {
            return Err(Failure::new(ErrorKind::InvalidInput, "there is no program to run"));
        }
        let ((out, out_theirs), (err, err_theirs)) = (pipe()?, pipe()?);
        let streams = Streams::Pipes { out: out_theirs.as_fd(), err: err_theirs.as_fd() };
        let pid = self.rules.spawn(&Program { argv, env, user }, streams)?;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.role = Role::Exec(Running { pid, streams: [Some(out), Some(err)] });
            session.peer.tell(&Tell::Started);
        }
        Ok(())
    }

    fn open_console(&mut self, id: u64, argv: Option<&[String]>, columns: u16, rows: u16) -> Result<(), Failure> {
        let known = if argv.is_none() { self.console } else { None };
        let number = match known {
            Some(number) => number,
            None => {
                let argv = argv.unwrap_or(&self.start.file.run.console);
                let program = Program { argv, env: &BTreeMap::new(), user: None };
                let terminal = Terminal::start(&self.rules, &program, columns, rows)?;
                let number = self.next;
                self.next += 1;
                self.terminals.insert(number, terminal);
                number
            }
        };
        if argv.is_none() {
            self.console = Some(number);
        }
        let Some(terminal) = self.terminals.get_mut(&number) else { return Ok(()) };
        if let Some(before) = terminal.viewer.replace(id).and_then(|before| self.sessions.get_mut(&before)) {
            before.finish(&Tell::TakenOver);
        }
        terminal.resize(columns, rows);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.role = Role::Viewer(number);
            session.peer.tell(&Tell::Started);
            session.peer.send(STDOUT, &terminal.scrollback());
        }
        Ok(())
    }

    /// Lets go of connections that are over.
    fn sweep(&mut self) {
        let over = |session: &Session| {
            session.peer.is_closed() || (matches!(session.role, Role::Over) && session.peer.backlog() == 0)
        };
        let gone: Vec<u64> = self.sessions.iter().filter(|(_, session)| over(session)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(session) = self.sessions.remove(&id) {
                session.abandon();
            }
            for terminal in self.terminals.values_mut().filter(|terminal| terminal.viewer == Some(id)) {
                terminal.viewer = None;
            }
        }
    }

    /// Ends everything that still runs in the node, and says how its command ended.
    fn finish(&mut self) -> ExitFile {
        // Fails when there is nothing to kill.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        self.reap(WaitPidFlag::empty());
        for stream in 0..2 {
            while self.pump_main(stream) {}
        }
        self.log.finish();
        self.sessions.values_mut().for_each(|session| session.peer.flush());
        let end = self.end.clone().unwrap_or_else(|| ExitRecord {
            code: Some(0),
            signal: None,
            at: Timestamp::try_from(SystemTime::now()).ok(),
        });
        ExitFile {
            version: FILE_VERSION,
            incarnation: self.start.file.mark.incarnation,
            code: end.code,
            signal: end.signal,
            at: end.at,
            stopped: self.stopping.is_some_and(|stopping| stopping.wanted),
        }
    }
}
