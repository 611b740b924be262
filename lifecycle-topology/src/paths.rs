//! Paths of a lab file, and which of them a lab may use.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What an operator allows labs beyond their own directory, by configuration. The lab file's word alone allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Permissions {
    /// Files and directories, with all that is below them, that labs may use besides their own directory.
    pub paths: Vec<PathBuf>,
    /// Whether nodes may run in the host's network or pid namespace.
    pub host_namespaces: bool,
    /// Whether nodes may ask for privileges, capabilities or security options.
    pub privileged: bool,
    /// Whether nodes may use devices of the host.
    pub devices: bool,
}

impl Permissions {
    /// Everything, as for a person who runs labs on a machine of their own.
    pub fn all() -> Self {
        Self { paths: vec![PathBuf::from("/")], host_namespaces: true, privileged: true, devices: true }
    }
}

/// Finds the real place of a path of a lab and refuses it unless that is below the lab's directory or allowed.
///
/// `canonical` resolves links as [`std::fs::canonicalize`] does, and fails where nothing is.
pub(crate) fn permitted(
    path: &Path,
    directory: &Path,
    permissions: &Permissions,
    canonical: &dyn Fn(&Path) -> io::Result<PathBuf>,
) -> Result<PathBuf, String> {
    let path = directory.join(path);
    let real = canonical(&path).map_err(|error| format!("`{}` cannot be used: {error}", path.display()))?;
    let below = |allowed: &Path| canonical(allowed).is_ok_and(|allowed| real.starts_with(allowed));
    if below(directory) || permissions.paths.iter().any(|allowed| below(allowed)) {
        return Ok(real);
    }
    let leads = if real == path { String::new() } else { format!(", which is `{}`,", real.display()) };
    Err(format!(
        "`{}`{leads} is outside the lab's directory; an operator may allow it in `permissions.paths`",
        path.display()
    ))
}

/// A path of the file with `~` in place of the user's home directory.
pub(crate) fn expand_home(path: &str, home: Option<&str>) -> Result<PathBuf, &'static str> {
    let Some(rest) = path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Ok(PathBuf::from(path));
    };
    let home = home.filter(|home| home.starts_with('/')).ok_or("`~` has no meaning here, since HOME is not set")?;
    Ok(Path::new(home).join(rest.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let lab = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "").unwrap();
        std::fs::write(lab.path().join("own"), "").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), lab.path().join("link")).unwrap();
        let check = |path: &str, permissions: &Permissions| {
            permitted(Path::new(path), lab.path(), permissions, &|path: &Path| std::fs::canonicalize(path))
        };
        let none = Permissions::default();
        assert!(check("own", &none).is_ok());
        assert!(check(".", &none).is_ok());
        assert!(check("missing", &none).unwrap_err().contains("No such file"));
        assert!(check("link", &none).unwrap_err().contains("is outside the lab's directory"));
        assert!(check("../../etc/passwd", &none).is_err());
        assert!(check("/etc/passwd", &none).unwrap_err().contains("permissions.paths"));
        let some = Permissions { paths: vec![outside.path().into()], ..Permissions::default() };
        assert!(check("link", &some).is_ok());
        assert!(check("/etc/passwd", &Permissions::all()).is_ok());
    }

    #[test]
    fn home() {
        assert_eq!(expand_home("~/x", Some("/home/u")).unwrap(), Path::new("/home/u/x"));
        assert_eq!(expand_home("~", Some("/home/u")).unwrap(), Path::new("/home/u"));
        assert_eq!(expand_home("a/~/x", None).unwrap(), Path::new("a/~/x"));
        assert_eq!(expand_home("~x", None).unwrap(), Path::new("~x"));
        assert!(expand_home("~/x", None).is_err());
    }
}
