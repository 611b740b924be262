//! The `lifecycle` command on the real kernel, as root and as an ordinary user.
#![allow(clippy::unwrap_used)]

mod backends;
mod bad_input;
mod cabling;
mod crashes;
mod docker;
mod drift;
mod fixtures;
mod frr;
mod hands;
mod hosts;
mod labs;
mod life;
mod machines;
mod migration;
mod moves;
mod secrets;
mod stages;
mod switch_kills;
mod vendors;

use libtest_mimic::{Arguments, Trial};
use lifecycle_tests::sandbox::User;
use lifecycle_tests::trial::{Need, trial};

/// A test that is run as root and as an ordinary user.
type Test = fn(User);

fn main() {
    let mut arguments = Arguments::from_args();
    // Most of the time is spent waiting for processes, daemons and machines.
    arguments.test_threads.get_or_insert(4);
    let mut trials: Vec<Trial> = Vec::new();
    let both: &[(&str, Test)] = &[
        ("quickstart", life::quickstart),
        ("ring_restart", life::restart_in_a_ring_of_ten),
        ("commands_are_guarded", life::commands_are_guarded),
        ("apply_converges", life::apply_converges),
        ("exec_logs_history", life::exec_logs_history),
        ("killed_process_comes_back", drift::a_killed_process_comes_back),
        ("deleted_veth_comes_back", drift::a_deleted_veth_comes_back),
        ("interface_set_down_is_left_alone", drift::what_a_node_sets_is_left_alone),
        ("strict_link_is_put_back", drift::what_is_set_on_a_strict_link_is_put_back),
        ("nothing_in_use_is_collected", drift::nothing_in_use_is_collected),
        ("bridge_segment", drift::a_segment_and_its_bridge),
        ("controller_killed", crashes::the_controller_is_killed),
        ("keeper_killed", crashes::the_keeper_is_killed),
        ("no_secret_is_shown", secrets::no_secret_is_shown),
        ("vendor_file", vendors::a_vendor_file_is_used),
        ("bad_vendor_files", vendors::bad_vendor_files_are_told),
        ("second_up_joins", crashes::a_second_up_joins),
        ("bad_input", bad_input::bad_lab_files_change_nothing),
    ];
    for &(name, test) in both {
        trials.push(trial(&format!("root::{name}"), &[Need::Root], move || test(User::Root)));
        let needs = [Need::UserNamespaces];
        trials.push(trial(&format!("ordinary::{name}"), &needs, move || test(User::Ordinary)));
    }
    trials.push(trial("root::deleted_pin_comes_back", &[Need::Root], drift::a_deleted_pin_comes_back));
    trials.push(trial("root::full_and_readonly_store", &[Need::Root], bad_input::stores_that_cannot_be_used));
    trials.push(trial(
        "ordinary::host_ends_are_refused",
        &[Need::UserNamespaces],
        bad_input::host_ends_are_refused_rootless,
    ));
    let needs = [Need::UserNamespaces];
    trials.push(trial("ordinary::stages", &needs, || stages::a_client_waits_for_its_server(User::Ordinary)));
    trials.extend(backends::trials());
    trials.extend(docker::trials());
    trials.extend(hands::trials());
    trials.extend(hosts::trials());
    trials.extend(labs::trials());
    trials.extend(machines::trials());
    trials.extend(cabling::trials());
    trials.extend(migration::trials());
    trials.extend(moves::trials());
    trials.extend(switch_kills::trials());
    trials.extend(fixtures::trials());
    trials.extend(frr::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
