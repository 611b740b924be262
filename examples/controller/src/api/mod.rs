//! The HTTP interface of a controller, under `/api/v1` on a unix socket.

mod audit;
mod console;
mod events;
mod exec;
mod extract;
mod health;
mod jobs;
mod labs;
mod links;
mod listener;
mod logs;
mod mappings;
mod nodes;
pub mod problem;
mod save;
mod selfcheck;
mod tunnels;
mod vendors;
pub mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, patch, post, put};
use lifecycle_engine::Controller;
use lifecycle_topology::Permissions;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use listener::Peer;
use problem::Problem;

/// The longest body of a request, in bytes: a topology of some thousand nodes.
const LONGEST_BODY: usize = 64 << 20;

/// What the routes work with.
#[derive(Debug, Clone)]
struct Api {
    controller: Controller,
    permissions: Arc<Permissions>,
}

fn router(api: Api) -> Router {
    let node = Router::new()
        .route("/", get(nodes::get))
        .route("/desired-state", put(nodes::set_desired))
        .route("/restart", post(nodes::restart))
        .route("/exec", post(exec::exec))
        .route("/save", post(save::node))
        .route("/logs", get(logs::logs))
        .route("/console", get(console::console))
        .route("/interfaces", get(mappings::of_node))
        .route("/history", get(audit::history));
    let lab = Router::new()
        .route("/", get(labs::get).put(labs::apply).delete(labs::destroy))
        .route("/topology", get(labs::topology))
        .route("/save", post(save::lab))
        .route("/nodes", get(nodes::list))
        .route("/nodes/desired-state", put(nodes::set_desired_of_all))
        .nest("/nodes/{node}", node)
        .route("/interface-mappings", get(mappings::list))
        .route("/interface-mappings/sync", post(mappings::sync))
        .route("/links", get(links::list))
        .route("/links/reconcile", post(links::reconcile))
        .route("/links/{link}", patch(links::set));
    let v1 = Router::new()
        .route("/", get(health::about))
        .route("/labs", get(labs::list))
        .nest("/labs/{lab}", lab)
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job}", get(jobs::get))
        .route("/jobs/{job}/cancel", post(jobs::cancel))
        .route("/tunnels", get(tunnels::list))
        .route("/events", get(events::events))
        .route("/audit", get(audit::audit))
        .route("/vendors", get(vendors::list))
        .route("/selfcheck", get(selfcheck::selfcheck));
    Router::new()
        .nest("/api/v1", v1)
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(api)
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_route", format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not possible at {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// A served API. Dropping it leaves the server running; see [`Server::close`].
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    closing: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves a controller at a unix socket. Whoever calls this holds the state that the socket belongs to.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(socket: &Path, controller: Controller, permissions: Permissions) -> io::Result<Self> {
        let listener = listener::Guarded::bind(socket)?;
        let app = router(Api { controller, permissions: Arc::new(permissions) });
        let (closing, mut closed) = watch::channel(false);
        let app = app.into_make_service_with_connect_info::<Peer>();
        let task = tokio::spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move {
                    let _ = closed.wait_for(|closed| *closed).await;
                })
                .await
        });
        Ok(Self { socket: socket.to_owned(), closing, task })
    }

    /// Takes no more connections, removes the socket, and gives those that are open a moment to end.
    pub async fn close(mut self) {
        let _ = self.closing.send(true);
        // Whoever follows the feed does not end by itself.
        let moment = std::time::Duration::from_millis(300);
        if tokio::time::timeout(moment, &mut self.task).await.is_err() {
            self.task.abort();
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}
