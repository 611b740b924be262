//! The deterministic simulator: the engine's real step and the reference store, with everything around them simulated.
//!
//! No runtime, no threads, no clock: one seed is one history, bit for bit. A machine with two hosts, their providers and
//! network backends is modelled as truthfully as can be ([`machine`]); a user who cannot make up their mind asks for
//! things; calls are refused, delayed, lost, carried out twice, too late or only in word; hands meddle; the controller
//! is killed at any point, its store fails, clocks jump, the power fails. After every step all
//! [invariants](lifecycle_engine::decide::invariant) are checked. Then the faults stop, and everything has to settle, to
//! come when asked for once more, and to leave nothing behind when removed.
//!
//! The `simulate` program runs seeds; a seed that fails is shown in every detail by the command that its failure prints.

mod big;
mod bug;
mod calls;
mod campaign;
pub(crate) mod chance;
mod clock;
mod controller;
mod expect;
mod faults;
mod labs;
mod machine;
mod mischief;
mod phases;
mod record;
mod simulation;
mod traffic;
mod user;

pub use big::{Big, large_lab};
pub use bug::{Planted, planted_bugs};
pub use campaign::{Campaign, Failure, Options, Outcome, run_seed};
