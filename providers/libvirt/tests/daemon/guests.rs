//! What machines see and say: links, carrier, consoles, logs, the power button.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::Mac;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{ConsoleRequest, ExecRequest, InstanceRef, InstanceState, PortRequest};
use serde_json::json;

use crate::Test;
use crate::bench::{Bench, GUEST, block_on, create, eventually, log, port, says, started, state};

pub(crate) const TESTS: &[Test] = &[
    ("a_machine_takes_its_tap", a_machine_takes_its_tap),
    ("consoles_and_logs_and_the_power_button", consoles_and_logs_and_the_power_button),
    ("what_is_refused_leaves_nothing", what_is_refused_leaves_nothing),
];

/// Whether the guest answers at its address, from the namespace that has the tap.
fn answers(bench: &Bench) -> bool {
    bench.ping("10.77.0.2")
}

fn a_machine_takes_its_tap(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let mut request = bench.request(1, GUEST);
        request.spec.cmd.get_or_insert_default().push("ip=10.77.0.2/24".to_owned());
        let node = create(&provider, &request).await;
        let point = provider.attach_point(&node, &port()).await.unwrap();
        let tap = bench.make_tap(&point.place);
        bench.ip(&["addr", "add", "10.77.0.1/24", "dev", tap.as_str()]).unwrap();
        assert!(!bench.has_carrier(&tap), "nothing of the node's runs yet");
        provider.start_node(&node).await.unwrap();
        eventually("the guest answers", async || answers(bench)).await;
        assert!(bench.has_carrier(&tap));

        // The link goes down and comes back, as the guest sees it.
        let carrier = provider.carrier().unwrap();
        let ifname = port().ifname;
        carrier.set_carrier(&node, &ifname, false).await.unwrap();
        eventually("no carrier, no answer", async || !answers(bench)).await;
        carrier.set_carrier(&node, &ifname, true).await.unwrap();
        eventually("it answers again", async || answers(bench)).await;

        // Somebody removed the tap, and the backend made it again, for the same link and then for it as it was built anew:
        // the machine is plugged in once more.
        for mac in [port().mac, Mac([2, 0, 0, 0, 0, 2])] {
            bench.ip(&["link", "del", tap.as_str()]).unwrap();
            let point = provider.attach_point(&node, &PortRequest { mac, ..port() }).await.unwrap();
            bench.make_tap(&point.place);
            bench.ip(&["addr", "add", "10.77.0.1/24", "dev", tap.as_str()]).unwrap();
            carrier.set_carrier(&node, &ifname, true).await.unwrap();
            eventually("it answers at the new tap", async || answers(bench)).await;
        }

        // A stop leaves the tap, and a start takes it again.
        provider.stop_node(&node, Duration::ZERO).await.unwrap();
        assert!(!bench.has_carrier(&tap));
        provider.start_node(&node).await.unwrap();
        eventually("it answers after a start", async || answers(bench)).await;
        // Without its tap it starts as well: the link is another's to build.
        provider.stop_node(&node, Duration::ZERO).await.unwrap();
        bench.ip(&["link", "del", tap.as_str()]).unwrap();
        provider.start_node(&node).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Running);
        assert_eq!(carrier.set_carrier(&node, &ifname, true).await.unwrap_err().kind(), ErrorKind::NotFound);
        provider.destroy_node(&node).await.unwrap();
    });
}

fn consoles_and_logs_and_the_power_button(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let node = create(&provider, &bench.request(1, GUEST)).await;
        let request = ConsoleRequest { argv: None, columns: 80, rows: 24 };
        let open = async || provider.console().unwrap().open(&node, &request).await;
        assert_eq!(open().await.unwrap_err().kind(), ErrorKind::Conflict, "it does not run yet");
        provider.start_node(&node).await.unwrap();
        says(&provider, &node, "guest-ready", 1).await;

        let mut first = open().await.unwrap();
        // What the guest prints is not what is typed.
        first.input.write(b"echo heard-$((40+2))\n").await.unwrap();
        let mut seen = String::new();
        while !seen.contains("heard-42") {
            let piece = tokio::time::timeout(Duration::from_secs(30), first.output.next()).await;
            seen += &String::from_utf8_lossy(&piece.expect("it says something").expect("it is open").unwrap());
        }
        // Who comes later takes over; the machine minds neither.
        let mut second = open().await.unwrap();
        let ended = async { while first.output.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the first session ends");
        second.input.write(b"echo again-$((40+2))\n").await.unwrap();
        says(&provider, &node, "again-42", 1).await;
        drop(second);
        assert_eq!(state(&provider, &node).await, InstanceState::Running);

        commands_that_say_much(&provider, &node).await;

        // Asked to end, it does, and its log says how. What it said before is still there, also after the next start.
        provider.stop_node(&node, Duration::from_secs(30)).await.unwrap();
        assert_eq!(state(&provider, &node).await, InstanceState::Created);
        let text = log(&provider, &node).await;
        assert!(text.contains("lifecycle: it was asked to end and did"), "{text}");
        provider.start_node(&node).await.unwrap();
        says(&provider, &node, "guest-ready", 2).await;
        provider.stop_node(&node, Duration::ZERO).await.unwrap();
        says(&provider, &node, "was powered off", 1).await;
        provider.destroy_node(&node).await.unwrap();
        assert_eq!(provider.stop_node(&node, Duration::ZERO).await.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

/// An agent that is told to say too much is lost to libvirt; so it never is.
async fn commands_that_say_much(provider: &Arc<dyn Provider>, node: &InstanceRef) {
    let exec = provider.exec().unwrap();
    for (bytes, truncated) in [("1500000", false), ("20000000", true)] {
        let much = exec.exec(node, &ExecRequest::new(["head", "-c", bytes, "/dev/zero"])).await.unwrap();
        assert_eq!((much.stdout.len(), much.truncated, much.exit.code), (1_500_000, truncated, Some(0)));
    }
}

fn what_is_refused_leaves_nothing(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let missing = bench.request(1, "no-such-image");
        let error = provider.create_node(&missing).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ImageUnavailable, "{error:?}");
        let mut odd = bench.request(2, GUEST);
        odd.spec.extra.insert("extras".to_owned(), json!({ "libvirt": { "machine": "<no>'such\"model" } }));
        let error = provider.create_node(&odd).await.unwrap_err();
        assert!(!error.kind().is_unknown(), "{error:?}");
        assert!(provider.list_nodes().await.unwrap().is_empty());
        // Nothing listens in one that boots yet, or has no agent.
        let node = started(&provider, &bench.request(3, GUEST)).await;
        let began = Instant::now();
        let error = provider.exec().unwrap().exec(&node, &ExecRequest::new(["true"])).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.chain().contains("install qemu-guest-agent"), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "it took {:?} to learn that there is no agent", began.elapsed());
        provider.destroy_node(&node).await.unwrap();
        let left: Vec<_> = bench.virsh(&["list", "--all", "--name"]).lines().map(str::to_owned).collect();
        assert!(left.iter().all(String::is_empty), "{left:?}");
    });
}
