//! `up`: a lab for as long as this process runs.

use std::time::Instant;

use lifecycle_core::machine::LinkState;
use lifecycle_core::topology::Topology;

use super::args::Up as Args;
use super::progress::{Scope, label};
use super::report::{self, Report};
use super::session::Session;
use super::settle::{Settled, settle, until_gone};
use super::signals::Signals;
use super::{Context, lab_file};
use crate::client::{Change, Client, Feed, LabMirror, follow};
use crate::embedded::Embedded;
use crate::failure::{Exit, Failure, Result};
use crate::output::note;

pub(super) async fn run(context: &Context, args: Args) -> Result {
    let topology = lab_file::read(context, &args.file, &args.reading).await?;
    let signals = Signals::new()?;
    let session = Session::attach(context, "up").await?;
    let scope = Scope::default();
    let mut up = Up { context, args: &args, topology: &topology, session, signals, scope, exit: Exit::Failure };
    match up.deploy().await {
        Ok(()) => {
            let ended = up.stay().await;
            up.end(ended).await
        }
        Err(failure) => {
            up.session.end().await;
            Err(failure)
        }
    }
}

/// Why a lab is no longer stayed with.
enum Ended {
    /// Somebody asked this process to end.
    Asked,
    /// Somebody removed the lab.
    Removed,
}

struct Up<'a> {
    context: &'a Context,
    args: &'a Args,
    topology: &'a Topology,
    session: Session,
    signals: Signals,
    /// What is waited for.
    scope: Scope,
    /// How it ends if it is asked to end now.
    exit: Exit,
}

impl Up<'_> {
    fn say(&self, text: impl std::fmt::Display) {
        self.context.screen.say(text);
    }

    async fn deploy(&mut self) -> Result<()> {
        if self.session.embedded.is_none() {
            self.say("a controller is running already; the lab goes to it");
        }
        self.scope = Scope::all(self.session.client.apply(self.topology, false).await?.job_id);
        Ok(())
    }

    /// Brings the lab up, then tells what changes, until somebody ends it.
    async fn stay(&mut self) -> Result<Ended> {
        let began = Instant::now();
        let (mut mirror, mut feed) = match self.settled().await? {
            Some(settled) => {
                self.report(&settled, began)?;
                (settled.mirror, settled.feed)
            }
            None => return Ok(Ended::Asked),
        };
        loop {
            let client = self.session.client.clone();
            tokio::select! {
                () = self.signals.next() => return Ok(Ended::Asked),
                failure = own_end(self.session.embedded.as_ref()) => return Err(failure),
                gone = tell(self.context, &client, &mut mirror, &mut feed) => if gone {
                    return Ok(Ended::Removed);
                }
            }
            match self.rejoin().await? {
                Some(again) => (mirror, feed) = again,
                None => return Ok(Ended::Removed),
            }
        }
    }

    /// Waits until the lab is up, or will not be; nothing when somebody asks to end before.
    async fn settled(&mut self) -> Result<Option<Settled>> {
        let (lab, screen) = (self.topology.name.clone(), self.context.screen.clone());
        loop {
            let client = self.session.client.clone();
            let settled = tokio::select! {
                () = self.signals.next() => return Ok(None),
                failure = own_end(self.session.embedded.as_ref()) => Err(failure),
                settled = settle(&client, &lab, &self.scope, self.args.timeout, &screen) => settled,
            };
            match settled {
                Err(failure) if failure.exit == Exit::Unreachable && self.session.embedded.is_none() => {
                    self.rejoin().await?;
                }
                settled => return settled.map(Some),
            }
        }
    }

    /// The controller that this process had joined has ended: another one is joined, or this process becomes it.
    async fn rejoin(&mut self) -> Result<Option<(LabMirror, Feed)>> {
        self.say("the controller has ended; this process takes its place");
        self.session = Session::attach(self.context, "up").await?;
        follow(&self.session.client, &self.topology.name).await
    }

    fn report(&mut self, settled: &Settled, began: Instant) -> Result<()> {
        if let Some(report) = Report::of(&settled.mirror) {
            report::print(self.context, &[report])?;
        }
        let (lab, took) = (&self.topology.name, began.elapsed().as_secs_f64());
        let leave = if self.args.keep { "ends this process and leaves the lab running" } else { "removes the lab" };
        if settled.failed.is_empty() {
            self.exit = Exit::Ok;
            self.say(format_args!("lab {lab} is up and verified after {took:.1} s; Ctrl-C {leave}"));
        } else {
            self.exit = Exit::Partly;
            self.say(format_args!("lab {lab} is not up as wanted; Ctrl-C {leave}:"));
            settled.failed.iter().for_each(|why| self.say(format_args!("  {why}")));
        }
        Ok(())
    }

    async fn end(mut self, ended: Result<Ended>) -> Result {
        let lab = &self.topology.name;
        let result = match ended {
            Ok(Ended::Asked) => Ok(self.exit),
            Ok(Ended::Removed) => {
                self.say(format_args!("lab {lab} was removed"));
                self.session.end().await;
                return Ok(self.exit);
            }
            // A lab that does not come up in time goes again; one whose controller failed cannot be asked to.
            Err(failure) if failure.exit == Exit::Timeout => {
                self.say(&failure);
                Ok(failure.exit)
            }
            Err(failure) => Err(failure),
        };
        if result.is_err() || self.args.keep {
            self.say(format_args!("lab {lab} is left as it is; `lifecycle destroy {lab}` removes it"));
            self.session.end().await;
            return result;
        }
        self.say(format_args!("removing lab {lab}; Ctrl-C again leaves at once"));
        let client = self.session.client.clone();
        let removed = tokio::select! {
            () = self.signals.next() => Err(Failure::plain("interrupted")),
            removed = remove(self.context, &client, self.topology) => removed,
        };
        if let Err(failure) = &removed {
            self.say(format_args!("lab {lab} is not removed: {failure}; `lifecycle destroy {lab}` removes it"));
        }
        self.name_others().await;
        self.session.end().await;
        removed.and(result)
    }

    /// Other labs of a controller that ends with this process stay, and somebody should know.
    async fn name_others(&self) {
        if self.session.embedded.is_none() {
            return;
        }
        let labs = self.session.client.labs().await.unwrap_or_default();
        let others: Vec<&str> =
            labs.iter().map(|lab| lab.name.as_str()).filter(|lab| *lab != self.topology.name.as_str()).collect();
        if !others.is_empty() {
            let others = others.join(", ");
            self.say(format_args!(
                "other labs stay as they are: {others}; `lifecycle up` or `lifecycle serve` looks after them again"
            ));
        }
    }
}

