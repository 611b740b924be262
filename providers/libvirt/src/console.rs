//! Consoles of machines: their serial lines, through libvirt. One at a time has it; who comes later takes it over.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use lifecycle_core::plugin::provider::{
    Console, ConsoleInput, ConsoleRequest, ConsoleSession, ExitRecord, InstanceRef, InstanceState,
};
use lifecycle_core::{ErrorKind, Result};
use virt::stream::Stream;
use virt::sys;

use crate::crew::Crew;
use crate::daemon::Daemon;
use crate::failure::{Failure, Outcome};
use crate::life::Yard;
use crate::provider::LibvirtProvider;

/// Bytes of one piece of output.
const PIECE: usize = 4096;
/// Pieces of output that wait for whoever reads them.
const WAITING: usize = 64;
/// Pieces of input that wait for the machine, and how long at most.
const TYPED: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

struct Keyboard {
    crew: Arc<Crew>,
    yard: Arc<Yard>,
    typed: mpsc::SyncSender<Vec<u8>>,
    /// Aborts the stream, which frees the thread that reads it.
    _open: Line,
    subject: InstanceRef,
}

/// A stream that ends when this is dropped.
struct Line(Option<Stream>);

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            // The answer of a daemon that hangs is not waited for here.
            let end = move || {
                let _ = stream.abort();
            };
            let _ = std::thread::Builder::new().name("libvirt-console".into()).spawn(end);
        }
    }
}

#[async_trait]
impl ConsoleInput for Keyboard {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut piece = bytes.to_vec();
        let began = std::time::Instant::now();
        let failed = |kind, text| Err(Failure::new(kind, text).during("console", &self.subject));
        loop {
            match self.typed.try_send(piece) {
                Ok(()) => return Ok(()),
                Err(mpsc::TrySendError::Disconnected(_)) => {
                    return failed(ErrorKind::Conflict, "the console was closed");
                }
                Err(mpsc::TrySendError::Full(_)) if began.elapsed() > PATIENCE => {
                    return failed(ErrorKind::Timeout, "the machine does not take what is typed");
                }
                Err(mpsc::TrySendError::Full(back)) => {
                    piece = back;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// A serial line has no size.
    async fn resize(&mut self, _columns: u16, _rows: u16) -> Result<()> {
        Ok(())
    }

    async fn exit(&mut self) -> Result<ExitRecord> {
        let (yard, instance) = (Arc::clone(&self.yard), self.subject.clone());
        let seen = self.crew.ask(move |daemon| yard.observe(daemon, &instance)).await;
        let error = |failure: Failure| failure.during("console", &self.subject);
        match seen.map_err(error)?.map(|node| node.state) {
            Some(InstanceState::Exited(exit)) => Ok(exit),
            Some(InstanceState::Created | InstanceState::Broken { .. }) | None => {
                Ok(ExitRecord { code: None, signal: None, at: None })
            }
            Some(_) => Err(error(Failure::new(ErrorKind::Conflict, "the machine has not ended"))),
        }
    }
}

fn open(yard: &Yard, daemon: &mut Daemon, instance: &InstanceRef) -> Outcome<Stream> {
    yard.existing(instance)?;
    let Some(domain) = yard.running(daemon, instance)? else {
        return Err(Failure::new(ErrorKind::Conflict, "the node does not run; start it first"));
    };
    daemon.call(|connection| {
        let stream = Stream::new(connection, 0)?;
        domain.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_FORCE)?;
        Ok(stream)
    })
}

#[async_trait]
impl Console for LibvirtProvider {
    async fn open(&self, instance: &InstanceRef, request: &ConsoleRequest) -> Result<ConsoleSession> {
        let error = |failure: Failure| failure.during("console", instance);
        if request.argv.is_some() {
            let text = "a virtual machine opens no terminal for a program; open its own console, or run it by `exec`";
            return Err(error(Failure::new(ErrorKind::Unsupported, text)));
        }
        let about = instance.clone();
        let opened = self.act(instance, move |yard, daemon| open(yard, daemon, &about)).await;
        let line = opened.map_err(error)?;
        let (typed, keys) = mpsc::sync_channel::<Vec<u8>>(TYPED);
        let (shown, screen) = tokio::sync::mpsc::channel(WAITING);
        let (reader, writer) = (line.clone(), line.clone());
        let threads = [
            spawn(move || {
                let mut piece = [0; PIECE];
                // An end and an abort are the same to who watches.
                while let Ok(length @ 1..) = reader.recv(&mut piece) {
                    if shown.blocking_send(Ok(piece[..length].to_vec())).is_err() {
                        return;
                    }
                }
            }),
            spawn(move || {
                for piece in keys {
                    let mut rest = &piece[..];
                    while !rest.is_empty() {
                        let Ok(length @ 1..) = writer.send(rest) else { return };
                        rest = &rest[length..];
                    }
                }
            }),
        ];
        let open = Line(Some(line));
        for started in threads {
            started.map_err(|cause| error(Failure::of_file(cause, "no thread can be started")))?;
        }
        let (crew, yard) = (Arc::clone(self.crew()), Arc::clone(self.yard()));
        let keyboard = Keyboard { crew, yard, typed, _open: open, subject: instance.clone() };
        let output = stream::unfold(screen, |mut screen| async { Some((screen.recv().await?, screen)) });
        Ok(ConsoleSession { output: Box::pin(output), input: Box::new(keyboard) })
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name("libvirt-console".into()).spawn(work).map(drop)
}
