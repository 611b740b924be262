//! The plugins that a program knows, by name.
//!
//! Compiled-in plugins register themselves with `inventory`, which works only for crates that the program refers to: a
//! crate that nobody names is not linked. The `lifecycle-kit` facade refers to every plugin whose feature is on. A
//! program that wants no such magic builds its registry from the plugins' `PLUGIN` constants.

use std::collections::BTreeMap;

use crate::plugin::{NetworkPlugin, ProviderPlugin, StorePlugin, VendorPlugin};

/// The name of a plugin is taken or unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two plugins of one kind have one name.
    #[error("two {kind} plugins are called `{name}`: leave one of the crates out")]
    Duplicate {
        /// Kind of plugin.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// No plugin of the kind has the name.
    #[error("no {kind} is called `{name}`; known: {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Unknown {
        /// Kind of plugin.
        kind: &'static str,
        /// The name.
        name: String,
        /// Names that exist.
        known: Vec<&'static str>,
    },
}

/// A kind of plugin that a registry can hold.
pub trait Plugin: Copy + 'static {
    /// The word for this kind in errors.
    const KIND: &'static str;
    /// The plugin's name.
    fn name(&self) -> &'static str;
}

macro_rules! plugins {
    ($($plugin:ident, $kind:literal, $field:ident, $with:ident, $get:ident, $names:ident;)*) => {
        $(impl Plugin for $plugin {
            const KIND: &'static str = $kind;
            fn name(&self) -> &'static str {
                self.name
            }
        })*

        /// The plugins that a program knows.
        #[derive(Debug, Clone, Default)]
        pub struct Registry {
            $($field: BTreeMap<&'static str, $plugin>,)*
        }

        impl Registry {
            /// A registry that knows nothing.
            pub fn new() -> Self {
                Self::default()
            }

            /// All plugins that registered themselves.
            ///
            /// # Errors
            /// When two of one kind have one name.
            pub fn discover() -> Result<Self, RegistryError> {
                let mut registry = Self::new();
                $(for plugin in inventory::iter::<$plugin> {
                    insert(&mut registry.$field, *plugin)?;
                })*
                Ok(registry)
            }

            $(
                #[doc = concat!("Adds a ", $kind, ".")]
                ///
                /// # Errors
                /// When its name is taken.
                pub fn $with(mut self, plugin: $plugin) -> Result<Self, RegistryError> {
                    insert(&mut self.$field, plugin)?;
                    Ok(self)
                }

                #[doc = concat!("The ", $kind, " called `name`.")]
                ///
                /// # Errors
                /// When there is none; the error lists those that exist.
                pub fn $get(&self, name: &str) -> Result<$plugin, RegistryError> {
                    self.$field.get(name).copied().ok_or_else(|| RegistryError::Unknown {
                        kind: $kind,
                        name: name.chars().take(80).collect(),
                        known: self.$field.keys().copied().collect(),
                    })
                }

                #[doc = concat!("Every ", $kind, ", in the order of their names.")]
                pub fn $names(&self) -> impl Iterator<Item = $plugin> + '_ {
                    self.$field.values().copied()
                }
            )*
        }
    };
}

plugins! {
    ProviderPlugin, "provider", providers, with_provider, provider, providers;
    NetworkPlugin, "network backend", networks, with_network, network, networks;
    VendorPlugin, "vendor", vendors, with_vendor, vendor, vendors;
    StorePlugin, "store", stores, with_store, store, stores;
}

fn insert<P: Plugin>(known: &mut BTreeMap<&'static str, P>, plugin: P) -> Result<(), RegistryError> {
    match known.insert(plugin.name(), plugin) {
        None => Ok(()),
        Some(_) => Err(RegistryError::Duplicate { kind: P::KIND, name: plugin.name().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    const PLUGIN: ProviderPlugin =
        ProviderPlugin { name: "nothing", make: |_| Err(Error::new(ErrorKind::Unsupported, "make provider", "never")) };

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let registry = Registry::new().with_provider(PLUGIN).unwrap();
        assert!(registry.provider("nothing").is_ok());
        let error = registry.provider("docker").unwrap_err();
        assert_eq!(error.to_string(), "no provider is called `docker`; known: nothing");
        let error = Registry::new().store("x").unwrap_err();
        assert_eq!(error.to_string(), "no store is called `x`; known: none");
    }

    #[test]
    fn a_second_plugin_of_one_name_is_refused() {
        let error = Registry::new().with_provider(PLUGIN).unwrap().with_provider(PLUGIN).unwrap_err();
        assert!(matches!(error, RegistryError::Duplicate { kind: "provider", .. }));
    }
}
