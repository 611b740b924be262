//! What a node finds in its environment besides what the lab file puts there.

use std::collections::BTreeMap;

use lifecycle_core::plugin::provider::CreateNode;

/// The variables of a node that is about to be made.
pub(crate) fn of(request: &CreateNode) -> BTreeMap<String, String> {
    let spec = &request.spec;
    let usual = [
        ("containerlab", Some(request.lab_name.to_string())),
        ("clab-node-name", Some(request.name.to_string())),
        ("clab-node-longname", Some(request.long_name.clone())),
        ("clab-node-kind", Some(spec.kind.clone())),
        ("clab-node-type", spec.r#type.clone()),
        ("clab-node-group", spec.group.clone()),
    ];
    let usual = usual.into_iter().filter_map(|(label, value)| Some((variable(label), value?)));
    let labels = spec.labels.iter().map(|(label, value)| (variable(label), value.clone()));
    let interfaces = ("CLAB_INTFS".to_owned(), request.interfaces.to_string());
    usual.chain(labels).chain([interfaces]).collect()
}

/// The name of the variable that holds a label.
fn variable(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("CLAB_LABEL_{}", label.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use lifecycle_core::id::{LabId, NodeId};
    use lifecycle_core::name::{LabName, NodeName};
    use lifecycle_core::plugin::VendorConfig;
    use lifecycle_core::topology::NodeSpec;

    use super::*;
    use crate::{LINUX, Linux};

    fn request() -> CreateNode {
        let name = NodeName::new("r1").unwrap();
        CreateNode {
            node: NodeId::from_u64(1),
            incarnation: 1,
            lab: LabId::from_u64(1),
            lab_name: LabName::new("ring").unwrap(),
            long_name: "clab-ring-r1".to_owned(),
            spec: NodeSpec::new(name.clone(), LINUX),
            name,
            directory: PathBuf::from("/"),
            management: None,
            interfaces: 2,
        }
    }

    fn env(request: &mut CreateNode) -> BTreeMap<String, String> {
        let vendor = Linux::new();
        vendor.before_create(&vendor.kinds()[0], request).unwrap();
        request.spec.env.clone()
    }

    #[test]
    fn a_node_knows_its_labels_and_interfaces() {
        let mut request = request();
        request.spec.labels.insert("my.label-1".to_owned(), "x".to_owned());
        request.spec.env.insert("CLAB_INTFS".to_owned(), "7".to_owned());
        let env = env(&mut request);
        assert_eq!(env["CLAB_LABEL_MY_LABEL_1"], "x");
        assert_eq!(env["CLAB_LABEL_CONTAINERLAB"], "ring");
        assert_eq!(env["CLAB_LABEL_CLAB_NODE_LONGNAME"], "clab-ring-r1");
        assert_eq!(env["CLAB_INTFS"], "7", "what the user set wins");
        assert!(!env.contains_key("CLAB_LABEL_CLAB_NODE_TYPE"));
    }

    #[test]
    fn a_line_that_cannot_be_split_refuses_the_node() {
        let mut request = request();
        request.spec.exec = vec!["echo 'open".to_owned()];
        let vendor = Linux::new();
        let error = vendor.before_create(&vendor.kinds()[0], &mut request).unwrap_err();
        assert_eq!(error.to_string(), "read exec lines r1: the quotes of the `exec` line do not match: echo 'open");
    }
}
