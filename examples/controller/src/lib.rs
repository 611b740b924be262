//! The lifecycle command: a controller for network labs.
