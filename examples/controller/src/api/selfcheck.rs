//! Whether the controller keeps its promises: the simulator's own functions, on the live state.
//!
//! What is outside is read while the controller works on, so one look may see things in the middle of a change. Only
//! what stands in several looks, one after the other, is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use lifecycle_core::model::NodeRecord;
use lifecycle_core::name::{HostName, LabName, NodeName, PluginName};
use lifecycle_core::plugin::Provider;
use lifecycle_engine::decide::World;
use lifecycle_engine::decide::invariant::{
    Census, SeenInstance, Violation, i1_one_live_instance, i2_explicit_host_is_inviolable,
    i4_every_instance_has_an_owner, i11_ends_are_exclusive, i16_one_active_job_per_node,
    i20_no_state_outlives_its_deadline, i28_reservations_fit, l1_links_are_settled, l1_nodes_are_settled,
};
use lifecycle_engine::drive::{Clock, SystemClock};

use super::Api;
use super::extract::Json;
use super::problem::Problem;
use super::wire::SelfCheck;

/// Looks in all of which a violation has to stand.
const LOOKS: usize = 3;
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// What always has to hold, and what has to once nothing happens any more.
const ALWAYS: [&str; 6] = [
    "I1 one live instance per node",
    "I2 an explicit host is inviolable",
    "I11 ends of links are exclusive",
    "I16 one active job per node",
    "I20 no transitional state outlives its deadline unattended",
    "I28 reservations fit",
];
const SETTLED: [&str; 2] = ["I4 every instance has an owner", "L1 everything is as wanted, or says why not"];

pub(super) async fn selfcheck(State(api): State<Api>) -> Result<Json<SelfCheck>, Problem> {
    let (mut standing, mut settled) = look(&api).await?;
    for _ in 1..LOOKS {
        if standing.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let (found, still) = look(&api).await?;
        let again =
            |it: &Violation| found.iter().any(|other| (other.invariant, &other.subject) == (it.invariant, &it.subject));
        standing.retain(again);
        settled &= still;
    }
    let checked = ALWAYS.iter().chain(SETTLED.iter().filter(|_| settled));
    Ok(Json(SelfCheck {
        checked: checked.map(|name| (*name).to_owned()).collect(),
        violations: standing.iter().map(ToString::to_string).collect(),
    }))
}

/// What does not hold now, and whether nothing is under way.
async fn look(api: &Api) -> Result<(Vec<Violation>, bool), Problem> {
    let census = census(api).await?;
    let now = SystemClock::new()?.now();
    let judge = move |world: &World| {
        let mut found = i1_one_live_instance(&census);
        found.extend(i2_explicit_host_is_inviolable(world, &census));
        found.extend(i11_ends_are_exclusive(world));
        found.extend(i16_one_active_job_per_node(world));
        found.extend(i20_no_state_outlives_its_deadline(world, now));
        found.extend(i28_reservations_fit(world));
        let settled = world.node_work.is_empty() && world.link_work.values().all(|work| work.effect.is_none());
        if settled {
            found.extend(i4_every_instance_has_an_owner(world, &census));
            found.extend(l1_nodes_are_settled(world));
            found.extend(l1_links_are_settled(world));
        }
        (found, settled)
    };
    Ok(api.controller.read(judge).await?)
}

/// The instances that the providers of all nodes list.
async fn census(api: &Api) -> Result<Census, Problem> {
    let mut census = Census::default();
    for ((host, provider), plugin) in providers(api).await? {
        let seen = plugin.list_nodes().await?;
        let (host, provider) = (&host, &provider);
        census.instances.extend(seen.into_iter().map(|seen| SeenInstance {
            host: host.clone(),
            provider: provider.clone(),
            seen,
            by_hand: false,
        }));
    }
    Ok(census)
}

type Providers = BTreeMap<(HostName, PluginName), Arc<dyn Provider>>;

/// The providers that run a node. A provider is reached through one of its nodes.
async fn providers(api: &Api) -> Result<Providers, Problem> {
    type Nodes = BTreeMap<(HostName, PluginName), (LabName, NodeName)>;
    let nodes: Nodes = api
        .controller
        .read(|world| {
            let place = |node: &NodeRecord| {
                let lab = world.labs.get(&node.lab)?.topology.name.clone();
                node.instance.as_ref()?;
                Some(((node.host.clone()?, node.provider.clone()), (lab, node.name.clone())))
            };
            world.nodes.values().filter_map(place).collect()
        })
        .await?;
    let mut providers = Providers::new();
    for (place, (lab, node)) in nodes {
        // One whose last node has just gone is left out.
        if let Ok(handle) = api.controller.handle(&lab, &node).await {
            providers.insert(place, handle.provider);
        }
    }
    Ok(providers)
}
