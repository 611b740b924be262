use lifecycle_core::id::{ControllerId, LabId, NodeId};
use lifecycle_core::name::{LabName, NodeName};
use lifecycle_core::plugin::provider::InstanceRef;
use serde_json::json;

use super::*;
use crate::mark::Owner;

fn request(change: impl FnOnce(&mut NodeSpec)) -> CreateNode {
    let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
    spec.image = Some("router:1".to_owned());
    change(&mut spec);
    let lab = (LabId::from_u64(2), LabName::new("lab").unwrap());
    CreateNode { interfaces: 3, ..CreateNode::new(NodeId::from_u64(1), lab, "clab-lab-r1", spec) }
}

fn mark() -> Mark {
    let instance = InstanceRef { node: NodeId::from_u64(1), incarnation: 1, identifier: "x".to_owned() };
    let owner = Owner { controller: ControllerId::from_u64(9), host: "local".to_owned() };
    Mark { owner, lab: LabId::from_u64(2), name: "r1".to_owned(), instance }
}

fn all() -> Settings {
    Settings { allow_privileged: true, allow_devices: true, allow_host_namespaces: true, ..Settings::default() }
}

fn made(change: impl FnOnce(&mut NodeSpec)) -> Result<ContainerCreateBody, Failure> {
    node(&request(change), &mark(), &all(), "docker")
}

#[test]
fn fields_reach_the_daemon() {
    let body = made(|spec| {
        spec.cmd = Some(vec!["run".to_owned()]);
        spec.entrypoint = Some(vec!["/init".to_owned()]);
        spec.env.insert("A".to_owned(), "b=c".to_owned());
        spec.labels.insert("graph-icon".to_owned(), "router".to_owned());
        spec.user = Some("1:2".to_owned());
        spec.tmpfs.insert("/run".to_owned(), "size=1m".to_owned());
        spec.resources.memory = Some(64 << 20);
        spec.resources.cpu = Some(0.5);
        spec.resources.cpu_set = Some("0-1".to_owned());
        spec.sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        spec.sysctls.insert("kernel.msgmax".to_owned(), "1024".to_owned());
        for (field, value) in [
            ("cap-add", json!(["SYS_ADMIN"])),
            ("devices", json!(["/dev/kvm", "/dev/a:/dev/b:r", "/dev/c:rw"])),
            ("shm-size", json!("128MB")),
            ("restart-policy", json!("on-failure:3")),
            ("volumes", json!(["/data", "named:/named"])),
            ("security-opts", json!(["seccomp=unconfined"])),
        ] {
            spec.extra.insert(field.to_owned(), value);
        }
    })
    .unwrap();
    let host = body.host_config.unwrap();
    assert_eq!(body.env.unwrap(), ["A=b=c", "CLAB_INTFS=3", "CLAB_LABEL_GRAPH_ICON=router"]);
    assert_eq!(body.labels.as_ref().unwrap()["graph-icon"], "router");
    assert_eq!((host.memory, host.nano_cpus), (Some(64 << 20), Some(500_000_000)));
    assert_eq!(host.cap_add.unwrap(), ["SYS_ADMIN", "NET_ADMIN"]);
    assert_eq!(host.sysctls.unwrap(), HashMap::from([("kernel.msgmax".to_owned(), "1024".to_owned())]));
    assert_eq!(host.shm_size, Some(128 << 20));
    assert_eq!(host.restart_policy.unwrap().maximum_retry_count, Some(3));
    assert_eq!(
        (body.volumes.unwrap(), host.binds.unwrap()),
        (vec!["/data".to_owned()], vec!["named:/named".to_owned()])
    );
    let devices = host.devices.unwrap();
    assert_eq!(devices[1].path_in_container.as_deref(), Some("/dev/b"));
    assert_eq!(devices[2].cgroup_permissions.as_deref(), Some("rw"));
    assert_eq!(body.hostname, None, "the holder has it");
}

