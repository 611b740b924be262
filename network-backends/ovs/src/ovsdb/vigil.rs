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
}

impl Vigil {
    pub(super) fn new(lock: &str) -> Self {
        Self { lock: lock.to_owned(), due: None }
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

    /// Whether the holder lives, where a message tells, and what is to be sent then.
    pub(super) fn take(&mut self, message: &Message) -> Option<(bool, Option<Message>)> {
        let free = match message {
            Message::Response { id, result } if id == LOCK => match result.as_ref().ok()?["locked"] {
                Value::Bool(locked) => locked,
                _ => return None,
            },
            Message::Notification { method, params } if method == "locked" && params[0] == self.lock.as_str() => true,
            _ => return None,
        };
        if !free {
            return Some((true, None));
        }
        self.due = Some(Instant::now() + AGAIN);
        Some((false, Some(self.message("unlock", "unlock"))))
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
        assert_eq!(vigil.take(&answer(json!(false))), Some((true, None)));
        assert_eq!((vigil.rest(), vigil.is_due()), (None, None), "the server will tell");
        let told = |name: &str| Message::Notification { method: "locked".into(), params: json!([name]) };
        assert_eq!(vigil.take(&told("other")), None);
        let (lives, reply) = vigil.take(&told("daemon")).unwrap();
        let Some(Message::Request { method, params, .. }) = reply else { panic!("it has to be given back") };
        assert_eq!((lives, method.as_str(), params), (false, "unlock", json!(["daemon"])));
        assert!(vigil.rest().is_some() && vigil.is_due().is_none());
        for odd in [answer(json!(3)), Message::Response { id: json!(LOCK), result: Err(json!("unknown method")) }] {
            assert_eq!(vigil.take(&odd), None);
        }
    }
}
