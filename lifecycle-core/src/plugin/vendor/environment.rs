//! What containerlab's images find in their labels and environment besides what the lab file puts there.

use crate::plugin::provider::CreateNode;

/// Adds the usual labels, and a variable for every label and for the number of interfaces. What is there already stays.
pub(super) fn add(request: &mut CreateNode) {
    let spec = &mut request.spec;
    let usual = [
        ("containerlab", Some(request.lab_name.to_string())),
        ("clab-node-name", Some(request.name.to_string())),
        ("clab-node-longname", Some(request.long_name.clone())),
        ("clab-node-kind", Some(spec.kind.clone())),
        ("clab-node-type", spec.r#type.clone()),
        ("clab-node-group", spec.group.clone()),
    ];
    for (label, value) in usual {
        if let Some(value) = value {
            spec.labels.entry(label.to_owned()).or_insert(value);
        }
    }
    for (label, value) in &spec.labels {
        spec.env.entry(variable(label)).or_insert_with(|| value.clone());
    }
    spec.env.entry("CLAB_INTFS".to_owned()).or_insert_with(|| request.interfaces.to_string());
}

/// The name of the variable that holds a label.
fn variable(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("CLAB_LABEL_{}", label.chars().map(plain).collect::<String>())
}
