//! Whether a daemon lives that holds a lock of the database for as long as it does (RFC 7047, section 4.1.8).
//!
//! Whoever asks for a lock that somebody holds is told when it is free, which is when the holder has gone. The lock is given
//! back in the same moment, so that the daemon's successor can have it, and asked for again before long: that it is refused
//! says that the successor is there.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Message;

/// Identifier of the request for the lock.
const LOCK: &str = "lock";
/// How long after it was given back the lock is asked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// Watches over the holder of a lock.
#[derive(Debug)]
pub(super) struct Vigil {
    lock: String,
    /// When it is to be asked for; not at all while somebody holds it, since that they give it up is told.
    due: Option<Instant>,
    /// The holder is known to be gone.
    gone: bool,
}

/// What a message tells of the holder.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    pub(super) lives: bool,
    /// It was otherwise before.
    pub(super) changed: bool,
    /// What is to be sent then.
    pub(super) reply: Option<Message>,
}

impl Vigil {
    pub(super) fn new(lock: &str) -> Self {
        Self { lock: lock.to_owned(), due: None, gone: false }
    }

    /// Begins to watch.
    pub(super) fn begin(&mut self) -> Message {
        self.due = None;
        self.message(LOCK, "lock")
    }

    fn message(&self, id: &str, method: &str) -> Message {
        Message::Request { id: json!(id), method: method.to_owned(), params: json!([self.lock]) }
    }

    /// What is to be sent by now.
    pub(super) fn is_due(&mut self) -> Option<Message> {
        self.due.is_some_and(|due| due <= Instant::now()).then(|| self.begin())
    }

    /// How long nothing is to be sent.
    pub(super) fn rest(&self) -> Option<Duration> {
        Some(self.due?.saturating_duration_since(Instant::now()))
    }

    /// Takes in a message, if it is about the lock.
    pub(super) fn take(&mut self, message: &Message) -> Option<Told> {
        let free = match message {
            Message::Response { id, result } if id == LOCK => match result.as_ref().ok()?["locked"] {
                Value::Bool(locked) => locked,
                _ => return None,
            },
            Message::Notification { method, params } if method == "locked" && params[0] == self.lock.as_str() => true,
            _ => return None,
        };
        let changed = std::mem::replace(&mut self.gone, free) != free;
        let reply = free.then(|| self.message("unlock", "unlock"));
        self.due = free.then(|| Instant::now() + AGAIN);
        Some(Told { lives: !free, changed, reply })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(locked: Value) -> Message {
        Message::Response { id: json!(LOCK), result: Ok(json!({ "locked": locked })) }
    }

    #[test]
    fn a_lock_that_is_given_is_given_back_and_asked_for_again() {
        let mut vigil = Vigil::new("daemon");
        vigil.begin();
        assert_eq!(vigil.take(&answer(json!(false))), Some(Told { lives: true, changed: false, reply: None }));
        assert_eq!((vigil.rest(), vigil.is_due()), (None, None), "the server will tell");
        let told = |name: &str| Message::Notification { method: "locked".into(), params: json!([name]) };
        assert_eq!(vigil.take(&told("other")), None);
        let Told { lives, changed, reply } = vigil.take(&told("daemon")).unwrap();
        let Some(Message::Request { method, params, .. }) = reply else { panic!("it has to be given back") };
        assert_eq!((lives, changed, method.as_str(), params), (false, true, "unlock", json!(["daemon"])));
        assert!(vigil.rest().is_some() && vigil.is_due().is_none());
        for odd in [answer(json!(3)), Message::Response { id: json!(LOCK), result: Err(json!("unknown method")) }] {
            assert_eq!(vigil.take(&odd), None);
        }
    }
}
