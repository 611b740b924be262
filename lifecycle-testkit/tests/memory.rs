//! The laws, tried on the reference plugins: what fails here is wrong about the laws.
#![allow(clippy::unwrap_used)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lifecycle_core::attach::{AttachKind, AttachPoint, Mac, NsRef};
use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::memory::{MemoryHost, MemoryStore};
use lifecycle_core::name::{IfName, NodeName};
use lifecycle_core::plugin::provider::InstanceRef;
use lifecycle_core::plugin::{NetworkBackend, Provider, StateStore};
use lifecycle_core::topology::NodeSpec;
use lifecycle_testkit::laws::network::NetworkFixture;
use lifecycle_testkit::laws::provider::ProviderFixture;
use lifecycle_testkit::laws::{self, Verdict};

fn main() -> ExitCode {
    let stores = laws::store::suite("memory", || {
        let store = MemoryStore::new(ControllerId::from_u64(7));
        Ok(move || Ok(Arc::new(store.clone()) as Arc<dyn StateStore>))
    });
    let providers = laws::provider::suite("memory", || Ok(Nodes(MemoryHost::new())));
    let backends = laws::network::suite("memory", || Ok(Links::default()));
    stores.and(providers).and(backends).run()
}

struct Nodes(MemoryHost);

impl Nodes {
    /// The suite's first node, the only one that something foreign is put in the place of.
    fn first(identifier: &str) -> InstanceRef {
        InstanceRef { node: NodeId::from_u64(0x5eed_0001), incarnation: 9, identifier: identifier.to_owned() }
    }
}

#[async_trait]
impl ProviderFixture for Nodes {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.provider())
    }

    fn reopened(&self) -> Arc<dyn Provider> {
        Arc::new(self.0.provider())
    }

    fn sleeper(&self) -> NodeSpec {
        NodeSpec::new(NodeName::new("sleeper").unwrap(), "linux")
    }

    async fn make_foreign(&self, identifier: &str) -> Verdict {
        self.0.add_foreign_instance(Self::first(identifier), LabId::from_u64(1));
        Ok(())
    }

    async fn foreign_is_intact(&self, identifier: &str) -> bool {
        self.0.has_instance(Self::first(identifier).node)
    }

    async fn leftovers(&self, _identifier: &str) -> Vec<String> {
        let (instances, interfaces) = self.0.census();
        let listed = self.provider().list_nodes().await.unwrap().len();
        if instances > listed || interfaces > 0 { vec![format!("{instances} and {interfaces}")] } else { Vec::new() }
    }
}

#[derive(Default)]
struct Links {
    host: MemoryHost,
    namespaces: Mutex<Vec<NsRef>>,
    made: AtomicU64,
}

#[async_trait]
impl NetworkFixture for Links {
    fn backend(&self) -> Arc<dyn NetworkBackend> {
        Arc::new(self.host.network())
    }

    fn reopened(&self) -> Arc<dyn NetworkBackend> {
        Arc::new(self.host.network())
    }

    async fn point(&self) -> AttachPoint {
        let namespace = self.host.new_namespace();
        self.namespaces.lock().unwrap().push(namespace.clone());
        let number = 1 + self.made.fetch_add(1, Ordering::Relaxed);
        AttachPoint {
            node: Some(NodeId::from_u64(number)),
            incarnation: 1,
            ifname: IfName::new("eth1").unwrap(),
            mac: Mac([2, 0, 0, 0, 0, number as u8]),
            mtu: 1500,
            place: AttachKind::Namespace(namespace),
        }
    }

    fn namespaces(&self) -> Vec<NsRef> {
        self.namespaces.lock().unwrap().clone()
    }

    async fn exists(&self, point: &AttachPoint) -> bool {
        self.host.has_interface(point)
    }

    async fn delete(&self, point: &AttachPoint) {
        assert!(self.host.delete_interface(point));
    }

    async fn make_foreign(&self, point: &AttachPoint) {
        self.host.add_foreign_interface(point);
    }

    async fn take_place(&self, point: &AttachPoint) -> Verdict {
        let AttachKind::Namespace(namespace) = &point.place else { unreachable!("all points are in namespaces") };
        self.host.remove_namespace(namespace);
        self.namespaces.lock().unwrap().retain(|known| known != namespace);
        Ok(())
    }

    async fn teardown(&self) {}
}
