//! Tests that may be impossible on a machine are shown as skipped with the reason, never as passed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::{Failed, Trial};
use lifecycle_linux::testing::container_daemon;

/// What a test needs of the machine, by the word that `LIFECYCLE_TEST_REQUIRE` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To be root.
    Root,
    /// User namespaces for an ordinary user.
    UserNamespaces,
    /// The folder of lab files that are not part of the project.
    Fixtures,
    /// Open vSwitch, which the test starts itself.
    OpenVswitch,
    /// Docker, which the test starts itself.
    Docker,
    /// FRR's routing daemons, which nodes run.
    Frr,
    /// Libvirt and a guest for it, which the test starts itself, and a `lifecycle` that was built to use it.
    Libvirt,
}

impl Need {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespaces => "userns",
            Self::Fixtures => "fixtures",
            Self::OpenVswitch => "ovs",
            Self::Docker => "docker",
            Self::Frr => "frr",
            Self::Libvirt => "libvirt",
        }
    }

    /// Why the machine does not offer it, if so.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()),
            Self::UserNamespaces => {
                let status = std::process::Command::new("unshare").args(["--user", "--map-root-user", "true"]).status();
                let works = status.is_ok_and(|status| status.success());
                (!works).then(|| "user namespaces cannot be made".to_owned())
            }
            Self::OpenVswitch => lifecycle_linux::testing::open_vswitch::missing(),
            Self::Docker => container_daemon::missing(container_daemon::Kind::Docker),
            Self::Frr => crate::frr::missing(),
            Self::Libvirt if !cfg!(feature = "libvirt") => {
                Some("`lifecycle` was built without libvirt: build and test with the features `libvirt`".to_owned())
            }
            Self::Libvirt => lifecycle_linux::testing::libvirt::missing(),
            Self::Fixtures => fixtures().is_none().then(|| "the folder of lab files is absent".to_owned()),
        }
    }
}

/// The folder of lab files that are not part of the project.
pub fn fixtures() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("LIFECYCLE_FIXTURES")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/containerlab"));
    folder.is_dir().then_some(folder)
}

/// A test that needs something of the machine.
pub fn trial(name: &str, needs: &[Need], test: impl FnOnce() + Send + 'static) -> Trial {
    let required = std::env::var("LIFECYCLE_TEST_REQUIRE").unwrap_or_default();
    let required: Vec<&str> = required.split(',').map(str::trim).collect();
    for need in needs {
        let Some(reason) = need.missing() else { continue };
        if required.contains(&need.word()) {
            let reason = format!("{reason}, and LIFECYCLE_TEST_REQUIRE has `{}`", need.word());
            return Trial::test(name, move || Err(Failed::from(reason)));
        }
        return Trial::test(format!("{name} [skipped: {reason}]"), || Ok(())).with_ignored_flag(true);
    }
    Trial::test(name, move || {
        catch_unwind(AssertUnwindSafe(test)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Failed::from(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
        })
    })
}
