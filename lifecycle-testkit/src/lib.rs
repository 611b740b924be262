//! Conformance laws, fault injection and the deterministic simulator of Lifecycle.
