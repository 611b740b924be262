//! What is true of instances, read from the daemon and put into the words of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum as Status};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions};
use futures_util::{StreamExt, TryStreamExt, stream};
use lifecycle_core::attach::NsRef;
use lifecycle_core::id::NodeId;
use lifecycle_core::plugin::provider::{ExitRecord, InstanceRef, InstanceState, ManagementAddresses, ObservedNode};
use lifecycle_core::time::Timestamp;
use lifecycle_linux::namespace::NamespaceAccess;

use crate::client::{Client, optional};
use crate::failure::Failure;
use crate::mark::{self, Mark, Owner, Part};

/// Between two looks at a container that is just ending, or just going.
pub(crate) const LOOK: Duration = Duration::from_millis(25);
/// Containers that are looked at at once.
const AT_ONCE: usize = 8;
/// How a container says that it uses another's network.
const JOINED: &str = "container:";

/// A container as the daemon tells it.
#[derive(Debug, Clone)]
pub(crate) struct Container(Box<ContainerInspectResponse>);

impl Container {
    /// Looks at one container, by its identifier or name.
    pub(crate) async fn find(client: &Client, id: &str) -> Result<Option<Self>, Failure> {
        let began = Instant::now();
        loop {
            let found =
                client.ask(async |docker| docker.inspect_container(id, None::<InspectContainerOptions>).await).await;
            match found {
                Err(failure) if failure.is_of_just_ended() && began.elapsed() < client.settings().deadline() => {
                    tokio::time::sleep(LOOK).await;
                }
                found => return optional(found.map(|found| Self(Box::new(found)))),
            }
        }
    }

    pub(crate) fn id(&self) -> &str {
        self.0.id.as_deref().unwrap_or_default()
    }

    /// Whose it is.
    pub(crate) fn mark(&self) -> Option<(Mark, Part)> {
        Mark::read(self.0.config.as_ref()?.labels.as_ref()?)
    }

    fn name(&self) -> &str {
        self.0.name.as_deref().unwrap_or_default().trim_start_matches('/')
    }

    /// Whether its mark is that of its image: somebody made that of a node's container, and this one of it.
    async fn has_inherited(&self, client: &Client) -> Result<bool, Failure> {
        let image = self.0.image.clone().unwrap_or_default();
        let image = optional(client.ask(async |docker| docker.inspect_image(&image).await).await)?;
        Ok(image.and_then(|image| image.config?.labels).is_some_and(|labels| Mark::read(&labels).is_some()))
    }

    pub(crate) fn status(&self) -> Status {
        self.0.state.as_ref().and_then(|state| state.status).unwrap_or(Status::EMPTY)
    }

