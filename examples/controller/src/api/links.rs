//! Links: listed, changed in place, checked at once.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::{LinkState, NodeState};
use lifecycle_core::model::LinkRecord;
use lifecycle_core::name::LabName;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_engine::Command;
use lifecycle_engine::decide::World;

use super::extract::{Json, Path};
use super::labs::{no_lab, snapshot, take};
use super::problem::Problem;
use super::wire::{Accepted, Link, List, Reconciled};
use super::{Api, Peer};

/// Longest time that a caller waits for the check of all links of a lab.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between two looks at links that are being checked.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(super) async fn list(State(api): State<Api>, Path(lab): Path<LabName>) -> Result<Json<List<Link>>, Problem> {
    Ok(Json(List { items: snapshot(&api, &lab).await?.links }))
}

/// Takes the attributes that are named and leaves the others as they are.
pub(super) async fn set(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((lab, link)): Path<(LabName, LinkId)>,
    Json(given): Json<serde_json::Map<String, serde_json::Value>>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let found = snapshot(&api, &lab).await?.links.into_iter().find(|it| it.id == link);
    let current = found.ok_or_else(|| Problem::not_found("link", link))?.attrs;
    let attrs = merge(current, given)?;
    take(api.controller.set_link(&peer.user, lab, link, attrs).await?)
}

fn merge(current: LinkAttrs, given: serde_json::Map<String, serde_json::Value>) -> Result<LinkAttrs, Problem> {
    let invalid = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail);
    let mut merged = serde_json::to_value(current).map_err(|error| invalid(error.to_string()))?;
    for (name, value) in given {
        match merged.get_mut(&name) {
            Some(slot) => *slot = value,
            None => return Err(invalid(format!("a link has no attribute `{name}`"))),
        }
    }
    serde_json::from_value(merged).map_err(|error| invalid(error.to_string()))
}

pub(super) async fn reconcile(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(lab): Path<LabName>,
) -> Result<Json<Reconciled>, Problem> {
    check(&api, &peer.user, &lab).await.map(Json)
}

/// Checks every link of a lab and waits until each is found right, is repaired, or is given up.
pub(super) async fn check(api: &Api, user: &str, lab: &LabName) -> Result<Reconciled, Problem> {
    let before = standing(api, lab).await?;
    api.controller.command(user, Command::Reconcile { lab: lab.clone() }).await?;
    let settle = async {
        loop {
            let now = standing(api, lab).await?;
            if now.values().all(|link| link.settled) {
                return Ok::<_, Problem>(now);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let late = |_| Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", format!("not settled within {PATIENCE:?}"));
    let after = tokio::time::timeout(PATIENCE, settle).await.map_err(late)??;
    Ok(compare(&before, &after))
}

/// How a link stands, as far as a check of it is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    state: LinkState,
    incarnation: u64,
    /// Nothing is under way, and it was read since it was last in doubt.
    settled: bool,
}

async fn standing(api: &Api, lab: &LabName) -> Result<BTreeMap<LinkId, Standing>, Problem> {
    let name = lab.clone();
    let read = move |world: &World| {
        let lab = world.lab_by_name(&name)?.id;
        Some(world.links_of(lab).map(|link| (link.id, of(world, link))).collect())
    };
    match api.controller.read(read).await? {
        Some(links) => Ok(links),
        None => Err(no_lab(api, lab).await),
    }
}

fn of(world: &World, link: &LinkRecord) -> Standing {
    let work = world.link_work.get(&link.id);
    let settled = match link.actual {
        LinkState::Up => work.is_none_or(|work| !work.unverified),
        LinkState::Error => link.budget.given_up_at.is_some() || link.budget.next_attempt.is_none(),
        LinkState::Down => true,
        // It waits for its nodes, unless they run.
        LinkState::Pending => !link
            .nodes
            .iter()
            .flatten()
            .all(|id| world.nodes.get(id).is_some_and(|node| node.actual == NodeState::Running)),
        LinkState::Unknown | LinkState::Creating => false,
    };
    let idle = work.is_none_or(|work| work.effect.is_none());
    Standing { state: link.actual, incarnation: link.incarnation, settled: settled && idle }
}

/// Takes a check apart: a link that is up was repaired when it was not up before, or was built anew since.
fn compare(before: &BTreeMap<LinkId, Standing>, after: &BTreeMap<LinkId, Standing>) -> Reconciled {
    let mut result = Reconciled { checked: before.len(), valid: 0, repaired: 0, errors: 0 };
    for (id, old) in before {
        match after.get(id) {
            Some(new) if new.state == LinkState::Error => result.errors += 1,
            Some(new) if new.state == LinkState::Up && (old.state, old.incarnation) != (new.state, new.incarnation) => {
                result.repaired += 1;
            }
            _ => result.valid += 1,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use lifecycle_core::topology::Admin;
    use serde_json::json;

    use super::*;

    fn given(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn each_link_counts_once() {
        let id = LinkId::from_u64;
        let at = |state, incarnation| Standing { state, incarnation, settled: true };
        use LinkState::{Down, Error, Up};
        let before = [at(Up, 1), at(Up, 1), at(Error, 1), at(Up, 1), at(Down, 1), at(Up, 1)];
        let after = [at(Up, 1), at(Up, 2), at(Up, 1), at(Error, 1), at(Down, 1)];
        let map = |all: &[Standing]| (0..).map(id).zip(all.iter().copied()).collect();
        let found = compare(&map(&before), &map(&after));
        assert_eq!(found, Reconciled { checked: 6, valid: 3, repaired: 2, errors: 1 });
    }

    #[test]
    fn what_is_not_named_stays() {
        let current = LinkAttrs { delay: Some(5), ..LinkAttrs::default() };
        let merged = merge(current, given(json!({ "admin": "down", "mtu": 1500 }))).unwrap();
        assert_eq!((merged.admin, merged.mtu, merged.delay), (Admin::Down, 1500, Some(5)));
        assert_eq!(merge(current, given(json!({ "delay": null }))).unwrap().delay, None);
        assert!(merge(current, given(json!({ "speed": 1 }))).unwrap_err().detail.contains("`speed`"));
        assert!(merge(current, given(json!({ "mtu": "big" }))).is_err());
    }
}
