//! Removing links.
//!
//! The kernel is done with a deleted interface only after a grace period of some 20 ms. It can wait for many such
//! periods at once, so that deletions run beside each other on threads of their own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;
use lifecycle_core::attach::NsRef;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::plugin::network::{LinkIdentity, ObservedLink};
use lifecycle_linux::netlink::{Link, RouteSocket, Which, delete_link};

use crate::failure::{Failure, Outcome};
use crate::label::{Owner, nameless, owner};
use crate::place::Place;
use crate::read::are_peers;
use crate::worker::Worker;

/// Deletions that run at once. More gain nothing.
const THREADS: usize = 32;

/// An interface that is to be deleted, by a socket of its namespace.
#[derive(Debug)]
pub(crate) struct Doomed {
    socket: RouteSocket,
    index: u32,
}

impl Worker {
    /// Finds what is left of a link.
    pub(crate) fn doom(&mut self, identity: &LinkIdentity) -> Outcome<Vec<Doomed>> {
        let mut ends = self.standing_ends(identity)?;
        for (_, place, link) in &ends {
            self.news.forget((place.cookie, link.index));
        }
        if let [(_, place_a, link_a), (_, place_b, link_b)] = &ends[..]
            && are_peers(place_a, link_a, place_b, link_b)?
        {
            // The kernel deletes both with one.
            ends.truncate(1);
        }
        ends.iter().map(|(_, place, link)| self.doomed(place, link)).collect()
    }

    /// Finds what is left of something that was observed.
    pub(crate) fn doom_observed(&mut self, observed: &ObservedLink, namespaces: &[NsRef]) -> Outcome<Vec<Doomed>> {
        let mut doomed = Vec::new();
        for (place, _) in self.all_places(namespaces)? {
            for (_, index, _) in observed.interfaces.iter().filter(|(cookie, ..)| *cookie == place.cookie) {
                let Some(link) = place.link(Which::Index(*index))? else { continue };
                let is_it = match owner(&link, self.controller) {
                    Owner::End(label) => label.link == observed.link,
                    Owner::Unlabelled => nameless(&link) == Some(observed.link),
                    Owner::Foreign | Owner::Bridge => false,
                };
                if is_it {
                    self.news.forget((place.cookie, link.index));
                    doomed.push(self.doomed(&place, &link)?);
                }
            }
        }
        Ok(doomed)
    }

    fn doomed(&self, place: &Place, link: &Link) -> Outcome<Doomed> {
        Ok(Doomed { socket: self.places.another_socket(place)?, index: link.index })
    }
}

/// Deletes interfaces on threads that live as long as there is something to delete.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
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
            let Some((mut doomed, reply)) = queue.waiting.pop_front() else {
                queue.threads -= 1;
                self.idle.notify_all();
                return;
            };
            drop(queue);
            let result = match doomed.socket.run(delete_link(Which::Index(doomed.index))) {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(()),
            };
            // Nobody may be waiting any more; the interface is gone all the same.
            let _ = reply.send(result);
        }
    }
}

impl Reaper {
    /// Deletes interfaces and waits until they are gone.
    ///
    /// # Cancellation
    /// What was asked for is deleted also when the future is dropped after its first poll.
    pub(crate) async fn delete(&self, all: Vec<Doomed>) -> Outcome<()> {
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
