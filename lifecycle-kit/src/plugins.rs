//! The only place that links plugins in. A crate that nobody refers to is not linked and registers nothing.

#[cfg(feature = "linux-bridge")]
use lifecycle_network_linux_bridge as _;
#[cfg(feature = "ovs")]
use lifecycle_network_ovs as _;
#[cfg(feature = "veth")]
use lifecycle_network_veth as _;
#[cfg(feature = "docker")]
use lifecycle_provider_docker as _;
#[cfg(feature = "libvirt")]
use lifecycle_provider_libvirt as _;
#[cfg(feature = "netns")]
use lifecycle_provider_netns as _;
#[cfg(feature = "sqlite")]
use lifecycle_store_sqlite as _;
#[cfg(feature = "catalog")]
use lifecycle_vendor_catalog as _;
#[cfg(feature = "linux")]
use lifecycle_vendor_linux as _;

#[cfg(test)]
mod tests {
    use lifecycle_core::Registry;

    /// What a feature brings: the feature, whether it is on, the kind of plugin, its name.
    const BROUGHT: [(bool, &str, &str); 11] = [
        (cfg!(feature = "docker"), "provider", "docker"),
        (cfg!(feature = "docker"), "provider", "podman"),
        (cfg!(feature = "libvirt"), "provider", "libvirt"),
        (cfg!(feature = "netns"), "provider", "netns"),
        (cfg!(feature = "veth"), "provider", "bridge"),
        (cfg!(feature = "veth"), "network", "veth"),
        (cfg!(feature = "linux-bridge"), "network", "linux-bridge"),
        (cfg!(feature = "ovs"), "network", "ovs"),
        (cfg!(feature = "linux"), "vendor", "linux"),
        (cfg!(feature = "catalog"), "vendor", "catalog"),
        (cfg!(feature = "sqlite"), "store", "sqlite"),
    ];

    fn brought(kind: &str) -> Vec<&'static str> {
        let mut names: Vec<_> = BROUGHT.iter().filter(|it| it.0 && it.1 == kind).map(|it| it.2).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_registry_knows_what_the_features_bring() {
        let registry = Registry::discover().unwrap();
        assert_eq!(registry.providers().map(|plugin| plugin.name).collect::<Vec<_>>(), brought("provider"));
        assert_eq!(registry.networks().map(|plugin| plugin.name).collect::<Vec<_>>(), brought("network"));
        assert_eq!(registry.vendors().map(|plugin| plugin.name).collect::<Vec<_>>(), brought("vendor"));
        assert_eq!(registry.stores().map(|plugin| plugin.name).collect::<Vec<_>>(), brought("store"));
    }

    /// Which of two vendors is asked about a kind must not depend on the order of their names.
    #[test]
    fn no_kind_is_known_to_two_vendors() {
        let mut seen = std::collections::BTreeSet::new();
        for vendor in Registry::discover().unwrap().vendors() {
            for kind in (vendor.make)().kinds() {
                for name in kind.names() {
                    assert!(seen.insert(name.to_owned()), "`{name}` of {} is known already", vendor.name);
                }
            }
        }
    }
}