    /// Whether it has a process, which is what keeps its namespaces.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.status(), Status::RUNNING | Status::PAUSED)
    }

    /// Its first process, as the daemon numbers it.
    fn pid(&self) -> Option<i64> {
        self.0.state.as_ref()?.pid.filter(|pid| *pid > 0 && self.is_alive())
    }

    /// The container whose network it uses.
    fn joined(&self) -> Option<&str> {
        self.network_mode()?.strip_prefix(JOINED)
    }

    fn network_mode(&self) -> Option<&str> {
        self.0.host_config.as_ref()?.network_mode.as_deref()
    }

    /// Whether it was made for a network, be it on it still or not.
    pub(crate) fn was_made_for_network(&self) -> bool {
        self.network_mode() != Some("none")
    }

    /// The network that it is on, as only an instance's holder can be.
    pub(crate) fn network(&self) -> Option<&str> {
        let networks = self.0.network_settings.as_ref()?.networks.as_ref()?;
        // Docker's word for no network at all.
        networks.keys().map(String::as_str).find(|name| *name != "none")
    }

    /// Its addresses, which only an instance's holder has.
    pub(crate) fn addresses(&self) -> ManagementAddresses {
        let networks = self.0.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let Some(endpoint) = networks.and_then(|networks| networks.values().next()) else {
            return ManagementAddresses::default();
        };
        ManagementAddresses {
            ipv4: endpoint.ip_address.as_ref().and_then(|text| text.parse().ok()),
            ipv6: endpoint.global_ipv6_address.as_ref().and_then(|text| text.parse().ok()),
        }
    }

    fn time(text: Option<&String>) -> Option<Timestamp> {
        // Before anything happened, daemons tell the year 1.
        text?.parse().ok().filter(|at: &Timestamp| at.as_second() > 0)
    }

    /// What its process is doing.
    pub(crate) fn state(&self) -> InstanceState {
        let state = self.0.state.as_ref();
        match self.status() {
            Status::CREATED | Status::EMPTY => InstanceState::Created,
            Status::RUNNING => InstanceState::Running,
            Status::PAUSED => InstanceState::Paused,
            Status::RESTARTING => InstanceState::Starting,
            Status::REMOVING | Status::STOPPING => InstanceState::Stopping,
            Status::EXITED | Status::DEAD => {
                let code = state.and_then(|state| state.exit_code);
                let at = Self::time(state.and_then(|state| state.finished_at.as_ref()));
                InstanceState::Exited(exit_record(code, at))
            }
        }
    }

    fn started_at(&self) -> Option<Timestamp> {
        Self::time(self.0.state.as_ref().filter(|_| self.is_alive())?.started_at.as_ref())
    }
}

/// How a process ended. Daemons tell one number, in which an end by a signal is 128 and more, as in a shell.
pub(crate) fn exit_record(code: Option<i64>, at: Option<Timestamp>) -> ExitRecord {
    let code = code.and_then(|code| i32::try_from(code).ok());
    let signal = code.map(|code| code - 128).filter(|signal| (1..=31).contains(signal));
    ExitRecord { code: code.filter(|_| signal.is_none()), signal, at }
}

/// The containers of one instance.
#[derive(Debug)]
pub(crate) struct Parts {
    pub mark: Mark,
    pub node: Option<Container>,
    pub holder: Option<Container>,
}

/// Whose network an instance uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    Host,
    /// A container's, with its first process.
    Held {
        id: String,
        pid: i64,
    },
    /// What is wrong.
    Gone(&'static str),
}

/// The place that this comes to on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    Namespace(NsRef),
    /// What is wrong.
    Gone(&'static str),
}

impl Parts {
    /// The container whose network namespace the instance uses.
    async fn owner(&self, client: &Client) -> Result<Option<Container>, Failure> {
        let joined = self.node.as_ref().and_then(Container::joined);
        match (joined, &self.holder) {
            (None, holder) => Ok(holder.clone()),
            // The daemon may tell a name in place of an identifier; ours are made with identifiers.
            (Some(id), Some(holder)) if holder.id() == id => Ok(Some(holder.clone())),
            (Some(id), _) => Container::find(client, id).await,
        }
    }

    /// Whose network it uses, as far as the daemon tells.
    pub(crate) async fn network(&self, client: &Client) -> Result<Network, Failure> {
        if self.node.as_ref().is_some_and(|node| node.network_mode() == Some("host")) {
            return Ok(Network::Host);
        }
        let Some(owner) = self.owner(client).await? else {
            return Ok(Network::Gone("the container that holds its network namespace was removed"));
        };
        Ok(match owner.pid() {
            Some(pid) => Network::Held { id: owner.id().to_owned(), pid },
            None => Network::Gone("the container that holds its network namespace does not run any more"),
        })
    }

    /// Where its interfaces are.
    pub(crate) async fn place(&self, client: &Client, access: &Arc<NamespaceAccess>) -> Result<Place, Failure> {
        Ok(match self.network(client).await? {
            Network::Host => Place::Host,
            Network::Gone(reason) => Place::Gone(reason),
            Network::Held { id, pid } => crate::namespace::of_container(access, &id, pid)
                .await?
                .map_or(Place::Gone("the container that holds its network namespace has just ended"), Place::Namespace),
        })
    }

