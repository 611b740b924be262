//! Deleting many interfaces at once.
//!
//! The kernel deletes all interfaces of a group in one grace period, where one after the other each waits for its own. So
//! what is to be deleted is put into a group of its own first. Its alias stays, so that it is still known whose it was
//! when a controller dies in between; and whoever deletes the group, deletes what was to be deleted.

use lifecycle_core::policy::naming::LINK_GROUP;

use super::{Outcome, Place};
use crate::netlink::{Change, Link, Which, change_link, delete_group};

/// The group of interfaces that are to be deleted.
pub const DOOMED_GROUP: u32 = LINK_GROUP + 0x100;

/// Marks an interface for [`sweep`]; one that is not there is fine.
///
/// # Errors
/// When the kernel refuses.
pub fn doom(place: &Place, link: &Link) -> Outcome<()> {
    let change = Change { group: Some(DOOMED_GROUP), ..Change::default() };
    match place.route(|route| route.run(change_link(Which::Index(link.index), &change))) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Deletes all interfaces of a namespace that are marked, whoever marked them.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep(place: &Place) -> Outcome<()> {
    match place.route(|route| route.run(delete_group(DOOMED_GROUP))) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}
