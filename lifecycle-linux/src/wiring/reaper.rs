//! Deleting interfaces.
//!
//! The kernel is done with a deleted interface only after a grace period of some 20 ms. It can wait for many such
//! periods at once, so that deletions run beside each other on threads of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use lifecycle_core::error::ErrorKind;

use super::{Failure, Outcome, Place, Places};
use crate::netlink::{Link, RouteSocket, Which, delete_link};

/// Deletions that run at once. More gain nothing.
const THREADS: usize = 32;

/// An interface that is to be deleted, by a socket of its namespace.
#[derive(Debug)]
pub struct Doomed {
    socket: RouteSocket,
    index: u32,
}

impl Doomed {
    /// An interface of an open namespace.
    ///
    /// # Errors
    /// When no further socket can be opened there.
    pub fn new(places: &Places, place: &Place, link: &Link) -> Outcome<Self> {
        Ok(Self { socket: places.another_socket(place)?, index: link.index })
    }

    /// Deletes it and waits until it is gone; one that is not there is fine.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(mut self) -> Outcome<()> {
        match self.socket.run(delete_link(Which::Index(self.index))) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Deletes interfaces on threads that live as long as there is something to delete.
#[derive(Debug, Default)]
pub struct Reaper {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Doomed, oneshot::Sender<Outcome<()>>)>,
    threads: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does until there is nothing left to do.
    fn work(&self) {
        loop {
            let mut queue = self.lock();
            let Some((doomed, reply)) = queue.waiting.pop_front() else {
                queue.threads -= 1;
                self.idle.notify_all();
                return;
            };
            drop(queue);
            // Nobody may be waiting any more; the interface is gone all the same.
            let _ = reply.send(doomed.delete());
        }
    }
}

impl Reaper {
    /// Deletes interfaces and waits until they are gone.
    ///
    /// # Errors
    /// The first refusal of the kernel.
    ///
    /// # Cancellation
    /// What was asked for is deleted also when the future is dropped after its first poll.
    pub async fn delete(&self, all: Vec<Doomed>) -> Outcome<()> {
        let mut answers = Vec::new();
        for doomed in all {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            let mut queue = self.shared.lock();
            queue.waiting.push_back((doomed, reply));
            if queue.threads < THREADS {
                let shared = Arc::clone(&self.shared);
                let thread = std::thread::Builder::new().name("link-reaper".into()).spawn(move || shared.work());
                match thread {
                    Ok(_) => queue.threads += 1,
                    // The threads that there are take it, one after the other.
                    Err(_) if queue.threads > 0 => {}
                    Err(error) => {
                        queue.waiting.clear();
                        return Err(error.into());
                    }
                }
            }
        }
        for answer in answers {
            let lost = |_| Failure::new(ErrorKind::Interrupted, "the thread that deletes interfaces broke off");
            answer.await.map_err(lost)??;
        }
        Ok(())
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        while queue.threads > 0 {
            queue = self.shared.idle.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
