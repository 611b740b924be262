//! What processes use, as the kernel counts it.

use std::fs;
use std::path::Path;

use crate::measure::Result;

/// Ticks per second of `/proc/PID/stat`, the same on every Linux.
const TICKS: f64 = 100.0;

/// Seconds of processor time that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(')').ok_or("no status")?.1.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0));
    Ok((user + system) / TICKS)
}

/// Megabytes of memory that a process has in use and shares with no other.
pub(crate) fn megabytes(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(kilobytes.sum::<f64>() / 1024.0)
}

/// Processes whose command line names a directory, with their short names.
pub(crate) fn of_directory(directory: &Path) -> Result<Vec<(u32, String)>> {
    let directory = directory.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // A process may end while it is looked at.
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        if String::from_utf8_lossy(&read("cmdline")).contains(&directory) {
            found.push((pid, String::from_utf8_lossy(&read("comm")).trim().to_owned()));
        }
    }
    Ok(found)
}
