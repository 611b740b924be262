//! The checks before a deploy: paths that exist and may be used, and what needs an operator's permission.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use lifecycle_topology::{Options, Permissions, check_deployment, load_text};

struct Lab {
    directory: tempfile::TempDir,
    outside: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { directory: tempfile::tempdir().unwrap(), outside: tempfile::tempdir().unwrap() };
        std::fs::create_dir(lab.directory.path().join("conf")).unwrap();
        std::fs::write(lab.directory.path().join("conf/a"), "").unwrap();
        symlink(lab.directory.path().join("conf"), lab.directory.path().join("inner")).unwrap();
        symlink(lab.outside.path(), lab.directory.path().join("outer")).unwrap();
        lab
    }

    /// Why a node with these fields is refused.
    fn refusals(&self, fields: &str, permissions: &Permissions) -> Vec<String> {
        let text = format!("name: x\ntopology: {{nodes: {{n: {{kind: linux, {fields}}}}}}}\n");
        let loaded = load_text("x.yml", &text, self.directory.path(), &Options::default()).unwrap();
        let canonical = |path: &Path| std::fs::canonicalize(path);
        check_deployment(&loaded.topology, permissions, &canonical).iter().map(ToString::to_string).collect()
    }
}

#[test]
fn binds_stay_in_the_lab() {
    let lab = Lab::new();
    let none = Permissions::default();
    for good in ["conf/a:/a", "inner/a:/a", ".:/lab", "conf/../conf:/c"] {
        assert_eq!(lab.refusals(&format!("binds: ['{good}']"), &none), Vec::<String>::new(), "{good}");
    }
    for (bad, why) in [
        ("missing:/a", "No such file"),
        ("outer:/a", "outside the lab's directory"),
        ("..:/a", "outside the lab's directory"),
        ("/etc:/a", "outside the lab's directory"),
    ] {
        let refusals = lab.refusals(&format!("binds: ['{bad}']"), &none);
        assert!(
            refusals.len() == 1 && refusals[0].contains("node `n`, `binds`: ") && refusals[0].contains(why),
            "{refusals:?}"
        );
    }
    let allowed = Permissions { paths: vec![lab.outside.path().to_owned(), PathBuf::from("/etc")], ..none };
    assert!(lab.refusals("binds: ['outer:/a', '/etc/hostname:/b', '/etc:/c']", &allowed).is_empty());
    assert_eq!(lab.refusals("binds: ['/proc:/a', 'missing:/b']", &allowed).len(), 2, "all are told");
}

#[test]
fn start_up_configurations() {
    let lab = Lab::new();
    let none = Permissions::default();
    for good in ["conf/a", "\"line 1\\nline 2\\n\"", "https://example.net/config"] {
        assert!(lab.refusals(&format!("startup-config: {good}"), &none).is_empty(), "{good}");
    }
    assert!(lab.refusals("startup-config: conf/b", &none)[0].contains("No such file"));
    assert!(lab.refusals("startup-config: /etc/shadow", &none)[0].contains("outside the lab's directory"));
}

#[test]
fn permissions() {
    let lab = Lab::new();
    for (fields, permission) in [
        ("network-mode: host", "host-namespaces"),
        ("pid-mode: host", "host-namespaces"),
        ("cgroupns-mode: host", "host-namespaces"),
        ("privileged: true", "privileged"),
        ("cap-add: [SYS_ADMIN]", "privileged"),
        ("security-opts: [seccomp=unconfined]", "privileged"),
        ("devices: [/dev/kvm]", "devices"),
    ] {
        let refusals = lab.refusals(fields, &Permissions::default());
        assert!(refusals.len() == 1 && refusals[0].ends_with(&format!("`permissions.{permission}`")), "{refusals:?}");
        assert!(lab.refusals(fields, &Permissions::all()).is_empty(), "{fields}");
    }
    assert!(lab.refusals("privileged: false, network-mode: none", &Permissions::default()).is_empty());
    let text = r#"{"paths": ["/srv/images"], "host-namespaces": true}"#;
    let permissions: Permissions = serde_json::from_str(text).unwrap();
    assert!(permissions.host_namespaces && !permissions.privileged && permissions.paths == [Path::new("/srv/images")]);
    assert!(serde_json::from_str::<Permissions>(r#"{"path": []}"#).is_err());
}

#[test]
fn management_addresses() {
    let lab = Lab::new();
    let none = Permissions::default();
    assert!(lab.refusals("mgmt-ipv4: 172.20.20.9", &none).is_empty());
    assert!(lab.refusals("mgmt-ipv4: 10.0.0.9", &none)[0].contains("is not in the management subnet 172.20.20.0/24"));
    assert!(lab.refusals("mgmt-ipv4: 10.0.0.9, network-mode: none", &none).is_empty());
}
