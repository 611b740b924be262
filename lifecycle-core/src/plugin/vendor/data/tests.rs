use std::path::Path;

use super::*;
use crate::id::{LabId, NodeId};
use crate::name::{LabName, NodeName};
use crate::plugin::vendor::{InterfaceWait, KindOption, StartupConfig};
use crate::topology::NodeSpec;

fn request(kind: &KindData, interfaces: u32) -> CreateNode {
    let (lab, spec) = (LabName::new("ring").unwrap(), NodeSpec::new(NodeName::new("r1").unwrap(), &kind.kind));
    let request = CreateNode::new(NodeId::from_u64(1), (LabId::from_u64(1), lab), "clab-ring-r1", spec);
    CreateNode { interfaces, ..request }
}

fn prepare(kind: KindData, request: &mut CreateNode) -> Result<()> {
    let vendor = DataVendor::new(vec![kind]);
    vendor.before_create(&vendor.kinds()[0], request)
}

fn commands(exec: &[&str]) -> Vec<Vec<String>> {
    let vendor = DataVendor::new(vec![KindData::new("linux")]);
    let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "linux");
    spec.exec = exec.iter().map(|line| (*line).to_owned()).collect();
    let actions = vendor.after_start(&vendor.kinds()[0], &VendorContext { spec: &spec, ends: &[] });
    actions.into_iter().map(|VendorAction::Exec { argv }| argv).collect()
}

#[test]
fn exec_lines_are_split_into_words_and_keep_their_order() {
    let lines = ["ip address add 10.0.0.1/24 dev eth1", "sh -c \"echo 'a  b' > /tmp/x\"", "", "true"];
    let expected = [
        vec!["ip", "address", "add", "10.0.0.1/24", "dev", "eth1"],
        vec!["sh", "-c", "echo 'a  b' > /tmp/x"],
        vec!["true"],
    ];
    assert_eq!(commands(&lines), expected);
}

#[test]
fn a_line_that_cannot_be_split_refuses_the_node() {
    let kind = KindData::new("linux");
    let mut request = request(&kind, 0);
    request.spec.exec = vec!["echo 'open".to_owned()];
    let error = prepare(kind, &mut request).unwrap_err();
    assert_eq!(error.to_string(), "read exec lines r1: the quotes of the `exec` line do not match: echo 'open");
}

#[test]
fn a_node_knows_its_labels_and_interfaces() {
    let mut kind = KindData::new("linux");
    kind.env.insert("FROM_KIND".to_owned(), "yes".to_owned());
    kind.env.insert("BOTH".to_owned(), "kind".to_owned());
    let mut request = request(&kind, 2);
    request.spec.labels.insert("my.label-1".to_owned(), "x".to_owned());
    request.spec.env.insert("CLAB_INTFS".to_owned(), "7".to_owned());
    request.spec.env.insert("BOTH".to_owned(), "user".to_owned());
    prepare(kind, &mut request).unwrap();
    let (env, labels) = (&request.spec.env, &request.spec.labels);
    assert_eq!(env["CLAB_LABEL_MY_LABEL_1"], "x");
    assert_eq!(env["CLAB_LABEL_CONTAINERLAB"], "ring");
    assert_eq!(env["CLAB_LABEL_CLAB_NODE_LONGNAME"], "clab-ring-r1");
    assert_eq!((env["CLAB_INTFS"].as_str(), env["BOTH"].as_str()), ("7", "user"), "what the user set wins");
    assert_eq!(env["FROM_KIND"], "yes");
    assert!(!env.contains_key("CLAB_LABEL_CLAB_NODE_TYPE"));
    assert_eq!(labels["clab-node-kind"], "linux");
}

#[test]
fn a_bridge_is_left_as_it_is() {
    let kind = KindData { passive: true, ..KindData::new("bridge") };
    let mut request = request(&kind, 2);
    let before = request.clone();
    prepare(kind, &mut request).unwrap();
    assert_eq!(request, before);
}

#[test]
fn only_a_node_with_interfaces_waits_for_them() {
    let wait = InterfaceWait {
        env: "CLAB_INTFS".to_owned(),
        entrypoint: vec!["/bin/bash".to_owned(), "-c".to_owned()],
        script: "wait; exec /sbin/init".to_owned(),
    };
    let kind = KindData { interface_wait: Some(wait.clone()), ..KindData::new("ceos") };
    let mut alone = request(&kind, 0);
    prepare(kind.clone(), &mut alone).unwrap();
    assert_eq!((alone.spec.entrypoint, alone.spec.cmd), (None, None));
    let mut linked = request(&kind, 3);
    prepare(kind.clone(), &mut linked).unwrap();
    assert_eq!(linked.spec.entrypoint.as_ref(), Some(&wait.entrypoint));
    assert_eq!(linked.spec.cmd, Some(vec![wait.script]));
    assert_eq!(linked.spec.env["CLAB_INTFS"], "3");
    let mut own = request(&kind, 3);
    own.spec.cmd = Some(vec!["sleep".to_owned()]);
    prepare(kind, &mut own).unwrap();
    assert_eq!(own.spec.entrypoint, None, "the user's own command is left alone");
}

