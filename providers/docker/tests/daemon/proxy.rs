//! A socket between a provider and its daemon, which goes wrong at a request of the test's choice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// The request does not arrive, and the connection breaks.
    Dropped,
    /// The request is carried out, and the connection breaks before its answer.
    Unanswered,
    /// The request is carried out, and its answer never comes.
    Silent,
    /// The request arrives late.
    Delayed,
}

/// How long a delayed request takes to arrive: longer than its sender waits.
pub(crate) const DELAY: Duration = Duration::from_millis(1200);

#[derive(Debug)]
struct Plan {
    wrong: Wrong,
    /// The changing request at which it goes wrong, counted from 0.
    at: usize,
    /// Whether all that comes after goes wrong as well, as if the client had died there.
    ever_after: bool,
    seen: AtomicUsize,
    reached: AtomicBool,
}

/// The proxy. Its tasks end with the runtime.
#[derive(Debug)]
pub(crate) struct Proxy {
    path: PathBuf,
    plan: Arc<Plan>,
    _directory: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn start(daemon: &Path, wrong: Wrong, at: usize, ever_after: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("proxy");
        let listener = UnixListener::bind(&path).unwrap();
        let (seen, reached) = (AtomicUsize::new(0), AtomicBool::new(false));
        let plan = Arc::new(Plan { wrong, at, ever_after, seen, reached });
        let (daemon, shared) = (daemon.to_owned(), Arc::clone(&plan));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (daemon, plan) = (daemon.clone(), Arc::clone(&shared));
                // A connection that breaks is what this is for.
                tokio::spawn(async move { serve(client, &daemon, &plan).await });
            }
        });
        Self { path, plan, _directory: directory }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Whether anything went wrong yet.
    pub(crate) fn was_reached(&self) -> bool {
        self.plan.reached.load(Ordering::Relaxed)
    }
}

/// Serves one connection, which carries one request: the client keeps none for later.
async fn serve(mut client: UnixStream, daemon: &Path, plan: &Plan) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let changes = head.starts_with(b"POST") || head.starts_with(b"DELETE");
    let number = if changes { plan.seen.fetch_add(1, Ordering::Relaxed) } else { usize::MAX };
    let goes_wrong = changes && (number == plan.at || (plan.ever_after && number > plan.at));
    if plan.ever_after && plan.seen.load(Ordering::Relaxed) > plan.at + 1 && !goes_wrong {
        return Ok(());
    }
    if goes_wrong {
        plan.reached.store(true, Ordering::Relaxed);
        match plan.wrong {
            Wrong::Dropped => return Ok(()),
            _ if number > plan.at => return Ok(()),
            Wrong::Delayed => tokio::time::sleep(DELAY).await,
            Wrong::Unanswered | Wrong::Silent => {}
        }
    }
    let mut daemon = UnixStream::connect(daemon).await?;
    daemon.write_all(&head).await?;
    let (from_client, to_client) = client.split();
    let (from_daemon, to_daemon) = daemon.split();
    if !goes_wrong || plan.wrong == Wrong::Delayed {
        tokio::join!(pass(from_client, to_daemon), pass(from_daemon, to_client));
        return Ok(());
    }
    // Carried out is what the daemon has answered.
    let forward = pass(from_client, to_daemon);
    let answered = async {
        let mut from_daemon = from_daemon;
        let _ = from_daemon.read(&mut [0; 1024]).await;
    };
    tokio::select! { () = answered => {}, () = async { forward.await; std::future::pending().await } => {} }
    if plan.wrong == Wrong::Silent {
        // Until the client has long given up.
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    Ok(())
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
