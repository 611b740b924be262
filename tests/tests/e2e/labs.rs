//! Every lab of the project comes up, is verified, and goes without a trace.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use lifecycle_tests::sandbox::{Sandbox, User};
use lifecycle_tests::trial::{Need, trial};
use nix::sys::signal::Signal;

pub(crate) fn trials() -> Vec<Trial> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../labs");
    let mut files = lab_files(&folder);
    files.sort();
    assert!(files.len() >= 6, "the project's labs are in {}", folder.display());
    let name = |file: &Path| file.file_name().unwrap().to_string_lossy().replace(".clab.yml", "");
    files
        .into_iter()
        .map(|file| trial(&format!("labs::{}", name(&file)), &[Need::UserNamespaces], move || up_and_down(&file)))
        .collect()
}

fn lab_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(lab_files(&path));
        } else if path.to_string_lossy().ends_with(".clab.yml") {
            found.push(path);
        }
    }
    found
}

fn up_and_down(file: &Path) {
    let sandbox = Sandbox::new(User::Ordinary);
    let mut up = sandbox.spawn(&["up", file.to_str().unwrap()]);
    up.until_printed("Ctrl-C removes the lab");
    assert_eq!(up.end(Signal::SIGINT), Some(0), "{}", sandbox.log());
    sandbox.assert_clean();
}
