//! A vendor whose kinds are data and nothing else.

use std::path::PathBuf;

use super::{KindData, StartupMethod, VendorAction, VendorConfig, VendorContext, environment};
use crate::error::{Error, ErrorKind, Result};
use crate::plugin::provider::{CreateNode, Medium, MediumKind};
use crate::topology::Bind;

/// A vendor whose kinds are data and nothing else.
///
/// Before a node is made it gets what its kind and containerlab put into its environment, its initial configuration, bound
/// or on a medium, and, where its kind has a race to lose, its wait for interfaces. After each start the lines of `exec` run
/// one after the other, split into words as a shell does, without a shell.
#[derive(Debug, Clone, PartialEq)]
pub struct DataVendor {
    kinds: Vec<KindData>,
}

impl DataVendor {
    /// A vendor of these kinds.
    pub fn new(kinds: Vec<KindData>) -> Self {
        Self { kinds }
    }
}

impl VendorConfig for DataVendor {
    fn kinds(&self) -> &[KindData] {
        &self.kinds
    }

    fn before_create(&self, kind: &KindData, request: &mut CreateNode) -> Result<()> {
        if kind.passive {
            return Ok(());
        }
        check_exec(request)?;
        bring_startup_config(kind, request)?;
        wait_for_interfaces(kind, request);
        let options = kind.options.values().map(|option| (&option.env, &option.default));
        for (name, value) in kind.env.iter().chain(options) {
            request.spec.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        environment::add(request);
        if kind.privileged {
            request.spec.extra.entry("privileged".to_owned()).or_insert(true.into());
        }
        Ok(())
    }

    fn after_start(&self, kind: &KindData, node: &VendorContext<'_>) -> Vec<VendorAction> {
        if kind.passive {
            return Vec::new();
        }
        let words = node.spec.exec.iter().filter_map(|line| shlex::split(line));
        words.filter(|argv| !argv.is_empty()).map(|argv| VendorAction::Exec { argv }).collect()
    }
}

fn check_exec(request: &CreateNode) -> Result<()> {
    match request.spec.exec.iter().find(|line| shlex::split(line).is_none()) {
        None => Ok(()),
        Some(line) => {
            let message = format!("the quotes of the `exec` line do not match: {line}");
            Err(Error::new(ErrorKind::InvalidInput, "read exec lines", message).about(&request.name))
        }
    }
}

fn bring_startup_config(kind: &KindData, request: &mut CreateNode) -> Result<()> {
    let Some(config) = request.spec.startup_config.clone() else { return Ok(()) };
    let refuse = |message: String| {
        Err(Error::new(ErrorKind::Unsupported, "bring the startup-config", message).about(&request.name))
    };
    let Some(startup) = &kind.startup_config else {
        return refuse(format!(
            "kind `{}` takes no `startup-config`; leave it out and configure the running node",
            kind.kind
        ));
    };
    if startup.method == StartupMethod::Ignored {
        return Ok(());
    }
    if config.contains('\n') || config.contains("://") {
        let message = "`startup-config` must name a file here, not be the text or its address; write it to a file beside \
                       the lab file";
        return refuse(message.to_owned());
    }
    request.spec.startup_config = None;
    let medium = |kind| Medium {
        kind,
        source: PathBuf::from(&config),
        path: startup.path.clone(),
        label: startup.label.clone(),
        archive: startup.archive.clone(),
    };
    match startup.method {
        StartupMethod::Ignored => {}
        StartupMethod::Bind => request.spec.binds.push(Bind {
            source: PathBuf::from(config),
            target: startup.path.clone(),
            read_only: !startup.writable,
            options: Vec::new(),
        }),
        StartupMethod::Iso => request.medium = Some(medium(MediumKind::Disc)),
        StartupMethod::ConfigDisk => request.medium = Some(medium(MediumKind::Disk)),
    }
    Ok(())
}

/// A user's own entrypoint or command is left alone: who starts the platform by hand, waits by hand.
fn wait_for_interfaces(kind: &KindData, request: &mut CreateNode) {
    let Some(wait) = &kind.interface_wait else { return };
    let spec = &mut request.spec;
    if request.interfaces == 0 || spec.entrypoint.is_some() || spec.cmd.is_some() {
        return;
    }
    spec.entrypoint = Some(wait.entrypoint.clone());
    spec.cmd = Some(vec![wait.script.clone()]);
    spec.env.entry(wait.env.clone()).or_insert_with(|| request.interfaces.to_string());
}

#[cfg(test)]
mod tests;
