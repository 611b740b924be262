//! The laws of [`Provider`] and of its optional faces.

mod cases;
mod faces;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lifecycle_core::Error;
use lifecycle_core::attach::{AttachPoint, Mac};
use lifecycle_core::id::{LabId, NodeId};
use lifecycle_core::name::{IfName, LabName, NodeName};
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{CreateNode, InstanceRef, InstanceState, ObservedNode, PortRequest};
use lifecycle_core::topology::NodeSpec;

use super::runner::torn_down;
use super::{Skip, Suite, Verdict};

/// What the suite has to be told, or to have done by hand, about a provider.
///
/// Every law gets a fixture of its own: a provider of its own controller, in directories of its own.
#[async_trait]
pub trait ProviderFixture: Send + Sync {
    /// The provider.
    fn provider(&self) -> Arc<dyn Provider>;

    /// Another one of the same controller, as it would be made after a restart.
    fn reopened(&self) -> Arc<dyn Provider>;

    /// A node that runs until it is stopped. The suite sets nothing but its name.
    fn sleeper(&self) -> NodeSpec;

    /// A node in which commands can be run, once it has started.
    fn commanded(&self) -> NodeSpec {
        self.sleeper()
    }

    /// A node whose own process is `sh -c script`.
    ///
    /// # Errors
    /// A skip, when nodes cannot be told what to run.
    fn script(&self, _script: &str) -> Result<NodeSpec, Skip> {
        Err(Skip::new("script", "the fixture has no nodes that run a script"))
    }

    /// Puts something that is not ours where the instance called `identifier` would be.
    ///
    /// # Errors
    /// A skip, when nothing foreign can be in the provider's way.
    async fn make_foreign(&self, _identifier: &str) -> Verdict {
        Err(Skip::new("foreign", "the fixture cannot make a foreign object"))
    }

    /// Whether what [`make_foreign`](Self::make_foreign) made is as it was.
    async fn foreign_is_intact(&self, _identifier: &str) -> bool {
        false
    }

    /// Everything on the machine that belongs to the instance called `identifier`, found without asking the provider:
    /// processes, namespaces, files, rows.
    async fn leftovers(&self, identifier: &str) -> Vec<String>;

    /// Removes whatever the law left; instances were destroyed before as far as the provider lists them.
    async fn teardown(&self) {}
}

/// The laws of a provider. `make` makes a fixture for each of them, inside of a tokio runtime.
pub fn suite<F: ProviderFixture + 'static>(
    name: &str,
    make: impl Fn() -> Result<F, Skip> + Send + Sync + 'static,
) -> Suite {
    let make: Arc<Make> = Arc::new(move || Ok(Arc::new(make()?) as Arc<dyn ProviderFixture>));
    let mut suite = Suite::new();
    macro_rules! laws {
        ($($module:ident::$law:ident),* $(,)?) => {$({
            let make = Arc::clone(&make);
            suite = suite.law(format!("{name}::provider::{}", stringify!($law)), async move || {
                let bench = Bench { fixture: make()? };
                torn_down($module::$law(&bench), bench.clear()).await
            });
        })*};
    }
    laws!(
        cases::names_are_deterministic,
        cases::capabilities_agree_with_faces,
        cases::create_is_idempotent,
        cases::create_runs_nothing_and_prepares_attach_points,
        cases::an_instance_is_marked_from_birth,
        cases::a_cancelled_create_is_never_half_visible,
        cases::a_cancelled_start_stop_or_destroy_can_be_repeated,
        cases::foreign_objects_are_refused,
        cases::another_incarnation_is_a_conflict,
        cases::start_is_idempotent,
        cases::stop_is_idempotent,
        cases::what_does_not_exist_is_not_found,
        cases::an_instance_is_found_without_its_identifier,
        cases::stop_keeps_the_instance,
        cases::destroy_is_idempotent_and_leaves_nothing,
        cases::observation_changes_nothing,
        cases::a_list_tells_the_whole_truth,
        cases::nodes_are_independent,
        cases::news_arrive,
        cases::an_exit_is_recorded,
        faces::exec_returns_the_commands_own_result,
        faces::exec_of_a_missing_command_is_not_found,
        faces::exec_in_a_node_that_does_not_run_is_a_conflict,
        faces::exec_ends_with_its_time,
        faces::logs_survive_the_end_and_a_restart,
        faces::a_console_survives_its_watcher,
        faces::looking_images_up_changes_nothing,
        faces::capacity_is_told,
    );
    suite
}

