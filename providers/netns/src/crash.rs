//! Named points between outside effects at which a test can end the process, as `kill -9` would.

/// Every point at which the keeper, the process that launches an init, or an init can be made to die.
pub const CRASH_POINTS: &[&str] = &[
    "create-directory",
    "create-identity",
    "create-namespaces",
    "create-pinned",
    "start-forked",
    "launch-locked",
    "launch-forked",
    "launch-recorded",
    "init-mounted",
    "init-command",
    "start-ready",
    "stop-asked",
    "init-ended",
    "init-recorded",
    "stop-seen",
    "destroy-ended",
    "destroy-unpinned",
    "destroy-forgotten",
];

/// Dies here if the test asked for it.
#[cfg(feature = "crash-points")]
pub(crate) fn crash_point(name: &str) {
    debug_assert!(CRASH_POINTS.contains(&name), "{name} is not in the list");
    if std::env::var_os("LIFECYCLE_CRASH_AT").is_some_and(|wanted| wanted == name) {
        // The keeper's log, also for inits, which see none of the host's files. Evidence for the test only.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("died at {name}\n").as_bytes());
        // Exits at once: a process that is pid 1 of its namespace cannot send itself a deadly signal.
        std::process::exit(137);
    }
}

/// Nothing, in a build without the feature.
#[cfg(not(feature = "crash-points"))]
pub(crate) const fn crash_point(_name: &str) {}
