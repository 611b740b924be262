//! `console`: a terminal in a node.

use std::io::{self, IsTerminal};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Console;
use super::{Context, target};
use crate::api::wire::ConsoleClose;
use crate::client::{ConsoleSocket, Shown};
use crate::failure::{Exit, Failure, Result};
use crate::output::ended;

/// Ctrl-], which leaves the console.
const LEAVE: u8 = 0x1d;

pub(super) async fn run(context: &Context, args: Console) -> Result {
    let client = context.client().await?;
    let target = target::node(&client, &args.node, args.lab.lab.as_ref()).await?;
    let (columns, rows) = size().unwrap_or((80, 24));
    let console = client.console(&target, &args.command, columns, rows).await?;
    context.screen.say(format_args!("console of {target}; Ctrl-] leaves it"));
    let raw = Raw::enter()?;
    let result = pass(context, console).await;
    drop(raw);
    match result? {
        Some(ConsoleClose::Exit { exit }) => {
            context.screen.say(format_args!("\nthe console ended: {}", ended(&exit)));
            Ok(Exit::Ok)
        }
        Some(ConsoleClose::Error { message }) => Err(Failure::plain(format!("the console failed: {message}"))),
        None => {
            context.screen.say("\nleft the console; its program goes on");
            Ok(Exit::Ok)
        }
    }
}

/// Passes bytes between this terminal and the console until one of them ends.
async fn pass(context: &Context, mut console: ConsoleSocket) -> Result<Option<ConsoleClose>> {
    let mut resized = signal(SignalKind::window_change()).map_err(|error| Failure::io("listen for signals", &error))?;
    let mut typed = tokio::io::stdin();
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            shown = console.next() => match shown? {
                Some(Shown::Bytes(bytes)) => context.output.bytes(&bytes)?,
                Some(Shown::End(end)) => return Ok(Some(end)),
                None => return Ok(None),
            },
            read = typed.read(&mut buffer) => {
                let read = read.map_err(|error| Failure::io("read what is typed", &error))?;
                let end = buffer[..read].iter().position(|byte| *byte == LEAVE);
                let bytes = &buffer[..end.unwrap_or(read)];
                if !bytes.is_empty() {
                    console.write(bytes.to_vec()).await?;
                }
                if end.is_some() || read == 0 {
                    console.leave().await;
                    return Ok(None);
                }
            }
            _ = resized.recv() => if let Some((columns, rows)) = size() {
                console.resize(columns, rows).await?;
            }
        }
    }
}

/// Size of this terminal, if it is one.
fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// A terminal that passes everything on, until this is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Result<Self> {
        if !io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let change = || -> rustix::io::Result<Termios> {
            let before = tcgetattr(io::stdin())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
            Ok(before)
        };
        change().map(|before| Self(Some(before))).map_err(|error| Failure::io("set the terminal up", &error.into()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // The terminal may be gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
