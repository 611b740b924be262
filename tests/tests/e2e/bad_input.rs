//! Bad input gets a clear error each, and nothing is changed.

use lifecycle_tests::sandbox::{Sandbox, User};
use nix::sys::signal::Signal;

pub(crate) fn bad_lab_files_change_nothing(user: User) {
    let sandbox = Sandbox::new(user);
    let mut serve = sandbox.serve();
    let long = "x".repeat(300);
    let bomb = {
        let mut text = "name: bomb\na: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (this, last) in
            ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        {
            text +=
                &format!("{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n");
        }
        text
    };
    let node = |name: &str| format!("name: l\ntopology: {{nodes: {{\"{name}\": {{kind: linux}}}}}}\n");
    let cases: Vec<(&str, String, &str)> = vec![
        ("malformed", "name: [\n".to_owned(), "malformed.clab.yml"),
        ("empty", String::new(), "empty.clab.yml"),
        ("bomb", bomb, "bomb.clab.yml"),
        ("large", format!("name: l\n# {}\n", "y".repeat(10 << 20)), "large"),
        ("deep", format!("name: l\ntopology: {}{}\n", "[".repeat(5000), "]".repeat(5000)), "deep.clab.yml"),
        ("space", node("a b"), "a b"),
        ("slash", node("a/b"), "a/b"),
        ("dots", node(".."), ".."),
        ("long", node(&long), "63"),
        ("unknown_field", "name: l\ntoplogy: {}\n".to_owned(), "topology"),
        ("missing_bind", "name: l\ntopology: {nodes: {a: {kind: linux, binds: [\"absent.txt:/x\"]}}}\n".to_owned(), "absent.txt"),
        ("escaping_bind", "name: l\ntopology: {nodes: {a: {kind: linux, binds: [\"/etc/passwd:/x\"]}}}\n".to_owned(), "/etc/passwd"),
        (
            "shared_end",
            "name: l\ntopology: {nodes: {a: {kind: linux}, b: {kind: linux}, c: {kind: linux}}, links: [{endpoints: [\"a:eth1\", \"b:eth1\"]}, {endpoints: [\"a:eth1\", \"c:eth1\"]}]}\n".to_owned(),
            "eth1",
        ),
        ("unknown_kind", "name: l\ntopology: {nodes: {a: {kind: toaster}}}\n".to_owned(), "toaster"),
        ("unknown_image", "name: l\ntopology: {nodes: {a: {kind: linux, image: nowhere/none}}}\n".to_owned(), "nowhere/none"),
    ];
    for (name, text, expected) in cases {
        let file = sandbox.write(&format!("{name}.clab.yml"), &text);
        let output = sandbox.run(&["deploy", "--timeout", "30s", "-t", file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name} was accepted: {said}");
        assert!(said.contains(expected) && !said.contains("panicked"), "{name} is named: {said}");
        assert!(said.len() < 20_000, "{name}: an error is not a book");
    }
    let labs = sandbox.all_labs();
    // A lab whose image has no stand-in is recorded with its error; nothing else came to be.
    assert!(labs.len() <= 1, "{labs:#?}");
    for lab in &labs {
        assert_eq!(lab["nodes"][0]["actual_state"], "error");
    }
    if !labs.is_empty() {
        sandbox.ok(&["destroy", "--all"]);
    }
    sandbox.fails(2, &["frobnicate"]);
    sandbox.fails(2, &["deploy"]);
    serve.end(Signal::SIGTERM);
    sandbox.fails(6, &["start", "x"]);
    sandbox.assert_clean();
}

/// An ordinary user has no way into the real host's network: that is refused by name, not faked.
pub(crate) fn host_ends_are_refused_rootless() {
    let sandbox = Sandbox::new(User::Ordinary);
    let text = "name: h\ntopology: {nodes: {a: {kind: linux}}, links: [{type: macvlan, endpoint: {node: a, interface: eth1}, host-interface: lo}]}\n";
    sandbox.write("h.clab.yml", text);
    let mut serve = sandbox.serve();
    let output = sandbox.run(&["deploy", "--timeout", "30s", "-t", "h.clab.yml"]);
    let lab = sandbox.lab();
    let said = format!("{}{}{lab}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("macvlan") && said.contains("root"), "{said}");
    sandbox.ok(&["destroy", "--all"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

/// A store that is full, read-only, damaged or of a newer version.
pub(crate) fn stores_that_cannot_be_used() {
    let sandbox = Sandbox::new(User::Root);
    let file = sandbox.write("l.clab.yml", "name: l\ntopology: {nodes: {a: {kind: linux}}}\n");
    let state = sandbox.state();
    std::fs::create_dir_all(&state).unwrap();
    let mount = |options: &str| {
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none", state.to_str().unwrap()])
            .status()
            .unwrap();
        assert!(status.success());
    };
    let unmount = || assert!(std::process::Command::new("umount").arg(&state).status().unwrap().success());

    mount("mode=700,size=64k");
    let said = sandbox.fails(1, &["up", "--timeout", "20s", file.to_str().unwrap()]);
    assert!(said.contains("full") || said.contains("space"), "{said}");
    unmount();

    mount("mode=700,ro");
    let said = sandbox.fails(1, &["up", "--timeout", "20s", file.to_str().unwrap()]);
    assert!(said.to_lowercase().contains("read-only") || said.contains("read only"), "{said}");
    unmount();

    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(state.join("lifecycle.db"), "this is no database, and it is long enough to look like one").unwrap();
    let said = sandbox.fails(1, &["up", "--timeout", "20s", file.to_str().unwrap()]);
    assert!(said.contains("lifecycle.db"), "{said}");
    sandbox.assert_clean();
}
