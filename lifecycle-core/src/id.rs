//! Identifiers of the things Lifecycle keeps.
//!
//! An identifier is a 60-bit random number written as twelve base-32 characters. That is short enough to stand
//! inside a kernel interface name (15 bytes) beside a prefix and an end letter, so generated names are injective by
//! construction and never need a hash.

use std::fmt;
use std::str::FromStr;

use rand_core::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Length of the text form of an identifier, in characters.
pub const ID_LEN: usize = 12;
const MASK: u64 = (1 << 60) - 1;

/// The text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an identifier: expected {ID_LEN} characters of 0-9 and a-z without i, l, o and u")]
pub struct InvalidId(pub String);

fn encode(value: u64) -> [u8; ID_LEN] {
    let mut text = [0; ID_LEN];
    for (i, slot) in text.iter_mut().enumerate() {
        let shift = 5 * (ID_LEN - 1 - i);
        *slot = ALPHABET[((value >> shift) & 31) as usize];
    }
    text
}

fn decode(text: &str) -> Result<u64, InvalidId> {
    let invalid = || InvalidId(text.to_owned());
    if text.len() != ID_LEN {
        return Err(invalid());
    }
    text.bytes().try_fold(0, |value, byte| {
        let digit = ALPHABET.iter().position(|&c| c == byte).ok_or_else(invalid)?;
        Ok((value << 5) | digit as u64)
    })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Draws a new identifier from `rng`.
            pub fn random(rng: &mut dyn Rng) -> Self {
                Self(rng.next_u64() & MASK)
            }

            /// Builds an identifier from a number; only the low 60 bits count.
            pub const fn from_u64(value: u64) -> Self {
                Self(value & MASK)
            }

            /// The number behind the identifier.
            pub const fn as_u64(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = encode(self.0);
                f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// Identifies a lab.
    LabId;
    /// Identifies a node, over all its instances.
    NodeId;
    /// Identifies a link, over all its incarnations.
    LinkId;
    /// Identifies a job.
    JobId;
    /// Identifies a machine that is being installed.
    MachineId;
    /// Identifies a host of a fleet.
    FleetHostId;
    /// Identifies a controller's state, so that two controllers on one machine tell their objects apart.
    ControllerId;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_number_agree(value in 0u64..=MASK) {
            let id = NodeId::from_u64(value);
            let text = id.to_string();
            prop_assert_eq!(text.len(), ID_LEN);
            prop_assert_eq!(text.parse::<NodeId>().unwrap(), id);
        }

        #[test]
        fn order_of_text_is_order_of_numbers(a in 0u64..=MASK, b in 0u64..=MASK) {
            let (x, y) = (NodeId::from_u64(a), NodeId::from_u64(b));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }
    }

    #[test]
    fn foreign_text_is_refused() {
        for text in ["", "short", "iiiiiiiiiiii", "0123456789ABC", "0123456789ab c"] {
            assert!(text.parse::<LinkId>().is_err(), "{text}");
        }
    }
}
