//! Benchmarks of Lifecycle against the kernel's floor and its peers.
