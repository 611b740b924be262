//! Learns from a node whether it is ready, and how far it has come.

use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt;
use lifecycle_core::error::{Error, ErrorKind, Result};
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{ExecRequest, InstanceRef, LogRequest};
use lifecycle_core::policy::log_scan::{Found, LogScan};
use tokio::net::TcpStream;

use super::host::{said, succeeded};
use crate::decide::{Done, Outcome, ReadyCheck, ReadyProbe};

/// Lines of a node's log that are looked at: what it prints between two looks, many times over.
const LINES: usize = 5_000;

type Verdict = std::result::Result<(), String>;

pub(super) async fn ready(provider: &dyn Provider, instance: &InstanceRef, probe: &ReadyProbe) -> Outcome {
    let by_log = matches!(probe.check, ReadyCheck::Log(_));
    let found = match read_log(provider, instance, probe).await {
        Ok(found) => found,
        Err(error) if by_log => return Err(error),
        // How far a node has come is nice to know; whether it is ready is told otherwise.
        Err(_) => Found::default(),
    };
    let verdict = match &probe.check {
        ReadyCheck::Command(argv) => run(provider, instance, argv).await?,
        ReadyCheck::Log(_) if found.ready => Ok(()),
        ReadyCheck::Log(pattern) => Err(format!("it has not printed `{pattern}` yet")),
        ReadyCheck::Tcp { address, port } => connect(*address, *port).await,
    };
    Ok(Done::Ready { verdict, progress: found.percent })
}

async fn run(provider: &dyn Provider, instance: &InstanceRef, argv: &[String]) -> Result<Verdict> {
    let Some(exec) = provider.exec() else {
        return Err(Error::new(ErrorKind::Unsupported, "probe", "the provider cannot run commands in nodes"));
    };
    let output = exec.exec(instance, &ExecRequest::new(argv.iter())).await?;
    let why = || format!("`{}`: {}{}", argv.join(" "), output.exit, said(&output));
    Ok(if succeeded(&output) { Ok(()) } else { Err(why()) })
}

async fn connect(address: Option<IpAddr>, port: u16) -> Verdict {
    let Some(address) = address else {
        return Err("it has no address on the management network to connect to".to_owned());
    };
    let place = SocketAddr::new(address, port);
    match TcpStream::connect(place).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("no connection to {place}: {error}")),
    }
}

/// Looks through what the node printed since it was last started.
async fn read_log(provider: &dyn Provider, instance: &InstanceRef, probe: &ReadyProbe) -> Result<Found> {
    let pattern = match &probe.check {
        ReadyCheck::Log(pattern) => Some(pattern),
        _ => None,
    };
    let mut scan = LogScan::new(pattern, &probe.progress);
    if pattern.is_none() && probe.progress.is_empty() {
        return Ok(scan.found());
    }
    let Some(logs) = provider.logs() else {
        return Err(Error::new(ErrorKind::Unsupported, "probe", "the provider cannot read what nodes print"));
    };
    let mut lines = logs.logs(instance, &LogRequest { tail: Some(LINES), follow: false }).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        // A line without a time may be of any run; that it is of this one is the likelier.
        if line.at.is_none_or(|at| probe.since.is_none_or(|since| at >= since)) {
            scan.take(&line.line);
        }
    }
    Ok(scan.found())
}
