//! Two nodes and a link between them, from the first line to the last: deployed, used, and gone again. Needs no root.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use lifecycle_kit::core::Registry;
use lifecycle_kit::core::machine::LinkState;
use lifecycle_kit::core::name::LabName;
use lifecycle_kit::core::plugin::provider::ExecRequest;
use lifecycle_kit::core::topology::{Endpoint, LinkSpec, NodeSpec, Topology};
use lifecycle_kit::engine::Controller;

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    lifecycle_kit::helper_main();
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let controller = Controller::builder(state.path()).registry(Registry::discover()?).start().await?;
    let lab: LabName = "embedded".parse()?;
    let result = work(&controller, &lab).await;
    // Nodes outlive their controller, so they go before it does, whatever came of them.
    controller.destroy("me", lab.clone()).await?;
    controller.wait(&lab, PATIENCE, |lab| lab.is_none()).await?;
    controller.shutdown().await;
    result
}

async fn work(controller: &Controller, lab: &LabName) -> Result<(), Box<dyn Error>> {
    let mut topology = Topology::new(lab.clone(), "/");
    topology.nodes = vec![NodeSpec::new("left".parse()?, "linux"), NodeSpec::new("right".parse()?, "linux")];
    let left = Endpoint::node("left".parse()?, "eth1".parse()?);
    let right = Endpoint::node("right".parse()?, "eth1".parse()?);
    topology.links = vec![LinkSpec::new(left, right)];
    controller.apply("me", topology).await?;
    // A link is up once both its nodes run and it was verified.
    let is_up = |lab: Option<&_>| lab.is_some_and(all_links_are_up);
    controller.wait(lab, PATIENCE, is_up).await?;

    let node = controller.handle(lab, &"left".parse()?).await?;
    let exec = node.provider.exec().ok_or("the provider cannot run commands in nodes")?;
    let output = exec.exec(&node.instance, &ExecRequest::new(["cat", "/sys/class/net/eth1/operstate"])).await?;
    writeln!(std::io::stdout(), "eth1 of left is {}", String::from_utf8_lossy(&output.stdout).trim())?;
    Ok(())
}

fn all_links_are_up(lab: &lifecycle_kit::engine::drive::LabSnapshot) -> bool {
    lab.links.iter().all(|link| link.actual_state == LinkState::Up)
}
