//! The provider in memory, with the faces that it lacks and a gate that keeps nodes from starting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use lifecycle_core::attach::AttachPoint;
use lifecycle_core::error::Result;
use lifecycle_core::id::NodeId;
use lifecycle_core::memory::MemoryProvider;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{
    Console, ConsoleInput, ConsoleRequest, ConsoleSession, CreateNode, CreatedNode, Exec, ExitRecord, InstanceRef,
    LogChunk, LogRequest, Logs, ObservedNode, PortRequest, ProviderCapabilities, ProviderEvent,
};
use tokio::sync::mpsc;

/// The provider in memory, with logs and consoles, and a gate.
#[derive(Debug, Clone)]
pub(crate) struct TestProvider {
    inner: MemoryProvider,
    closed: Arc<AtomicBool>,
}

impl TestProvider {
    pub(crate) fn new(inner: MemoryProvider) -> Self {
        Self { inner, closed: Arc::default() }
    }

    /// Keeps nodes from starting, or lets them.
    pub(crate) fn close_gate(&self, closed: bool) {
        self.closed.store(closed, Ordering::SeqCst);
    }
}

#[async_trait]
impl Provider for TestProvider {
    fn capabilities(&self) -> ProviderCapabilities {
        ProviderCapabilities { logs: true, console: true, ..self.inner.capabilities() }
    }

    fn node_identifier(&self, node: NodeId, long_name: &str) -> String {
        self.inner.node_identifier(node, long_name)
    }

    async fn create_node(&self, request: &CreateNode) -> Result<CreatedNode> {
        self.inner.create_node(request).await
    }

    async fn start_node(&self, instance: &InstanceRef) -> Result<()> {
        while self.closed.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.inner.start_node(instance).await
    }

    async fn stop_node(&self, instance: &InstanceRef, grace: Duration) -> Result<()> {
        self.inner.stop_node(instance, grace).await
    }

    async fn destroy_node(&self, instance: &InstanceRef) -> Result<()> {
        self.inner.destroy_node(instance).await
    }

    async fn list_nodes(&self) -> Result<Vec<ObservedNode>> {
        self.inner.list_nodes().await
    }

    async fn observe_node(&self, instance: &InstanceRef) -> Result<Option<ObservedNode>> {
        self.inner.observe_node(instance).await
    }

    fn watch(&self) -> BoxStream<'static, ProviderEvent> {
        self.inner.watch()
    }

    async fn attach_point(&self, instance: &InstanceRef, port: &PortRequest) -> Result<AttachPoint> {
        self.inner.attach_point(instance, port).await
    }

    fn exec(&self) -> Option<&dyn Exec> {
        Provider::exec(&self.inner)
    }

    fn logs(&self) -> Option<&dyn Logs> {
        Some(self)
    }

    fn console(&self) -> Option<&dyn Console> {
        Some(self)
    }
}

#[async_trait]
impl Logs for TestProvider {
    /// Three lines, the last of which is no text.
    async fn logs(&self, _: &InstanceRef, request: &LogRequest) -> Result<BoxStream<'static, Result<LogChunk>>> {
        let line = |line: &[u8], stderr| Ok(LogChunk { at: None, stderr, line: line.to_vec() });
        let lines = vec![line(b"one\n", false), line(b"two\n", true), line(b"\xff\n", false)];
        let skip = lines.len().saturating_sub(request.tail.unwrap_or(usize::MAX));
        Ok(stream::iter(lines.into_iter().skip(skip)).boxed())
    }
}

/// What is typed into a console, with its size.
struct Keyboard(mpsc::UnboundedSender<Vec<u8>>);

#[async_trait]
impl Console for TestProvider {
    /// Shows its size and its program, then what is typed; `q` ends it.
    async fn open(&self, _: &InstanceRef, request: &ConsoleRequest) -> Result<ConsoleSession> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let hello = format!("{}x{} {:?}\n", request.columns, request.rows, request.argv);
        let _ = sender.send(hello.into_bytes());
        let output = stream::unfold(receiver, |mut receiver| async move {
            let bytes: Vec<u8> = receiver.recv().await?;
            (bytes != b"q").then_some((Ok(bytes), receiver))
        });
        Ok(ConsoleSession { output: output.boxed(), input: Box::new(Keyboard(sender)) })
    }
}

#[async_trait]
impl ConsoleInput for Keyboard {
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let _ = self.0.send(bytes.to_vec());
        Ok(())
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let _ = self.0.send(format!("{columns}x{rows}\n").into_bytes());
        Ok(())
    }

    async fn exit(&mut self) -> Result<ExitRecord> {
        Ok(ExitRecord { code: Some(3), signal: None, at: None })
    }
}
