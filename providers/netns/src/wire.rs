//! The two protocols of this crate: the keeper's and the inits'.
//!
//! Both run over unix stream sockets in frames: four bytes of length (big endian, the kind byte included), one byte of
//! kind, the payload. Kind [`JSON`] carries a message of the types below; the others carry bytes of a terminal or a
//! command. Fields may be added within a version and readers ignore what they do not know.
//!
//! *Keeper*: a client says [`ToKeeper::Hello`] first, with its version and its epoch, and is welcomed or refused. The
//! epoch holds for the connection: when a newer one says hello, connections of older epochs are closed and what they
//! had queued is dropped. Calls may be sent without waiting; replies bear the call's number. Events come in between.
//!
//! *Init*: a client sends one [`Ask`]; the rest of the connection belongs to it.

use lifecycle_core::id::{ControllerId, NodeId};
use lifecycle_core::plugin::provider::{ExitRecord, InstanceState};
use lifecycle_core::time::Timestamp;
use lifecycle_linux::management::Lease;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;

use crate::failure::Failure;
use crate::layout::Mark;
use crate::spec::NodeFile;

/// Version of both protocols.
pub(crate) const VERSION: u16 = 1;
/// Longest frame in bytes; a list of 100,000 instances fits.
const MAX_FRAME: usize = 64 << 20;

/// Frame of one JSON message.
pub(crate) const JSON: u8 = 0;
/// Frame of bytes written to the standard output or a terminal.
pub(crate) const STDOUT: u8 = 1;
/// Frame of bytes written to the standard error.
pub(crate) const STDERR: u8 = 2;
/// Frame of bytes typed into a terminal.
pub(crate) const STDIN: u8 = 3;

/// From a client to the keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToKeeper {
    Hello { version: u16, controller: ControllerId, epoch: u64 },
    Call { id: u64, call: Call },
}

/// What the keeper can do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    Create(Box<NodeFile>),
    Start(Key),
    Stop { key: Key, grace_millis: u64 },
    Destroy(Key),
    Observe(Key),
    List,
}

/// Which instance a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub node: NodeId,
    pub incarnation: u64,
}

/// From the keeper to a client.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FromKeeper {
    /// The version that both sides speak from here on, and whether the keeper acts as root of the host.
    Welcome {
        version: u16,
        direct: bool,
    },
    Refused(Failure),
    Reply {
        id: u64,
        result: Result<Answer, Failure>,
    },
    /// Something about an instance changed.
    Changed {
        key: Key,
        identifier: String,
    },
}

/// What a call returns.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Status(Option<Box<Status>>),
    List(Vec<Status>),
}

/// One instance as the keeper sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub mark: Mark,
    /// None where `identity.json` cannot be read.
    pub controller: Option<ControllerId>,
    pub identifier: String,
    pub names: Vec<String>,
    pub lease: Option<Lease>,
    pub state: InstanceState,
    pub started_at: Option<Timestamp>,
    /// Cookie of its network namespace; none where it is gone.
    pub cookie: Option<u64>,
    /// Whether that namespace is the host's.
    pub host_network: bool,
}

/// The first frame of a client of an init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub version: u16,
    pub what: AskWhat,
}

/// What an init can do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AskWhat {
    /// Run a command and pass its output on; closing the connection kills it.
    Exec { argv: Vec<String>, env: BTreeMap<String, String>, user: Option<String> },
    /// Watch a terminal and type into it; closing the connection leaves it alone.
    Console { argv: Option<Vec<String>>, columns: u16, rows: u16 },
    /// End the node.
    Stop { grace_millis: u64 },
}

/// A client's later frames of kind [`JSON`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Typed {
    Resize { columns: u16, rows: u16 },
}

/// An init's frames of kind [`JSON`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tell {
    Started,
    Refused(Failure),
    Ended(ExitRecord),
    /// Somebody else watches the terminal now.
    TakenOver,
}

/// One frame as bytes.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(payload);
    bytes
}

/// One message as a frame.
pub(crate) fn message(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(frame(JSON, &serde_json::to_vec(value)?))
}

/// Reads a message out of a frame's payload.
pub(crate) fn parse<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(payload)?)
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were given out already.
    used: usize,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let rest = &self.buffer[self.used..];
        let Some((head, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length == 0 || length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if body.len() < length {
            return Ok(None);
        }
        let found = (body[0], body[1..length].to_vec());
        self.used += 4 + length;
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let stream = [frame(JSON, b"{}"), frame(STDOUT, b""), frame(STDIN, b"abc")].concat();
        for step in 1..stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in stream.chunks(step) {
                frames.push(part);
                while let Some(frame) = frames.next().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, [(JSON, b"{}".to_vec()), (STDOUT, Vec::new()), (STDIN, b"abc".to_vec())]);
        }
    }

    #[test]
    fn absurd_lengths_are_refused() {
        for head in [[0, 0, 0, 0], [0xff; 4]] {
            let mut frames = Frames::default();
            frames.push(&head);
            assert!(frames.next().is_err());
        }
    }
}
