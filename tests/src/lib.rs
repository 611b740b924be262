//! End-to-end tests of Lifecycle on real kernels.
