//! The branch and commit of the directory a lab stands in, for lab names with `__gitBranch__` or `__gitHash__`.

use std::path::{Path, PathBuf};

/// Replaces the variables; what is not known becomes `none`.
pub(crate) fn replace_variables(name: &str, directory: &Path) -> String {
    if !name.contains("__git") {
        return name.to_owned();
    }
    let (branch, hash) = head(directory).unwrap_or_default();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    name.replace("__gitBranch__", &or_none(branch).replace('/', "-")).replace("__gitHash__", &or_none(hash))
}

/// The branch and the first seven digits of the commit.
fn head(directory: &Path) -> Option<(Option<String>, Option<String>)> {
    let git = git_directory(directory)?;
    let head = std::fs::read_to_string(git.join("HEAD")).ok()?;
    let short = |hash: &str| hash.trim().get(..7).map(str::to_owned);
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        return Some((Some("HEAD".to_owned()), short(&head)));
    };
    // A linked work tree has its own HEAD, and shares the references of the repository.
    let common =
        std::fs::read_to_string(git.join("commondir")).map_or_else(|_| git.clone(), |path| git.join(path.trim()));
    let loose = std::fs::read_to_string(common.join(reference)).ok();
    let packed = || {
        let packed = std::fs::read_to_string(common.join("packed-refs")).ok()?;
        packed.lines().find(|line| line.split(' ').nth(1) == Some(reference)).map(str::to_owned)
    };
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    Some((Some(branch.to_owned()), loose.or_else(packed).as_deref().and_then(short)))
}

fn git_directory(directory: &Path) -> Option<PathBuf> {
    let git = directory.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let link = std::fs::read_to_string(&git).ok()?;
    Some(directory.join(link.strip_prefix("gitdir:")?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_and_commit() {
        let directory = tempfile::tempdir().unwrap();
        let name = || replace_variables("lab-__gitBranch__-__gitHash__", directory.path());
        assert_eq!(name(), "lab-none-none");
        assert_eq!(replace_variables("lab", directory.path()), "lab");
        let git = directory.path().join(".git");
        std::fs::create_dir_all(git.join("refs/heads/feature")).unwrap();
        std::fs::write(git.join("HEAD"), "ref: refs/heads/feature/x\n").unwrap();
        assert_eq!(name(), "lab-feature-x-none");
        std::fs::write(
            git.join("packed-refs"),
            "# pack\n0123456789abcdef0123456789abcdef01234567 refs/heads/feature/x\n",
        )
        .unwrap();
        assert_eq!(name(), "lab-feature-x-0123456");
        std::fs::write(git.join("refs/heads/feature/x"), "fedcba9876543210fedcba9876543210fedcba98\n").unwrap();
        assert_eq!(name(), "lab-feature-x-fedcba9");
        std::fs::write(git.join("HEAD"), "fedcba9876543210fedcba9876543210fedcba98\n").unwrap();
        assert_eq!(name(), "lab-HEAD-fedcba9");
    }
}
