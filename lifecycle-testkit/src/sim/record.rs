//! What a run leaves behind: a digest of all that was decided, and a trace for people.

use std::fmt::Write as _;
use std::io;

use lifecycle_core::model::Batch;
use lifecycle_engine::decide::Effect;

/// A digest (FNV-1a, 64 bits) of everything that is written into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(pub(super) u64);

impl Digest {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in a batch and the effects that follow it.
    pub(super) fn take(&mut self, batch: &Batch, effects: &[Effect]) {
        if serde_json::to_writer(&mut *self, batch).is_err() {
            unreachable!("a batch can be written as JSON");
        }
        let mut text = String::new();
        for effect in effects {
            if write!(text, "{effect:?}").is_err() {
                unreachable!("a string takes everything");
            }
        }
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines for people, kept only when asked for.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) on: bool,
    pub(super) lines: Vec<String>,
}

impl Trace {
    /// Adds a line; it is made only when it is wanted.
    pub(super) fn say(&mut self, millis: u64, line: impl FnOnce() -> String) {
        if self.on {
            self.lines.push(format!("{:>10.3} {}", millis as f64 / 1000.0, line()));
        }
    }
}
