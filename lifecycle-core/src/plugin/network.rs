//! Network backends build, check and remove links between attach points.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::attach::{AttachKind, AttachPoint, Mac, NsRef, PlaceKind, Tunnel};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{LabId, LinkId};
use crate::name::{IfName, PluginName};
use crate::plugin::{HostContext, OverlayBackend};
use crate::policy::link::Side;
use crate::time::BootId;
use crate::topology::LinkAttrs;

/// A compiled-in network backend: its name and how to make one.
#[derive(Debug, Clone, Copy)]
pub struct NetworkPlugin {
    /// Name by which labs and programs ask for it.
    pub name: &'static str,
    /// Makes a backend. Cheap: it touches nothing before [`NetworkBackend::initialize`].
    pub make: fn(&HostContext) -> Result<Arc<dyn NetworkBackend>>,
}

inventory::collect!(NetworkPlugin);

/// What a backend can do, as data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkCapabilities {
    /// Pairs of places it can connect, each pair in ascending order.
    pub pairs: BTreeSet<(PlaceKind, PlaceKind)>,
    /// Links pass through a switch rather than from end to end, so identity alone does not prove that frames pass.
    pub switched: bool,
    /// The rate of a link can be limited.
    pub rate: bool,
    /// Delay and jitter can be added.
    pub delay: bool,
    /// Loss can be added.
    pub loss: bool,
    /// How it attaches ends at places of a kind, by a name that backends share. A link whose ends two backends attach the
    /// same way can be handed over from one to the other while its ends stay; see [`NetworkBackend::release`].
    pub attaches: BTreeMap<PlaceKind, String>,
    /// Kinds of places at which it can park the ends of links for others; see [`NetworkBackend::park`].
    pub parks: BTreeSet<PlaceKind>,
    /// What the backend cannot do on this machine, by name, with the reason.
    pub missing: BTreeMap<String, String>,
}

impl NetworkCapabilities {
    /// Whether it can connect these two places.
    pub fn can_connect(&self, a: PlaceKind, b: PlaceKind) -> bool {
        self.pairs.contains(&if a <= b { (a, b) } else { (b, a) })
    }

    /// Whether a link with ends at such places can be handed over to another backend while its ends stay.
    pub fn can_hand_over(&self, to: &Self, places: [PlaceKind; 2]) -> bool {
        places.iter().all(|place| self.attaches.get(place).is_some_and(|how| to.attaches.get(place) == Some(how)))
    }
}

/// The lab that a link belongs to, as far as it matters to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLab {
    /// The lab.
    pub id: LabId,
    /// It wants a switch of its own, where links of several labs would share one.
    #[serde(default)]
    pub own_switch: bool,
}

/// A link to build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkRequest {
    /// The lab that it belongs to; none when whoever asks knows none, as versions before this field.
    #[serde(default)]
    pub lab: Option<LinkLab>,
    /// The link.
    pub link: LinkId,
    /// Which of its incarnations, counted from 1; part of the mark.
    pub incarnation: u64,
    /// First end.
    pub a: AttachPoint,
    /// Second end.
    pub b: AttachPoint,
    /// Attributes.
    pub attrs: LinkAttrs,
}

impl LinkRequest {
    /// The mark of its end at a side.
    pub const fn mark(&self, side: Side) -> EndMark {
        EndMark { link: self.link, incarnation: self.incarnation, side }
    }
}

/// The mark of one end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndMark {
    /// The link.
    pub link: LinkId,
    /// Which of its incarnations.
    pub incarnation: u64,
    /// Which of its ends.
    pub side: Side,
}

/// One end of a built link, by what the kernel never reuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndIdentity {
    /// The point it was attached to.
    pub point: AttachPoint,
    /// Cookie of the namespace that the interface was made in.
    pub namespace: u64,
    /// Its index there.
    pub ifindex: u32,
    /// Its address.
    pub mac: Mac,
    /// Where it is plugged in, for those who look for it there; none where no switch is in between.
    #[serde(default)]
    pub plugged: Option<SwitchPort>,
}

/// The port of a switch that an end of a link is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchPort {
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the port on it.
    pub port: String,
    /// Tag of the port's segment, where the bridge has several.
    pub vlan: Option<u16>,
}

/// A built link, by the identities of its ends. It proves that what is found later is what was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkIdentity {
    /// The backend that built it.
    pub backend: PluginName,
    /// The link.
    pub link: LinkId,
    /// Which of its incarnations.
    pub incarnation: u64,
    /// The boot in which the identities mean something.
    pub boot: BootId,
    /// First end.
    pub a: EndIdentity,
    /// Second end; none where the link leads nowhere or to something that is not ours.
    pub b: Option<EndIdentity>,
    /// What else the backend needs to find its parts again.
    #[serde(default)]
    pub detail: BTreeMap<String, String>,
}

impl LinkIdentity {
    /// Its ends.
    pub fn ends(&self) -> impl Iterator<Item = &EndIdentity> {
        std::iter::once(&self.a).chain(self.b.as_ref())
    }

