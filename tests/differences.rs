//! Where the reference plugins behave differently, and why we do not follow.
//!
//! Every test is a [`case`]. Against our plugins it just runs. Against others
//! (`CNI_BIN_DIR=.. make test`) a test with a row in [`DIFFERENCES`] must fail: a row that is no
//! longer true is noticed, and so is a row without a test.

mod bandwidth;
mod bridge;
mod callers;
mod dhcp;
mod firewall;
mod host_device;
mod leases;
mod links;
mod macvlan;
mod packet_filter;
mod ptp;
mod sbr;
mod static_ipam;
mod tap;
mod tool;
mod tuning;
mod vrf;

use std::{
    any::type_name_of_val,
    panic::{AssertUnwindSafe, catch_unwind},
};

use What::Differs;
use testbed::{
    Testbed, Trial, is_later_reference, is_reference,
    kernel::{Feature, has_or_leave, plugins_to_try},
    programs::{is_missing, workspace},
};

enum What {
    /// The test fails there.
    Differs,
    /// It fails with 1.1.1, which distributions ship; later versions are as we are.
    Older,
    /// The test would hang, hurt, or pass by luck there.
    Skip,
}

const OLD: &str = "Distributions ship 1.1.1, which ends at 1.0.0: it knows neither GC nor STATUS.";

const YOUNGER: &str = "Distributions ship 1.1.1, which does not know the key yet, and ignores it.";
const CODES: &str =
    "It reports code 999 for nearly everything; the specification has a code for it.";

const LOST: &str = "Without a namespace it releases addresses, and leaves links and packet filter.";

const UNDONE: &str =
    "Its failed ADD leaves the interface in the container, so it cannot even be repeated.";

const KILLED: &str =
    "Its DEL finds rules by the interface's addresses, and fails for half of them.";

const UNMARKED: &str =
    "It trusts its lease files alone, and lets two pods that it routes have one address.";

