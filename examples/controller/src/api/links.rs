//! Links: listed, changed in place, checked at once.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use lifecycle_core::id::LinkId;
use lifecycle_core::machine::LinkState;
use lifecycle_core::name::LabName;
use lifecycle_core::time::Timestamp;
use lifecycle_core::topology::LinkAttrs;
use lifecycle_engine::Command;
use lifecycle_engine::drive::LabSnapshot;

use super::extract::{Json, Path};
use super::labs::{no_lab, snapshot, take};
use super::problem::Problem;
use super::wire::{Accepted, Link, List, Reconciled};
use super::{Api, Peer};

/// Longest time that a caller waits for the check of all links of a lab.
const PATIENCE: Duration = Duration::from_secs(120);

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

/// Checks every link of a lab and waits until each is found right or repaired, or is given up.
pub(super) async fn reconcile(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(lab): Path<LabName>,
) -> Result<Json<Reconciled>, Problem> {
    let Some(before) = api.controller.lab(&lab).await? else { return Err(no_lab(&api, &lab).await) };
    let began = Timestamp::now();
    api.controller.command(&peer.user, Command::Reconcile { lab: lab.clone() }).await?;
    let settled = |snapshot: Option<&LabSnapshot>| {
        snapshot.is_none_or(|lab| {
            lab.links.iter().all(|link| match link.actual_state {
                LinkState::Up => link.verified_at.is_some_and(|at| at >= began),
                LinkState::Down | LinkState::Error => true,
                LinkState::Unknown | LinkState::Pending | LinkState::Creating => false,
            })
        })
    };
    let after = api.controller.wait(&lab, PATIENCE, settled).await?;
    Ok(Json(compare(&before, after.as_ref())))
}

/// Takes a check apart: a link that is up was repaired when it was not up before, or was built anew since.
fn compare(before: &LabSnapshot, after: Option<&LabSnapshot>) -> Reconciled {
    let mut result = Reconciled { checked: before.links.len(), valid: 0, repaired: 0, errors: 0 };
    let links = after.map(|lab| &lab.links[..]).unwrap_or_default();
    let now: BTreeMap<LinkId, _> = links.iter().map(|link| (link.id, link)).collect();
    for link in &before.links {
        match now.get(&link.id) {
            Some(after) if after.actual_state == LinkState::Error => result.errors += 1,
            Some(after) if after.actual_state == link.actual_state && after.state_since == link.state_since => {
                result.valid += 1;
            }
            Some(after) if after.actual_state == LinkState::Up => result.repaired += 1,
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
    fn what_is_not_named_stays() {
        let current = LinkAttrs { delay: Some(5), ..LinkAttrs::default() };
        let merged = merge(current, given(json!({ "admin": "down", "mtu": 1500 }))).unwrap();
        assert_eq!((merged.admin, merged.mtu, merged.delay), (Admin::Down, 1500, Some(5)));
        assert_eq!(merge(current, given(json!({ "delay": null }))).unwrap().delay, None);
        assert!(merge(current, given(json!({ "speed": 1 }))).unwrap_err().detail.contains("`speed`"));
        assert!(merge(current, given(json!({ "mtu": "big" }))).is_err());
    }
}
