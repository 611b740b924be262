//! Links between two hosts, for tests of backends that make tunnels.

use std::net::IpAddr;
use std::time::Duration;

use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, Tunnel};
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::topology::LinkAttrs;

use super::Nodes;
use super::traffic::{Flow, Stream, address, bulk};

/// Bytes that are sent in one go; pings pass where this does not.
const BULK: usize = 20_000_000;
const PATIENCE: Duration = Duration::from_secs(3);
/// How long something is sent before and after a change.
const WHILE: Duration = Duration::from_millis(200);

#[track_caller]
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

/// An end at a tunnel.
pub fn tunnel(nodes: &Nodes, vni: u32, local: IpAddr, remote: IpAddr) -> AttachPoint {
    let tunnel = Tunnel { vni, remote, local: Some(local), port: 4789, source_port: None, parent: None };
    nodes.place("far", AttachKind::Tunnel(tunnel))
}

/// Both halves of a link between two hosts.
///
/// Methods panic when a backend or the kernel refuses them: then a test cannot go on.
#[derive(Debug)]
pub struct Halves<'a> {
    nodes: &'a Nodes,
    backends: [&'a dyn NetworkBackend; 2],
    /// The nodes' ends.
    pub points: [AttachPoint; 2],
    /// What was built.
    pub identities: [LinkIdentity; 2],
}

impl<'a> Halves<'a> {
    /// Builds link `number` with identifier `100 + number`, each half with the backend of its host, and checks that both
    /// are up.
    pub async fn build(
        nodes: &'a Nodes,
        backends: [&'a dyn NetworkBackend; 2],
        number: u32,
        [near, far]: [IpAddr; 2],
        mtu: u32,
    ) -> Self {
        let points = [nodes.point(), nodes.point()];
        let tunnels = [tunnel(nodes, 100 + number, near, far), tunnel(nodes, 100 + number, far, near)];
        let attrs = LinkAttrs { mtu, ..LinkAttrs::default() };
        let request =
            |half: usize| LinkRequest { attrs, ..nodes.request(number.into(), &points[half], &tunnels[half]) };
        let identities = [must(backends[0].connect(&request(0)).await), must(backends[1].connect(&request(1)).await)];
        let halves = Self { nodes, backends, points, identities };
        for (backend, identity) in backends.iter().zip(&halves.identities) {
            let report = must(backend.verify(identity).await);
            assert!(report.is_up() && report.problems.is_empty(), "{report:?}");
            assert_eq!((report.a.mtu, report.b.map(|b| b.mtu)), (mtu, Some(mtu)));
        }
        halves
    }

    /// Gives both nodes addresses and checks that frames pass each way, and much at once.
    pub fn carry(&self) {
        let [a, b] = &self.points;
        address(self.nodes, a, 1);
        let there = address(self.nodes, b, 2);
        assert!(self.nodes.passes(a, b) && self.nodes.passes(b, a));
        assert!(must(bulk(self.nodes, a, b, there, BULK)), "what arrived is not what was sent");
        assert!(must(bulk(self.nodes, b, a, IpAddr::from([10, 0, 0, 1]), BULK)), "what arrived is not what was sent");
    }

    /// Checks that frames of spanning tree, LACP, 802.1X and LLDP pass.
    pub fn carry_link_local_frames(&self) {
        let [a, b] = &self.points;
        for last in [0, 2, 3, 0x0e] {
            let group = Mac([1, 0x80, 0xc2, 0, 0, last]);
            assert!(self.nodes.frame_passes((a, &a.ifname), (b, &b.ifname), Some(group), PATIENCE), "{group}");
        }
    }

    /// Leads both halves to other addresses, after `change`, while something is sent through the link; tells what became
    /// of that.
    pub async fn redirect(&mut self, to: [IpAddr; 2], change: impl FnOnce()) -> Flow {
        let [a, b] = &self.points;
        address(self.nodes, a, 1);
        let stream = must(Stream::start(self.nodes, a, b, address(self.nodes, b, 2)));
        std::thread::sleep(WHILE);
        change();
        for (half, (local, remote)) in [(to[0], to[1]), (to[1], to[0])].into_iter().enumerate() {
            self.redirect_half(half, local, remote).await;
        }
        std::thread::sleep(WHILE);
        must(stream.finish())
    }

    async fn redirect_half(&mut self, half: usize, local: IpAddr, remote: IpAddr) {
        let (backend, first) = (self.backends[half], &self.identities[half]);
        let Some(AttachKind::Tunnel(old)) = first.b.as_ref().map(|end| &end.point.place) else { panic!("{first:?}") };
        let to = Tunnel { local: Some(local), remote, ..old.clone() };
        let mut expected = first.clone();
        if let Some(end) = &mut expected.b {
            end.point.place = AttachKind::Tunnel(to.clone());
        }
        let overlay = must(backend.overlay().ok_or("no tunnels"));
        assert_eq!(must(overlay.redirect(first, &to).await), expected);
        assert!(!must(backend.verify(first).await).is_intact(), "it is not led elsewhere");
        assert!(must(backend.verify(&expected).await).is_up());
        self.identities[half] = expected;
    }

    /// Removes both halves.
    pub async fn remove(&self) {
        for (backend, identity) in self.backends.iter().zip(&self.identities) {
            must(backend.disconnect(identity).await);
        }
    }
}
