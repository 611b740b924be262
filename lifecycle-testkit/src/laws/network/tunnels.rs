//! The laws of links with an end at a tunnel, and of [`OverlayBackend`](lifecycle_core::plugin::OverlayBackend).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::{AttachKind, AttachPoint, PlaceKind, Tunnel};
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{LinkIdentity, LinkRequest};
use lifecycle_core::policy::link::Side;
use lifecycle_core::topology::LinkAttrs;

use super::super::runner::{eventually, torn_down};
use super::super::{Skip, Suite};
use super::{Bench, NetworkFixture};

/// MTU of links in these laws; with what a tunnel adds, their packets fit into usual ones.
const MTU: u32 = 1400;
const UDP_PORT: u16 = 4789;

/// What the suite has to be told, or to have done by hand, about a backend that makes tunnels: besides the host of
/// [`NetworkFixture::backend`] there is another one that it reaches.
#[async_trait]
pub trait TunnelFixture: NetworkFixture {
    /// The backend of the other host. Points of [`NetworkFixture::point`] do for it too.
    fn far_backend(&self) -> Arc<dyn NetworkBackend>;

    /// The address of this host, and that of the other one.
    fn addresses(&self) -> [IpAddr; 2];

    /// Another address that packets of this host have a way to.
    fn elsewhere(&self) -> IpAddr;

    /// Identifiers of all tunnels of this host, ours and others', read without asking the backend.
    async fn tunnels(&self) -> BTreeSet<u32>;

    /// Makes a tunnel of this host by hand that is not ours, at the UDP port of ours.
    async fn make_foreign_tunnel(&self, vni: u32);

    /// Deletes a tunnel of this host by hand.
    async fn delete_tunnel(&self, vni: u32);

    /// Leads a tunnel of this host to another far end by hand.
    async fn lead_astray(&self, vni: u32, remote: IpAddr);
}

/// The laws of a backend that makes tunnels. `make` makes a fixture for each of them, inside of a tokio runtime.
pub fn suite<F: TunnelFixture + 'static, O: Future<Output = Result<F, Skip>>>(
    name: &str,
    make: impl Fn() -> O + Send + Sync + 'static,
) -> Suite {
    let make = Arc::new(make);
    let mut suite = Suite::new();
    macro_rules! laws {
        ($($law:ident),* $(,)?) => {$({
            let make = Arc::clone(&make);
            suite = suite.law(format!("{name}::tunnels::{}", stringify!($law)), async move || {
                let fixture: Arc<dyn TunnelFixture> = Arc::new(make().await?);
                let near = Arc::clone(&fixture) as Arc<dyn NetworkFixture>;
                let bench = TunnelBench { fixture, near: Bench { fixture: near } };
                let law = async {
                    bench.near.backend().initialize().await.expect("initialize");
                    bench.fixture.far_backend().initialize().await.expect("initialize the other host's");
                    $law(&bench).await;
                    Ok(())
                };
                torn_down(law, bench.fixture.teardown()).await
            });
        })*};
    }
    laws!(
        a_link_to_a_tunnel_is_up,
        two_halves_join_two_hosts,
        disconnect_is_idempotent_and_complete,
        an_older_incarnation_is_replaced,
        an_identifier_that_is_taken_is_refused,
        a_tunnel_that_was_led_astray_is_not_intact,
        a_deleted_tunnel_is_not_intact,
        a_link_goes_with_its_node,
        attributes_change_in_place,
        a_tunnel_without_carrier_takes_that_of_the_node,
        a_redirected_tunnel_is_the_same_but_for_its_addresses,
        identifiers_are_those_in_use,
    );
    suite
}

struct TunnelBench {
    fixture: Arc<dyn TunnelFixture>,
    near: Bench,
}

impl TunnelBench {
    fn end(&self, vni: u32, [local, remote]: [IpAddr; 2], like: &AttachPoint) -> AttachPoint {
        let tunnel = Tunnel { vni, remote, local: Some(local), port: UDP_PORT, source_port: None, parent: None };
        AttachPoint {
            node: None,
            incarnation: 0,
            ifname: IfName::new("tunnel").expect("a name"),
            place: AttachKind::Tunnel(tunnel),
            ..like.clone()
        }
    }

