//! What must never be false: one function per invariant, with its number in its name.
//!
//! The simulator checks them after every step; a live system checks itself with the same functions. Those that hold at
//! every moment are functions of the world and a [`Census`] of what exists outside ([`check`]); those about how things
//! came to be are kept by a [`History`] that is told of every step.
//!
//! | | promise | shown by |
//! |---|---|---|
//! | I1 | one live instance per node | here, by the world outside |
//! | I2 | an explicit host is inviolable | here, by the world outside, and by every effect (history) |
//! | I3 | no effect of an older epoch after a take-over | history; stores refuse the commit; agents are not built yet |
//! | I4 | whatever bears our mark is owned or listed | here; a link's row outlives the link (history) |
//! | I5 | an old instance stays until its new place is ready | history |
//! | I6 | a start only after the old instance is gone, and after a look at what is unknown | history, by the world outside |
//! | I7 | `running` was observed, or is marked stale; nothing outdated is recorded | history, by the world outside |
//! | I8 | synchronisation changes nothing outside | by type: it is handed a ledger, which cannot ask for effects |
//! | I9 | `up` was verified after the last change, and both nodes run | here, history, and by the world outside |
//! | I10 | no half links once settled | here |
//! | I11 | ends are exclusive, keys have no direction | here; stores refuse a second link of one key |
//! | I12 | tags and network identifiers are allocated once | here, for identifiers; the allocator's own tests; the kernel and OVS tests of backends |
//! | I13 | a tunnel exists iff a link needs it | here |
//! | I14 | `error` is left by a user or within the budget; the first cause is kept | history |
//! | I15 | attempts within the budget and not before their time | history |
//! | I16 | one active job per node | here |
//! | I17 | nothing wanted, nothing left | the simulator, by its census; end-to-end tests on real kernels |
//! | I18 | what is not ours is not touched | the simulator, by its census; the laws of providers and backends |
//! | I19 | commanded states follow the tables | the ledger, stores (generations), and history |
//! | I20 | no transitional state outlives its deadline unattended | here |
//! | I21 | only a user changes what is wanted | history |
//! | I22 | changes and audit rows correspond, chained | history; stores never change a row |
//! | I23 | no action without a recorded intent | history |
//! | I24 | a bulk call classifies each node once | history |
//! | I25 | an operation touches its own subject only, one at a time; a restart keeps links | history; the simulator |
//! | I26 | installs | the policy's own tests; not driven by the engine yet |
//! | I27 | decommissions | the policy's own tests; not driven by the engine yet |
//! | I28 | reservations fit | here |
//! | I29 | the feed ends with the controller's own view | history |
//! | I30 | names are short, plain and unique; a mark is used once | the naming policy's own tests; history |
//! | I31 | idempotency keys | not built yet: the HTTP interface has none |
//! | I32 | no secrets | hidden before anything is decided: `drive::secrecy`, `lifecycle_core::secret` |
//! | L1 | all settles | here, asked once nothing happens any more |
//! | L2 | a broken host does not hold up the others | the simulator, which leaves one host broken |
//! | L3 | a step is bounded whatever a host does | by construction: a step waits for nothing; the simulator counts steps |

mod census;
mod history;
mod links;
mod nodes;

use std::fmt;

use lifecycle_core::time::Now;

use super::World;

pub use census::{Census, SeenInstance, SeenLink};
pub use history::{History, Seen};
pub use links::{
    i4_every_interface_has_an_owner, i9_up_links_are_in_reach, i9_up_links_join_running_nodes, i9_up_links_stand,
    i10_no_half_links, i11_ends_are_exclusive, i12_tunnels_are_told_apart, i13_tunnels_are_needed,
    l1_links_are_settled,
};
pub use nodes::{
    i1_one_live_instance, i2_explicit_host_is_inviolable, i4_every_instance_has_an_owner, i16_one_active_job_per_node,
    i20_no_state_outlives_its_deadline, i28_reservations_fit, l1_nodes_are_settled,
};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub invariant: &'static str,
    /// What it is about.
    pub subject: String,
    /// What is wrong.
    pub what: String,
}

impl Violation {
    /// Says that `invariant` does not hold for `subject`.
    pub fn new(invariant: &'static str, subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { invariant, subject: subject.to_string(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.subject, self.what)
    }
}

/// Everything that has to hold at every moment.
pub fn check(world: &World, census: &Census, now: Now) -> Vec<Violation> {
    let mut found = i1_one_live_instance(census);
    found.extend(i2_explicit_host_is_inviolable(world, census));
    found.extend(i9_up_links_join_running_nodes(world));
    found.extend(i9_up_links_are_in_reach(world));
    found.extend(i11_ends_are_exclusive(world));
    found.extend(i12_tunnels_are_told_apart(world));
    found.extend(i16_one_active_job_per_node(world));
    found.extend(i20_no_state_outlives_its_deadline(world, now));
    found.extend(i28_reservations_fit(world));
    found
}

/// Everything that has to hold once nothing happens any more, besides [`check`].
pub fn check_settled(world: &World, census: &Census) -> Vec<Violation> {
    let mut found = l1_nodes_are_settled(world);
    found.extend(l1_links_are_settled(world));
    found.extend(i4_every_instance_has_an_owner(world, census));
    found.extend(i4_every_interface_has_an_owner(world, census));
    found.extend(i9_up_links_stand(world, census));
    found.extend(i10_no_half_links(world, census));
    found.extend(i13_tunnels_are_needed(world, census));
    found
}
