//! Reads containerlab-compatible lab files into Lifecycle's topology model.