    /// The instance in the engine's words.
    pub(crate) async fn observed(
        &self,
        client: &Client,
        access: &Arc<NamespaceAccess>,
    ) -> Result<ObservedNode, Failure> {
        let place = self.place(client, access).await?;
        let broken = |reason: &str| InstanceState::Broken { reason: reason.to_owned() };
        let state = match (&self.node, &place) {
            (None, _) => broken("its container was removed, or not made yet"),
            (Some(node), Place::Gone(reason)) => match node.state() {
                // On its way, it is not judged by what it leaves behind.
                state @ InstanceState::Stopping => state,
                _ => broken(reason),
            },
            (Some(node), _) => node.state(),
        };
        Ok(ObservedNode {
            instance: self.mark.instance.clone(),
            lab: self.mark.lab,
            state,
            started_at: self.node.as_ref().and_then(Container::started_at),
            management: self.holder.as_ref().map(Container::addresses).unwrap_or_default(),
            namespace: if let Place::Namespace(ns) = place { Some(ns) } else { None },
        })
    }
}

/// An instance whose two containers stand under their names: two looks at once, however many containers there are.
/// Nothing, where it takes a list to tell.
pub(crate) async fn whole(client: &Client, owner: &Owner, instance: &InstanceRef) -> Result<Option<Parts>, Failure> {
    // A controller may never have learned it.
    if instance.identifier.is_empty() {
        return Ok(None);
    }
    let look = async |part: Part| {
        let name = part.name(&instance.identifier);
        let is_it = |container: &Container| {
            let is_marked = |(mark, its): &(Mark, Part)| (&mark.owner, &mark.instance, *its) == (owner, instance, part);
            container.name() == name && container.mark().as_ref().is_some_and(is_marked)
        };
        Ok::<_, Failure>(Container::find(client, &name).await?.filter(is_it))
    };
    let (Some(node), Some(holder)) = futures_util::try_join!(look(Part::Node), look(Part::Holder))? else {
        return Ok(None);
    };
    let mark = node.mark().map(|(mark, _)| mark);
    Ok(mark.map(|mark| Parts { mark, node: Some(node), holder: Some(holder) }))
}

/// All instances of an owner, or all of one of its nodes.
pub(crate) async fn instances(client: &Client, owner: &Owner, node: Option<NodeId>) -> Result<Vec<Parts>, Failure> {
    let filters = Some(mark::filters(owner, node));
    let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
    let listed = client.ask(async |docker| docker.list_containers(Some(options)).await).await?;
    let ids = listed.into_iter().filter_map(|summary| summary.id);
    let look = async |id: String| Container::find(client, &id).await;
    // One that is not found any more went away meanwhile.
    let found: Vec<Option<Container>> = stream::iter(ids).map(look).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut instances: BTreeMap<(NodeId, u64), Parts> = BTreeMap::new();
    for container in found.into_iter().flatten() {
        // With half of a mark it is not one that we made.
        let Some((mark, part)) = container.mark() else { continue };
        if container.name() != part.name(&mark.instance.identifier) && container.has_inherited(client).await? {
            continue;
        }
        let key = (mark.instance.node, mark.instance.incarnation);
        let parts = instances.entry(key).or_insert_with(|| Parts { mark, node: None, holder: None });
        match part {
            Part::Node => parts.node = Some(container),
            Part::Holder => parts.holder = Some(container),
        }
    }
    Ok(instances.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_a_signal_is_told_from_a_code() {
        let end = |code| {
            let record = exit_record(code, None);
            (record.code, record.signal)
        };
        assert_eq!(end(Some(0)), (Some(0), None));
        assert_eq!(end(Some(7)), (Some(7), None));
        assert_eq!(end(Some(137)), (None, Some(9)));
        assert_eq!(end(Some(128)), (Some(128), None));
        assert_eq!(end(Some(255)), (Some(255), None));
        assert_eq!(end(None), (None, None));
    }
}
