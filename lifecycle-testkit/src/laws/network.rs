//! The laws of [`NetworkBackend`].

mod changes;
mod churn;
mod existence;
mod handover;
mod parking;
pub mod tunnels;

use std::sync::Arc;

use async_trait::async_trait;
use lifecycle_core::attach::{AttachPoint, NsRef};
use lifecycle_core::id::LinkId;
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_core::plugin::network::{LinkIdentity, LinkLab, LinkReport, LinkRequest, ObservedLink};
use lifecycle_core::topology::LinkAttrs;

pub use churn::churn;

use super::runner::torn_down;
use super::{Skip, Suite, Verdict};

/// What the suite has to be told, or to have done by hand, about a network backend.
///
/// Every law gets a fixture of its own: a backend of its own controller.
#[async_trait]
pub trait NetworkFixture: Send + Sync {
    /// The backend.
    fn backend(&self) -> Arc<dyn NetworkBackend>;

    /// Another one of the same controller, as it would be made after a restart.
    fn reopened(&self) -> Arc<dyn NetworkBackend>;

    /// A new place that the backend can connect with any other that this returns, with nothing attached to it: usually
    /// an interface called `eth1` in a new namespace. The MTU is 1500.
    async fn point(&self) -> AttachPoint;

    /// Every namespace that was handed out and still exists.
    fn namespaces(&self) -> Vec<NsRef>;

    /// The lab that links belong to.
    fn lab(&self) -> Option<LinkLab> {
        None
    }

    /// Whether an interface of the point's name stands at the point, read without asking the backend.
    async fn exists(&self, point: &AttachPoint) -> bool;

    /// Deletes the interface at the point by hand.
    async fn delete(&self, point: &AttachPoint);

    /// Makes an interface at the point by hand, of the same name and address, that is not ours.
    async fn make_foreign(&self, point: &AttachPoint);

    /// Takes the whole place of a point away: its namespace.
    ///
    /// # Errors
    /// A skip, when the point's place cannot go.
    async fn take_place(&self, point: &AttachPoint) -> Verdict;

    /// Sends frames from one point and tells whether they arrive at the other.
    ///
    /// # Errors
    /// A skip, when the fixture cannot enter its points.
    async fn passes(&self, _from: &AttachPoint, _to: &AttachPoint) -> Result<bool, Skip> {
        Err(Skip::new("frames", "the fixture cannot send frames"))
    }

    /// Removes whatever the law left.
    async fn teardown(&self);
}

/// The laws of a network backend. `make` makes a fixture for each of them, inside of a tokio runtime.
pub fn suite<F: NetworkFixture + 'static>(
    name: &str,
    make: impl Fn() -> Result<F, Skip> + Send + Sync + 'static,
) -> Suite {
    let make: Arc<Make> = Arc::new(move || Ok(Arc::new(make()?) as Arc<dyn NetworkFixture>));
    let mut suite = Suite::new();
    macro_rules! laws {
        ($($module:ident::$law:ident),* $(,)?) => {$({
            let make = Arc::clone(&make);
            suite = suite.law(format!("{name}::network::{}", stringify!($law)), async move || {
                let bench = Bench { fixture: make()? };
                let law = async {
                    bench.backend().initialize().await.expect("initialize");
                    $module::$law(&bench).await
                };
                torn_down(law, bench.fixture.teardown()).await
            });
        })*};
    }
    laws!(
        existence::a_connected_link_is_up,
        existence::a_link_that_is_up_passes_frames,
        existence::initialize_is_idempotent,
        existence::connect_is_idempotent,
        existence::an_older_incarnation_is_replaced,
        existence::connect_is_atomic,
        existence::a_cancelled_connect_is_never_half_visible,
        existence::a_link_is_marked_from_birth,
        existence::foreign_interfaces_are_refused_and_left_alone,
        existence::disconnect_is_idempotent_and_complete,
        existence::collection_removes_what_was_forgotten,
        existence::cleanup_leaves_links_alone,
        changes::verify_changes_nothing,
        changes::an_end_made_again_under_its_old_name_is_not_intact,
        changes::a_missing_end_is_not_intact_and_connect_repairs,
        changes::both_ends_or_none,
        changes::attributes_change_in_place,
        changes::a_rate_is_set_or_refused_by_name,
        changes::a_delay_is_set_or_refused_by_name,
        changes::a_loss_is_set_or_refused_by_name,
        changes::admin_down_is_intact_but_not_up,
        changes::the_other_end_loses_carrier,
        changes::news_arrive,
        handover::release_keeps_the_ends,
        parking::parked_ends_are_taken_over_in_place,
        parking::what_is_parked_can_be_collected,
    );
    suite
}

type Make = dyn Fn() -> Result<Arc<dyn NetworkFixture>, Skip> + Send + Sync;

/// A fixture with the calls that laws make of it.
struct Bench {
    fixture: Arc<dyn NetworkFixture>,
}

impl Bench {
    fn backend(&self) -> Arc<dyn NetworkBackend> {
        self.fixture.backend()
    }

    /// A request for incarnation 1 of link `number`, between two new points.
    async fn request(&self, number: u64) -> LinkRequest {
        let (a, b) = (self.fixture.point().await, self.fixture.point().await);
        let attrs = LinkAttrs { mtu: 1500, ..LinkAttrs::default() };
        LinkRequest { lab: self.fixture.lab(), link: LinkId::from_u64(0x11_4000 + number), incarnation: 1, a, b, attrs }
    }

    async fn connect(&self, request: &LinkRequest) -> LinkIdentity {
        self.backend().connect(request).await.expect("connect")
    }

    /// Link `number` between two new points.
    async fn linked(&self, number: u64) -> (LinkRequest, LinkIdentity) {
        let request = self.request(number).await;
        let identity = self.connect(&request).await;
        (request, identity)
    }

    async fn verify(&self, identity: &LinkIdentity) -> LinkReport {
        self.backend().verify(identity).await.expect("verify")
    }

    /// Whether the link stands as it was built; a backend may also say that it is not there.
    async fn is_intact(&self, identity: &LinkIdentity) -> bool {
        match self.backend().verify(identity).await {
            Ok(report) => report.is_intact(),
            Err(error) => {
                assert_eq!(error.kind(), lifecycle_core::ErrorKind::NotFound, "{error:?}");
                false
            }
        }
    }

    async fn is_up(&self, identity: &LinkIdentity) -> bool {
        self.verify(identity).await.is_up()
    }

    async fn observe(&self) -> Vec<ObservedLink> {
        self.backend().observe(&self.fixture.namespaces()).await.expect("observe")
    }

    async fn observed(&self, link: LinkId) -> Vec<ObservedLink> {
        self.observe().await.into_iter().filter(|found| found.link == link).collect()
    }

    /// Whether an interface stands at the first and at the second end.
    async fn ends(&self, request: &LinkRequest) -> [bool; 2] {
        [self.fixture.exists(&request.a).await, self.fixture.exists(&request.b).await]
    }

    async fn assert_gone(&self, request: &LinkRequest) {
        assert_eq!(self.ends(request).await, [false, false], "an end is left");
        assert_eq!(self.observed(request.link).await, [], "the link is still observed");
    }
}
