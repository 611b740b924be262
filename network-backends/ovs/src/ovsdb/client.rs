//! The client as its users see it: transactions, and a replica that follows the database.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, iter};

use serde_json::{Value, json};

use super::{Change, Done, Endpoint, Operation, Refused, Replica, message, read_answer, session};

/// What the client has heard; told on its thread, which must not be held up.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The replica was built anew, after the first connection or a later one, of these rows.
    Synced(&'a [Change]),
    /// The connection broke; the replica is as it was then.
    Lost,
    /// The daemon that holds the lock in question lives, or has gone.
    Holder {
        /// Whether it lives.
        lives: bool,
    },
    /// Rows changed; the replica has taken them in.
    Changed(&'a [Change]),
}

/// Why a transaction is not known to have succeeded.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It was never sent: there is no connection.
    #[error("the database at {endpoint} cannot be reached{}", reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Unreachable {
        /// Where the database should be.
        endpoint: Endpoint,
        /// What the last attempt to connect said.
        reason: Option<String>,
    },
    /// It was sent and the connection broke before an answer came: it may have happened.
    #[error("the connection to the database broke before it answered")]
    Lost,
    /// It was sent and no answer came in time: it may have happened.
    #[error("the database did not answer within {0:?}")]
    Late(Duration),
    /// It was refused; nothing happened.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The database does not understand requests of this kind.
    #[error("the database does not understand: {0}")]
    Misunderstood(String),
}

/// A connection to a database that is made again whenever it breaks, with a replica of the tables that are watched.
///
/// Its thread ends when it is dropped.
pub struct Client {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the users of the client have in common.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Written to when the thread has something to do.
    wake: UnixStream,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) replica: Replica,
    /// The connection stands and the replica follows it.
    pub(super) synced: bool,
    pub(super) stopped: bool,
    /// Why there is no connection.
    pub(super) reason: Option<String>,
    /// Requests to be sent.
    pub(super) outbox: Vec<Vec<u8>>,
    /// Requests that wait for their answers.
    pub(super) pending: HashMap<u64, mpsc::Sender<Result<Value, Value>>>,
    next_id: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.wake).write(&[0]);
    }
}

impl Client {
    /// Starts a client of the database `database` at `endpoint`, which watches columns of tables; a watched table that
    /// has a column `name` should have it watched. `heard` is called on the client's thread.
    ///
    /// # Errors
    /// When no thread can be started. That the database cannot be reached yet is no error.
    pub fn start(
        endpoint: Endpoint,
        database: &str,
        watched: &[(&str, &[&str])],
        heard: impl Fn(Heard<'_>) + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::start_beside(endpoint, database, watched, None, heard)
    }

    /// As [`Client::start`], and watches over the daemon that holds `lock` in the database as long as it lives.
    ///
    /// # Errors
    /// As [`Client::start`].
    pub fn start_beside(
        endpoint: Endpoint,
        database: &str,
        watched: &[(&str, &[&str])],
        lock: Option<&'static str>,
        heard: impl Fn(Heard<'_>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), wake });
        let tables: serde_json::Map<String, Value> =
            watched.iter().map(|(table, columns)| ((*table).to_owned(), json!({ "columns": columns }))).collect();
        let monitor = json!([database, null, tables]);
        let (theirs, there) = (Arc::clone(&shared), endpoint.clone());
        let run = move || session::run(&theirs, &there, &woken, &monitor, lock, &heard);
        let thread = std::thread::Builder::new().name("ovsdb".into()).spawn(run)?;
        Ok(Self { shared, endpoint, thread: Some(thread) })
    }

    /// Looks at the replica, also while there is no connection.
    pub fn read<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.shared.lock().replica)
    }

    /// Waits until the connection stands and the replica follows.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when that does not come about in time.
    pub fn ready(&self, patience: Duration) -> Result<(), ClientError> {
        self.wait(patience, |_| Some(())).ok_or_else(|| self.unreachable())
    }

    /// Waits until `look` finds what it looks for in a replica that follows the database; none when that does not come
    /// about in time.
    pub fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&Replica) -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if state.synced
                && let Some(found) = look(&state.replica)
            {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the replica holds whatever was committed, by anybody, before this was called.
    ///
    /// # Errors
    /// As [`Client::transact`].
    pub fn catch_up(&self, patience: Duration) -> Result<(), ClientError> {
        self.begin_to_catch_up()?.wait(patience)
    }

    /// As [`Client::catch_up`] for who has something else to do meanwhile.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when there is no connection.
    pub fn begin_to_catch_up(&self) -> Result<CatchUp<'_>, ClientError> {
        // The server sends a client its updates before it looks at the client's next request.
        self.send("echo", json!([])).map(CatchUp)
    }

    /// Carries out a transaction: all of its operations or none. What it changed of watched tables is in the replica when
    /// this returns.
    ///
    /// # Errors
    /// [`ClientError::Lost`] and [`ClientError::Late`] leave open whether it happened; the replica tells, once it follows
    /// again. With all others nothing happened.
    pub fn transact(
        &self,
        database: &str,
        operations: &[Operation],
        patience: Duration,
    ) -> Result<Vec<Done>, ClientError> {
        // Written at once: a copy of the operations for each step on the way would cost more than the rest.
        let operations_as_text = operations.iter().map(|operation| operation.value().to_string());
        let params: Vec<String> = iter::once(json!(database).to_string()).chain(operations_as_text).collect();
        match self.send("transact", format_args!("[{}]", params.join(",")))?.wait(patience)? {
            Ok(answer) => Ok(read_answer(&answer, operations.len())?),
            Err(error) => Err(ClientError::Misunderstood(error.to_string())),
        }
    }

    fn send(&self, method: &str, params: impl fmt::Display) -> Result<Request<'_>, ClientError> {
        let (reply, answer) = mpsc::channel();
        let id = {
            let mut state = self.shared.lock();
            if !state.synced {
                drop(state);
                return Err(self.unreachable());
            }
            state.next_id += 1;
            let id = state.next_id;
            state.pending.insert(id, reply);
            state.outbox.push(message::request(&json!(id), method, params));
            id
        };
        self.shared.wake();
        Ok(Request { shared: &self.shared, id, answer })
    }

    fn unreachable(&self) -> ClientError {
        let reason = self.shared.lock().reason.clone();
        ClientError::Unreachable { endpoint: self.endpoint.clone(), reason }
    }
}

/// A request that was sent.
struct Request<'a> {
    shared: &'a Shared,
    id: u64,
    answer: mpsc::Receiver<Result<Value, Value>>,
}

impl Request<'_> {
    fn wait(self, patience: Duration) -> Result<Result<Value, Value>, ClientError> {
        self.answer.recv_timeout(patience).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => ClientError::Late(patience),
            mpsc::RecvTimeoutError::Disconnected => ClientError::Lost,
        })
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // Nobody waits for the answer any more.
        self.shared.lock().pending.remove(&self.id);
    }
}

/// What waits until the replica holds whatever was committed before it was made.
#[must_use]
pub struct CatchUp<'a>(Request<'a>);

impl CatchUp<'_> {
    /// Waits for it.
    ///
    /// # Errors
    /// As [`Client::transact`].
    pub fn wait(self, patience: Duration) -> Result<(), ClientError> {
        match self.0.wait(patience)? {
            Ok(_) => Ok(()),
            Err(error) => Err(ClientError::Misunderstood(error.to_string())),
        }
    }
}

impl fmt::Debug for CatchUp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CatchUp").field(&self.0.id).finish()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It panics only if something here is wrong, and then it has said so already.
            let _ = thread.join();
        }
    }
}
