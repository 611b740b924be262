//! Network backend of Lifecycle that wires nodes with veth pairs, macvlans and Linux bridges.
