//! FRR as Debian packages it: what stands in for its image, on either provider.
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use lifecycle_linux::testing::container_daemon::lay_out_busybox;

/// What starts the daemons that a node's `/etc/frr/daemons` names and stays with them, as FRR's own image does.
pub const START: &str = "install -d -o frr -g frr /run/frr && . /usr/lib/frr/frrcommon.sh && \
                         exec /usr/lib/frr/watchfrr $(daemon_list)";

/// Programs that a router needs; some of them call others by these paths.
const PROGRAMS: [&str; 9] = [
    "/bin/bash",
    "/usr/bin/install",
    "/usr/bin/vtysh",
    "/usr/lib/frr/ldpd",
    "/usr/lib/frr/ospfd",
    "/usr/lib/frr/staticd",
    "/usr/lib/frr/watchfrr",
    "/usr/lib/frr/zebra",
    "/usr/sbin/ip",
];

/// Why no router can be run here, if none can.
pub fn missing() -> Option<String> {
    let program = PROGRAMS.iter().find(|program| !Path::new(program).is_file())?;
    Some(format!("no {program} (Debian's packages are bash, frr and iproute2)"))
}

/// Lays a root directory out with FRR, the libraries that it needs, and busybox.
///
/// # Panics
/// When that cannot be done.
pub fn lay_out(root: &Path) {
    lay_out_busybox(root);
    for file in PROGRAMS.iter().map(PathBuf::from).chain(libraries()).chain(scripts()).chain(permit()) {
        let target = root.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        // Busybox may have left a link of this name.
        let _ = fs::remove_file(&target);
        fs::copy(&file, &target).unwrap();
    }
    let run = root.join("run");
    fs::create_dir_all(&run).unwrap();
    fs::create_dir_all(root.join("var")).unwrap();
    std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
    fs::create_dir_all(root.join("var/tmp")).unwrap();
    fs::set_permissions(root.join("var/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    // The daemons run as users of their own.
    for file in ["etc/passwd", "etc/group"] {
        let host = fs::read_to_string(Path::new("/").join(file)).unwrap();
        let ours = |line: &&str| ["root:", "frr:", "frrvty:"].iter().any(|name| line.starts_with(name));
        let lines: Vec<&str> = host.lines().filter(ours).collect();
        fs::write(root.join(file), lines.join("\n") + "\n").unwrap();
    }
    let settings = root.join("etc/frr");
    fs::create_dir_all(&settings).unwrap();
    fs::write(settings.join("vtysh.conf"), "service integrated-vtysh-config\n").unwrap();
    // `vtysh` asks who may use it.
    let rules = "auth sufficient pam_permit.so\naccount sufficient pam_permit.so\n";
    fs::create_dir_all(root.join("etc/pam.d")).unwrap();
    fs::write(root.join("etc/pam.d/frr"), rules).unwrap();
    let owner = fs::metadata("/etc/frr").unwrap();
    chown(&settings, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// What the dynamic linker loads for the programs, itself included.
fn libraries() -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").args(PROGRAMS).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).map(PathBuf::from).collect()
}

fn scripts() -> [PathBuf; 2] {
    ["frrcommon.sh", "watchfrr.sh"].map(|name| Path::new("/usr/lib/frr").join(name))
}

/// What PAM loads by itself, where `vtysh` is made with it.
fn permit() -> Option<PathBuf> {
    let pam = libraries().into_iter().find(|path| path.ends_with("libpam.so.0"))?;
    Some(pam.with_file_name("security").join("pam_permit.so"))
}
