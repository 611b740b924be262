//! Lab files that nobody here wrote, run with stand-ins for their images.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use lifecycle_tests::nodes::until_up;
use lifecycle_tests::sandbox::{Sandbox, User};
use lifecycle_tests::trial::{Need, fixtures, trial};
use nix::sys::signal::Signal;

pub(crate) fn trials() -> Vec<Trial> {
    let files = [
        "tests/01-smoke/01-linux-nodes.clab.yml",
        "tests/01-smoke/07-linux-single-node.clab.yml",
        "tests/01-smoke/16-mgmtnetinterface.clab.yml",
        "tests/01-smoke/single-topo-folder/lab1.clab.yml",
    ];
    let needs = [Need::Root, Need::Fixtures];
    files.into_iter().map(|file| trial(&format!("fixtures::{file}"), &needs, move || run(file))).collect()
}

/// A root directory with busybox, which stands in for the images of these files.
fn busybox(folder: &Path) -> PathBuf {
    let root = folder.join("busybox");
    for part in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "run"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    fs::write(root.join("etc/os-release"), "ID=busybox\n").unwrap();
    root
}

fn run(file: &str) {
    let sandbox = Sandbox::new(User::Root);
    let source = fixtures().unwrap().join(file);
    let folder = source.parent().unwrap();
    // The folder of the fixtures is not ours to write to, and a lab may write beside its file.
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), sandbox.labs().join(entry.file_name())).unwrap();
        }
    }
    // Files that the lab binds and that the collection of lab files does not contain.
    for missing in ["01-test.txt", "01-test.json"] {
        if !sandbox.labs().join(missing).exists() {
            sandbox.write(missing, "{}\n");
        }
    }
    let root = busybox(&sandbox.labs());
    let config = sandbox.write("config.yaml", &config(&root));
    let name = Path::new(file).file_name().unwrap().to_str().unwrap();
    let mut up = sandbox.spawn(&["--config", config.to_str().unwrap(), "up", name]);
    up.until_printed("is up and verified");
    until_up(&sandbox);
    assert_eq!(up.end(Signal::SIGINT), Some(0), "{}", sandbox.log());
    sandbox.assert_clean();
}

fn config(root: &Path) -> String {
    let root = root.display();
    format!(
        "permissions: {{host-namespaces: true}}\nimages:\n  - {{image: \"*\", root: {{directory: {root}}}, cmd: [sleep, infinity]}}\n"
    )
}
