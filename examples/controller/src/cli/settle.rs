//! Waiting until a lab is where its user wants it, or will not get there.

use std::time::Duration;

use lifecycle_core::machine::LinkState;
use lifecycle_core::name::LabName;
use lifecycle_core::time::Timestamp;
use tokio::time::Instant;

use super::progress::{Progress, Scope};
use crate::client::{Client, Feed, LabMirror, follow};
use crate::failure::{Exit, Failure, Result};
use crate::output::progress::Screen;
use crate::span::Span;

/// A link in error is tried again by itself; one that has been in error for so long is not.
const LINK_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks while only links in error are waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A lab that was followed until it settled, and may be followed on.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) mirror: LabMirror,
    pub(super) feed: Feed,
    /// What is not as it is wanted; empty when all is.
    pub(super) failed: Vec<String>,
}

/// Waits until nothing of a part of a lab is on its way any more.
///
/// # Errors
/// [`Exit::Timeout`] when that takes too long, [`Exit::Unreachable`] when the controller ends meanwhile.
pub(super) async fn settle(
    client: &Client,
    lab: &LabName,
    scope: &Scope,
    timeout: Option<Span>,
    screen: &Screen,
) -> Result<Settled> {
    let deadline = timeout.map(|span| Instant::now() + span.0);
    let (mut mirror, mut feed) = follow(client, lab).await?.ok_or_else(|| gone(lab))?;
    let bars = screen.bars(mirror.nodes.len(), mirror.links.len());
    loop {
        let progress = Progress::of(&mirror, scope);
        bars.show(progress.nodes, progress.links, &progress.waiting.join(", "));
        if progress.waiting.is_empty() && (progress.doubtful.is_empty() || links_are_given_up(&mirror)) {
            let failed = progress.failed.into_iter().chain(progress.doubtful).collect();
            return Ok(Settled { mirror, feed, failed });
        }
        let pause = progress.waiting.is_empty().then(|| Instant::now() + LOOK_AGAIN);
        tokio::select! {
            change = mirror.next(client, &mut feed) => {
                change?.ok_or_else(controller_ended)?;
                drain(&mut mirror, client, &mut feed).await?;
            }
            () = at(pause) => {}
            () = at(deadline) => return Err(late(lab, timeout, &progress)),
        }
        if mirror.lab.is_none() {
            return Err(gone(lab));
        }
    }
}

/// Takes in what has arrived already: events come in bursts.
async fn drain(mirror: &mut LabMirror, client: &Client, feed: &mut Feed) -> Result<()> {
    let moment = Duration::from_millis(2);
    while let Ok(change) = tokio::time::timeout(moment, mirror.next(client, feed)).await {
        change?.ok_or_else(controller_ended)?;
    }
    Ok(())
}

/// Waits until a lab is gone.
///
/// # Errors
/// As [`settle`].
pub(super) async fn until_gone(client: &Client, lab: &LabName, timeout: Option<Span>, screen: &Screen) -> Result<()> {
    let deadline = timeout.map(|span| Instant::now() + span.0);
    let Some((mut mirror, mut feed)) = follow(client, lab).await? else { return Ok(()) };
    let all = (mirror.nodes.len(), mirror.links.len());
    let bars = screen.bars(all.0, all.1);
    while mirror.lab.is_some() {
        let nodes: Vec<&str> = mirror.nodes.values().map(|node| node.node_name.as_str()).collect();
        let (count, left) = (nodes.len(), nodes.join(", "));
        let gone = (all.0.saturating_sub(count), all.1.saturating_sub(mirror.links.len()));
        bars.show((gone.0, all.0), (gone.1, all.1), &left);
        tokio::select! {
            change = mirror.next(client, &mut feed) => drop(change?.ok_or_else(controller_ended)?),
            () = at(deadline) => {
                let message = format!("lab {lab} is not gone in time; {count} nodes are left: {left}");
                return Err(Failure::new(Exit::Timeout, message));
            }
        }
    }
    Ok(())
}

fn links_are_given_up(mirror: &LabMirror) -> bool {
    let now = Timestamp::now();
    let old = |since: Timestamp| Duration::try_from(now.duration_since(since)).is_ok_and(|age| age >= LINK_PATIENCE);
    let mut broken = mirror.links.values().filter(|link| link.actual_state == LinkState::Error);
    broken.all(|link| old(link.state_since))
}

/// Waits until a moment; for ever without one.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn gone(lab: &LabName) -> Failure {
    Failure::new(Exit::NotFound, format!("lab {lab} was removed"))
}

/// The controller ended while it was followed.
pub(super) fn controller_ended() -> Failure {
    Failure::new(Exit::Unreachable, "the controller has ended")
}

fn late(lab: &LabName, timeout: Option<Span>, progress: &Progress) -> Failure {
    let limit = timeout.map(|span| format!(" within {span}")).unwrap_or_default();
    let missing: Vec<&String> = progress.waiting.iter().chain(&progress.doubtful).chain(&progress.failed).collect();
    let some: Vec<&str> = missing.iter().take(10).map(|text| text.as_str()).collect();
    let more =
        if missing.len() > some.len() { format!(" and {} more", missing.len() - some.len()) } else { String::new() };
    let message =
        format!("lab {lab} is not as wanted{limit}: {}{more}; see `lifecycle inspect {lab}`", some.join(", "));
    Failure::new(Exit::Timeout, message)
}
