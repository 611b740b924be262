//! Consoles of nodes: the terminal of the node's own process, or a new one.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{AttachContainerOptions, ResizeContainerTTYOptions};
use futures_core::Stream;
use futures_util::StreamExt;
use lifecycle_core::plugin::provider::{
    Console, ConsoleInput, ConsoleRequest, ConsoleSession, ExitRecord, InstanceRef, InstanceState,
};
use lifecycle_core::{ErrorKind, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::client::Client;
use crate::failure::Failure;
use crate::observe::{Container, exit_record};
use crate::provider::ContainerProvider;

/// Keys that a daemon takes for the wish to leave. Its own choice is one that shells use; nobody types this one.
const LEAVE: &str = "ctrl-@,ctrl-@,ctrl-@,ctrl-^";

type Output = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, bollard::errors::Error>> + Send>>;

/// Whose terminal it is.
enum Terminal {
    /// The node's own.
    Own(String),
    /// That of a program started for it.
    Program(String),
}

struct Keyboard {
    client: Arc<Client>,
    terminal: Terminal,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    subject: InstanceRef,
}

impl Terminal {
    async fn size(&self, client: &Client, columns: u16, rows: u16) -> std::result::Result<(), Failure> {
        match self {
            Terminal::Own(id) => {
                let options = ResizeContainerTTYOptions { h: rows.into(), w: columns.into() };
                client.ask(async |docker| docker.resize_container_tty(id, options).await).await
            }
            Terminal::Program(id) => {
                let options = ResizeExecOptions { height: rows, width: columns };
                client.ask(async |docker| docker.resize_exec(id, options).await).await
            }
        }
    }

    async fn ended(&self, client: &Client) -> std::result::Result<ExitRecord, Failure> {
        let still = || Failure::new(ErrorKind::Conflict, "its program has not ended");
        match self {
            Terminal::Own(id) => match Container::find(client, id).await?.map(|container| container.state()) {
                Some(InstanceState::Exited(exit)) => Ok(exit),
                // Removed with its node.
                None => Ok(ExitRecord { code: None, signal: None, at: None }),
                Some(_) => Err(still()),
            },
            Terminal::Program(id) => {
                let found = client.ask(async |docker| docker.inspect_exec(id).await).await?;
                if found.running == Some(true) { Err(still()) } else { Ok(exit_record(found.exit_code, None)) }
            }
        }
    }
}

#[async_trait]
impl ConsoleInput for Keyboard {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let typed = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        let lost = |error| Failure::from(bollard::errors::Error::IOError { err: error });
        typed.await.map_err(|error| lost(error).during("console", &self.subject))
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        self.terminal
            .size(&self.client, columns, rows)
            .await
            .map_err(|failure| failure.during("console", &self.subject))
    }

    async fn exit(&mut self) -> Result<ExitRecord> {
        self.terminal.ended(&self.client).await.map_err(|failure| failure.during("console", &self.subject))
    }
}

impl ContainerProvider {
    async fn open_own(&self, instance: &InstanceRef) -> std::result::Result<(Terminal, Output, Writer), Failure> {
        let parts = self.existing(instance).await?;
        let not_running = || Failure::new(ErrorKind::Conflict, "the node does not run; start it first");
        let node = parts.node.filter(Container::is_alive).ok_or_else(not_running)?;
        let options = AttachContainerOptions {
            detach_keys: Some(LEAVE.to_owned()),
            logs: false,
            stream: true,
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let attached = self.client.ask(async |docker| docker.attach_container(node.id(), Some(options)).await).await?;
        Ok((Terminal::Own(node.id().to_owned()), attached.output, attached.input))
    }

    async fn open_program(
        &self,
        instance: &InstanceRef,
        argv: Vec<String>,
    ) -> std::result::Result<(Terminal, Output, Writer), Failure> {
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(true),
            detach_keys: Some(LEAVE.to_owned()),
            env: Some(vec!["TERM=xterm".to_owned()]),
            cmd: Some(argv),
            ..CreateExecOptions::default()
        };
        let id = self.prepare(instance, options).await?;
        let options = Some(StartExecOptions { tty: true, ..StartExecOptions::default() });
        let started = self.client.act(Duration::ZERO, async |docker| docker.start_exec(&id, options).await).await?;
        match started {
            StartExecResults::Attached { output, input } => Ok((Terminal::Program(id), output, input)),
            StartExecResults::Detached => Err(Failure::new(ErrorKind::Failed, "the daemon gave no terminal")),
        }
    }
}

type Writer = Pin<Box<dyn AsyncWrite + Send>>;

#[async_trait]
impl Console for ContainerProvider {
    async fn open(&self, instance: &InstanceRef, request: &ConsoleRequest) -> Result<ConsoleSession> {
        let opened = match &request.argv {
            None => self.open_own(instance).await,
            Some(argv) => self.open_program(instance, argv.clone()).await,
        };
        let (terminal, output, writer) = opened.map_err(|failure| failure.during("console", instance))?;
        let subject = instance.clone();
        // A program that has ended already has no size; its output says the rest.
        let _ = terminal.size(&self.client, request.columns, request.rows).await;
        let keyboard = Keyboard { client: Arc::clone(&self.client), terminal, writer, subject: subject.clone() };
        let output = output.map(move |piece| {
            let bytes = piece.map(|piece| piece.into_bytes().to_vec());
            bytes.map_err(|error| Failure::from(error).of_reading().during("console", &subject))
        });
        Ok(ConsoleSession { output: Box::pin(output), input: Box::new(keyboard) })
    }
}
