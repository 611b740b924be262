//! Controllers and keepers that are killed, and controllers that meet.

use lifecycle_tests::census::eventually;
use lifecycle_tests::nodes::{fingerprint, init, is_up, ring, try_init, until_up};
use lifecycle_tests::sandbox::{LONG, Sandbox, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Killed while nodes live, and started again at once: the same nodes run, and the state is true.
pub(crate) fn the_controller_is_killed(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("ring.clab.yml", &ring("ring", 4));
    let mut serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", "ring.clab.yml"]);
    until_up(&sandbox);
    let before: Vec<String> = (0..4).map(|i| fingerprint(&sandbox, &format!("n{i}"))).collect();
    serve.end(Signal::SIGKILL);
    // While nobody looks, one node ends.
    let lost = init(&sandbox, "n3");
    kill(Pid::from_raw(lost), Signal::SIGKILL).unwrap();
    let mut serve = sandbox.serve();
    eventually("everything is as wanted again", LONG, || {
        (try_init(&sandbox, "n3").is_some_and(|new| new != lost) && is_up(&sandbox.lab())).then_some(())
    });
    for (i, before) in before.iter().enumerate().take(3) {
        assert_eq!(&fingerprint(&sandbox, &format!("n{i}")), before, "n{i} went on running, untouched");
    }
    // Killed in the middle of work: what was begun is finished or undone.
    for wait in [0, 20, 60, 120, 250] {
        let mut restart = sandbox.spawn(&["restart", "n0", "n2", "--no-wait"]);
        std::thread::sleep(std::time::Duration::from_millis(wait));
        serve.end(Signal::SIGKILL);
        restart.wait();
        serve = sandbox.serve();
        until_up(&sandbox);
    }
    assert_eq!(fingerprint(&sandbox, "n1"), before[1], "n1 was touched by nobody");
    sandbox.ok(&["destroy", "ring"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

pub(crate) fn the_keeper_is_killed(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("ring.clab.yml", &ring("ring", 3));
    let mut serve = sandbox.serve();
    sandbox.ok(&["deploy", "-t", "ring.clab.yml"]);
    until_up(&sandbox);
    let before: Vec<String> = (0..3).map(|i| fingerprint(&sandbox, &format!("n{i}"))).collect();
    for _ in 0..3 {
        let inits: Vec<i32> = (0..3).map(|i| init(&sandbox, &format!("n{i}"))).collect();
        let keeper = sandbox
            .processes()
            .into_iter()
            .find(|(pid, command)| command.contains("keeper") && !inits.contains(pid))
            .unwrap_or_else(|| panic!("no keeper among {:?}", sandbox.processes()));
        kill(Pid::from_raw(keeper.0), Signal::SIGKILL).unwrap();
        eventually("a node answers through a new keeper", LONG, || {
            sandbox.run(&["exec", "n0", "--", "true"]).status.success().then_some(())
        });
        until_up(&sandbox);
    }
    for (i, before) in before.iter().enumerate() {
        assert_eq!(&fingerprint(&sandbox, &format!("n{i}")), before, "n{i} went on running, untouched");
    }
    sandbox.ok(&["restart", "n1"]);
    until_up(&sandbox);
    sandbox.ok(&["destroy", "ring"]);
    serve.end(Signal::SIGTERM);
    sandbox.assert_clean();
}

/// A second `up` on the same state joins the running controller; its Ctrl-C removes only its own lab.
pub(crate) fn a_second_up_joins(user: User) {
    let sandbox = Sandbox::new(user);
    sandbox.write("one.clab.yml", &ring("one", 3));
    sandbox.write("two.clab.yml", &ring("two", 3));
    let labs = || sandbox.all_labs().iter().map(|lab| lab["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let up = |name: &str| sandbox.ok(&["wait", "--lab", name, "--for", "link=up", "--timeout", "60s"]);
    let mut one = sandbox.spawn(&["up", "one.clab.yml"]);
    eventually("the first lab is there", LONG, || sandbox.run(&["inspect", "one"]).status.success().then_some(()));
    up("one");
    let mut two = sandbox.spawn(&["up", "two.clab.yml"]);
    eventually("both labs are there", LONG, || (labs() == ["one", "two"]).then_some(()));
    up("two");
    let said = sandbox.fails(4, &["serve"]);
    assert!(said.contains("holds it"), "two controllers never both act: {said}");
    assert_eq!(two.end(Signal::SIGINT), Some(0), "{}", sandbox.log());
    assert_eq!(labs(), ["one"]);
    assert!(one.is_running());
    assert_eq!(one.end(Signal::SIGINT), Some(0), "{}", sandbox.log());
    sandbox.assert_clean();
}
