//! The client's thread: connects, follows, answers, and begins anew when the connection breaks.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use super::client::Shared;
use super::endpoint::Stream;
use super::vigil::Vigil;
use super::{Endpoint, Framer, Heard, Message, Replica};

/// Pause before the second attempt to connect; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for so long is asked whether it still stands.
const QUIET: Duration = Duration::from_secs(5);
/// One that does not answer that for so long has broken.
const DEAD: Duration = Duration::from_secs(15);
/// Identifier of the request that begins the monitor, and of the monitor itself.
const MONITOR: &str = "monitor";
/// Identifier of our own inquiries.
const INQUIRY: &str = "inquiry";

/// The pause before an attempt that follows `failures` others.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LAST_PAUSE)
}

pub(super) fn run(
    shared: &Shared,
    endpoint: &Endpoint,
    woken: &UnixStream,
    monitor: &Value,
    lock: Option<&str>,
    heard: &dyn Fn(Heard<'_>),
) {
    let mut failures = 0;
    while !shared.lock().stopped {
        let connected = Stream::connect(endpoint);
        let ended = connected.and_then(|stream| Session::new(shared, stream, lock, heard).follow(woken, monitor));
        let mut state = shared.lock();
        let was_synced = std::mem::take(&mut state.synced);
        // Whoever waits for an answer hears that none comes when its sender is dropped.
        state.pending.clear();
        state.outbox.clear();
        let stopped = state.stopped;
        state.reason = ended.err().map(|error| error.to_string());
        if let Some(reason) = &state.reason
            && (was_synced || failures == 0)
        {
            tracing::warn!(%endpoint, %reason, "no connection to the database of Open vSwitch");
        }
        drop(state);
        shared.notify();
        if stopped {
            return;
        }
        if was_synced {
            failures = 0;
            heard(Heard::Lost);
        }
        sleep(woken, pause(failures));
        failures += 1;
    }
}

/// Sleeps, but not on after the client was dropped.
fn sleep(woken: &UnixStream, time: Duration) {
    let timeout = PollTimeout::try_from(time.as_millis()).unwrap_or(PollTimeout::MAX);
    let _ = poll(&mut [PollFd::new(woken.as_fd(), PollFlags::POLLIN)], timeout);
    drain(woken);
}

fn drain(mut woken: &UnixStream) {
    let mut buffer = [0; 64];
    while matches!(woken.read(&mut buffer), Ok(count) if count > 0) {}
}

/// One connection.
struct Session<'a> {
    shared: &'a Shared,
    stream: Stream,
    heard: &'a dyn Fn(Heard<'_>),
    framer: Framer,
    /// What is to be written, and how much of it was.
    outgoing: (Vec<u8>, usize),
    last_heard: Instant,
    inquired: bool,
    /// Who watches over the daemon that holds a lock.
    vigil: Option<Vigil>,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, stream: Stream, lock: Option<&str>, heard: &'a dyn Fn(Heard<'_>)) -> Self {
        Self {
            shared,
            stream,
            heard,
            framer: Framer::new(),
            outgoing: Default::default(),
            last_heard: Instant::now(),
            inquired: false,
            vigil: lock.map(Vigil::new),
        }
    }

    /// Follows the database until the connection breaks or the client is dropped.
    fn follow(&mut self, woken: &UnixStream, monitor: &Value) -> io::Result<()> {
        let mut params = monitor.clone();
        params[1] = json!(MONITOR);
        self.send(&Message::Request { id: json!(MONITOR), method: "monitor".into(), params });
        loop {
            {
                let mut state = self.shared.lock();
                if state.stopped {
                    return Ok(());
                }
                for request in state.outbox.drain(..) {
                    self.outgoing.0.extend(request);
                }
            }
            self.write()?;
            let mut events = PollFlags::POLLIN;
            if !self.outgoing.0.is_empty() {
                events |= PollFlags::POLLOUT;
            }
            let mut fds = [PollFd::new(self.stream.as_fd(), events), PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
            let rest = self.vigil.as_ref().and_then(Vigil::rest).unwrap_or(QUIET).min(QUIET);
            let timeout = PollTimeout::try_from(rest.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            drain(woken);
            self.read()?;
            while let Some(text) = self.framer.next_text().map_err(io::Error::other)? {
                self.take(Message::parse(&text).map_err(io::Error::other)?)?;
            }
            self.inquire()?;
            if let Some(request) = self.vigil.as_mut().and_then(Vigil::is_due) {
                self.send(&request);
            }
        }
    }

    fn send(&mut self, message: &Message) {
        self.outgoing.0.extend(message.encode());
    }

    fn write(&mut self) -> io::Result<()> {
        let (bytes, written) = &mut self.outgoing;
        while *written < bytes.len() {
            match self.stream.write(&bytes[*written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.clear();
        *written = 0;
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the database closed the connection"));
                }
                Ok(count) => {
                    self.framer.push(&buffer[..count]);
                    self.last_heard = Instant::now();
                    self.inquired = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, message: Message) -> io::Result<()> {
        if let Some(told) = self.vigil.as_mut().and_then(|vigil| vigil.take(&message)) {
            told.reply.iter().for_each(|reply| self.send(reply));
            if told.changed {
                (self.heard)(Heard::Holder { lives: told.lives });
            }
            return Ok(());
        }
        match message {
            Message::Request { id, method, params } if method == "echo" => {
                self.send(&Message::Response { id, result: Ok(params) });
            }
            Message::Request { id, method, .. } => {
                self.send(&Message::Response { id, result: Err(json!(format!("unknown method {method}"))) });
            }
            Message::Response { id, result } if id == MONITOR => {
                let tables = result.map_err(|error| io::Error::other(format!("the monitor was refused: {error}")))?;
                let mut state = self.shared.lock();
                state.replica = Replica::default();
                let rows = state.replica.apply(tables);
                (state.synced, state.reason) = (true, None);
                drop(state);
                self.shared.notify();
                (self.heard)(Heard::Synced(&rows));
                if let Some(request) = self.vigil.as_mut().map(Vigil::begin) {
                    self.send(&request);
                }
            }
            Message::Response { id, result } => {
                let reply = id.as_u64().and_then(|id| self.shared.lock().pending.remove(&id));
                if let Some(reply) = reply {
                    // Whoever asked may have given up.
                    let _ = reply.send(result);
                }
            }
            Message::Notification { method, mut params } if method == "update" && params[0] == MONITOR => {
                let changes = self.shared.lock().replica.apply(params[1].take());
                self.shared.notify();
                (self.heard)(Heard::Changed(&changes));
            }
            Message::Notification { .. } => {}
        }
        Ok(())
    }

    /// Asks whether somebody is there when nothing was heard for a while.
    fn inquire(&mut self) -> io::Result<()> {
        let quiet = self.last_heard.elapsed();
        if quiet >= DEAD {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the database is silent"));
        }
        if quiet >= QUIET && !self.inquired {
            self.inquired = true;
            self.send(&Message::Request { id: json!(INQUIRY), method: "echo".into(), params: json!([]) });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;

    use super::super::{Client, ClientError, Operation};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that follows a transcript: waits for what is expected of the client, and sends the answer.
    struct Scripted {
        stream: UnixStream,
        framer: Framer,
    }

    impl Scripted {
        fn accept(listener: &UnixListener) -> Self {
            Self { stream: listener.accept().unwrap().0, framer: Framer::new() }
        }

        fn expect(&mut self, method: &str) -> (Value, Value) {
            let mut buffer = [0; 4096];
            loop {
                if let Some(text) = self.framer.next_text().unwrap() {
                    match Message::parse(&text).unwrap() {
                        Message::Request { id, method: found, params } if found == method => return (id, params),
                        Message::Response { id, result } if method == "answer" => return (id, result.unwrap()),
                        other => panic!("{method} was expected: {other:?}"),
                    }
                }
                let count = self.stream.read(&mut buffer).unwrap();
                assert!(count > 0, "the client hung up");
                self.framer.push(&buffer[..count]);
            }
        }

        fn send(&mut self, value: Value) {
            self.stream.write_all(value.to_string().as_bytes()).unwrap();
        }

        fn sync(&mut self, tables: Value) {
            let (id, params) = self.expect("monitor");
            assert_eq!((&params[0], &params[1]), (&json!("Open_vSwitch"), &json!("monitor")));
            self.send(json!({ "id": id, "result": tables, "error": null }));
        }
    }

    fn start() -> (tempfile::TempDir, UnixListener, Client, mpsc::Receiver<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let listener = UnixListener::bind(&path).unwrap();
        let (told, tells) = mpsc::channel();
        let tell = move |heard: Heard<'_>| {
            let text = match heard {
                Heard::Synced(_) => "synced".to_owned(),
                Heard::Lost => "lost".to_owned(),
                Heard::Holder { lives } => format!("the holder lives: {lives}"),
                Heard::Changed(changes) => format!("{} changed", changes.len()),
            };
            let _ = told.send(text);
        };
        let client = Client::start(Endpoint::Unix(path), "Open_vSwitch", &[("Port", &["name", "tag"])], tell).unwrap();
        (directory, listener, client, tells)
    }

    fn tag(client: &Client) -> Option<i64> {
        client.read(|db| db.named("Port", "p").and_then(|(_, row)| row.integer("tag")))
    }

    /// As an ovsdb-server 3.1 speaks: an echo in between, the update before the answer to the transaction that caused it.
    #[test]
    fn a_transcript_is_followed() {
        let (_directory, listener, client, tells) = start();
        let script = std::thread::spawn(move || {
            let mut server = Scripted::accept(&listener);
            server.sync(json!({ "Port": { "u": { "new": { "name": "p", "tag": 1 } } } }));
            server.send(json!({ "id": "echo", "method": "echo", "params": ["x"] }));
            assert_eq!(server.expect("answer"), (json!("echo"), json!(["x"])));
            let (id, params) = server.expect("transact");
            assert_eq!(params[1]["op"], "update");
            server.send(json!({ "id": null, "method": "update", "params": ["monitor", { "Port": { "u": { "old": { "tag": 1 }, "new": { "name": "p", "tag": 2 } } } }] }));
            server.send(json!({ "id": id, "result": [{ "count": 1 }], "error": null }));
            let (id, _) = server.expect("transact");
            server.send(json!({ "id": id, "result": [{ "error": "timed out" }], "error": null }));
            server.expect("transact");
            // No answer: the client cannot know.
            drop(server);
            let mut server = Scripted::accept(&listener);
            server.sync(json!({ "Port": { "v": { "new": { "name": "p", "tag": 3 } } } }));
            (listener, server)
        });
        client.ready(PATIENCE).unwrap();
        assert_eq!(tag(&client), Some(1));
        let operation = Operation::update("Port", &[("name", "==", json!("p"))], json!({ "tag": 2 }));
        let done = client.transact("Open_vSwitch", std::slice::from_ref(&operation), PATIENCE).unwrap();
        assert_eq!((done[0].count, tag(&client)), (1, Some(2)));
        let error = client.transact("Open_vSwitch", std::slice::from_ref(&operation), PATIENCE).unwrap_err();
        assert!(matches!(&error, ClientError::Refused(refused) if refused.is_outdated()), "{error:?}");
        let error = client.transact("Open_vSwitch", &[operation], PATIENCE).unwrap_err();
        assert!(matches!(error, ClientError::Lost), "{error:?}");
        // The truth is read back from the replica, which was built anew.
        assert_eq!(
            client.wait(PATIENCE, |db| db.named("Port", "p")?.1.integer("tag").filter(|tag| *tag == 3)),
            Some(3)
        );
        assert_eq!(client.read(|db| db.rows("Port").count()), 1);
        let told: Vec<String> = (0..4).map(|_| tells.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(told, ["synced", "1 changed", "lost", "synced"]);
        drop(client);
        drop(script.join().unwrap());
    }

    #[test]
    fn nonsense_ends_the_connection_and_silence_is_late() {
        let (_directory, listener, client, _tells) = start();
        let script = std::thread::spawn(move || {
            let mut server = Scripted::accept(&listener);
            server.sync(json!({}));
            server.expect("transact");
            server.send(json!({ "id": 77, "result": "to nobody", "error": null }));
            server.expect("transact");
            server.stream.write_all(b"HTTP/1.1 400\r\n").unwrap();
            drop(Scripted::accept(&listener));
        });
        client.ready(PATIENCE).unwrap();
        let short = Duration::from_millis(20);
        let error = client.transact("Open_vSwitch", &[], short).unwrap_err();
        assert!(matches!(error, ClientError::Late(_)), "{error:?}");
        let error = client.transact("Open_vSwitch", &[], PATIENCE).unwrap_err();
        assert!(matches!(error, ClientError::Lost), "{error:?}");
        script.join().unwrap();
        drop(_directory);
        std::thread::sleep(short);
        assert!(matches!(client.transact("Open_vSwitch", &[], short), Err(ClientError::Unreachable { .. })));
    }

    #[test]
    fn tcp_is_spoken_as_well() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint: Endpoint = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
        let client = Client::start(endpoint, "Open_vSwitch", &[("Port", &["name"])], |_| {}).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let (mut framer, mut buffer) = (Framer::new(), [0; 4096]);
        let request = loop {
            let count = stream.read(&mut buffer).unwrap();
            framer.push(&buffer[..count]);
            if let Some(text) = framer.next_text().unwrap() {
                break Message::parse(&text).unwrap();
            }
        };
        let Message::Request { id, .. } = request else { panic!("{request:?}") };
        let answer = Message::Response { id, result: Ok(json!({ "Port": { "u": { "new": { "name": "p" } } } })) };
        // In pieces, as networks deliver.
        for piece in answer.encode().chunks(7) {
            stream.write_all(piece).unwrap();
            stream.flush().unwrap();
        }
        client.ready(PATIENCE).unwrap();
        assert!(client.read(|db| db.named("Port", "p").is_some()));
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<u128> = (0..8).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(pause(u32::MAX), LAST_PAUSE);
    }
}