    /// The mark of its end at a side.
    pub const fn mark(&self, side: Side) -> EndMark {
        EndMark { link: self.link, incarnation: self.incarnation, side }
    }

    /// The end at a side.
    pub const fn end(&self, side: Side) -> Option<&EndIdentity> {
        match side {
            Side::A => Some(&self.a),
            Side::B => self.b.as_ref(),
        }
    }

    /// The tunnel that it was built with, if an end is at one.
    pub fn tunnel(&self) -> Option<&Tunnel> {
        self.ends().find_map(|end| end.point.place.as_tunnel())
    }

    /// The same link with its tunnel led to other addresses.
    #[must_use]
    pub fn redirected(&self, to: &Tunnel) -> Self {
        let mut identity = self.clone();
        for end in [Some(&mut identity.a), identity.b.as_mut()].into_iter().flatten() {
            if end.point.place.as_tunnel().is_some() {
                end.point.place = AttachKind::Tunnel(to.clone());
            }
        }
        identity
    }
}

/// What slows down what is sent towards an end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shaping {
    /// Bits per second.
    pub rate: Option<u64>,
    /// Delay in microseconds.
    pub delay: Option<u32>,
    /// Random deviation of the delay in microseconds.
    pub jitter: Option<u32>,
    /// Share of frames lost, 0 to 1.
    pub loss: Option<f64>,
}

impl Shaping {
    /// What a link with these attributes has.
    pub const fn of(attrs: &LinkAttrs) -> Self {
        Self { rate: attrs.rate, delay: attrs.delay, jitter: attrs.jitter, loss: attrs.loss }
    }

    /// Whether both come to the same. Who carries it out rounds: rates to bytes, shares to what fits into 32 bits.
    pub fn is_like(&self, other: &Self) -> bool {
        let time = |it: Option<u32>| it.unwrap_or_default();
        let loss = |it: Option<f64>| it.unwrap_or_default();
        let rate = match (self.rate, other.rate) {
            (Some(a), Some(b)) => a.abs_diff(b) < 8,
            (a, b) => a == b,
        };
        rate && time(self.delay) == time(other.delay)
            && time(self.jitter) == time(other.jitter)
            && (loss(self.loss) - loss(other.loss)).abs() < 1e-6
    }
}

/// What was read of the port of a switch that an end is plugged into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortReport {
    /// It is set up.
    pub admin_up: bool,
    /// Its maximum transmission unit in bytes.
    pub mtu: u32,
}

/// What was read of one end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndReport {
    /// It exists with the identity that was recorded when it was attached.
    pub intact: bool,
    /// It is set up.
    pub admin_up: bool,
    /// It has carrier.
    pub carrier: bool,
    /// Its maximum transmission unit in bytes.
    pub mtu: u32,
    /// What slows it down: at the port, where there is one, else at the end itself. None where that is not read.
    pub shaping: Option<Shaping>,
    /// The backend's own side of it; none where the end leads straight to the other one.
    pub port: Option<PortReport>,
}

/// What became of a test frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "snake_case")]
pub enum ProbeResult {
    /// Identity is the proof: the ends are each other's peers.
    NotNeeded,
    /// It arrived.
    Passed,
    /// None was sent.
    Skipped {
        /// Why not.
        reason: String,
    },
    /// It did not arrive.
    Failed {
        /// What was seen instead.
        reason: String,
    },
}

/// What was read of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// First end.
    pub a: EndReport,
    /// Second end; none where the identity has none.
    pub b: Option<EndReport>,
    /// Both ends are joined as they were when built: peers of each other, or on one segment.
    pub joined: bool,
    /// The test frame.
    pub probe: ProbeResult,
    /// What is wrong, in words; empty when nothing is.
    pub problems: Vec<String>,
}

impl LinkReport {
    /// Whether everything of the link stands as it was built. Whether it carries frames also depends on the nodes.
    pub fn is_intact(&self) -> bool {
        self.joined
            && self.a.intact
            && self.b.as_ref().is_none_or(|b| b.intact)
            && !matches!(self.probe, ProbeResult::Failed { .. })
    }

    /// Whether it stands, is set up at both ends and has carrier.
    pub fn is_up(&self) -> bool {
        let live = |end: &EndReport| end.admin_up && end.carrier;
        self.is_intact() && live(&self.a) && self.b.as_ref().is_none_or(live)
    }
}

/// Something of ours that a backend found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedLink {
    /// The link by its mark.
    pub link: LinkId,
    /// Its incarnation by its mark, where the mark tells.
    pub incarnation: Option<u64>,
    /// Interfaces that bear the mark, as (cookie of the namespace, index, name).
    pub interfaces: Vec<(u64, u32, IfName)>,
}

/// News from a backend. News make things fast; [`NetworkBackend::verify`] and `observe` make them right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// Something of a link changed: verify it.
    Changed(LinkId),
    /// News may have been lost: look at everything.
    Resync,
}

