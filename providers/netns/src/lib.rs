//! Provider of Lifecycle that runs nodes in Linux namespaces, rootless or as root.
