//! Nodes that are containers, on a private Docker: its raw interface making copies of the two containers of each, its command,
//! one after the other, and Compose.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::provider::CreateNode;
use lifecycle_core::plugin::{HostContext, Provider};
use lifecycle_linux::testing::container_daemon::{ContainerDaemon, Kind, missing};
use serde_json::json;

use super::{Row, node_of};
use crate::measure::{Result, Sample, millis};
use crate::table::{Cell, Goal, Line};

pub(super) const ROW: Row =
    Row { name: "containers", about: "nodes as containers of Docker, made and removed", measure };

const IMAGE: &str = "lifecycle-bench:1";
const RUNS: usize = 7;
/// Runs of the raw interface with each number of requests at once, of which the best is then measured beside ours.
const TRIES: usize = 3;
/// Nodes in one run.
const NODES: u64 = 16;
/// Numbers of requests at once that the raw interface is tried with.
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

    let originals = runtime.block_on(originals(&docker, &*provider))?;
    let raw = |at_once| runtime.block_on(raw(&docker, &originals, at_once));
    let tries = tries(raw)?;
    let fastest = tries.iter().min_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let (best, _) = *fastest.ok_or("nothing was tried")?;

    // In turns, so that a busy machine is busy for both, and as often, so that neither is lucky.
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        floor.push(raw(best)?);
        ours.push(runtime.block_on(by_provider(&*provider))?);
    }
    let each = |runs: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| Sample::of(runs.iter().map(pick).collect());
    let (up, down): (Pick, Pick) = (|run| run.0, |run| run.1);
    let (peer_up, peer_down) = by_command(&daemon);
    let (compose_up, compose_down) = by_compose(&daemon);
    let mut lines = vec![
        Line::new(UP, "ms", each(&ours, up))
            .floor(each(&floor, up))
            .peer(Sample::of(vec![peer_up]))
            .goal(Goal::TimesFloor(1.1)),
        Line::new(format!("{UP}; peer docker-compose"), "ms", each(&ours, up)).peer(compose_up),
        Line::new(DOWN, "ms", each(&ours, down)).floor(each(&floor, down)).peer(Sample::of(vec![peer_down])),
        Line::new(format!("{DOWN}; peer docker-compose"), "ms", each(&ours, down)).peer(compose_down),
    ];
    let alone = |(at_once, sample)| Line::new(format!("  by the raw interface, {at_once} at once"), "ms", sample);
    lines.splice(2..2, tries.into_iter().map(alone));
    Ok(lines)
}

/// One of a run's two figures.
type Pick = fn(&(f64, f64)) -> f64;

/// Containers made by the raw interface, with each number of requests at once.
fn tries(raw: impl Fn(usize) -> Result<(f64, f64)>) -> Result<Vec<(usize, Sample)>> {
    let mut tries = AT_ONCE.map(|at_once| (at_once, Vec::new()));
    for _ in 0..TRIES {
        for (at_once, runs) in &mut tries {
            runs.push(raw(*at_once)?.0);
        }
    }
    Ok(tries.into_iter().map(|(at_once, runs)| (at_once, Sample::of(runs))).collect())
}

/// Milliseconds per node since a moment.
fn per_node(begin: Instant) -> f64 {
    millis(begin) / NODES as f64
}

/// What a holder and a node are made from.
type Originals = [ContainerCreateBody; 2];

/// Reads them from a node that the provider made, so that the floor makes the same containers.
async fn originals(docker: &Docker, provider: &dyn Provider) -> Result<Originals> {
    let node = provider.create_node(&request(NODES)?).await?.instance;
    let read = async |name: String| -> Result<ContainerCreateBody> {
        let found = docker.inspect_container(&name, None).await?;
        let mut body = serde_json::to_value(found.config)?;
        body["HostConfig"] = serde_json::to_value(found.host_config)?;
        Ok(serde_json::from_value(body)?)
    };
    let holder = read(format!("{}.holder", node.identifier)).await?;
    let body = read(node.identifier.clone()).await?;
    provider.destroy_node(&node).await?;
    // The daemon tells the holder's, and wants none from who joins it.
    Ok([holder, ContainerCreateBody { hostname: None, ..body }])
}

/// A holder and a node that joins it, by the interface alone.
async fn raw(docker: &Docker, [holder, node]: &Originals, at_once: usize) -> Result<(f64, f64)> {
    let make = async |name: String, body: ContainerCreateBody| -> Result<String> {
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let id = docker.create_container(Some(options), body).await?.id;
        docker.start_container(&id, None).await?;
        Ok(id)
    };
    let both = async |number: u64| -> Result<[String; 2]> {
        let holder = make(format!("holder{number}"), holder.clone()).await?;
        let mut node = node.clone();
        node.host_config.get_or_insert_default().network_mode = Some(format!("container:{holder}"));
        let node = make(format!("node{number}"), node).await?;
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

fn request(number: u64) -> Result<CreateNode> {
    node_of(number, IMAGE, Some(["sleep", "1000"].map(str::to_owned).to_vec()))
}

async fn by_provider(provider: &dyn Provider) -> Result<(f64, f64)> {
    let at_once = provider.capabilities().concurrency;
    let live = async |number: u64| -> Result<_> {
        let instance = provider.create_node(&request(number)?).await?.instance;
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

/// The same containers by Compose, as many at once as it likes.
fn by_compose(daemon: &ContainerDaemon) -> (Cell, Cell) {
    match compose(daemon) {
        Ok((up, down)) => (Sample::of(vec![up]).into(), Sample::of(vec![down]).into()),
        Err(error) => (Cell::Skipped(error.to_string()), Cell::Skipped(error.to_string())),
    }
}

fn compose(daemon: &ContainerDaemon) -> Result<(f64, f64)> {
    let services = (0..NODES).flat_map(|number| {
        let of = |network: String| json!({ "image": IMAGE, "command": "sleep 1000", "network_mode": network });
        let node = of(format!("service:holder{number}"));
        [(format!("holder{number}"), of("none".to_owned())), (format!("node{number}"), node)]
    });
    let services: serde_json::Map<_, _> = services.collect();
    let directory = tempfile::tempdir()?;
    // What is JSON is YAML as well.
    let file = directory.path().join("docker-compose.yml");
    std::fs::write(&file, json!({ "version": "2.4", "services": services }).to_string())?;
    let run = |words: &[&str]| -> Result<f64> {
        let begin = Instant::now();
        let mut command = Command::new("docker-compose");
        command.args(["--host", &daemon.endpoint(), "--project-name", "bench", "--file"]).arg(&file).args(words);
        let output = command.output().map_err(|_| "apt-get install --no-install-recommends docker-compose")?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().into());
        }
        Ok(per_node(begin))
    };
    Ok((run(&["up", "--detach"])?, run(&["down", "--timeout", "0"])?))
}