    /// A request for incarnation 1 of link `number` between a new point and tunnel `number`.
    async fn request(&self, number: u32) -> LinkRequest {
        let mut request = self.near.request(number.into()).await;
        request.b = self.end(number, self.fixture.addresses(), &request.a);
        request.attrs = LinkAttrs { mtu: MTU, ..LinkAttrs::default() };
        request
    }

    async fn linked(&self, number: u32) -> (LinkRequest, LinkIdentity) {
        let request = self.request(number).await;
        let identity = self.near.connect(&request).await;
        (request, identity)
    }

    async fn becomes_up(&self, identity: &LinkIdentity) {
        eventually("the link is up", async || self.near.is_up(identity).await).await;
    }

    async fn assert_gone(&self, request: &LinkRequest) {
        assert!(!self.fixture.exists(&request.a).await, "the node's end is left");
        assert!(!self.fixture.tunnels().await.contains(&tunnel(request).vni), "the tunnel is left");
        assert_eq!(self.near.observed(request.link).await, [], "the link is still observed");
    }

    async fn in_use(&self) -> BTreeSet<u32> {
        let backend = self.near.backend();
        backend.overlay().expect("what makes tunnels").underlay().await.expect("read the underlay").vnis
    }
}

fn tunnel(request: &LinkRequest) -> &Tunnel {
    match &request.b.place {
        AttachKind::Tunnel(tunnel) => tunnel,
        other => panic!("{other:?} is no tunnel"),
    }
}

async fn a_link_to_a_tunnel_is_up(bench: &TunnelBench) {
    assert!(bench.near.backend().capabilities().can_connect(PlaceKind::Namespace, PlaceKind::Tunnel));
    let (request, identity) = bench.linked(1).await;
    assert_eq!(identity.a.point, request.a);
    assert_eq!(identity.b.as_ref().map(|b| &b.point), Some(&request.b));
    bench.becomes_up(&identity).await;
    let report = bench.near.verify(&identity).await;
    assert_eq!((report.a.mtu, report.b.as_ref().map(|b| b.mtu)), (MTU, Some(MTU)));
    assert!(report.problems.is_empty(), "{report:?}");
    assert_eq!(bench.fixture.tunnels().await, [1].into());
    let reopened = bench.fixture.reopened();
    reopened.initialize().await.expect("initialize");
    for backend in [bench.near.backend(), reopened] {
        assert_eq!(backend.connect(&request).await.expect("connect again"), identity);
        let found = backend.observe(&bench.fixture.namespaces()).await.expect("observe");
        assert_eq!(found.iter().map(|found| found.link).collect::<Vec<_>>(), [request.link]);
        assert!(backend.verify(&identity).await.expect("verify").is_up());
    }
}

async fn two_halves_join_two_hosts(bench: &TunnelBench) {
    let (near, identity) = bench.linked(1).await;
    let [here, there] = bench.fixture.addresses();
    let b = bench.fixture.point().await;
    // The tunnel may be either end.
    let far = LinkRequest { a: bench.end(1, [there, here], &b), b, ..near.clone() };
    let backend = bench.fixture.far_backend();
    let far_identity = backend.connect(&far).await.expect("connect on the other host");
    assert_eq!(backend.connect(&far).await.expect("connect again"), far_identity);
    bench.becomes_up(&identity).await;
    eventually("the other half is up", async || backend.verify(&far_identity).await.expect("verify").is_up()).await;
    let passes = async |from, to| bench.fixture.passes(from, to).await;
    assert_eq!(passes(&near.a, &far.b).await, Ok(true), "no frame went to the other host");
    assert_eq!(passes(&far.b, &near.a).await, Ok(true), "no frame came from the other host");
    backend.disconnect(&far_identity).await.expect("disconnect on the other host");
    assert!(!bench.fixture.exists(&far.b).await, "the end on the other host is left");
    assert!(bench.near.is_intact(&identity).await, "this host's half went with the other one");
}

async fn disconnect_is_idempotent_and_complete(bench: &TunnelBench) {
    let (request, identity) = bench.linked(1).await;
    let (_, other) = bench.linked(2).await;
    for _ in 0..2 {
        bench.near.backend().disconnect(&identity).await.expect("disconnect");
        bench.assert_gone(&request).await;
    }
    assert!(!bench.near.is_intact(&identity).await);
    assert!(bench.near.is_intact(&other).await, "disconnecting one link touched another");

    let (request, _) = bench.linked(3).await;
    for found in bench.near.observed(request.link).await {
        bench.near.backend().remove(&found, &bench.fixture.namespaces()).await.expect("remove");
    }
    bench.assert_gone(&request).await;
    assert!(bench.near.is_intact(&other).await, "collecting one link touched another");
}

