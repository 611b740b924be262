//! Names of bridges.

use std::fmt;

use lifecycle_core::id::{ControllerId, LabId};
use lifecycle_core::name::IfName;

/// The bridge that the links of all labs of a controller share.
pub(crate) fn shared_bridge(controller: ControllerId) -> IfName {
    bridge("ls", &controller)
}

/// The bridge of a lab's own.
pub(crate) fn lab_bridge(lab: LabId) -> IfName {
    bridge("ld", &lab)
}

fn bridge(prefix: &str, whose: &dyn fmt::Display) -> IfName {
    let name = IfName::new(format!("{prefix}{whose}"));
    name.unwrap_or_else(|_| unreachable!("a prefix and an identifier are 14 letters and digits"))
}

#[cfg(test)]
mod tests {
    use lifecycle_core::policy::naming::OurName;

    use super::*;

    #[test]
    fn bridges_of_different_things_have_different_names() {
        let names = [shared_bridge(ControllerId::from_u64(5)), lab_bridge(LabId::from_u64(5))];
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| OurName::parse(name.as_str()).is_none()));
    }
}
