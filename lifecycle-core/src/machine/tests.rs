//! Every machine, over every pair of its states.

use std::collections::HashSet;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use super::*;

/// Every state that can be reached from `from` in one step or more.
fn reachable<S: Lifecycle>(from: S) -> HashSet<S> {
    let mut seen = HashSet::new();
    let mut open = vec![from];
    while let Some(state) = open.pop() {
        open.extend(state.next().iter().filter(|next| seen.insert(**next)));
    }
    seen
}

fn text_round_trip<S>(state: S)
where
    S: Copy + Eq + Debug + Display + FromStr + Serialize + DeserializeOwned,
{
    let text = state.to_string();
    assert!(S::from_str(&text).is_ok_and(|parsed| parsed == state), "{state:?}");
    assert_eq!(serde_json::to_value(state).unwrap(), text);
    assert_eq!(serde_json::from_value::<S>(text.into()).unwrap(), state);
}

fn laws<S: Lifecycle + FromStr + Serialize + DeserializeOwned>() {
    let machine = S::MACHINE;
    let has_final = S::VARIANTS.iter().any(|state| state.is_final());
    let from_start = reachable(S::INITIAL);
    for &from in S::VARIANTS {
        text_round_trip(from);
        let row = from.next();
        assert_eq!(row.iter().collect::<HashSet<_>>().len(), row.len(), "{machine}: {from} has a step twice");
        assert!(from == S::INITIAL || from_start.contains(&from), "{machine}: {from} cannot be reached");
        let ahead = reachable(from);
        if has_final {
            let finishes = from.is_final() || ahead.iter().any(|state| state.is_final());
            assert!(finishes, "{machine}: {from} can never finish");
        } else {
            // A machine without an end must not trap anything: every state but the first can come again.
            let again = S::VARIANTS.iter().all(|to| *to == S::INITIAL || ahead.contains(to));
            assert!(again, "{machine}: {from} is a trap");
        }
        for &to in S::VARIANTS {
            let valid = row.contains(&to);
            assert!(!(valid && from == to), "{machine}: {from} loops to itself");
            assert_eq!(from.may_become(to), valid);
            match from.go(to) {
                Ok(now) => assert!(valid && now == to),
                Err(error) => {
                    assert!(!valid && error.from == from && error.to == to);
                    assert_eq!(error.valid(), row);
                    let erased = TransitionError::from(error);
                    assert_eq!(erased.to_string(), error.to_string());
                    assert_eq!(erased.valid.len(), row.len());
                }
            }
        }
    }
}

/// Compares a machine with a table in text: one row per state, `state: followers`.
fn table<S: Lifecycle + FromStr + Serialize + DeserializeOwned>(text: &str) {
    let parse = |word: &str| S::from_str(word.trim()).unwrap_or_else(|_| panic!("{}: `{word}`?", S::MACHINE));
    let rows: Vec<(S, HashSet<S>)> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (from, to) = line.split_once(':').unwrap();
            (parse(from), to.split(',').filter(|word| !word.trim().is_empty()).map(parse).collect())
        })
        .collect();
    assert_eq!(rows.len(), S::VARIANTS.len());
    for (from, to) in rows {
        assert_eq!(from.next().iter().copied().collect::<HashSet<_>>(), to, "{}: {from}", S::MACHINE);
    }
    laws::<S>();
}

#[test]
fn node() {
    table::<NodeState>(
        "undeployed: pending, error
        pending: starting, undeployed, error
        starting: running, stopping, exited, stopped, error
        running: stopping, exited, error
        stopping: stopped, error
        stopped: starting, pending, undeployed, error
        exited: starting, pending, stopped, undeployed, error
        error: pending, starting, stopping, stopped, undeployed",
    );
}

#[test]
fn link() {
    table::<LinkState>(
        "unknown: pending, up, down
        pending: creating, down, error
        creating: up, pending, down, error
        up: down, error
        down: pending, up, error
        error: pending, down, up",
    );
}

#[test]
fn job() {
    table::<JobState>(
        "pending: running, cancelled
        running: completed, failed, cancelled
        completed:
        failed:
        cancelled:",
    );
}

#[test]
fn host_tunnel_carrier_image() {
    table::<HostState>(
        "unknown: online, offline
        online: degraded, offline
        degraded: online, offline
        offline: online, degraded",
    );
    table::<TunnelState>(
        "pending: active, failed
        active: degraded, failed, removed
        degraded: active, failed, removed
        failed: pending, removed
        removed:",
    );
    table::<CarrierState>(
        "unknown: up, down
        up: unknown, down
        down: unknown, up",
    );
    table::<ImageState>(
        "absent: syncing, present
        syncing: present, failed, absent
        present: absent, syncing
        failed: syncing, absent",
    );
}

#[test]
fn install() {
    table::<InstallState>(
        "discovered: pending
        pending: installing
        installing: installed, install_failed
        install_failed: pending
        installed: active
        active: reprovision, deprovisioning, migrating
        reprovision: pending
        deprovisioning: retired
        migrating: active
        retired:",
    );
}

#[test]
fn fleet() {
    table::<FleetState>(
        "provisioning: initializing, unhealthy, decommissioned
        initializing: ready, unhealthy, decommissioned
        ready: active, idle, draining, unhealthy, decommissioned
        active: idle, draining, unhealthy
        idle: active, draining, unhealthy, decommissioned
        draining: decommissioned, unhealthy
        unhealthy: ready, draining, decommissioned
        decommissioned:",
    );
}

#[test]
fn enums_without_a_table_keep_their_text() {
    NodeIntent::VARIANTS.iter().copied().for_each(text_round_trip);
    LinkIntent::VARIANTS.iter().copied().for_each(text_round_trip);
    LabState::VARIANTS.iter().copied().for_each(text_round_trip);
    FleetHealth::VARIANTS.iter().copied().for_each(text_round_trip);
}

#[test]
fn what_matches_an_intent() {
    for &state in NodeState::VARIANTS {
        let (running, stopped) = (state.matches(NodeIntent::Running), state.matches(NodeIntent::Stopped));
        assert_eq!(running, state == NodeState::Running);
        assert_eq!(stopped, matches!(state, NodeState::Undeployed | NodeState::Stopped | NodeState::Exited));
        assert_eq!(state.is_settled(), running || stopped || state == NodeState::Error);
    }
}

#[test]
fn errors_name_what_could_follow() {
    let error = NodeState::Running.go(NodeState::Pending).unwrap_err();
    let text = "node: cannot go from `running` to `pending` (valid: stopping, exited, error)";
    assert_eq!(error.to_string(), text);
    let error = JobState::Failed.go(JobState::Running).unwrap_err();
    assert_eq!(error.to_string(), "job: cannot go from `failed` to `running` (it is final)");
}