async fn an_older_incarnation_is_replaced(bench: &TunnelBench) {
    let (mut request, first) = bench.linked(1).await;
    request.incarnation = 2;
    let second = bench.near.connect(&request).await;
    bench.becomes_up(&second).await;
    assert!(!bench.near.is_intact(&first).await, "the old incarnation still stands");
    assert_eq!(bench.fixture.tunnels().await, [1].into());
}

async fn an_identifier_that_is_taken_is_refused(bench: &TunnelBench) {
    bench.fixture.make_foreign_tunnel(7).await;
    assert!(bench.in_use().await.contains(&7), "an identifier that somebody else uses is not told");
    let request = bench.request(7).await;
    let error = bench.near.backend().connect(&request).await.expect_err("connect with an identifier that is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(error.chain().contains('7'), "the refusal does not name the identifier: {error:?}");
    assert!(!bench.fixture.exists(&request.a).await, "half a link is left");
    assert_eq!(bench.near.observed(request.link).await, []);
    assert_eq!(bench.fixture.tunnels().await, [7].into(), "what is not ours was touched");
    bench.fixture.delete_tunnel(7).await;
    let identity = bench.near.connect(&request).await;
    bench.becomes_up(&identity).await;
    // Nor do two links of ours share one.
    let mut other = bench.request(8).await;
    other.b = request.b.clone();
    let error = bench.near.backend().connect(&other).await.expect_err("connect with an identifier that is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    assert!(bench.near.is_intact(&identity).await, "a refused link touched another");
}

async fn a_tunnel_that_was_led_astray_is_not_intact(bench: &TunnelBench) {
    let (mut request, identity) = bench.linked(1).await;
    bench.fixture.lead_astray(1, bench.fixture.elsewhere()).await;
    eventually("it is noticed", async || !bench.near.is_intact(&identity).await).await;
    let report = bench.near.verify(&identity).await;
    assert!(report.a.intact && !report.b.as_ref().is_some_and(|b| b.intact), "{report:?}");
    assert!(
        report.problems.iter().any(|problem| problem.contains(&bench.fixture.elsewhere().to_string())),
        "{report:?}"
    );
    request.incarnation = 2;
    let repaired = bench.near.connect(&request).await;
    bench.becomes_up(&repaired).await;
}

async fn a_deleted_tunnel_is_not_intact(bench: &TunnelBench) {
    let (mut request, identity) = bench.linked(1).await;
    bench.fixture.delete_tunnel(1).await;
    eventually("it is noticed", async || !bench.near.is_intact(&identity).await).await;
    request.incarnation = 2;
    let repaired = bench.near.connect(&request).await;
    bench.becomes_up(&repaired).await;
    assert_eq!(bench.fixture.tunnels().await, [1].into());
}

async fn a_link_goes_with_its_node(bench: &TunnelBench) {
    let (request, identity) = bench.linked(1).await;
    bench.fixture.take_place(&request.a).await.expect("a place that can go");
    eventually("the tunnel is gone too", async || bench.fixture.tunnels().await.is_empty()).await;
    assert!(!bench.near.is_intact(&identity).await);
    bench.near.backend().disconnect(&identity).await.expect("disconnect of what is gone");
    assert_eq!(bench.near.observed(request.link).await, []);
}

async fn attributes_change_in_place(bench: &TunnelBench) {
    let (request, identity) = bench.linked(1).await;
    for mtu in [1300, MTU] {
        let attrs = LinkAttrs { mtu, ..request.attrs };
        bench.near.backend().set_params(&identity, &attrs).await.expect("set parameters");
        let report = bench.near.verify(&identity).await;
        assert!(report.is_intact(), "changing attributes changed the identity: {report:?}");
        assert_eq!((report.a.mtu, report.b.map(|b| b.mtu)), (mtu, Some(mtu)));
    }
    bench.becomes_up(&identity).await;
}

async fn a_tunnel_without_carrier_takes_that_of_the_node(bench: &TunnelBench) {
    let (_, identity) = bench.linked(1).await;
    bench.becomes_up(&identity).await;
    let backend = bench.near.backend();
    backend.set_carrier(&identity, Side::B, false).await.expect("take the tunnel's carrier");
    eventually("the node lost carrier", async || {
        let report = bench.near.verify(&identity).await;
        report.is_intact() && !report.a.carrier
    })
    .await;
    backend.set_carrier(&identity, Side::B, true).await.expect("give carrier");
    bench.becomes_up(&identity).await;
    // What the far end sees, its own host's backend sees to.
    backend.set_carrier(&identity, Side::A, false).await.expect("take the node's carrier");
    assert!(bench.near.is_intact(&identity).await);
    backend.set_carrier(&identity, Side::A, true).await.expect("give carrier");
    bench.becomes_up(&identity).await;
}

async fn a_redirected_tunnel_is_the_same_but_for_its_addresses(bench: &TunnelBench) {
    let (request, first) = bench.linked(1).await;
    let backend = bench.near.backend();
    let overlay = backend.overlay().expect("what makes tunnels");
    let to = Tunnel { remote: bench.fixture.elsewhere(), ..tunnel(&request).clone() };
    let second = overlay.redirect(&first, &to).await.expect("redirect");
    let mut expected = first.clone();
    expected.b.as_mut().expect("an end at a tunnel").point.place = AttachKind::Tunnel(to.clone());
    assert_eq!(second, expected);
    assert!(!bench.near.is_intact(&first).await, "the tunnel is where it was");
    bench.becomes_up(&second).await;
    for identity in [&first, &second] {
        assert_eq!(overlay.redirect(identity, &to).await.expect("redirect again"), second);
    }
    // Out of reach, and what no tunnel can become while it stands.
    let nowhere = Tunnel { local: Some(IpAddr::from([203, 0, 113, 9])), ..to.clone() };
    let other = Tunnel { vni: 99, ..to.clone() };
    for (to, kind) in [(nowhere, ErrorKind::Failed), (other, ErrorKind::Unsupported)] {
        let error = overlay.redirect(&second, &to).await.expect_err("what cannot be");
        assert_eq!(error.kind(), kind, "{to:?}: {error:?}");
        assert!(bench.near.is_up(&second).await, "a refused change was made");
    }
    let same = LinkRequest { b: second.b.as_ref().expect("an end at a tunnel").point.clone(), ..request };
    assert_eq!(bench.near.connect(&same).await, second, "it is built anew");
    backend.disconnect(&second).await.expect("disconnect");
    bench.assert_gone(&same).await;
}

async fn identifiers_are_those_in_use(bench: &TunnelBench) {
    const LINKS: u32 = 100;
    let backend = bench.near.backend();
    let mut links = Vec::new();
    for number in 1..=LINKS {
        links.push(bench.request(number).await);
    }
    let built = futures_util::future::join_all(links.iter().map(|request| backend.connect(request))).await;
    let built: Vec<LinkIdentity> = built.into_iter().collect::<Result<_, _>>().expect("connect all");
    assert_eq!(bench.fixture.tunnels().await, (1..=LINKS).collect());
    assert_eq!(bench.in_use().await, (1..=LINKS).collect());
    // Every other one goes.
    let (gone, kept): (Vec<_>, Vec<_>) = (1..=LINKS).zip(&built).partition(|(number, _)| number % 2 == 0);
    let gone = gone.iter().map(|(_, identity)| backend.disconnect(identity));
    assert!(futures_util::future::join_all(gone).await.into_iter().all(|result| result.is_ok()));
    let left: BTreeSet<u32> = kept.iter().map(|(number, _)| *number).collect();
    assert_eq!(bench.fixture.tunnels().await, left);
    assert_eq!(bench.in_use().await, left);
    for (_, identity) in &kept {
        assert!(bench.near.is_intact(identity).await);
    }
    let rest = kept.iter().map(|(_, identity)| backend.disconnect(identity));
    assert!(futures_util::future::join_all(rest).await.into_iter().all(|result| result.is_ok()));
    assert_eq!((bench.fixture.tunnels().await, bench.in_use().await), (BTreeSet::new(), BTreeSet::new()));
    for request in &links {
        assert!(!bench.fixture.exists(&request.a).await, "a node's end is left");
    }
}
