//! Vendor data of Lifecycle for plain Linux nodes.
