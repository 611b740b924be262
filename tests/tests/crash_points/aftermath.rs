//! What a controller's death leads to, whatever nodes are.

use libtest_mimic::Trial;
use lifecycle_tests::census::eventually_or;
use lifecycle_tests::nodes::is_up;
use lifecycle_tests::sandbox::{LONG, Running, Sandbox};
use lifecycle_tests::trial::{Need, trial};
use serde_json::Value;

/// Trials of a group in which a controller dies: at which point, at which passage, and what is under way.
pub(crate) fn trials<W: std::fmt::Debug + Copy + Send + 'static>(
    group: &str,
    need: Need,
    deaths: &[(&'static str, u32, W)],
    die: fn(&str, u32, W),
) -> Vec<Trial> {
    let one = |&(point, passage, work): &(&'static str, u32, W)| {
        let name = format!("root::{group}::{point}::{passage}::{work:?}").to_lowercase();
        trial(&name, &[Need::Root, need], move || die(point, passage, work))
    };
    deaths.iter().map(one).collect()
}

/// A lab by its name; null when there is none.
pub(crate) fn lab(sandbox: &Sandbox, name: &str) -> Value {
    sandbox.all_labs().into_iter().find(|lab| lab["name"] == name).unwrap_or_default()
}

pub(crate) fn until_up(sandbox: &Sandbox, name: &str) {
    let explain = || format!("{name} is up: {:#}\n{}", lab(sandbox, name), sandbox.log());
    eventually_or(LONG, explain, || is_up(&lab(sandbox, name)).then_some(()));
}

/// Waits until a controller is dead, which it has to be by a signal at a point.
pub(crate) fn until_dead_at(point: &str, sandbox: &Sandbox, doomed: &mut Running<'_>) {
    let code = doomed.wait();
    assert!(sandbox.log().contains(&format!("died at {point}\n")), "{point} was not reached: {}", sandbox.log());
    assert_eq!(code, None, "it was killed");
}

/// Sees a lab go that was being destroyed: the next controller goes on with what was recorded, else it was never asked.
pub(crate) fn finish_destroying(sandbox: &Sandbox, name: &str) {
    let explain = || format!("{name} is gone, or untouched: {:#}\n{}", lab(sandbox, name), sandbox.log());
    let is_left = eventually_or(LONG, explain, || match lab(sandbox, name) {
        Value::Null => Some(false),
        lab => is_up(&lab).then_some(true),
    });
    if is_left {
        sandbox.ok(&["destroy", name]);
    }
}

/// Starts a node that was being stopped, as soon as that can be.
pub(crate) fn start_again(sandbox: &Sandbox, name: &str, node: &str) {
    let explain = || format!("{node} starts again: {:#}\n{}", lab(sandbox, name), sandbox.log());
    let start = ["start", "--lab", name, node];
    eventually_or(LONG, explain, || sandbox.run(&start).status.success().then_some(()));
    until_up(sandbox, name);
}
