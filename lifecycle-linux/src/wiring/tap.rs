//! Taps as ends of links.

use lifecycle_core::name::IfName;
use lifecycle_core::policy::naming::LINK_GROUP;

use super::label::Label;
use super::{Failure, Outcome, Place, Places};
use crate::netlink::{Change, Which, change_link};
use crate::tap::NewTap;

/// A tap to be made.
#[derive(Debug, Clone, Copy)]
pub struct TapRequest<'a> {
    /// Its name.
    pub name: &'a IfName,
    /// The user who may open it.
    pub owner: u32,
    /// `IFF_*` flags besides `IFF_TAP`.
    pub flags: u16,
    /// The end of a link that it is.
    pub label: &'a Label,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// The bridge that it is a port of at once.
    pub master: Option<u32>,
}

impl Places {
    /// Makes a tap in an open namespace, which stays only once it bears its marks.
    ///
    /// # Errors
    /// When the kernel refuses; nothing of it is left then.
    pub fn make_tap(&self, place: &Place, request: &TapRequest<'_>) -> Outcome<()> {
        let TapRequest { name, owner, flags, label, mtu, master } = *request;
        let failed = |error| Failure::from(error).saying(format!("the tap {name} cannot be made"));
        let tap = NewTap::make(self.tun(place)?, name, owner, flags).map_err(failed)?;
        let alias = label.to_string();
        let change =
            Change { group: Some(LINK_GROUP), alias: Some(&alias), mtu: Some(mtu), master, ..Change::default() };
        place.route(|route| route.run(change_link(Which::Name(name), &change)))?;
        tap.keep().map_err(failed)
    }
}
