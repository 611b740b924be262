#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]
// The README shows where in `main` the hook is called.
#![allow(clippy::needless_doctest_main)]

mod crash;
mod failure;
mod image;
mod init;
mod keeper;
mod layout;
mod mgmt;
mod mounts;
mod peer;
mod process;
mod provider;
mod remove;
mod settings;
mod spec;
mod tarball;
mod wire;

pub use crash::CRASH_POINTS;
pub use image::{StandIn, StandInRoot};
pub use provider::{NetnsProvider, PLUGIN};
pub use settings::Settings;

/// Becomes the keeper, if this process was started to be one, and never returns then; returns at once otherwise.
///
/// A program that embeds this provider calls it on the first line of `main`, before it starts a thread or a runtime,
/// unless it names another helper executable (whose `main` does nothing but this).
pub fn helper_main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == keeper::ARGUMENT)
        && let (Some(state), Some(runtime)) = (arguments.next(), arguments.next())
    {
        std::process::exit(keeper::start(state.into(), runtime.into()));
    }
}
