//! Fields that this system has no part for: checked, and kept for the providers and vendors that know them.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::diagnostics::Problems;
use crate::precedence::{Field, Layers};
use crate::values;

/// The fields that are kept as they are, for whoever knows what to do with them.
///
/// `replace` puts values in for containerlab's own variables.
pub(crate) fn read(
    layers: &Layers<'_>,
    replace: &dyn Fn(&str) -> String,
    problems: &mut Problems,
) -> BTreeMap<String, Json> {
    let mut extra = BTreeMap::new();
    let mut keep = |name: &str, value: Option<Json>| {
        extra.extend(value.map(|value| (name.to_owned(), value)));
    };
    macro_rules! scalars {
        ($($field:ident $name:literal),*) => {
            $(keep($name, layers.first(|level| &level.$field).map(|given| json!(given.value)));)*
        };
    }
    macro_rules! lists {
        ($($field:ident $name:literal),*) => {$(
            let list = layers.concat(|level| &level.$field);
            keep($name, (!list.is_empty()).then(|| list.into_iter().map(|item| item.value.clone()).collect()));
        )*};
    }
    scalars!(
        auto_remove "auto-remove", cgroup_parent "cgroup-parent", cgroupns_mode "cgroupns-mode",
        enforce_startup_config "enforce-startup-config", license "license", link_apply_mode "link-apply-mode",
        pid_mode "pid-mode", position "position", privileged "privileged", restart_policy "restart-policy",
        runtime "runtime", shm_size "shm-size", suppress_startup_config "suppress-startup-config"
    );
    lists!(cap_add "cap-add", devices "devices", security_opts "security-opts");
    keep("certificate", layers.merge_record(|level| &level.certificate));
    keep("credentials", layers.merge_record(|level| &level.credentials));
    keep(
        "components",
        layers.first(|level| &level.components).map(|list| list.iter().map(|item| item.value.clone()).collect()),
    );
    keep(
        "extras",
        layers.first(|level| &level.extras).map(|extras| {
            extras
                .iter()
                .map(|(key, entry)| (key.clone(), entry.value.as_ref().map_or(Json::Null, |value| value.value.clone())))
                .collect()
        }),
    );
    let ports = layers.first(|level| &level.ports);
    for port in ports.iter().flat_map(|ports| &ports.value).filter(|port| !values::is_port_mapping(port)) {
        problems.error(
            port.span,
            format!("`{:.80}` is not a published port", port.value),
            "expected [address:]host:container[/protocol]",
        );
    }
    keep("ports", ports.map(|ports| ports.iter().map(|port| port.value.clone()).collect()));
    let mut vars = serde_json::Map::new();
    let configs: Vec<_> = layers.records(|level| &level.config).collect();
    for (key, entry) in configs.iter().rev().filter_map(|config| config.vars.as_ref()).flat_map(|vars| &vars.value) {
        vars.insert(key.clone(), entry.value.as_ref().map_or(Json::Null, |value| value.value.clone()));
    }
    keep("config", (!vars.is_empty()).then(|| json!({ "vars": vars })));
    check_words(layers, problems);
    if let Some(size) = layers.first(|level| &level.shm_size).filter(|size| values::size(size).is_none()) {
        problems.error(size.span, format!("`{:.80}` is not a size", size.value), "expected a size such as 64MB");
    }
    if let Some(kept) = extra.get_mut("extras") {
        replace_texts(kept, replace);
    }
    extra
}

fn replace_texts(json: &mut Json, replace: &dyn Fn(&str) -> String) {
    match json {
        Json::String(text) => *text = replace(text),
        Json::Array(items) => items.iter_mut().for_each(|item| replace_texts(item, replace)),
        Json::Object(entries) => entries.values_mut().for_each(|value| replace_texts(value, replace)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Fields whose value is one of a few words.
fn check_words(layers: &Layers<'_>, problems: &mut Problems) {
    let policies = ["no", "on-failure", "always", "unless-stopped"];
    let checks: [(Field<String>, &[&str]); 3] = [
        (|level| &level.restart_policy, &policies),
        (|level| &level.cgroupns_mode, &["host", "private"]),
        (|level| &level.link_apply_mode, &["live", "restart", "recreate"]),
    ];
    for (field, known) in checks {
        let Some(text) = layers.first(field) else { continue };
        let word = text.to_ascii_lowercase();
        if !known.contains(&word.split(':').next().unwrap_or_default()) {
            problems.error(
                text.span,
                format!("`{:.80}` is not known here", text.value),
                format!("expected one of: {}", known.join(", ")),
            );
        }
    }
}
