//! The laws of network backends and this backend's own tests, on the real kernel: as the user who runs them and, when
//! that is root, once more as an ordinary user.
#![allow(clippy::unwrap_used)]

mod attributes;
mod fixture;
mod frames;
mod hands;
mod many;
mod taps;
mod tunnels;

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
        frames::link_local_frames_pass_but_pause,
        frames::any_address_passes,
        hands::a_veth_made_again_under_its_old_name_is_not_the_link,
        hands::a_port_off_its_bridge_is_noticed_and_put_right,
        hands::a_deleted_bridge_is_noticed_and_put_right,
        hands::what_is_not_ours_is_left_alone,
        hands::what_a_dead_controller_left_half_made_is_found,
        hands::nothing_is_said_of_what_was_done_here,
        attributes::a_rate_slows_down,
        attributes::what_the_kernel_lacks_is_said,
        taps::a_tap_is_the_end_of_a_link,
        taps::a_parked_tap_stays_with_its_machine,
        many::links_at_once,
        tunnels::only_root_reaches_other_hosts,
    );
    if reach == Reach::Path {
        suite = suite.and(network::tunnels::suite(name, Fixture::with_far_host));
        tests!(
            tunnels::hosts_are_joined_over_ipv4,
            tunnels::hosts_are_joined_over_ipv6,
            tunnels::link_local_frames_pass_between_hosts,
            tunnels::nothing_is_lost_when_a_tunnel_is_redirected,
            tunnels::a_device_in_place_of_the_tunnel_is_not_the_tunnel,
            tunnels::half_a_tunnel_is_found,
            tunnels::a_tunnel_goes_out_of_the_interface_and_port_that_it_is_told,
            tunnels::a_port_that_something_else_uses_is_refused,
            tunnels::a_rate_holds_for_what_goes_into_a_tunnel,
        );
    }
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
