//! What is said of the ends of links.

use std::rc::Rc;

use lifecycle_core::attach::AttachKind;
use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::plugin::network::{EndIdentity, EndReport, LinkIdentity, PortReport, Shaping};
use lifecycle_core::topology::LinkAttrs;

use super::label::{Label, Owner, owner};
use super::{Failure, Outcome, Place, Places};
use crate::netlink::{Link, Which};

/// Refuses, by name, the attributes of a link that `can` says cannot be set, with what to do.
///
/// # Errors
/// [`ErrorKind::Unsupported`], naming all of them; [`ErrorKind::InvalidInput`] for a rate of nothing.
pub fn refuse(backend: &str, attrs: &LinkAttrs, can: impl Fn(&str) -> bool) -> Outcome<()> {
    if attrs.rate == Some(0) {
        let message = "a rate of 0 lets nothing pass; set the link down instead";
        return Err(Failure::new(ErrorKind::InvalidInput, message));
    }
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
        ..EndReport::default()
    })
}

/// The same, with what was read of the port that the end is plugged into.
pub fn report_plugged(found: Option<&Link>, port: Option<&Link>, shaping: Option<Shaping>) -> EndReport {
    let port = port.map(|port| PortReport { admin_up: port.admin_up, mtu: port.mtu });
    EndReport { port, shaping, ..report(found) }
}

/// Whether an interface bears all the marks of an end that was finished. Then what it is set to is its node's own.
pub fn is_finished(link: &Link, label: Label) -> bool {
    owner(link, label.controller) == Owner::End(label)
}

impl Places {
    /// Finds an end of a link of `controller` that stands, going by its identity, next to `other`, the point at the link's
    /// other end. None when it is not there any more, or its place is not.
    ///
    /// # Errors
    /// When its place cannot be reached.
    pub fn end(
        &mut self,
        controller: ControllerId,
        identity: &LinkIdentity,
        end: &EndIdentity,
        other: Option<&AttachKind>,
    ) -> Outcome<Option<(Rc<Place>, Link)>> {
        let place = match self.of(&end.point.place, other) {
            // A broker that was started anew may live in another namespace than the one that the bridge was in.
            Ok(place) if place.cookie == end.namespace => place,
            Ok(_) => return Ok(None),
            Err(failure) if failure.is_gone() => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let link = place.link(Which::Index(end.ifindex))?;
        let ours = |link: &Link| owner(link, controller).may_be_of(identity.link, identity.incarnation);
        Ok(link.filter(ours).map(|link| (place, link)))
    }
}

/// Tells what a node did to its own interface. It may do as it likes with it, and does not make it another one.
pub fn note_own_changes(end: &EndIdentity, link: &Link, problems: &mut Vec<String>) {
    let name = match &end.point.place {
        AttachKind::Tap { name, .. } => name,
        _ => &end.point.ifname,
    };
    if link.name != name.as_str() {
        problems.push(format!("the interface {name} was renamed to {}", link.name));
    }
    if link.mac != Some(end.mac) {
        let now = link.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        problems.push(format!("the address of {name} was changed from {} to {now}", end.mac));
    }
}
