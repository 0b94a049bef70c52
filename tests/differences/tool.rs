//! Where `cnitool` of the Go plugins differs, the side of the runtime.

use super::What::{self, Differs};

const TOOL: &str = "Distributions do not ship its cnitool, which has neither doctor nor restore.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("cnitool::configurations_are_files_and_nobody_waits_for_anything_else", Differs, TOOL),
    ("cnitool::del_finds_an_attachment_by_its_namespace_however_it_is_written", Differs, TOOL),
    ("cnitool::del_finds_it_when_the_namespace_or_its_configuration_is_gone", Differs, TOOL),
    ("cnitool::del_leaves_alone_who_is_attached_elsewhere_or_by_somebody_else", Differs, TOOL),
    ("cnitool::results_are_read_from_files_and_written_through_nothing", Differs, TOOL),
    (
        "cnitool::doctor::a_chain_that_lets_no_new_connection_through_is_a_problem_with_a_way_out",
        Differs,
        TOOL,
    ),
    ("cnitool::doctor::a_chain_that_lets_pods_through_is_no_problem", Differs, TOOL),
    ("cnitool::doctor::a_full_range_is_a_problem", Differs, TOOL),
    ("cnitool::doctor::a_node_without_pods_is_judged_for_those_who_will_come", Differs, TOOL),
    ("cnitool::doctor::gc_of_the_gone_spares_who_lives_and_who_may", Differs, TOOL),
    ("cnitool::doctor::loopback_needs_nobody_to_forward", Differs, TOOL),
    ("cnitool::doctor::what_go_plugins_leave_of_our_pods_is_seen_and_collected", Differs, TOOL),
    ("cnitool::doctor::without_the_plugin_firewall_the_way_out_is_another_one", Differs, TOOL),
    ("cnitool::restore::a_stale_record_does_not_get_what_is_a_living_pods", Differs, TOOL),
];
