//! The laws of providers, network backends and vendors, tried on the plugins of this crate.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::process::ExitCode;
use std::time::Duration;

use lifecycle_core::plugin::provider::{ExitRecord, InstanceState};
use lifecycle_example_custom_plugin::{helper_main, vendor};
use lifecycle_testkit::laws::provider::ProviderFixture;
use lifecycle_testkit::laws::{self, Suite};

fn main() -> ExitCode {
    helper_main();
    laws::provider::suite("process", || Ok(fixture::Processes::new()))
        .and(laws::network::suite("cable", || Ok(fixture::Places::new())))
        .and(laws::vendor::suite(vendor::PLUGIN, &["port0", "port1", "port4094"]))
        .and(own())
        .run()
}

/// What the laws do not ask for, since not every provider has a supervisor.
fn own() -> Suite {
    Suite::new()
        .law("process::nothing_escapes_its_supervisor", async || {
            let processes = fixture::Processes::new();
            let escape = "setsid sh -c 'setsid sleep 1000 & sleep 1000' & sleep 1000";
            let node = processes.started(escape).await;
            processes.until(|| processes.of(&node).len() >= 4).await;
            processes.provider().stop_node(&node, Duration::from_secs(1)).await.unwrap();
            assert_eq!(processes.of(&node), Vec::<i32>::new());
            Ok(())
        })
        .law("process::a_node_whose_supervisor_was_killed_is_never_run_twice", async || {
            let processes = fixture::Processes::new();
            let node = processes.start(&["sleep", "1000"]).await.unwrap();
            let before = processes.of(&node);
            processes.kill_supervisor(&node);
            let state = async || processes.provider().observe_node(&node).await.unwrap().unwrap().state;
            assert_eq!(state().await, InstanceState::Running);
            processes.provider().start_node(&node).await.unwrap();
            assert_eq!(processes.of(&node), before);
            processes.provider().stop_node(&node, Duration::from_secs(1)).await.unwrap();
            assert_eq!(state().await, InstanceState::Exited(ExitRecord { code: None, signal: None, at: None }));
            processes.provider().start_node(&node).await.unwrap();
            processes.provider().destroy_node(&node).await.unwrap();
            assert_eq!(processes.of(&node), Vec::<i32>::new());
            Ok(())
        })
        .law("process::a_program_that_is_not_there_is_named", async || {
            let processes = fixture::Processes::new();
            let error = processes.start(&["/no/such/program"]).await.unwrap_err();
            assert!(error.chain().contains("cannot run `/no/such/program`: No such file"), "{error:?}");
            Ok(())
        })
}
