//! The peer Mininet, from Debian's package, driven through its own Python interface.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use lifecycle_linux::testing::open_vswitch::OpenVswitch;
use serde::Deserialize;

use crate::measure::{Result, Sample};
use crate::table::Cell;

const SCRIPT: &str = include_str!("mininet.py");
/// Debian's own, which finds Debian's package.
const PYTHON: &str = "/usr/bin/python3";

/// Milliseconds to bring a lab up and down.
#[derive(Debug, Deserialize)]
struct Times {
    up: f64,
    down: f64,
}

/// Up and down of a lab of Mininet: `lxbr`, as many hosts each at a Linux bridge of its own and the bridges in a row, or
/// `chain`, the hosts in a row without bridges. Skipped with the reason where Mininet is not installed.
pub(crate) fn measure(kind: &str, nodes: usize, runs: usize) -> (Cell, Cell) {
    several(runs, || once(&mut Command::new(PYTHON), kind, nodes))
}

/// The same through Open vSwitch: as many hosts, each at a userspace bridge of its own, and the bridges in a row, in the
/// namespace of a private switch.
pub(crate) fn measure_on(switch: &OpenVswitch, nodes: usize, runs: usize) -> (Cell, Cell) {
    several(runs, || {
        // Mininet lets `ovs-vsctl` find the database, which it does by this variable.
        let directory = switch.path("");
        let socket = switch.path("db.sock");
        if !socket.exists() {
            std::os::unix::fs::symlink("db", socket)?;
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", switch.namespace().display())).arg(PYTHON).env("OVS_RUNDIR", directory);
        once(&mut command, "ovs", nodes)
    })
}

fn several(runs: usize, once: impl Fn() -> Result<Times>) -> (Cell, Cell) {
    if let Some(why) = missing() {
        return (Cell::Skipped(why.clone()), Cell::Skipped(why));
    }
    match (0..runs).map(|_| once()).collect::<Result<Vec<_>>>() {
        Ok(times) => {
            let up = times.iter().map(|times| times.up).collect();
            let down = times.iter().map(|times| times.down).collect();
            (Sample::of(up).into(), Sample::of(down).into())
        }
        Err(error) => (Cell::Skipped(error.to_string()), Cell::Skipped(error.to_string())),
    }
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("Mininet needs root".to_owned());
    }
    let works = |program: &str, arguments: &[&str]| {
        let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success())
    };
    let needed =
        [("mininet", works(PYTHON, &["-c", "import mininet.net"])), ("bridge-utils", works("brctl", &["--version"]))];
    let packages: Vec<&str> = needed.iter().filter(|(_, there)| !there).map(|(package, _)| *package).collect();
    let install = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    (!packages.is_empty()).then_some(install)
}

fn once(python: &mut Command, kind: &str, nodes: usize) -> Result<Times> {
    let mut child = python
        .args(["-", kind, &nodes.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(SCRIPT.as_bytes())?;
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    let last = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().lines().last().unwrap_or_default().to_owned();
    if !status.success() {
        return Err(format!("Mininet failed: {}", last(&stderr)).into());
    }
    Ok(serde_json::from_str(&last(&stdout))?)
}