/// Builds, checks and removes links on one host.
///
/// # Laws
///
/// - *Atomic*: a link is built or nothing of it remains.
/// - *Connect is idempotent*: repeated for one (link, incarnation) between the same points it returns the same identity.
///   What an older incarnation left is replaced.
/// - *Connect mends*: what somebody changed of a link since it was built is put right in place, as far as it is the
///   backend's own: segments, ports, bridges, and their attributes. What a node set at its interface is left. An end that is
///   not there any more is made again, and the identity is another one then. So it is when the link moved to another segment.
/// - *Marked from birth*: whatever is made can be told from what is not ours from the moment it exists, and
///   [`observe`](Self::observe) finds it.
/// - *Foreign objects are refused*: an interface that is not ours in the place of ours is
///   [`ErrorKind::Foreign`], and is neither changed nor removed, by any operation.
/// - *Disconnect is idempotent and complete*: afterwards nothing of the link is found. It never touches another link.
/// - *Verify changes nothing* and compares with the recorded identity: an interface deleted and made again under its old
///   name is not intact.
/// - *Both ends or none*: when one end's namespace has gone, the link has gone.
/// - *Release keeps the ends*: afterwards everything of a link but its ends is gone, as far as it is the backend's own, and
///   what another backend has of the same link is not touched. It is idempotent. The ends bear the mark all the time, so
///   that a backend which attaches them the same way, and is asked to connect the same (link, incarnation), takes them
///   over in place, as in mending.
/// - *Park keeps the ends that have an heir*: afterwards the link has gone, and each end for which another link is named
///   stands as it was, with what is on it, bears the mark of that link, and leads nowhere, without carrier. It is idempotent.
///   Whoever connects that link takes over what is parked for it in place, with the index and the address that it has, as
///   in mending; until then [`observe`](Self::observe) finds it, and [`remove`](Self::remove) removes it, as a part of that link.
/// - *Attributes change in place*: [`set_params`](Self::set_params) keeps the identity. Calls on one link take effect in the
///   order in which they were made, so that of attributes the later ones stand.
///
/// # Cancellation
///
/// A dropped future leaves an operation done or undone, never half done.
#[async_trait]
pub trait NetworkBackend: Send + Sync + fmt::Debug {
    /// What it can do on this host.
    fn capabilities(&self) -> NetworkCapabilities;

    /// Gets ready; called once before anything else, and idempotent.
    async fn initialize(&self) -> Result<()>;

    /// Removes what the backend itself made besides links. Links are left alone.
    async fn cleanup(&self) -> Result<()>;

    /// Builds a link. Both interfaces are created in their final places, set up where the attributes say so.
    async fn connect(&self, request: &LinkRequest) -> Result<LinkIdentity>;

    /// Removes a link, as far as it is there.
    async fn disconnect(&self, identity: &LinkIdentity) -> Result<()>;

    /// Lets go of a link that another backend takes over: removes bridges, ports and the like, and leaves the ends with
    /// their mark. Required for ends that [`NetworkCapabilities::attaches`] names; whatever has let go of them may be a part of
    /// something else at once.
    async fn release(&self, identity: &LinkIdentity) -> Result<()> {
        let message = "the network backend hands no links over";
        Err(Error::new(ErrorKind::Unsupported, "release link", message).about(identity.link))
    }

    /// Removes a link and parks those of its ends that another link is going to have: `heirs` names, by side, the mark that an
    /// end bears from then on. An end that does not stand any more is passed over. Required for ends that
    /// [`NetworkCapabilities::parks`] names.
    async fn park(&self, identity: &LinkIdentity, heirs: [Option<EndMark>; 2]) -> Result<()> {
        let _ = heirs;
        let message = "the network backend parks no ends";
        Err(Error::new(ErrorKind::Unsupported, "park link", message).about(identity.link))
    }

    /// Changes attributes in place. What cannot be changed is `Unsupported`, by name, and nothing is changed.
    async fn set_params(&self, identity: &LinkIdentity, attrs: &LinkAttrs) -> Result<()>;

    /// Gives or takes an end's carrier: without it the *other* end sees that nobody is there.
    async fn set_carrier(&self, identity: &LinkIdentity, side: Side, up: bool) -> Result<()>;

    /// Finds everything that bears the mark of this controller's links, in the host's namespace and in `namespaces`.
    async fn observe(&self, namespaces: &[NsRef]) -> Result<Vec<ObservedLink>>;

    /// Removes whatever bears the mark of a link, for collection: what was built and forgotten.
    async fn remove(&self, observed: &ObservedLink, namespaces: &[NsRef]) -> Result<()>;

    /// News about links, from now on.
    fn watch(&self) -> BoxStream<'static, NetworkEvent>;

    /// Reads a link back and compares it with its identity.
    async fn verify(&self, identity: &LinkIdentity) -> Result<LinkReport>;

    /// What it needs besides to carry links between hosts. Required for pairs with a tunnel.
    fn overlay(&self) -> Option<&dyn OverlayBackend> {
        None
    }
}