const DIFFERENCES: &[(&str, What, &str)] = &[
    ("protocol::version_needs_nothing_and_lists_all_versions", Differs, OLD),
    ("protocol::gc_and_status_require_only_the_path", What::Older, OLD),
    (
        "protocol::each_verb_requires_its_variables_and_no_other",
        Differs,
        "DEL of its sbr fails where the namespace is not told.",
    ),
    ("protocol::gc_and_status_need_a_configuration_of_1_1_0", What::Older, OLD),
    (
        "protocol::a_bad_variable_is_reported_before_a_missing_one",
        What::Older,
        "1.1.1 looks for missing variables first; later ones, as ours, validate first.",
    ),
    (
        "protocol::asked_on_the_command_line_a_plugin_says_its_version",
        Differs,
        "It has no command line; ours answers on stdout, for people.",
    ),
    (
        "protocol::an_error_is_no_result",
        Differs,
        "It takes an error in the place of a result for a result with nothing in it.",
    ),
    (
        "protocol::an_error_says_its_version",
        Differs,
        "It leaves cniVersion out of errors, which the specification requires.",
    ),
    (
        "protocol::a_namespace_that_is_none_is_named",
        Differs,
        "It reports code 999, and the bridge is made before the namespace is opened.",
    ),
    (
        "protocol::the_plugins_own_namespace_is_refused_before_anything_is_touched",
        Differs,
        "It notices, if at all, when the work is done and the result is printed.",
    ),
    ("overlap::in_one_segment_nobody_gets_an_address_that_lives_there", Differs, UNMARKED),
    ("overlap::what_is_routed_has_an_address_once", Differs, UNMARKED),
    ("overlap::no_gateway_gets_the_address_of_a_pod", Differs, UNMARKED),
    (
        "overlap::the_second_network_of_an_address_does_not_unmasquerade_the_first",
        Differs,
        UNMARKED,
    ),
    ("nonsense::no_link_has_a_name_that_is_too_long", Differs, CODES),
    (
        "nonsense::what_nobody_reads_takes_little_memory",
        What::Skip,
        "A Go program reserves more address space than that before it begins.",
    ),
    ("loopback::the_version_of_today_works_too", What::Older, OLD),
    ("versions::bridge_answers_in_the_newest_version", What::Older, OLD),
    ("versions::host_local_answers_in_the_newest_version", What::Older, OLD),
    (
        "versions::loopback_answers_in_each_version",
        Differs,
        "It labels its result with the version asked for, and prints it in the newest shape.",
    ),
    (
        "versions::layer_2_leaves_nothing_when_it_has_no_answer",
        Differs,
        "It fails when everything is made, and leaves it.",
    ),
    (
        "bridge::name_servers_come_from_the_file_or_from_the_configuration",
        What::Older,
        "1.1.1 always prefers the configuration's, also when it has none.",
    ),
    ("bridge::links::a_container_interface_may_stay_down", What::Older, YOUNGER),
    ("bridge::links::impossible_trunks_are_refused", What::Older, YOUNGER),
    ("bridge::links::isolated_ports_do_not_talk_to_each_other", What::Older, YOUNGER),
    (
        "bridge::links::layer_2_can_be_checked",
        Differs,
        "It asks the IPAM plugin, which layer 2 does not have.",
    ),
    (
        "bridge::undo::an_ipam_plugin_that_dies_is_told_to_delete_and_one_that_refuses_is_not",
        Differs,
        "It does not, although the specification wants it.",
    ),
    ("bridge::undo::a_late_failure_leaves_nothing", Differs, "It releases the address only."),
    (
        "bridge::undo::del_without_namespace_and_result_leaves_nothing",
        Differs,
        "Without a namespace it releases the address only, and its rules stay for good.",
    ),
    ("bridge::undo::gc_removes_what_is_not_listed", Differs, OLD),
    ("bridge::undo::status_fails_when_the_ipam_plugin_does", What::Older, OLD),
    ("host_local::pool::gc_keeps_what_is_valid", Differs, OLD),
    ("host_local::pool::gc_without_a_list_is_gc_with_an_empty_one", Differs, OLD),
    ("host_local::pool::gc_and_status_of_a_network_without_leases_make_nothing", Differs, OLD),
    ("host_local::pool::status_says_when_a_range_is_exhausted", Differs, OLD),
    (
        "host_local::pool::an_exhausted_range_is_a_passing_condition_that_is_counted",
        Differs,
        "It reports code 999, after which no runtime tries again, and does not count.",
    ),
    (
        "host_local::del_works_when_the_ranges_are_wrong_by_now",
        Differs,
        "Its DEL validates ranges, so an edited configuration leaves addresses held for good.",
    ),
    (
        "host_local::check_wants_each_address_of_the_result",
        Differs,
        "Its CHECK is content with any lease of the container's.",
    ),
    (
        "host_local::ranges::tiny_subnets_are_used_whole",
        Differs,
        "It refuses /31, /32, /127 and /128, which RFC 3021 and RFC 6164 give a meaning.",
    ),
    (
        "host_local::ranges::what_is_excluded_is_never_handed_out",
        Differs,
        "It does not know the key.",
    ),
    ("host_local::ranges::a_request_fails_with_the_code_of_its_reason", Differs, CODES),
    ("host_local::range_errors::nonsense_is_an_invalid_configuration", Differs, CODES),
    ("teardown::gc_removes_what_lost_containers_had", Differs, OLD),
    ("teardown::gc_of_nobody_leaves_what_is_shared", Differs, OLD),
    ("teardown::gc_touches_no_other_network", Differs, OLD),
    (
        "teardown::a_second_interface_stays",
        Differs,
        "Its iptables chains are named after the container alone, so DEL of one interface fails.",
    ),
    ("teardown::nothing_is_left_when_the_namespace_is_gone", Differs, LOST),
    ("teardown::ten_lost_namespaces_leave_nothing", Differs, LOST),
    ("teardown::nothing_is_left_when_the_path_is_not_told", Differs, LOST),
    (
        "teardown::nothing_is_left_when_the_path_is_no_namespace",
        Differs,
        "It fails for as long as a file is there, and releases nothing.",
    ),
    (
        "teardown::nobody_is_cut_off_when_the_path_is_used_again",
        Differs,
        "It deletes whatever has the interface's name where the path leads.",
    ),
    ("rollback::a_small_mtu_cuts_nobody_off", Differs, "Its bridge follows its smallest port."),
    ("rollback::an_exhausted_range_leaves_nothing", Differs, UNDONE),
    ("rollback::a_gateway_in_another_subnet_is_refused", Differs, UNDONE),
    ("rollback::an_answer_that_cannot_be_written_is_no_answer", Differs, UNDONE),
    ("rollback::an_answer_that_nobody_reads_is_no_answer", Differs, UNDONE),
    ("rollback::a_failed_add_can_be_repeated_at_once", Differs, UNDONE),
    ("rollback::an_ipam_plugin_that_answers_nonsense_is_refused", Differs, UNDONE),
    ("rollback::an_ipam_plugin_that_fails_is_quoted", Differs, UNDONE),
    ("rollback::an_ipam_plugin_that_fails_is_asked_to_clean_up", Differs, UNDONE),
    ("rollback::no_ipam_plugin_of_that_name", Differs, UNDONE),
    ("rollback::what_the_kernel_refuses_is_rolled_back", Differs, UNDONE),
    (
        "rollback::what_is_missing_is_found_before_anything_is_made",
        Differs,
        "It makes bridge and links before it looks at what is missing.",
    ),
    ("crash::whatever_add_was_killed_one_del_cleans_up", Differs, KILLED),
    ("crash::whatever_add_was_killed_del_cleans_up_when_the_namespace_is_gone", Differs, LOST),
    ("crash::whatever_del_was_killed_can_be_repeated", Differs, KILLED),
    ("rollback::whatever_the_kernel_refuses_a_failed_add_leaves_nothing", Differs, UNDONE),
    ("teardown::whatever_is_known_of_it_nothing_is_left", Differs, LOST),
    (
        "versions::each_plugin_answers_in_each_version",
        Differs,
        "It answers in the newest shape, or not at all, what it has to say in an older one.",
    ),
    ("crash::a_killed_add_is_cleaned_up_by_one_del", Differs, KILLED),
    ("crash::a_killed_add_is_cleaned_up_when_its_namespace_is_gone", Differs, LOST),
    ("crash::a_killed_add_is_cleaned_up_by_gc_when_its_namespace_is_gone", Differs, OLD),
    ("crash::a_killed_add_is_cleaned_up_by_gc_while_its_namespace_is_there", Differs, OLD),
    ("crash::a_killed_del_is_repeated", Differs, KILLED),
    (
        "crash::the_first_add_of_all_is_killed_and_repeated",
        Differs,
        "What it leaves of a bridge or a packet filter makes the calls after it fail.",
    ),
    ("crash::an_ipam_plugin_that_is_killed_costs_no_address", Differs, UNDONE),
    (
        "crowd::fifty_make_one_packet_filter",
        Differs,
        "It adds a chain and three rules for each pod and family.",
    ),
    ("conf::examples_are_used", Differs, OLD),
    ("conf::examples_live_together", Differs, OLD),
    ("conf::examples_have_no_findings", Differs, "It comes without a tool that looks."),
    (
        "crowd::an_add_and_a_late_del_of_one_attachment_do_not_mix",
        What::Skip,
        "Now and then its DEL fails for a chain of iptables that the ADD is still making.",
    ),
];

