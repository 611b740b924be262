//! A row of namespaces and the links between neighbours: by raw netlink, as containerlab makes them, and by our backend.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use lifecycle_core::attach::{AttachKind, AttachPoint, Tunnel};
use lifecycle_core::id::{ControllerId, LinkId};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::plugin::{HostContext, NetworkBackend, NetworkPlugin};
use lifecycle_core::policy::link::Side;
use lifecycle_core::policy::naming;
use lifecycle_core::topology::LinkAttrs;
use tokio::runtime::Runtime;

use crate::canary::Canary;
use crate::measure::{Result, Sample, millis};
use crate::raw::Space;

/// Milliseconds for a row of links.
pub(crate) fn raw(links: usize, make: fn(&Space, &Space, &Space) -> Result<()>) -> Result<f64> {
    let (home, spaces) = (Space::new()?, Space::many(links + 1)?);
    let begin = Instant::now();
    spaces.windows(2).try_for_each(|pair| make(&home, &pair[0], &pair[1]))?;
    let took = millis(begin);
    Canary::release(spaces)?;
    Ok(took)
}

/// What the kernel needs for a link at least.
pub(crate) fn born_in_place(_home: &Space, a: &Space, b: &Space) -> Result<()> {
    a.veth("eth1", b, "eth2")?;
    b.up("eth2")
}

/// As containerlab does it: made in one place, both ends moved to another, renamed and set up.
pub(crate) fn moved(home: &Space, a: &Space, b: &Space) -> Result<()> {
    home.plain_veth("bench-a", "bench-b")?;
    for (space, old, new) in [(a, "bench-a", "eth1"), (b, "bench-b", "eth2")] {
        home.move_to(old, space)?;
        space.rename(old, new)?;
        space.up(new)?;
    }
    Ok(())
}

/// Our backend by itself.
#[derive(Debug)]
pub(crate) struct Ours {
    runtime: Runtime,
    backend: Arc<dyn NetworkBackend>,
}

impl Ours {
    pub(crate) fn new() -> Result<Self> {
        Self::of(&lifecycle_network_veth::PLUGIN, serde_json::Value::Null)
    }

    /// Any of our backends.
    pub(crate) fn of(plugin: &NetworkPlugin, settings: serde_json::Value) -> Result<Self> {
        lifecycle_linux::limits::raise_open_files()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let context = HostContext::without_directories(ControllerId::from_u64(0xbe), settings);
        let backend = (plugin.make)(&context)?;
        runtime.block_on(backend.initialize())?;
        Ok(Self { runtime, backend })
    }

    /// Milliseconds for a row of links, made one after the other.
    pub(crate) fn one_by_one(&self, links: usize) -> Result<f64> {
        self.row(links, async |requests| {
            let mut made = Vec::new();
            for request in requests {
                made.push(self.backend.connect(request).await?);
            }
            Ok(made)
        })
    }

    /// Milliseconds for a row of links, all asked for at once as the engine does, each read back in the end.
    pub(crate) fn at_once(&self, links: usize) -> Result<f64> {
        self.row(links, async |requests| {
            let one = async |request| -> Result<LinkIdentity> {
                let identity = self.backend.connect(request).await?;
                self.backend.verify(&identity).await?;
                Ok(identity)
            };
            try_join_all(requests.iter().map(one)).await
        })
    }

    /// Milliseconds for a row of links that is asked for at once, and for its removal, asked for at once as well.
    pub(crate) fn up_and_down(&self, links: usize) -> Result<(f64, f64)> {
        let spaces = Space::many(links + 1)?;
        let requests = (0..links).map(|number| request(number, &spaces)).collect::<Result<Vec<_>>>()?;
        self.both_ways(&requests, spaces)
    }

    /// Milliseconds for each of so many links asked for at once, and for each of some more that are asked for one after the
    /// other once these stand; and what came of something done beside them.
    pub(crate) fn on_top<T>(
        &self,
        links: usize,
        more: usize,
        beside: impl FnOnce() -> Result<T>,
    ) -> Result<(f64, Sample, T)> {
        let spaces = Space::many(links + more + 1)?;
        let requests = (0..links + more).map(|number| request(number, &spaces)).collect::<Result<Vec<_>>>()?;
        let (first, rest) = requests.split_at(links);
        let measured = self.runtime.block_on(async {
            let begin = Instant::now();
            let mut made = try_join_all(first.iter().map(|request| self.backend.connect(request))).await?;
            let up = millis(begin) / links as f64;
            let mut each = Vec::new();
            for request in rest {
                let begin = Instant::now();
                made.push(self.backend.connect(request).await?);
                each.push(millis(begin));
            }
            for identity in &made {
                self.assert_up(identity).await?;
            }
            let beside = beside()?;
            try_join_all(made.iter().map(|identity| self.backend.disconnect(identity))).await?;
            Ok::<_, crate::measure::Error>((up, Sample::of(each), beside))
        })?;
        std::thread::sleep(Duration::from_millis(100));
        Canary::release(spaces)?;
        Ok(measured)
    }

