//! A third-party provider, network backend and vendor for Lifecycle.