/// All of them.
fn rows() -> impl Iterator<Item = &'static (&'static str, What, &'static str)> {
    DIFFERENCES
        .iter()
        .chain(bandwidth::ROWS)
        .chain(bridge::ROWS)
        .chain(callers::ROWS)
        .chain(dhcp::ROWS)
        .chain(firewall::ROWS)
        .chain(host_device::ROWS)
        .chain(leases::ROWS)
        .chain(links::ROWS)
        .chain(macvlan::ROWS)
        .chain(packet_filter::ROWS)
        .chain(ptp::ROWS)
        .chain(tap::ROWS)
        .chain(static_ipam::ROWS)
        .chain(tool::ROWS)
        .chain(tuning::ROWS)
        .chain(sbr::ROWS)
        .chain(vrf::ROWS)
}

/// As [`case`], where the kernel has these; elsewhere the test is left to the virtual machine.
#[track_caller]
pub(crate) fn case_on(features: &[Feature], body: impl FnOnce(&Testbed)) {
    let name = name_of(&body);
    if has_or_leave(&name, features) {
        run(&name, body);
    }
}

/// Runs a test of what all plugins have in common: for each of them, on hosts of their own. One that
/// this kernel has no links for is left to the virtual machine.
#[track_caller]
pub(crate) fn case_each(body: impl Fn(&Trial<'_>)) {
    let name = name_of(&body);
    run(&name, |_| {
        for plugin in plugins_to_try(&name) {
            println!("-- {plugin}");
            body(&Trial::new(&Testbed::new(), &plugin));
        }
    });
}

/// Runs a test on a host of its own.
#[track_caller]
pub(crate) fn case(body: impl FnOnce(&Testbed)) {
    run(&name_of(&body), body);
}

/// The name of the test that a closure is the body of.
fn name_of<T>(body: &T) -> String {
    let name = type_name_of_val(body);
    name.trim_start_matches("suite::").trim_end_matches("::{{closure}}").to_owned()
}

/// The plugin that a room of the suite is named after.
fn plugin_of(test: &str) -> Option<String> {
    let plugin = test.split("::").next()?.replace('_', "-");
    let is_plugin = |kind| workspace().join(kind).join(&plugin).is_dir();
    ["plugins", "ipam"].into_iter().any(is_plugin).then_some(plugin)
}

#[track_caller]
fn run(name: &str, body: impl FnOnce(&Testbed)) {
    if let Some(plugin) = plugin_of(name).filter(|plugin| is_missing(plugin)) {
        return println!("{name}: skipped: this reference comes without {plugin}");
    }
    let bed = Testbed::new();
    let row = rows().find(|(test, ..)| *test == name);
    let Some((_, what, reason)) = row.filter(|_| is_reference()) else { return body(&bed) };
    match what {
        What::Older if is_later_reference() => body(&bed),
        What::Skip => println!("{name}: skipped: {reason}"),
        Differs | What::Older => {
            let same = catch_unwind(AssertUnwindSafe(|| body(&bed))).is_ok();
            assert!(!same, "{name} passes with the reference, so it is no difference: {reason}");
        }
    }
}

#[test]
fn every_difference_is_a_test() {
    let suite = std::env::current_exe().unwrap();
    let listed = std::process::Command::new(suite).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (name, _, reason) in rows() {
        let test = format!("{name}: test");
        assert!(listed.lines().any(|line| line == test), "no test {name} ({reason})");
        assert!(reason.ends_with('.'), "{name}: a reason is a sentence: {reason}");
    }
}
