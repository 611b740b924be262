//! Nodes that are containers, on a private Docker: its raw interface making the same two containers for each, and its
//! command, one after the other.

use std::sync::Arc;
use std::time::Instant;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::{HostContext, Provider};
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind, missing};
use serde_json::json;

use super::{Row, node_of};
use crate::measure::{Result, Sample, millis};
use crate::table::{Goal, Line};

pub(super) const ROW: Row =
    Row { name: "containers", about: "nodes as containers of Docker, made and removed", measure };

const IMAGE: &str = "lifecycle-bench:1";
const RUNS: usize = 3;
/// Nodes in one run.
const NODES: u64 = 16;
/// Numbers of requests at once that the raw interface is tried with; the best is the floor.
const AT_ONCE: [usize; 3] = [2, 4, 8];
const UP: &str = "docker node created and started";
const DOWN: &str = "docker node removed";

fn measure() -> Result<Vec<Line>> {
    if let Some(reason) = missing(Kind::Docker) {
        return Ok([UP, DOWN].map(|name| Line::skipped(name, reason.clone())).to_vec());
    }
    let daemon = ContainerDaemon::start(Kind::Docker);
    daemon.import_busybox(IMAGE);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let socket = daemon.endpoint();
    let docker = runtime.block_on(async {
        Docker::connect_with_unix(&socket, 600, bollard::API_DEFAULT_VERSION)?.negotiate_version().await
    })?;
    let provider = provider(&socket)?;

    // In turns, so that a busy machine is busy for all of them.
    let (mut ours, mut floors) = (Vec::new(), AT_ONCE.map(|_| Vec::new()));
    for _ in 0..RUNS {
        for (at_once, floor) in AT_ONCE.into_iter().zip(&mut floors) {
            floor.push(runtime.block_on(raw(&docker, at_once))?);
        }
        ours.push(runtime.block_on(by_provider(&*provider))?);
    }
    let each = |runs: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| Sample::of(runs.iter().map(pick).collect());
    let best = |pick: fn(&(f64, f64)) -> f64| {
        let samples = floors.iter().map(|runs| each(runs, pick));
        samples.min_by(|a, b| a.median.total_cmp(&b.median)).ok_or("nothing was measured")
    };
    let (peer_up, peer_down) = by_command(&daemon);
    Ok(vec![
        Line::new(UP, "ms", each(&ours, |run| run.0))
            .floor(best(|run| run.0)?)
            .peer(Sample::of(vec![peer_up]))
            .goal(Goal::TimesFloor(1.1)),
        Line::new(DOWN, "ms", each(&ours, |run| run.1)).floor(best(|run| run.1)?).peer(Sample::of(vec![peer_down])),
    ])
}

/// Milliseconds per node since a moment.
fn per_node(begin: Instant) -> f64 {
    millis(begin) / NODES as f64
}

/// A holder and a node that joins it, by the interface alone.
async fn raw(docker: &Docker, at_once: usize) -> Result<(f64, f64)> {
    let make = async |name: String, network: String| -> Result<String> {
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(["sleep", "1000"].map(str::to_owned).to_vec()),
            host_config: Some(HostConfig { network_mode: Some(network), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let id = docker.create_container(Some(options), body).await?.id;
        docker.start_container(&id, None).await?;
        Ok(id)
    };
    let both = async |number: u64| -> Result<[String; 2]> {
        let holder = make(format!("holder{number}"), "none".to_owned()).await?;
        let node = make(format!("node{number}"), format!("container:{holder}")).await?;
        Ok([node, holder])
    };
    let begin = Instant::now();
    let made: Vec<[String; 2]> = stream::iter(0..NODES).map(both).buffer_unordered(at_once).try_collect().await?;
    let up = per_node(begin);
    let remove = async |ids: [String; 2]| -> Result<()> {
        for id in ids {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            docker.remove_container(&id, Some(options)).await?;
        }
        Ok(())
    };
    let begin = Instant::now();
    stream::iter(made).map(remove).buffer_unordered(at_once).try_collect::<()>().await?;
    Ok((up, per_node(begin)))
}

fn provider(endpoint: &str) -> Result<Arc<dyn Provider>> {
    let context = HostContext::without_directories(ControllerId::from_u64(1), json!({ "endpoint": endpoint }));
    Ok((lifecycle_provider_docker::DOCKER.make)(&context)?)
}

async fn by_provider(provider: &dyn Provider) -> Result<(f64, f64)> {
    let at_once = provider.capabilities().concurrency;
    let live = async |number: u64| -> Result<_> {
        let request = node_of(number, IMAGE, Some(["sleep", "1000"].map(str::to_owned).to_vec()))?;
        let instance = provider.create_node(&request).await?.instance;
        provider.start_node(&instance).await?;
        Ok(instance)
    };
    let begin = Instant::now();
    let made: Vec<_> = stream::iter(0..NODES).map(live).buffer_unordered(at_once).try_collect().await?;
    let up = per_node(begin);
    let begin = Instant::now();
    let remove = async |instance| provider.destroy_node(&instance).await;
    stream::iter(made).map(remove).buffer_unordered(at_once).try_collect::<()>().await?;
    Ok((up, per_node(begin)))
}

/// The same containers by Docker's own command, one after the other.
fn by_command(daemon: &ContainerDaemon) -> (f64, f64) {
    let begin = Instant::now();
    for number in 0..NODES {
        let (holder, node) = (format!("holder{number}"), format!("node{number}"));
        let joined = format!("container:{holder}");
        for (name, network) in [(&holder, "none"), (&node, &joined)] {
            daemon.run(&["run", "--detach", "--name", name, "--network", network, IMAGE, "sleep", "1000"]);
        }
    }
    let up = per_node(begin);
    let begin = Instant::now();
    for number in 0..NODES {
        daemon.run(&["rm", "--force", &format!("node{number}"), &format!("holder{number}")]);
    }
    (up, per_node(begin))
}
