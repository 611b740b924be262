//! Making, starting, stopping and removing nodes.

use std::time::{Duration, Instant};

use lifecycle_core::ErrorKind;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::InstanceState;
use serde_json::json;

use crate::bench::{Corner, create, port, run, sh, state};
use crate::{Test, Verdict};

pub(crate) const TESTS: &[Test] = &[
    ("life::a_node_lives_and_leaves_nothing", a_node_lives_and_leaves_nothing),
];

fn a_node_lives_and_leaves_nothing() -> Verdict {
    run(Corner::new(), async |corner| {
        let provider = corner.provider();
        let node = create(&provider, &corner.request(1)).await;
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        provider.start_node(&node).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        let (code, text) = sh(&provider, &node, "hostname; echo $$; cat /proc/1/comm; ls /; cat /proc/mounts; id; touch /etc/x /var/y /root/z /tmp/w /newfile && echo writes").await;
        println!("{text}");
        assert_eq!(code, Some(0));
        provider.stop_node(&node, Duration::from_secs(1)).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        provider.destroy_node(&node).await.unwrap();
        assert!(provider.list_nodes().await.unwrap().is_empty());
        let _ = (Instant::now(), json!({}), port(), ErrorKind::Failed);
        drop(provider);
        Ok(())
    })
}