#[test]
fn an_option_is_a_variable_with_a_default() {
    let option = KindOption { about: "x".to_owned(), env: "ZTP".to_owned(), default: "true".to_owned() };
    let mut kind = KindData::new("ceos");
    kind.options.insert("zerotouchCancel".to_owned(), option);
    let mut usual = request(&kind, 0);
    prepare(kind.clone(), &mut usual).unwrap();
    assert_eq!(usual.spec.env["ZTP"], "true");
    let mut chosen = request(&kind, 0);
    chosen.spec.env.insert("ZTP".to_owned(), "false".to_owned());
    prepare(kind, &mut chosen).unwrap();
    assert_eq!(chosen.spec.env["ZTP"], "false");
}

#[test]
fn an_initial_configuration_is_bound_or_on_a_medium_or_refused() {
    let with = |method| KindData {
        startup_config: Some(StartupConfig {
            method,
            path: "/mnt/flash/startup-config".into(),
            writable: false,
            label: Some("config".to_owned()),
            archive: None,
        }),
        ..KindData::new("ceos")
    };
    let kind = with(StartupMethod::Bind);
    let mut bound = request(&kind, 0);
    bound.spec.startup_config = Some("configs/r1.cfg".to_owned());
    prepare(kind.clone(), &mut bound).unwrap();
    let bind = &bound.spec.binds[0];
    assert_eq!((bind.source.as_path(), bind.read_only), (Path::new("configs/r1.cfg"), true));
    assert_eq!((bind.target.as_path(), bound.spec.startup_config), (Path::new("/mnt/flash/startup-config"), None));
    for (method, expected) in [(StartupMethod::Iso, MediumKind::Disc), (StartupMethod::ConfigDisk, MediumKind::Disk)] {
        let kind = with(method);
        let mut given = request(&kind, 0);
        given.spec.startup_config = Some("r1.cfg".to_owned());
        prepare(kind, &mut given).unwrap();
        let medium = given.medium.unwrap();
        assert_eq!((medium.kind, medium.source.as_path()), (expected, Path::new("r1.cfg")));
        assert_eq!((medium.label.as_deref(), given.spec.startup_config), (Some("config"), None));
        assert!(given.spec.binds.is_empty());
    }
    for (kind, config, why) in [
        (kind, "hostname r1\nend", "must name a file"),
        (KindData::new("x"), "r1.cfg", "takes no `startup-config`"),
        (with(StartupMethod::Iso), "https://host/r1.cfg", "must name a file"),
    ] {
        let mut refused = request(&kind, 0);
        refused.spec.startup_config = Some(config.to_owned());
        let error = prepare(kind, &mut refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(why) && !error.to_string().contains("hostname"), "{error}");
    }
}

#[test]
fn a_kind_fills_in_what_its_nodes_leave_open() {
    let mut kind = KindData { image: Some("ceos:latest".to_owned()), ..KindData::new("ceos") };
    kind.resources.memory = Some(2048);
    let mut spec = NodeSpec::new(NodeName::new("r1").unwrap(), "ceos");
    kind.complete(&mut spec);
    assert_eq!((spec.image.as_deref(), spec.resources.memory), (Some("ceos:latest"), Some(2 << 30)));
    spec.image = Some("ceos:4.32".to_owned());
    spec.resources.memory = Some(1);
    kind.complete(&mut spec);
    assert_eq!((spec.image.as_deref(), spec.resources.memory), (Some("ceos:4.32"), Some(1)));
}

#[test]
fn data_that_cannot_be_meant_is_refused() {
    let read = |text: &str| serde_json::from_str::<KindData>(text).map_err(|error| error.to_string());
    assert_eq!(read(r#"{"kind": "x"}"#).unwrap(), KindData::new("x"));
    for (text, why) in [
        (r#"{"kind": "X"}"#, "lower-case"),
        (r#"{"kind": "x", "aliases": [""]}"#, "cannot name a kind"),
        (r#"{"kind": "x", "prts": []}"#, "unknown field `prts`"),
        (r#"{"kind": "x", "readiness": {"probe": "log", "pattern": "("}}"#, "not a pattern"),
        (r#"{"kind": "x", "progress": [{"pattern": "a", "percent": 101}]}"#, "more than 100 percent"),
        (r#"{"kind": "x", "save": {"command": ["x"], "file": "../x"}}"#, "not the name of a file"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    let kind = read(r#"{"kind": "x", "readiness": {"probe": "log", "pattern": "login:", "timeout": 9}}"#).unwrap();
    let text = serde_json::to_string(&kind).unwrap();
    assert_eq!(serde_json::from_str::<KindData>(&text).unwrap(), kind);
}
