//! Slowing interfaces down, and reading back what slows them down.

use lifecycle_core::plugin::network::{NetworkCapabilities, Shaping};
use lifecycle_core::topology::LinkAttrs;

use super::{Outcome, Place};
use crate::capability::{Feature, Missing};
use crate::netlink::{shape, unshape};

/// The attributes that slow a link down, each with what the kernel needs for it.
const ATTRIBUTES: [(&str, Feature); 4] =
    [("rate", Feature::Tbf), ("delay", Feature::Netem), ("jitter", Feature::Netem), ("loss", Feature::Netem)];

/// Whether an attribute of a link, by its name, can be set on a kernel that lacks this.
pub fn can_set(missing: &Missing, attribute: &str) -> bool {
    ATTRIBUTES.iter().any(|(name, feature)| *name == attribute && missing.has(*feature))
}

/// Says which attributes can be set, and of the others why not.
pub fn declare(missing: &Missing, can: &mut NetworkCapabilities) {
    can.rate = can_set(missing, "rate");
    can.delay = can_set(missing, "delay");
    can.loss = can_set(missing, "loss");
    for (attribute, feature) in ATTRIBUTES {
        if let Some(reason) = missing.reason(feature) {
            can.missing.insert(attribute.to_owned(), format!("it takes {feature}: {reason}"));
        }
    }
}

/// Gives what an interface sends rate, delay, jitter and loss, unless it has just these.
///
/// # Errors
/// When the kernel refuses.
pub fn slow_down(place: &Place, index: u32, attrs: &LinkAttrs) -> Outcome<()> {
    slow_down_all(place, std::iter::once((index, attrs))).pop().unwrap_or(Ok(()))
}

/// As [`slow_down`] for many interfaces of a namespace, which are read in as few system calls as can be.
pub fn slow_down_all<'a>(
    place: &Place,
    wanted: impl Iterator<Item = (u32, &'a LinkAttrs)> + Clone,
) -> Vec<Outcome<()>> {
    let indices: Vec<u32> = wanted.clone().map(|(index, _)| index).collect();
    let now = place.route(|route| route.shapings(&indices));
    let each = wanted.zip(now).map(|((index, attrs), now)| match now? {
        Ok(now) if now.is_like(&Shaping::of(attrs)) => Ok(()),
        _ => replace(place, index, attrs),
    });
    each.collect()
}

fn replace(place: &Place, index: u32, attrs: &LinkAttrs) -> Outcome<()> {
    // What was there goes first: a discipline that hangs on another one would be in the way of it alone.
    let _ = place.route(|route| route.run(unshape(index)));
    let requests = shape(index, attrs);
    let shaped: Result<(), _> = place.route(|route| route.run_all(&requests)).into_iter().collect();
    Ok(shaped?)
}

/// What slows down what an interface sends. Something of another kind is noted among the problems, and none is returned.
///
/// # Errors
/// When the kernel refuses.
pub fn read(place: &Place, index: u32, name: &str, problems: &mut Vec<String>) -> Outcome<Option<Shaping>> {
    Ok(match place.route(|route| route.shaping(index))? {
        Ok(shaping) => Some(shaping),
        Err(kind) => {
            problems.push(format!("somebody put a queueing discipline `{kind}` on {name}"));
            None
        }
    })
}