    /// Milliseconds for each of some links between ends that are parked: one after the other, beside `others`, who do the same to
    /// the ports of the link that had them, and then all at once. Everybody begins on a switch that rests.
    pub(crate) fn hot_connect(
        &self,
        links: usize,
        mut others: impl FnMut(&[LinkIdentity]) -> Result<()>,
    ) -> Result<(Sample, f64)> {
        let spaces = Space::many(links + 1)?;
        let requests = (0..links).map(|number| request(number, &spaces)).collect::<Result<Vec<_>>>()?;
        let measured = self.runtime.block_on(async {
            let made = try_join_all(requests.iter().map(|request| self.backend.connect(request))).await?;
            let (mut each, mut second) = (Vec::new(), Vec::new());
            for (request, identity) in requests.iter().zip(&made) {
                others(std::slice::from_ref(identity))?;
                let heir = self.park(request, identity).await?;
                rest();
                let begin = Instant::now();
                second.push((self.backend.connect(&heir).await?, heir));
                each.push(millis(begin));
            }
            let (made, heirs): (Vec<_>, Vec<_>) = second.into_iter().unzip();
            others(&made)?;
            let second = made.iter().zip(&heirs);
            let heirs = try_join_all(second.map(|(identity, request)| self.park(request, identity))).await?;
            rest();
            let begin = Instant::now();
            let made = try_join_all(heirs.iter().map(|request| self.backend.connect(request))).await?;
            let together = millis(begin) / links as f64;
            for identity in &made {
                self.assert_up(identity).await?;
            }
            try_join_all(made.iter().map(|identity| self.backend.disconnect(identity))).await?;
            Ok::<_, crate::measure::Error>((Sample::of(each), together))
        })?;
        std::thread::sleep(Duration::from_millis(100));
        Canary::release(spaces)?;
        Ok(measured)
    }

    /// Parks both ends of a link for another one, which is returned.
    async fn park(&self, request: &LinkRequest, identity: &LinkIdentity) -> Result<LinkRequest> {
        let link = LinkId::from_u64(request.link.as_u64() + 1_000_000);
        let heir = LinkRequest { link, ..request.clone() };
        let heirs = [Side::A, Side::B].map(|side| Some(heir.mark(side)));
        self.backend.park(identity, heirs).await?;
        Ok(heir)
    }

    /// As [`Ours::up_and_down`] for links that lead from a namespace each to a tunnel each, from one address to the other.
    pub(crate) fn tunnels_up_and_down(&self, links: usize, [near, far]: [IpAddr; 2]) -> Result<(f64, f64)> {
        let spaces = Space::many(links + 1)?;
        let tunnel = |number: usize| -> Result<LinkRequest> {
            let mut request = request(number, &spaces)?;
            let vni = u32::try_from(number)? + 1;
            let tunnel = Tunnel { vni, remote: far, local: Some(near), port: 4789, source_port: None, parent: None };
            request.b.place = AttachKind::Tunnel(tunnel);
            request.attrs.mtu = 1400;
            Ok(request)
        };
        let requests = (0..links).map(tunnel).collect::<Result<Vec<_>>>()?;
        self.both_ways(&requests, spaces)
    }

    fn both_ways(&self, requests: &[LinkRequest], spaces: Vec<Space>) -> Result<(f64, f64)> {
        let took = self.runtime.block_on(async {
            let begin = Instant::now();
            let made = try_join_all(requests.iter().map(|request| self.backend.connect(request))).await?;
            let up = millis(begin);
            for identity in &made {
                self.assert_up(identity).await?;
            }
            let begin = Instant::now();
            try_join_all(made.iter().map(|identity| self.backend.disconnect(identity))).await?;
            Ok::<_, crate::measure::Error>((up, millis(begin)))
        })?;
        std::thread::sleep(Duration::from_millis(100));
        Canary::release(spaces)?;
        Ok(took)
    }

    fn row(&self, links: usize, make: impl AsyncFnOnce(&[LinkRequest]) -> Result<Vec<LinkIdentity>>) -> Result<f64> {
        let spaces = Space::many(links + 1)?;
        let requests = (0..links).map(|number| request(number, &spaces)).collect::<Result<Vec<_>>>()?;
        let took = self.runtime.block_on(async {
            let begin = Instant::now();
            let made = make(&requests).await?;
            let took = millis(begin);
            for identity in &made {
                self.assert_up(identity).await?;
            }
            Ok::<_, crate::measure::Error>(took)
        })?;
        // The backend keeps its descriptors of namespaces for a moment, and so the namespaces.
        std::thread::sleep(Duration::from_millis(100));
        Canary::release(spaces)?;
        Ok(took)
    }

    async fn assert_up(&self, identity: &LinkIdentity) -> Result<()> {
        for _ in 0..1000 {
            if self.backend.verify(identity).await?.is_up() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Err(format!("link {} did not come up", identity.link).into())
    }
}

/// Lets a switch finish what it began because of something done before.
pub(crate) fn rest() {
    std::thread::sleep(Duration::from_millis(30));
}

fn request(number: usize, spaces: &[Space]) -> Result<LinkRequest> {
    let link = LinkId::from_u64(number as u64);
    let point = |space: &Space, side: Side, ifname: &str| -> Result<AttachPoint> {
        let (ifname, mac) = (IfName::new(ifname)?, naming::mac(link, 1, side));
        let place = AttachKind::Namespace(space.reference()?);
        Ok(AttachPoint { node: None, incarnation: 1, ifname, mac, mtu: 1500, place })
    };
    let a = point(&spaces[number], Side::A, "eth1")?;
    let b = point(&spaces[number + 1], Side::B, "eth2")?;
    Ok(LinkRequest { lab: None, link, incarnation: 1, a, b, attrs: LinkAttrs { mtu: 1500, ..LinkAttrs::default() } })
}
