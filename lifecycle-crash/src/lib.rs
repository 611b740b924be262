#![doc = include_str!("../README.md")]

/// Every point at which a controller can be made to die.
pub const CRASH_POINTS: &[&str] = &[
    // A store is made, taken over, written.
    "store-migrated",
    "store-complete",
    "store-named",
    "store-taking-over",
    "store-written",
    // A controller begins.
    "taken-over",
    "initialized",
    "loaded",
    "recovered",
    // A step is decided, committed, told of.
    "answer-taken",
    "answer-decided",
    "before-commit",
    "committed",
    "published",
    "replied",
    // An effect is about to be handed to its plugin.
    "before-ensure_image",
    "before-create_node",
    "before-start_node",
    "before-stop_node",
    "before-destroy_node",
    "before-observe_node",
    "before-run_commands",
    "before-probe_ready",
    "before-list_nodes",
    "before-read_capacity",
    "before-connect",
    "before-disconnect",
    "before-release",
    "before-park",
    "before-verify",
    "before-set_params",
    "before-set_carrier",
    "before-observe_links",
    "before-remove_link",
    "before-read_underlay",
    "before-redirect",
    // The plugin did it, and nobody was told.
    "after-ensure_image",
    "after-create_node",
    "after-start_node",
    "after-stop_node",
    "after-destroy_node",
    "after-observe_node",
    "after-run_commands",
    "after-probe_ready",
    "after-list_nodes",
    "after-read_capacity",
    "after-connect",
    "after-disconnect",
    "after-release",
    "after-park",
    "after-verify",
    "after-set_params",
    "after-set_carrier",
    "after-observe_links",
    "after-remove_link",
    "after-read_underlay",
    "after-redirect",
    // A network backend is in the middle of something.
    "bridge-made",
    "ends-made",
    "end-finished",
    "end-changed",
    "ends-doomed",
    "ends-deleted",
    "segment-unnamed",
    "segment-removed",
    // The backend with a bridge per link is.
    "link-bridge-made",
    "link-ports-made",
    "link-end-finished",
    "link-part-changed",
    "link-bridge-doomed",
    "link-end-parked",
    "link-doomed",
    "link-swept",
    // The backend with Open vSwitch is.
    "switch-pairs-made",
    "switch-end-finished",
    "switch-ports-committed",
    "switch-ports-attached",
    "switch-part-changed",
    "switch-ports-parked",
    "switch-ends-parked",
    "switch-ports-removed",
    "switch-swept",
    // The provider of virtual machines is.
    "machine-address-reserved",
    "machine-recorded",
    "machine-medium-made",
    "machine-disk-made",
    "machine-tap-made",
    "machine-defined",
    "machine-starting",
    "machine-started",
    "machine-plugging",
    "machine-off",
    "machine-undefined",
    "machine-tap-removed",
    "machine-address-given-back",
    "machine-emptied",
    // The provider of containers is.
    "container-holder-loaded",
    "container-network-made",
    "container-holder-made",
    "container-holder-started",
    "container-made",
    "container-started",
    "container-stopped",
    "container-removed",
    "container-holder-removed",
    "container-network-removed",
    // A controller ends.
    "stopping",
    "effects-ended",
    "released",
];

/// Dies here if a test asked for it.
#[cfg(feature = "crash-points")]
pub fn crash_point(name: &str) {
    armed::pass(name);
}

/// Nothing, in a build without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn crash_point(_name: &str) {}

/// Dies here if a test asked for it: at the point called `moment`, which is `before` or `after`, and the name of an
/// effect.
#[cfg(feature = "crash-points")]
pub fn crash_around(moment: &str, effect: &str) {
    armed::pass(&format!("{moment}-{effect}"));
}

/// Nothing, in a build without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn crash_around(_moment: &str, _effect: &str) {}

#[cfg(feature = "crash-points")]
mod armed {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Where this process is to die.
    struct Plan {
        point: String,
        passage: u64,
        when: Option<PathBuf>,
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let at = std::env::var("LIFECYCLE_CRASH_AT").ok()?;
        let (point, passage) = at.split_once(':').unwrap_or((&at, "1"));
        let passage = passage.parse().unwrap_or(1);
        Some(Plan {
            point: point.to_owned(),
            passage,
            when: std::env::var_os("LIFECYCLE_CRASH_WHEN").map(PathBuf::from),
        })
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pass(name: &str) {
        debug_assert!(super::CRASH_POINTS.contains(&name), "{name} is not in the list");
        let Some(plan) = PLAN.as_ref().filter(|plan| plan.point == name) else { return };
        if plan.when.as_ref().is_some_and(|path| !path.exists()) {
            return;
        }
        if PASSED.fetch_add(1, Ordering::Relaxed) + 1 == plan.passage {
            // Evidence for the test. Who dies has no use for an error.
            let _ = std::io::stderr().write_all(format!("died at {name}\n").as_bytes());
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way; nothing more is done here.
            loop {
                std::thread::park();
            }
        }
    }
}
