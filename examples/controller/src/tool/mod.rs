//! Small network tools that run inside nodes: enough to give addresses and to see that packets pass, on a file system
//! that has neither `ip` nor `ping`.
//!
//! Plain Linux nodes find this program under their names in [`DIRECTORY`], and it acts as the one by whose name it is
//! called.

mod ip;
mod ping;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::Result;
use crate::output;

/// Where nodes find the tools.
pub const DIRECTORY: &str = "/run/lifecycle";
/// The names under which they are there.
pub const NAMES: [&str; 2] = ["ip", "ping"];

/// One of the tools.
#[derive(Debug, Clone, Args)]
pub struct Tool {
    /// Which.
    #[command(subcommand)]
    pub name: Name,
}

/// The tools.
#[derive(Debug, Clone, Subcommand)]
pub enum Name {
    /// Give interfaces addresses, set them up or down, and give the default route
    Ip(ip::Ip),
    /// Send echo requests and wait for the answers
    Ping(ping::Ping),
}

#[derive(Debug, Parser)]
#[command(name = "lifecycle node-tool")]
struct Called {
    #[command(subcommand)]
    name: Name,
}

/// Acts as a tool, if this program was called by the name of one; returns nothing otherwise.
pub fn as_called(arguments: &[OsString]) -> Option<ExitCode> {
    let name = tool_called(arguments.first()?)?;
    let words = [OsString::from("lifecycle node-tool"), name.into()];
    Some(match Called::try_parse_from(words.into_iter().chain(arguments[1..].iter().cloned())) {
        Ok(called) => end(run(&called.name)),
        Err(error) => crate::usage(&error),
    })
}

/// The tool that a program of this name is.
fn tool_called(program: &OsStr) -> Option<&'static str> {
    let name = Path::new(program).file_name()?;
    NAMES.into_iter().find(|tool| name == *tool)
}

/// Runs a tool to its end.
///
/// # Errors
/// What the kernel refused, or that no answer came.
pub fn run(name: &Name) -> Result {
    match name {
        Name::Ip(ip) => ip::run(ip),
        Name::Ping(ping) => ping::run(ping),
    }
}

fn end(result: Result) -> ExitCode {
    result.map_or_else(
        |failure| {
            output::say(&failure);
            failure.exit.into()
        },
        Into::into,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_it_is_called_by_decides() {
        let called = |program: &str| tool_called(OsStr::new(program));
        assert_eq!(called("/run/lifecycle/ping"), Some("ping"));
        assert_eq!(called("ip"), Some("ip"));
        assert_eq!((called("/usr/bin/lifecycle"), called(""), called("ping/")), (None, None, Some("ping")));
        assert!(as_called(&[]).is_none());
    }

    #[test]
    fn they_take_the_usual_words() {
        for line in [
            "ip address add 10.0.0.1/24 dev eth1",
            "ip addr add 2001:db8::1/64 dev eth1",
            "ip a add 10.0.0.1/24 dev eth1",
            "ip link set eth1 down",
            "ip link set dev eth1 up",
            "ip route add default via 10.0.0.1",
            "ping 10.0.0.1",
            "ping -c 3 -w 10 router",
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert!(Called::try_parse_from(std::iter::once("x".to_owned()).chain(words)).is_ok(), "{line}");
        }
    }
}