async fn remove(context: &Context, client: &Client, topology: &Topology) -> Result<()> {
    match client.destroy(&topology.name).await {
        Err(failure) if failure.exit == Exit::NotFound => Ok(()),
        Err(failure) => Err(failure),
        Ok(_) => until_gone(client, &topology.name, None, &context.screen).await,
    }
}

/// Waits until a controller of this process ends by itself.
async fn own_end(embedded: Option<&Embedded>) -> Failure {
    match embedded {
        Some(embedded) => embedded.ended().await,
        None => std::future::pending().await,
    }
}

/// Tells what changes about a lab, until it is gone (true) or the controller is (false).
async fn tell(context: &Context, client: &Client, mirror: &mut LabMirror, feed: &mut Feed) -> bool {
    while mirror.lab.is_some() {
        match mirror.next(client, feed).await {
            Ok(Some(change)) => {
                if let Some(text) = changed(mirror, &change) {
                    context.screen.say(text);
                }
            }
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

/// A change in words, if it is one that people see.
fn changed(mirror: &LabMirror, change: &Change) -> Option<String> {
    match change {
        Change::Node(id, before) => {
            let node = mirror.nodes.get(id)?;
            let seen = before
                .as_ref()
                .is_some_and(|before| (before.display_state, before.is_ready) == (node.display_state, node.is_ready));
            let ready = if node.is_ready { " and ready" } else { "" };
            let note = Some(note(node)).filter(|text| !text.is_empty()).map(|text| format!(": {text}"));
            let note = note.unwrap_or_default();
            (!seen).then(|| format!("{}: {}{ready}{note}", node.node_name, node.display_state))
        }
        Change::Link(id, before) => {
            let link = mirror.links.get(id)?;
            let seen = before.as_ref().is_some_and(|before| before.actual_state == link.actual_state);
            let why = match link.actual_state {
                LinkState::Up => None,
                LinkState::Error => link.error_message.clone(),
                _ => link.ends.iter().find_map(|end| end.reason).map(|reason| reason.to_string()),
            };
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            (!seen).then(|| format!("{}: {}{why}", label(link), link.actual_state))
        }
        Change::Other => None,
    }
}
