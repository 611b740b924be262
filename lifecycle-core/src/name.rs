//! Names that people give, parsed once into types that cannot hold a bad one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A name broke the rule of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {rule}")]
pub struct InvalidName {
    /// What the text was meant to name.
    pub what: &'static str,
    /// The offending text, shortened to 80 characters.
    pub text: String,
    /// The rule in words.
    pub rule: &'static str,
}

fn invalid(what: &'static str, rule: &'static str, text: &str) -> InvalidName {
    let mut shown: String = text.chars().take(80).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    InvalidName { what, text: shown, rule }
}

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// What the kernel takes as an interface name.
fn is_kernel_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'))
}

fn is_port(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `text` and wraps it.
            ///
            /// # Errors
            /// [`InvalidName`] when the text breaks the rule of this kind of name.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = text.as_ref();
                if $valid(text) { Ok(Self(text.into())) } else { Err(invalid($what, $rule, text)) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// The name of a lab, unique within a controller.
    LabName, "lab name", "1 to 63 letters, digits, dots, underscores or dashes, starting with a letter or digit", is_label;
    /// The name of a node, unique within its lab.
    NodeName, "node name", "1 to 63 letters, digits, dots, underscores or dashes, starting with a letter or digit", is_label;
    /// The name of a host, unique within a controller.
    HostName, "host name", "1 to 63 letters, digits, dots, underscores or dashes, starting with a letter or digit", is_label;
    /// The name of a plugin (a provider, backend, vendor or store).
    PluginName, "plugin name", "1 to 63 letters, digits, dots, underscores or dashes, starting with a letter or digit", is_label;
    /// The name of an interface as the Linux kernel knows it.
    IfName, "interface name", "1 to 15 printable characters without space, `/`, `:` or `%`, and not `.` or `..`", is_kernel_interface;
    /// The name of a port as its user or its vendor writes it, `Ethernet1/1` for example.
    PortName, "port name", "1 to 63 printable characters without spaces", is_port;
}

impl HostName {
    /// The name of the host that a controller runs on.
    pub fn local() -> Self {
        Self("local".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "r1", "2-linux-nodes", "A.b_c-d", &"x".repeat(63)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a b", "a/b", "../x", "ä", "a\0", &"x".repeat(64), &"x".repeat(300)] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kernel_interfaces() {
        for good in ["eth0", "e1-1", "some1", "fifteen-bytes-x"] {
            assert!(IfName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "1/1/c1/1", "sixteen-bytes-xx", "eth0:1", "a%d", "a\n"] {
            assert!(IfName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_shortens_what_it_quotes() {
        let error = LabName::new("x".repeat(300)).unwrap_err();
        assert!(error.to_string().len() < 250);
        assert!(error.to_string().contains("lab name"));
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<NodeName>("\"a b\"").is_err());
        assert_eq!(serde_json::to_string(&NodeName::new("r1").unwrap()).unwrap(), "\"r1\"");
    }
}
