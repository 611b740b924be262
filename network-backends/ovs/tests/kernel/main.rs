//! The laws of network backends and this backend's own tests, each on a private Open vSwitch with the userspace datapath,
//! as root.
#![allow(clippy::unwrap_used)]

mod attributes;
mod faults;
mod fixture;
mod frames;
mod hands;
mod many;
mod taps;
mod tunnels;

use std::process::ExitCode;

use fixture::{Fixture, Mode};
use lifecycle_core::plugin::NetworkBackend;
use lifecycle_testkit::laws::network;

fn main() -> ExitCode {
    let mut suite = network::suite("shared", || Fixture::new(Mode::Shared));
    suite = suite.and(network::suite("dedicated", || Fixture::new(Mode::Dedicated)));
    suite = suite.and(network::tunnels::suite("shared", Fixture::with_far_host));
    macro_rules! tests {
        ($($module:ident::$test:ident),* $(,)?) => {$(
            suite = suite.law(concat!(stringify!($module), "::", stringify!($test)), async || {
                let fixture = Fixture::new(Mode::Shared)?;
                fixture.backend.initialize().await.unwrap();
                $module::$test(&fixture).await
            });
        )*};
    }
    tests!(
        attributes::a_rate_stays_whatever_the_switch_does,
        frames::link_local_frames_pass,
        frames::tagged_frames_pass,
        frames::bulk_tcp_passes,
        frames::an_end_on_the_host,
        hands::a_changed_tag_is_news_and_is_put_right_in_place,
        hands::a_veth_made_again_under_its_old_name_is_not_the_link,
        hands::a_port_of_another_bridge_is_not_the_link,
        hands::an_offload_turned_on_is_noticed_and_put_right,
        hands::what_is_released_is_taken_back_once_no_bridge_has_it,
        hands::what_is_not_ours_is_left_alone,
        hands::what_a_dead_controller_left_half_made_is_found,
        taps::a_machine_at_a_tap_is_joined,
        taps::a_tap_that_was_deleted_is_made_again,
        taps::links_of_machines_are_apart,
        taps::a_parked_tap_stays_with_its_machine,
        faults::a_switch_that_ended_is_not_up_and_comes_back,
        faults::nothing_is_left_of_a_link_that_the_switch_did_not_take,
        faults::a_database_that_ended_is_followed_again,
        faults::a_datapath_that_cannot_be_had_is_an_error,
        faults::exhausted_tags_are_an_error_that_names_the_way_out,
        faults::a_machine_without_a_switch_refuses_links_and_nothing_else,
        many::links_at_once,
        tunnels::hosts_are_joined_over_ipv4,
        tunnels::hosts_are_joined_over_ipv6,
        tunnels::link_local_frames_pass_between_hosts,
        tunnels::little_is_lost_when_a_tunnel_is_redirected,
        tunnels::an_address_that_the_switch_does_not_send_from_is_refused_by_name,
        tunnels::a_device_of_linux_is_the_other_half,
        tunnels::a_way_out_past_the_switch_is_refused_by_name,
        many::links_come_and_go,
    );
    suite.run()
}
