//! Everything on the machine that a lab might leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What was found of a sandbox, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Interfaces in the host's network namespace that were not there before.
    pub interfaces: BTreeSet<String>,
    /// Processes that were started in the sandbox.
    pub processes: BTreeSet<String>,
    /// Mounts below the sandbox.
    pub mounts: BTreeSet<String>,
    /// Control groups of the sandbox's nodes.
    pub groups: BTreeSet<String>,
}

impl Census {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Names of the interfaces in what is the host's network to a sandbox: root's have one of their own.
pub fn interfaces(own: bool, mark: &str) -> BTreeSet<String> {
    let mut command = Command::new("ip");
    if own {
        command.args(["-n", mark]);
    }
    let output = command.args(["-o", "link"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned())).collect()
}

/// Takes the census of a sandbox, whose processes bear `mark` in their environment.
pub fn take(mounts: Vec<String>, mark: &str, own_network: bool, before: &BTreeSet<String>) -> Census {
    Census {
        interfaces: interfaces(own_network, mark).difference(before).cloned().collect(),
        processes: processes(mark).into_iter().map(|(pid, command)| format!("{pid}: {command}")).collect(),
        mounts: mounts.into_iter().collect(),
        groups: lines("/proc/self/mounts")
            .filter(|line| line.contains(" cgroup"))
            .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
            .flat_map(|mount| groups_below(Path::new(&mount), mark))
            .collect(),
    }
}

/// Mounts below any of these folders, as lines of `/proc/self/mounts`.
pub fn mounts(folders: &[String]) -> Vec<String> {
    lines("/proc/self/mounts").filter(|line| folders.iter().any(|folder| line.contains(folder))).collect()
}

/// Processes that bear `mark` in their environment, with their command lines.
pub fn processes(mark: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(mark) && pid != std::process::id() as i32 {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let zombie = fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "));
            if !zombie {
                found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
            }
        }
    }
    found
}

fn lines(path: &str) -> impl Iterator<Item = String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn groups_below(mount: &Path, mark: &str) -> Vec<String> {
    let output = Command::new("find")
        .arg(mount)
        .args(["-maxdepth", "4", "-type", "d", "-name"])
        .arg(format!("*{mark}*"))
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until something holds; panics with `what` when it does not in time.
///
/// # Panics
/// When it does not hold in time.
pub fn eventually<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    eventually_or(limit, || what.to_owned(), look)
}

/// Waits until something holds; panics with what `explain` says then when it does not in time.
///
/// # Panics
/// When it does not hold in time.
pub fn eventually_or<T>(limit: Duration, explain: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {}", explain());
        sleep(Duration::from_millis(50));
    }
}
