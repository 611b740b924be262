//! Bridges that links share: made when they are missing, and removed with their last port when they are ours.

use lifecycle_core::error::ErrorKind;
use lifecycle_core::id::ControllerId;
use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::LINK_GROUP;

use super::label::{Owner, bridge_alias, bridge_mac, owner};
use super::{Failure, Outcome, Place};
use crate::netlink::{
    BRIDGE_PORT_FORWARD_ALL, Change, Link, NewLink, PortChange, Request, Which, change_link, create_bridge,
    delete_link, set_port,
};

/// Has the kernel send nothing of its own through an interface: the host has no business on a segment of a lab. A kernel
/// without IPv6 refuses, and needs it not.
pub fn keep_quiet(place: &Place, which: Which<'_>) {
    let _ = place.route(|route| route.run(quiet(which)));
}

/// The request of [`keep_quiet`], whose outcome does not matter.
pub fn quiet(which: Which<'_>) -> Request {
    change_link(which, &Change { link_local: Some(false), ..Change::default() })
}

/// Lets a port pass what a cable passes, but pause frames.
///
/// # Errors
/// When it is no port.
pub fn pass_all(place: &Place, which: Which<'_>) -> Outcome<()> {
    let port = PortChange { group_fwd_mask: Some(BRIDGE_PORT_FORWARD_ALL), learning: None };
    Ok(place.route(|route| route.run(set_port(which, port)))?)
}

/// The index of the bridge called `name`, made now if there is none, and whether it was. One that is not ours is used and
/// not changed. Whoever makes one calls [`set_up`] next; it stays down when a controller dies in between.
///
/// # Errors
/// [`ErrorKind::Foreign`] when something else has the name.
pub fn find_or_make(place: &Place, controller: ControllerId, name: &IfName) -> Outcome<(Link, bool)> {
    let (found, made) = match place.link(Which::Name(name))? {
        Some(found) => (found, false),
        None => {
            let new = NewLink { mac: Some(bridge_mac(controller, name)), group: LINK_GROUP, ..NewLink::new(name) };
            match place.route(|route| route.run(create_bridge(&new))) {
                Err(error) if !error.is_exists() => return Err(error.into()),
                result => {
                    let vanished = || Failure::new(ErrorKind::Conflict, format!("bridge {name} vanished"));
                    (place.link(Which::Name(name))?.ok_or_else(vanished)?, result.is_ok())
                }
            }
        }
    };
    if found.kind.as_deref() != Some("bridge") {
        let message = format!("the interface {name} on the host is not a bridge; rename or remove it");
        return Err(Failure::new(ErrorKind::Foreign, message));
    }
    Ok((found, made))
}

/// Labels a bridge of ours and sets it up.
///
/// # Errors
/// When the kernel refuses.
pub fn set_up(place: &Place, controller: ControllerId, bridge: &Link) -> Outcome<()> {
    let which = Which::Index(bridge.index);
    keep_quiet(place, which);
    let alias = bridge_alias(controller);
    let change = Change { up: Some(true), alias: Some(&alias), ..Change::default() };
    Ok(place.route(|route| route.run(change_link(which, &change)))?)
}

/// Whether an interface is a bridge that `controller` made for links to share.
pub fn is_ours(link: &Link, controller: ControllerId) -> bool {
    link.kind.as_deref() == Some("bridge")
        && match owner(link, controller) {
            Owner::Bridge => true,
            Owner::Unlabelled => {
                IfName::new(&link.name).is_ok_and(|name| link.mac == Some(bridge_mac(controller, &name)))
            }
            Owner::Foreign | Owner::End(_) => false,
        }
}

/// Removes bridges that `controller` made for links to share, of those that `which` names, if they have no port.
///
/// # Errors
/// When they cannot be listed or the kernel refuses to delete one.
pub fn drop_if_empty(place: &Place, controller: ControllerId, which: impl Fn(&Link) -> bool) -> Outcome<()> {
    let links = place.route(|route| route.links())?;
    for bridge in links.iter().filter(|link| which(link) && is_ours(link, controller)) {
        if links.iter().any(|link| link.master == Some(bridge.index)) {
            continue;
        }
        match place.route(|route| route.run(delete_link(Which::Index(bridge.index)))) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
