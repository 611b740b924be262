//! Memory and processor limits: one control group per limited instance.
//!
//! On version 2 the groups stand below the highest group that the keeper may write to: the root for root, the delegated
//! part of the tree for an ordinary user. On version 1, which cannot be delegated, they stand at the top of the `memory`
//! and `cpu` hierarchies and only root has them. What cannot be limited is refused by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lifecycle_core::error::ErrorKind;
use nix::unistd::{AccessFlags, access};

use crate::failure::{Doing, Failure};
use crate::layout::Mark;
use crate::mounts;
use crate::spec::Limits;

/// Microseconds over which processor time is shared out.
const PERIOD: u64 = 100_000;

/// Where limits can be set.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    memory: Option<Place>,
    cpu: Option<Place>,
    /// What was looked at in vain, for the error.
    tried: String,
}

/// A group of ours below which instances get their own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    group: PathBuf,
    v2: bool,
}

impl Cgroups {
    /// Finds out what this process may limit. `name` is the group that holds all of the keeper's.
    pub(super) fn detect(name: &str) -> io::Result<Self> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let mut found = Self::default();
        for mount in mounts::table()? {
            match mount.kind.as_str() {
                "cgroup2" => {
                    let below = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
                    found.look_at_v2(&mount.point, below, name);
                }
                "cgroup" => {
                    let has = |controller| mount.options.split(',').any(|option| option == controller);
                    found.look_at_v1(&mount.point, name, has("memory"), has("cpu"));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn look_at_v2(&mut self, root: &Path, below: &str, name: &str) {
        // From the root downwards, so that the highest group that we may write to wins.
        let own = root.join(below);
        let mut candidates: Vec<&Path> = own.ancestors().take_while(|path| path.starts_with(root)).collect();
        candidates.reverse();
        for base in candidates {
            let controllers = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
            let has = |controller| controllers.split_whitespace().any(|word| word == controller);
            // To move a process into a group takes the right to write to the common ancestor's list of processes.
            if !(has("memory") || has("cpu")) || !writable(base) || !writable(&base.join("cgroup.procs")) {
                self.tried.push_str(&format!(" {}", base.display()));
                continue;
            }
            let place = Place { group: base.join(name), v2: true };
            self.memory = self.memory.take().or_else(|| has("memory").then(|| place.clone()));
            self.cpu = self.cpu.take().or_else(|| has("cpu").then_some(place));
        }
    }

    fn look_at_v1(&mut self, root: &Path, name: &str, memory: bool, cpu: bool) {
        if !writable(root) {
            self.tried.push_str(&format!(" {}", root.display()));
            return;
        }
        let place = Place { group: root.join(name), v2: false };
        self.memory = self.memory.take().or_else(|| memory.then(|| place.clone()));
        self.cpu = self.cpu.take().or_else(|| cpu.then_some(place));
    }

    fn place<'a>(&self, what: &str, place: &'a Option<Place>) -> Result<&'a Place, Failure> {
        place.as_ref().ok_or_else(|| {
            Failure::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot limit {what}: no control group with that controller may be written to (looked at:{}); \
                     delegate one (`systemd-run --user --scope -p Delegate=yes`), run as root, or remove the limit",
                    self.tried
                ),
            )
        })
    }

    /// Makes the groups of an instance and sets its limits. Nothing remains when that fails.
    pub(super) fn prepare(&self, mark: &Mark, limits: &Limits) -> Result<(), Failure> {
        let prepared = self.try_prepare(mark, limits);
        if prepared.is_err() {
            // The first failure is the one to tell; what cannot be removed is empty and goes with the next one.
            let _ = self.remove(mark);
        }
        prepared
    }

    fn try_prepare(&self, mark: &Mark, limits: &Limits) -> Result<(), Failure> {
        if let Some(bytes) = limits.memory {
            let place = self.place("memory", &self.memory)?;
            let file = if place.v2 { "memory.max" } else { "memory.limit_in_bytes" };
            place.set(mark, "memory", &[(file, bytes.to_string())])?;
        }
        if let Some(cpu) = limits.cpu {
            let place = self.place("processors", &self.cpu)?;
            let quota = (cpu * PERIOD as f64).max(1_000.0) as u64;
            let v1 = [("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())];
            let v2 = [("cpu.max", format!("{quota} {PERIOD}"))];
            place.set(mark, "cpu", if place.v2 { &v2 } else { &v1 })?;
        }
        Ok(())
    }

    /// The groups that exist for an instance.
    pub(super) fn groups(&self, mark: &Mark) -> Vec<PathBuf> {
        let mut groups: Vec<PathBuf> =
            [&self.memory, &self.cpu].into_iter().flatten().map(|place| place.group.join(mark.to_string())).collect();
        groups.dedup();
        groups.retain(|group| group.exists());
        groups
    }

    /// Removes the groups of an instance, which must be empty of processes, and ours when it was the last.
    pub(super) fn remove(&self, mark: &Mark) -> Result<(), Failure> {
        for group in self.groups(mark) {
            fs::remove_dir(&group).doing(format_args!("remove the control group {}", group.display()))?;
            // Fails while other instances have groups, as it should.
            let _ = group.parent().map(fs::remove_dir);
        }
        Ok(())
    }
}

impl Place {
    fn set(&self, mark: &Mark, controller: &str, values: &[(&str, String)]) -> Result<(), Failure> {
        let group = self.group.join(mark.to_string());
        fs::create_dir_all(&group).doing(format_args!("make the control group {}", group.display()))?;
        if self.v2 {
            for above in [self.group.parent().unwrap_or(&self.group), &self.group] {
                let path = above.join("cgroup.subtree_control");
                fs::write(&path, format!("+{controller}"))
                    .doing(format_args!("hand the {controller} controller on in {}", path.display()))?;
            }
        }
        for (file, value) in values {
            fs::write(group.join(file), value).doing(format_args!("set {file} of {} to {value}", group.display()))?;
        }
        Ok(())
    }
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

/// Moves the calling process into groups.
pub(super) fn join(groups: &[PathBuf]) -> Result<(), Failure> {
    for group in groups {
        fs::write(group.join("cgroup.procs"), "0").doing(format_args!("enter {}", group.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifecycle_core::id::{LabId, NodeId};

    const MARK: Mark = Mark { node: NodeId::from_u64(1), incarnation: 1, lab: LabId::from_u64(2) };

    fn tree(controllers: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["", "user.slice"] {
            let path = root.path().join(directory);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.controllers"), controllers).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
        }
        root
    }

    #[test]
    fn version_two_sets_both_limits_in_one_group() {
        let root = tree("cpu memory pids");
        let mut groups = Cgroups::default();
        groups.look_at_v2(root.path(), "user.slice", "ours");
        groups.prepare(&MARK, &Limits { memory: Some(1 << 20), cpu: Some(1.5) }).unwrap();
        let group = root.path().join("ours").join(MARK.to_string());
        assert_eq!(groups.groups(&MARK), std::slice::from_ref(&group));
        assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "1048576");
        assert_eq!(fs::read_to_string(group.join("cpu.max")).unwrap(), "150000 100000");
    }

    #[test]
    fn what_cannot_be_limited_is_refused_by_name() {
        let root = tree("pids");
        let mut groups = Cgroups::default();
        groups.look_at_v2(root.path(), "user.slice", "ours");
        let failure = groups.prepare(&MARK, &Limits { memory: Some(1), cpu: None }).unwrap_err();
        assert_eq!(failure.kind, ErrorKind::Unsupported);
        assert!(failure.message.contains("memory") && failure.message.contains("user.slice"), "{failure}");
        assert!(groups.prepare(&MARK, &Limits::default()).is_ok());
    }
}
