//! What nodes have and what happens to them.

use crate::Test;
use crate::bench::{Daemon, block_on, create, place, started, state};
use lifecycle_core::plugin::provider::InstanceState;

pub(crate) const TESTS: &[Test] = &[("basic", basic)];

fn basic(daemon: &'static Daemon) {
    block_on(async {
        let corner = daemon.corner();
        let provider = corner.provider();
        let mut request = corner.request(1);
        request.management = Some(corner.management());
        let made = provider.create_node(&request).await.unwrap();
        println!("{made:?}");
        let _ = (create, place, started, state, InstanceState::Running);
        provider.start_node(&made.instance).await.unwrap();
        println!("{:?}", provider.list_nodes().await);
        provider.destroy_node(&made.instance).await.unwrap();
    });
}