#[test]
fn an_operator_gives_every_node_a_capability() {
    let settings =
        Settings { capabilities: vec!["CAP_NET_ADMIN".to_owned(), "SYS_ADMIN".to_owned()], ..Settings::default() };
    let body = node(&request(|_| {}), &mark(), &settings, "docker").unwrap();
    assert_eq!(body.host_config.unwrap().cap_add.unwrap(), ["CAP_NET_ADMIN", "SYS_ADMIN"]);
}

#[test]
fn a_label_cannot_pass_for_a_mark() {
    let body = made(|spec| {
        spec.labels.insert("lifecycle.node".to_owned(), "somebody-else".to_owned());
    });
    let (read, _) = Mark::read(&body.unwrap().labels.unwrap()).unwrap();
    assert_eq!(read, mark());
}

#[test]
fn the_holder_has_what_belongs_to_the_network() {
    let network = ManagementNetwork {
        name: "clab".to_owned(),
        bridge: None,
        ipv4: None,
        ipv6: None,
        ipv4_range: None,
        ipv6_range: None,
        ipv4_gateway: None,
        ipv6_gateway: None,
        mtu: None,
        extra: Default::default(),
    };
    let request = request(|spec| {
        spec.sysctls.insert("net.ipv4.ip_forward".to_owned(), "0".to_owned());
        spec.extra.insert("ports".to_owned(), json!(["8080:80"]));
        spec.aliases = vec!["gateway".to_owned()];
        spec.mgmt_ipv4 = Some([172, 20, 20, 9].into());
    });
    let body = holder(&request, &mark(), "image".to_owned(), Some(&network)).unwrap();
    let host = body.host_config.unwrap();
    assert_eq!(body.hostname.as_deref(), Some("r1"));
    assert_eq!(host.network_mode.as_deref(), Some("clab"));
    assert_eq!(host.dns_search.unwrap(), ["lab.io"]);
    assert_eq!(host.sysctls.unwrap()["net.ipv4.ip_forward"], "0");
    let endpoint = &body.networking_config.unwrap().endpoints_config.unwrap()["clab"];
    let names = ["clab-lab-r1", "r1.lab.io", "gateway", "gateway.lab.io"];
    assert_eq!(endpoint.aliases.as_ref().unwrap(), &names);
    assert_eq!(endpoint.ipam_config.as_ref().unwrap().ipv4_address.as_deref(), Some("172.20.20.9"));
    let unpublished = holder(&request, &mark(), "image".to_owned(), None).unwrap_err();
    assert!(unpublished.message.contains("`ports`"));
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let refused = |change: fn(&mut NodeSpec)| made(change).unwrap_err();
    let of = |field: &'static str, value: Value| made(move |spec| drop(spec.extra.insert(field.to_owned(), value)));
    assert_eq!(refused(|spec| spec.image = None).kind, ErrorKind::ImageUnavailable);
    for (field, value) in [
        ("auto-remove", json!(true)),
        ("runtime", json!("ignite")),
        ("restart-policy", json!("perhaps")),
        ("restart-policy", json!("on-failure:x")),
        ("cgroupns-mode", json!("odd")),
        ("shm-size", json!("64 apples")),
    ] {
        let failure = of(field, value).unwrap_err();
        assert!(failure.message.contains(field), "{failure:?}");
    }
    assert!(of("runtime", json!("docker")).is_ok());
    let shared = refused(|spec| {
        spec.network_mode = NetworkMode::Host;
        spec.extra.insert("ports".to_owned(), json!(["80:80"]));
    });
    assert!(shared.message.contains("`ports`"));
    let joined = refused(|spec| {
        spec.network_mode = NetworkMode::Node(NodeName::new("other").unwrap());
        spec.hostname = Some("mine".to_owned());
    });
    assert!(joined.message.contains("`hostname`"));
    assert!(refused(|spec| drop(spec.tmpfs.insert("run".to_owned(), String::new()))).message.contains("`run`"));
}

#[test]
fn the_hosts_network_is_not_a_nodes_to_configure() {
    let body = made(|spec| spec.network_mode = NetworkMode::Host).unwrap();
    assert_eq!(body.host_config.unwrap().cap_add, None);
}
