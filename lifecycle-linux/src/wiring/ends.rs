//! What is said of the ends of links.

use lifecycle_core::plugin::network::{EndIdentity, EndReport};
use lifecycle_core::topology::LinkAttrs;

use super::{Failure, Outcome};
use crate::netlink::Link;

/// Refuses, by name, the attributes of a link that `can` says cannot be set, with what to do.
///
/// # Errors
/// [`ErrorKind::Unsupported`](lifecycle_core::error::ErrorKind::Unsupported), naming all of them.
pub fn refuse(backend: &str, attrs: &LinkAttrs, can: impl Fn(&str) -> bool) -> Outcome<()> {
    let asked = [
        ("rate", attrs.rate.is_some()),
        ("delay", attrs.delay.is_some()),
        ("jitter", attrs.jitter.is_some()),
        ("loss", attrs.loss.is_some()),
    ];
    let names = asked.into_iter().filter(|(name, asked)| *asked && !can(name)).map(|(name, _)| name);
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::unsupported(format!(
        "the {backend} backend cannot set {} of a link here; leave it out",
        names.join(", ")
    )))
}

/// What was read of an end that stands with its identity, or does not.
pub fn report(found: Option<&Link>) -> EndReport {
    found.map_or_else(EndReport::default, |link| EndReport {
        intact: true,
        admin_up: link.admin_up,
        carrier: link.carrier,
        mtu: link.mtu,
    })
}

/// Tells what a node did to its own interface. It may do as it likes with it, and does not make it another one.
pub fn note_own_changes(end: &EndIdentity, link: &Link, problems: &mut Vec<String>) {
    let name = &end.point.ifname;
    if link.name != name.as_str() {
        problems.push(format!("the interface {name} was renamed to {}", link.name));
    }
    if link.mac != Some(end.mac) {
        let now = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        problems.push(format!("the address of {name} was changed from {} to {now}", end.mac));
    }
}
