//! What the end-to-end tests share: a sandbox in which the `lifecycle` command runs as some user, a census of what is on
//! the machine, and the words in which a test says that it cannot run here.

pub mod census;
pub mod frr;
pub mod nodes;
pub mod sandbox;
pub mod trial;