type Make = dyn Fn() -> Result<Arc<dyn ProviderFixture>, Skip> + Send + Sync;

/// A fixture with the calls that laws make of it.
struct Bench {
    fixture: Arc<dyn ProviderFixture>,
}

impl Bench {
    fn provider(&self) -> Arc<dyn Provider> {
        self.fixture.provider()
    }

    /// A request for incarnation 1 of node `number`, made from `spec`.
    fn request(&self, number: u64, mut spec: NodeSpec) -> CreateNode {
        let name = NodeName::new(format!("n{number}")).expect("a node's name");
        let (node, long_name) = (NodeId::from_u64(0x5eed_0000 + number), format!("laws-{name}"));
        spec.name = name;
        let lab = (LabId::from_u64(0x1ab), LabName::new("laws").expect("a lab's name"));
        CreateNode { interfaces: 1, ..CreateNode::new(node, lab, long_name, spec) }
    }

    fn sleeper(&self, number: u64) -> CreateNode {
        self.request(number, self.fixture.sleeper())
    }

    async fn create(&self, request: &CreateNode) -> InstanceRef {
        self.provider().create_node(request).await.expect("create").instance
    }

    async fn created(&self, number: u64) -> InstanceRef {
        self.create(&self.sleeper(number)).await
    }

    async fn started(&self, number: u64) -> InstanceRef {
        let instance = self.created(number).await;
        self.provider().start_node(&instance).await.expect("start");
        instance
    }

    /// Starts a node and waits until commands can be run in it.
    async fn able(&self, number: u64) -> InstanceRef {
        let instance = self.create(&self.request(number, self.fixture.commanded())).await;
        let provider = self.provider();
        provider.start_node(&instance).await.expect("start");
        provider.exec().expect("the face of the capability").until_able(&instance).await.expect("commands can be run");
        instance
    }

    async fn stop(&self, instance: &InstanceRef) -> Result<(), Error> {
        self.provider().stop_node(instance, Duration::from_secs(2)).await
    }

    async fn observe(&self, instance: &InstanceRef) -> Option<ObservedNode> {
        self.provider().observe_node(instance).await.expect("observe")
    }

    async fn state(&self, instance: &InstanceRef) -> InstanceState {
        self.observe(instance).await.expect("the instance exists").state
    }

    async fn attach_point(&self, instance: &InstanceRef) -> AttachPoint {
        self.provider().attach_point(instance, &port()).await.expect("attach point")
    }

    async fn list(&self) -> Vec<ObservedNode> {
        let mut list = self.provider().list_nodes().await.expect("list");
        list.sort_by(|a, b| a.instance.cmp(&b.instance));
        list
    }

    /// Instances that are listed.
    async fn instances(&self) -> Vec<InstanceRef> {
        self.list().await.into_iter().map(|node| node.instance).collect()
    }

    async fn assert_gone(&self, instance: &InstanceRef) {
        assert_eq!(self.observe(instance).await, None, "{instance} is still observed");
        assert!(!self.instances().await.contains(instance), "{instance} is still listed");
        let left = self.fixture.leftovers(&instance.identifier).await;
        assert!(left.is_empty(), "destroy left behind of {instance}: {left:?}");
    }

    async fn clear(&self) {
        if let Ok(nodes) = self.provider().list_nodes().await {
            for node in nodes {
                drop(self.provider().destroy_node(&node.instance).await);
            }
        }
        self.fixture.teardown().await;
    }
}

fn port() -> PortRequest {
    PortRequest { ifname: IfName::new("eth1").expect("an interface's name"), mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500 }
}
