//! What machines see and say: links, carrier, consoles, logs, the power button.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lifecycle_core::ErrorKind;
use lifecycle_core::attach::Mac;
use lifecycle_core::name::IfName;
use lifecycle_core::plugin::Provider;
use lifecycle_core::plugin::provider::{
    ConsoleRequest, CreateNode, ExecRequest, InstanceRef, InstanceState, Medium, MediumKind, PortRequest,
};
use lifecycle_core::plugin::vendor::{Chipset, DiskBus, Firmware, Machine, NicModel};
use serde_json::json;

use crate::Test;
use crate::bench::{BLANK, Bench, GUEST, block_on, create, eventually, log, port, says, started, state};

pub(crate) const TESTS: &[Test] = &[
    ("a_machine_takes_its_tap", a_machine_takes_its_tap),
    ("consoles_and_logs_and_the_power_button", consoles_and_logs_and_the_power_button),
    ("what_is_refused_leaves_nothing", what_is_refused_leaves_nothing),
    ("a_machine_is_made_as_its_kind_says", a_machine_is_made_as_its_kind_says),
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
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("r1.cfg"), "hostname r1\n").unwrap();
        let medium = Medium {
            kind: MediumKind::Disc,
            source: "r1.cfg".into(),
            path: "startup/iosxe_config.txt".into(),
            label: None,
            archive: None,
        };
        let directory = lab.path().to_owned();
        let request = CreateNode { medium: Some(medium), directory, ..bench.request(1, GUEST) };
        let node = create(&provider, &request).await;
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
        let script = "media && cat /media/startup/iosxe_config.txt";
        let read = provider.exec().unwrap().exec(&node, &ExecRequest::new(["sh", "-c", script])).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read.stdout), "hostname r1\n", "{read:?}");

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
        // Nothing listens in one that boots yet, or has no agent; and some have no port for one.
        let node = started(&provider, &bench.request(3, GUEST)).await;
        let mut without = bench.request(4, BLANK);
        without.spec.extra.insert("extras".to_owned(), json!({ "libvirt": { "agent": false } }));
        let without = started(&provider, &without).await;
        let run = ExecRequest::new(["true"]);
        let began = Instant::now();
        let error = provider.exec().unwrap().exec(&node, &run).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.chain().contains("install qemu-guest-agent"), "{error:?}");
        let error = provider.exec().unwrap().exec(&without, &run).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.chain().contains("has no port"), "{error:?}");
        provider.destroy_node(&without).await.unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it took {:?} to learn that there is no agent",
            began.elapsed()
        );
        provider.destroy_node(&node).await.unwrap();
        let left: Vec<_> = bench.virsh(&["list", "--all", "--name"]).lines().map(str::to_owned).collect();
        assert!(left.iter().all(String::is_empty), "{left:?}");
    });
}

fn a_machine_is_made_as_its_kind_says(bench: &mut Bench) {
    block_on(async {
        let provider = bench.provider();
        let lab = tempfile::tempdir().unwrap();
        fs::write(lab.path().join("r1.cfg"), "x").unwrap();
        let medium = |kind| Medium { kind, source: "r1.cfg".into(), path: "a".into(), label: None, archive: None };
        let old = Machine {
            disk: DiskBus::Ide,
            nic: NicModel::E1000,
            chipset: Chipset::I440fx,
            serial_ports: 4,
            reserved_nics: 2,
            ..Machine::default()
        };
        let new = Machine { disk: DiskBus::Sata, firmware: Firmware::Efi, ..Machine::default() };
        for (number, machine, kind, expected) in [
            (1, old, MediumKind::Disc, &["pc-i440fx", "bus='ide'", "model type='e1000'", "device='cdrom'"][..]),
            (2, old, MediumKind::Disk, &["dev='hda'", "dev='hdb'"]),
            (3, new, MediumKind::Disc, &["pc-q35", "bus='sata'", "model type='virtio'", "device='cdrom'", "pflash"]),
            (4, new, MediumKind::Disk, &["dev='sda'", "dev='sdb'", "/nvram.fd</nvram>"]),
        ] {
            let (medium, directory) = (Some(medium(kind)), lab.path().to_owned());
            let request = CreateNode { machine: Some(machine), medium, directory, ..bench.request(number, BLANK) };
            let node = started(&provider, &request).await;
            let xml = bench.virsh(&["dumpxml", &node.identifier]);
            for words in expected {
                assert!(xml.contains(words), "no {words} in {xml}");
            }
            let (serials, cards) = (xml.matches("<serial ").count(), xml.matches("<interface ").count());
            assert_eq!((serials, cards), if machine == old { (4, 3) } else { (1, 1) }, "{xml}");
            // Links come while it runs, whatever the chipset has room for.
            for name in ["eth1", "eth2", "eth3", "eth4"] {
                let ifname = IfName::new(name).unwrap();
                let point =
                    provider.attach_point(&node, &PortRequest { ifname: ifname.clone(), ..port() }).await.unwrap();
                bench.make_tap(&point.place);
                provider.carrier().unwrap().set_carrier(&node, &ifname, true).await.unwrap();
            }
            // It is made again with each start, of what it has.
            provider.stop_node(&node, Duration::ZERO).await.unwrap();
            provider.start_node(&node).await.unwrap();
            provider.destroy_node(&node).await.unwrap();
        }
    });
}
