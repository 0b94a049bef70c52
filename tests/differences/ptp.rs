//! Where the Go plugin ptp differs, and why.

use super::What::{self, Differs, Older};
use super::{CODES, KILLED, LOST, OLD, UNDONE, YOUNGER};

const LAYER_2: &str = "It does not work without an IPAM plugin.";

const HOST: &str = "Its CHECK looks neither at the host's end, nor at forwarding, nor at rules.";

const SIBLINGS: &str =
    "It adds the gateway's route once for each address, and the kernel refuses the second.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "link_ipv6::addresses_stay_when_the_link_goes_down",
        Older,
        "1.1.1 lets the kernel remove the IPv6 addresses of a link that goes down.",
    ),
    ("link_versions::ptp_answers_in_the_newest_version", Older, OLD),
    (
        "ptp::all_addresses_may_be_used_at_once",
        Differs,
        "It has the gateway's address probed, and answers a second before it may be used.",
    ),
    (
        "ptp::one_address_is_subnet_enough",
        Differs,
        "It deletes the connected route of a /32, which the kernel has never made.",
    ),
    ("ptp::a_pod_may_have_several_addresses_of_one_family", Differs, SIBLINGS),
    (
        "ptp::an_address_without_a_gateway_is_refused",
        Differs,
        "It takes the missing gateway for the default route, and fails for the kernel's reasons.",
    ),
    (
        "ptp::an_impossible_mtu_is_refused",
        Differs,
        "It leaves the link when the kernel refuses its addresses.",
    ),
    (
        "ptp::routes_of_ipam_are_the_pods",
        Older,
        "1.1.1 does not find a route again for which IPAM names no gateway.",
    ),
    (
        "ptp::the_hosts_end_keeps_its_hardware_address",
        Differs,
        "It lets the kernel draw it, so udev may change it after the answer.",
    ),
    (
        "ptp::check::another_path_to_the_namespace_leads_there_too",
        Differs,
        "It compares paths as strings.",
    ),
    ("ptp::check::it_finds_that_nothing_is_forwarded", Differs, HOST),
    ("ptp::check::it_finds_what_is_wrong_on_the_host", Differs, HOST),
    (
        "ptp::check::it_finds_that_the_way_to_the_gateway_is_missing",
        Differs,
        "Of its own routes it looks for that to the subnet only.",
    ),
    ("ptp::crash::a_killed_add_is_cleaned_up_by_gc", Differs, OLD),
    ("ptp::crash::a_killed_add_is_cleaned_up_by_one_del", Differs, KILLED),
    ("ptp::crash::a_killed_add_is_cleaned_up_when_its_namespace_is_gone", Differs, LOST),
    ("ptp::crash::a_killed_del_is_repeated", Differs, KILLED),
    ("ptp::layer_2::frames_get_through", Differs, LAYER_2),
    ("ptp::layer_2::it_has_no_answer_before_0_3_0_and_leaves_nothing", Differs, LAYER_2),
    ("ptp::layer_2::it_is_a_link_without_addresses", Differs, LAYER_2),
    ("ptp::layer_2::it_needs_no_ipam_plugin_for_any_verb", Differs, LAYER_2),
    (
        "ptp::masquerade::the_world_sees_the_host_by_nftables",
        Differs,
        "1.1.1 ignores the key. Later ones fail their DEL, as they look for rules of iptables too.",
    ),
    ("ptp::masquerade::an_unknown_backend_is_named", Older, YOUNGER),
    (
        "ptp::masquerade::it_may_be_for_one_family_and_have_exceptions",
        Differs,
        "There ipMasq is true or false.",
    ),
    ("ptp::masquerade::after_a_flush_the_next_add_and_del_succeed", Differs, KILLED),
    ("ptp::masquerade::rules_go_although_the_interface_has_lost_its_addresses", Differs, KILLED),
    ("ptp::masquerade::rules_that_somebody_has_flushed_are_missed_by_check", Differs, HOST),
    ("ptp::masquerade::what_cannot_be_meant_is_refused_before_anything_is_touched", Differs, CODES),
    ("ptp::undo::a_failed_add_can_be_repeated_at_once", Differs, UNDONE),
    ("ptp::undo::a_failed_add_leaves_nothing_whatever_it_failed_for", Differs, UNDONE),
    (
        "ptp::undo::an_ipam_plugin_without_addresses_is_asked_to_clean_up",
        Differs,
        "It just fails, and whatever the IPAM plugin has done stays.",
    ),
    (
        "ptp::undo::del_after_a_refused_add_leaves_what_another_plugin_made",
        Differs,
        "It deletes whatever has the interface's name.",
    ),
    ("ptp::undo::gc_removes_what_is_not_listed", Differs, OLD),
    ("ptp::undo::gc_touches_no_other_network_and_no_other_plugin", Older, OLD),
    (
        "ptp::undo::nothing_is_left_whatever_has_become_of_the_configuration",
        Differs,
        "It deletes what today's configuration says, not what it has made.",
    ),
    ("ptp::undo::nothing_is_left_when_neither_path_nor_result_is_told", Differs, LOST),
    ("ptp::undo::nothing_is_left_when_the_link_is_gone_already", Differs, KILLED),
    ("ptp::undo::nothing_is_left_when_the_namespace_is_gone", Differs, LOST),
    ("ptp::undo::status_is_that_of_the_ipam_plugin", Older, OLD),
    (
        "ptp::undo::two_interfaces_of_one_pod_go_one_by_one",
        Differs,
        "Its iptables chains are named after the container alone, so DEL of one interface fails.",
    ),
    ("ptp::upgrade::del_of_ours_removes_what_add_of_theirs_has_made", Differs, LOST),
    ("ptp::upgrade::gc_of_ours_removes_what_lost_pods_of_theirs_had", Differs, OLD),
];
