//! What a lab may have of the host: paths below its own directory, and what the operator allows.

use std::path::Path;

use lifecycle_core::ErrorKind;
use lifecycle_core::topology::{Bind, NetworkMode, NodeSpec};
use serde_json::Value;

use crate::failure::Failure;
use crate::settings::Settings;

/// Refuses a node that asks for something of the host without its operator's permission.
pub(crate) fn check(settings: &Settings, spec: &NodeSpec) -> Result<(), Failure> {
    let is = |field: &str, word: &str| spec.extra.get(field).and_then(Value::as_str) == Some(word);
    let any = |field: &str| spec.extra.get(field).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let privileged = spec.extra.get("privileged").and_then(Value::as_bool) == Some(true);
    let foreign = matches!(spec.network_mode, NetworkMode::Host | NetworkMode::External(_));
    let asks = [
        (foreign, settings.allow_host_namespaces, "network-mode", "allow_host_namespaces"),
        (is("pid-mode", "host"), settings.allow_host_namespaces, "pid-mode", "allow_host_namespaces"),
        (is("cgroupns-mode", "host"), settings.allow_host_namespaces, "cgroupns-mode", "allow_host_namespaces"),
        (privileged, settings.allow_privileged, "privileged", "allow_privileged"),
        (any("cap-add"), settings.allow_privileged, "cap-add", "allow_privileged"),
        (any("security-opts"), settings.allow_privileged, "security-opts", "allow_privileged"),
        (any("devices"), settings.allow_devices, "devices", "allow_devices"),
    ];
    match asks.into_iter().find(|(asked, allowed, ..)| *asked && !allowed) {
        None => Ok(()),
        Some((_, _, field, permission)) => {
            let text = format!("`{field}` needs the operator's permission: `{permission}` in the provider's settings");
            Err(Failure::new(ErrorKind::PermissionDenied, text))
        }
    }
}

/// A bind as daemons write it. Its source exists, and lies, all links followed, below the lab's directory or one that the
/// operator allows.
pub(crate) fn bind(settings: &Settings, directory: &Path, bind: &Bind) -> Result<String, Failure> {
    let wanted = directory.join(&bind.source);
    let real = wanted.canonicalize().map_err(|error| {
        Failure::new(ErrorKind::InvalidInput, format!("bind source {} cannot be used: {error}", wanted.display()))
    })?;
    let mut bases = settings.allow_binds.iter().map(|base| base.as_path()).chain([directory]);
    if !bases.any(|base| base.canonicalize().is_ok_and(|base| real.starts_with(base))) {
        let text = format!(
            "bind {} is outside of the lab's directory {}; the operator may allow it with `allow_binds` in the provider's \
             settings",
            real.display(),
            directory.display()
        );
        return Err(Failure::new(ErrorKind::PermissionDenied, text));
    }
    let (source, target) = (real.to_string_lossy(), bind.target.to_string_lossy());
    if source.contains(':') || target.contains(':') || !bind.target.is_absolute() {
        let text = format!("bind {source} at {target}: the target must be an absolute path, and none may have a colon");
        return Err(Failure::new(ErrorKind::InvalidInput, text));
    }
    let mode = if bind.read_only { "ro" } else { "rw" };
    let options = [mode.to_owned()].into_iter().chain(bind.options.iter().cloned()).collect::<Vec<_>>().join(",");
    Ok(format!("{source}:{target}:{options}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lifecycle_core::name::NodeName;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_the_hosts_needs_permission() {
        let spec = |field: &str, value: Value| {
            let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
            spec.extra.insert(field.to_owned(), value);
            spec
        };
        let all = Settings {
            allow_privileged: true,
            allow_devices: true,
            allow_host_namespaces: true,
            ..Settings::default()
        };
        for (field, value) in [
            ("privileged", json!(true)),
            ("cap-add", json!(["SYS_ADMIN"])),
            ("security-opts", json!(["seccomp=unconfined"])),
            ("devices", json!(["/dev/kvm"])),
            ("pid-mode", json!("host")),
        ] {
            let failure = check(&Settings::default(), &spec(field, value.clone())).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::PermissionDenied);
            assert!(failure.message.contains(field) && failure.message.contains("allow_"), "{failure:?}");
            assert!(check(&all, &spec(field, value)).is_ok());
        }
        let mut host = spec("privileged", json!(false));
        assert!(check(&Settings::default(), &host).is_ok());
        host.network_mode = NetworkMode::Host;
        assert!(check(&Settings::default(), &host).is_err());
    }

    #[test]
    fn binds_stay_below_the_lab_or_what_is_allowed() {
        let lab = tempfile::tempdir().unwrap();
        let root = lab.path().canonicalize().unwrap();
        fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let given = |source: &str| Bind {
            source: source.into(),
            target: "/x".into(),
            read_only: true,
            options: vec!["z".into()],
        };
        let mut settings = Settings::default();
        let file = bind(&settings, lab.path(), &given("./a/../file"));
        assert!(file.is_err(), "a directory that is not there is not passed through");
        let file = bind(&settings, lab.path(), &given("./file")).unwrap();
        assert_eq!(file, format!("{}/file:/x:ro,z", root.display()));
        for outside in ["/etc/passwd", "../../etc/passwd", "link", "/"] {
            let failure = bind(&settings, lab.path(), &given(outside)).unwrap_err();
            assert!(matches!(failure.kind, ErrorKind::PermissionDenied | ErrorKind::InvalidInput), "{outside}");
        }
        settings.allow_binds = vec!["/etc".into()];
        assert!(bind(&settings, lab.path(), &given("link")).unwrap().starts_with("/etc/passwd:"));
    }
}
