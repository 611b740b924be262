//! End-to-end tests of Lifecycle on real kernels, and tests of the workspace itself.
