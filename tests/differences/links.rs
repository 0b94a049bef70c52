//! Where the Go plugins ipvlan, vlan and dummy, or a chained macvlan, differ, and why.

use super::What::{self, Differs, Older, Skip};
use super::{OLD, UNDONE, YOUNGER};

const FLAGLESS: &str = "It has no key for the flag: its pods always reach each other.";

const UNCHAINED: &str = "Its macvlan does not look at the result of the plugin before it.";

const LOOKS: &str = "Its CHECK looks up the master only if it is named, and fails if it is not.";

const NO_DUMMY: &str = "Distributions ship 1.1.1, which has no dummy.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("chained_master::a_macvlan_takes_link_and_addresses", Differs, UNCHAINED),
    ("chained_master::a_result_without_one_named_interface_is_refused", Differs, UNCHAINED),
    ("chained_master::an_ipvlan_takes_link_and_addresses", Differs, LOOKS),
    ("chained_master::its_own_keys_come_first", Differs, UNCHAINED),
    ("chained_master::the_link_may_be_in_the_container", Differs, UNCHAINED),
    ("dummy::a_pod_has_addresses_of_its_own", Older, NO_DUMMY),
    ("dummy::an_address_may_also_be_a_pods_that_the_host_routes", Older, NO_DUMMY),
    ("dummy::check_finds_what_is_different", Older, NO_DUMMY),
    (
        "dummy::the_name_service_is_ipams_or_the_configurations",
        Differs,
        "It ignores the configuration's.",
    ),
    ("dummy::without_ipam_it_is_good_for_nothing", Older, NO_DUMMY),
    ("ipvlan::a_link_of_the_kind_may_be_the_master_of_another", Older, YOUNGER),
    (
        "ipvlan::a_master_that_is_used_otherwise_is_named",
        Differs,
        "It says \"device or resource busy\".",
    ),
    ("ipvlan::an_unknown_mode_or_flag_is_named", Differs, FLAGLESS),
    (
        "ipvlan::check_finds_what_is_different",
        Differs,
        "It is content when there is a link of the master's name.",
    ),
    ("ipvlan::one_interface_is_in_the_result", Older, "1.1.1 announces IPv4 addresses only."),
    ("ipvlan::private_pods_reach_the_lan_and_not_each_other", Differs, FLAGLESS),
    ("ipvlan::the_flag_is_as_told", Differs, FLAGLESS),
    ("ipvlan::the_latest_network_of_a_master_decides_and_check_says_so", Differs, FLAGLESS),
    ("ipvlan::the_master_is_by_default_where_the_default_route_leads", Differs, LOOKS),
    ("ipvlan::the_master_may_be_in_the_container", Older, YOUNGER),
    (
        "link_life::a_kernel_without_them_is_told_by_name",
        Skip,
        "Where the kernel has them all, there is nothing to be told.",
    ),
    ("link_life::a_failed_add_leaves_nothing_and_can_be_repeated", Differs, UNDONE),
    (
        "link_life::a_name_that_is_taken_stays_whose_it_was",
        Differs,
        "It deletes whatever has the interface's name.",
    ),
    (
        "link_life::a_plugin_that_makes_links_hands_out_no_addresses",
        Differs,
        "It makes links one in the other, or two of one name, and leaves some.",
    ),
    ("link_life::gc_frees_what_is_not_listed", Differs, OLD),
    (
        "link_life::nothing_is_left_whatever_has_become_of_the_configuration",
        Differs,
        "It reads the configuration for DEL as for ADD.",
    ),
    (
        "link_life::nothing_is_left_when_link_namespace_or_master_are_gone_already",
        Differs,
        "Without its master, DEL of a VLAN fails, and the lease stays.",
    ),
    ("link_life::ours_and_theirs_delete_what_the_other_one_has_made", Older, NO_DUMMY),
    ("link_life::status_asks_the_ipam_plugin", Older, OLD),
    (
        "link_life::status_misses_a_master",
        Differs,
        "Its STATUS looks at nothing but the IPAM plugin.",
    ),
    ("link_life::the_host_may_have_a_link_of_the_name", Older, NO_DUMMY),
    (
        "vlan::a_master_that_is_down_is_named",
        Differs,
        "It finds out when the link is made, and leaves that.",
    ),
    ("vlan::a_vlan_that_is_taken_is_refused_by_name", Differs, "It says \"file exists\"."),
    (
        "vlan::check_finds_what_is_different",
        Differs,
        "It is content when there is a link of the master's name.",
    ),
    ("vlan::the_master_may_be_in_the_container", Older, YOUNGER),
    ("vlan::what_is_no_vlan_of_a_link_is_refused", Differs, "It does not say which master."),
    (
        "vlan::without_ipam_it_carries_frames",
        Differs,
        "It needs an IPAM plugin, and leaves the link when there is none.",
    ),
];
