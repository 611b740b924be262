//! The laws of network backends and this backend's own tests, on the real kernel: as the user who runs them and, when
//! that is root, once more as an ordinary user.
#![allow(clippy::unwrap_used)]

mod ends;
mod fixture;
mod host;
mod many;
mod segments;

use std::process::ExitCode;

use fixture::{Fixture, Reach};
use libtest_mimic::{Arguments, Trial};
use lifecycle_linux::testing::{as_ordinary_user, hook};
use lifecycle_testkit::laws::{Suite, network, once_more};

fn suite(name: &'static str, reach: Reach) -> Suite {
    let mut suite = network::suite(name, move || Fixture::new(reach));
    macro_rules! tests {
        ($($module:ident::$test:ident),* $(,)?) => {$(
            suite = suite.law(format!("{name}::{}::{}", stringify!($module), stringify!($test)), async move || {
                let fixture = Fixture::new(reach)?;
                fixture.initialized().await;
                $module::$test(&fixture).await
            });
        )*};
    }
    tests!(
        ends::a_conflict_is_told_from_a_foreign_object,
        ends::what_a_node_does_to_its_own_end_is_told_and_no_more,
        ends::a_crash_between_birth_and_label_is_mended,
        ends::both_ends_in_one_namespace,
        ends::a_dummy_leads_nowhere,
        ends::nothing_is_said_of_what_was_done_here,
        ends::a_forgotten_namespace_is_not_kept_alive,
        ends::another_boot_voids_identities,
        segments::three_nodes_share_a_bridge,
        segments::a_bridge_of_somebody_else_is_used_and_left,
        segments::a_port_taken_off_its_bridge_is_noticed,
        segments::link_local_frames_pass,
        segments::a_full_bridge_is_an_error_that_says_so,
        host::an_end_on_the_host,
        host::a_macvlan_on_the_host,
        many::links_at_once,
    );
    suite
}

fn main() -> ExitCode {
    hook();
    let arguments = Arguments::from_args();
    let mut trials = suite("brokered", Reach::Broker).into_trials();
    let direct = suite("direct", Reach::Path).law("direct::many::links_come_and_go", async || {
        let fixture = Fixture::new(Reach::Path)?;
        fixture.initialized().await;
        many::links_come_and_go(&fixture).await
    });
    trials.extend(direct.into_trials());
    trials.push(Trial::ignorable_test("as_an_ordinary_user", || once_more("root", as_ordinary_user())));
    libtest_mimic::run(&arguments, trials).exit_code()
}
