//! Where the Go plugin sbr differs, and why.

use super::What::{self, Differs, Older, Skip};
use super::{OLD, YOUNGER};

const LATER: &str =
    "It does not know the keys gateways and addSourceHints, which no release has yet.";

const MOVED: &str = "Its DEL leaves routes where ADD has moved them, until the interface goes.";

const STRIPPED: &str =
    "It empties the main table of all that the interface has, whoever needs it there.";

const BLIND: &str = "Its CHECK looks at nothing.";

const BY_ADDRESS: &str = "It deletes rules by the addresses that the interface has at that moment.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("sbr::a_table_of_somebody_elses_is_only_looked_into", Older, YOUNGER),
    (
        "sbr::a_table_that_anything_uses_is_not_free",
        Differs,
        "It looks at rules and at the main table only.",
    ),
    ("sbr::addresses_of_other_interfaces_are_none_of_its", Older, YOUNGER),
    ("sbr::check_finds_what_is_missing", Differs, BLIND),
    (
        "sbr::check_of_the_plugin_before_it_finds_what_has_moved",
        Differs,
        "Other plugins' CHECK looks into the main table only, so it fails behind sbr.",
    ),
    ("sbr::del_makes_no_file_where_no_namespace_is", Differs, "It fails, or makes a file there."),
    ("sbr::gc_and_status_have_nothing_to_say", Older, OLD),
    (
        "sbr::link_local_neighbours_are_reached_as_before",
        Skip,
        "It empties the main table of all that the interface has by then, which the kernel decides.",
    ),
    ("sbr::routes_that_no_address_needs_stay_where_they_are", Differs, STRIPPED),
    ("sbr::the_subnet_may_be_reached_by_whoever_has_chosen_no_address", Differs, LATER),
    ("sbr::crash::a_failed_add_puts_everything_back", Differs, "It undoes nothing."),
    ("sbr::crash::a_killed_add_is_repaired_by_del", Differs, MOVED),
    ("sbr::crash::a_killed_del_is_repeated", Differs, MOVED),
    ("sbr::crash::an_attachment_is_added_once", Differs, "It adds rules and tables once more."),
    ("sbr::crash::interfaces_that_come_at_once_have_tables_of_their_own", Differs, MOVED),
    (
        "sbr::gateways::a_gateway_may_be_outside_of_the_subnet",
        Differs,
        "It asks the kernel for a route by a gateway that no route leads to.",
    ),
    (
        "sbr::gateways::a_gateway_that_is_told_beats_the_default_route_of_the_interface",
        Differs,
        LATER,
    ),
    ("sbr::gateways::beside_a_table_of_somebody_elses_gateways_mean_nothing", Older, YOUNGER),
    ("sbr::gateways::gateways_may_be_told", Differs, LATER),
    ("sbr::gateways::gateways_that_contradict_each_other_are_refused", Differs, LATER),
    ("sbr::owners::del_does_not_depend_on_todays_configuration", Differs, MOVED),
    ("sbr::owners::del_needs_neither_addresses_nor_the_interface", Differs, BY_ADDRESS),
    (
        "sbr::owners::either_plugin_deletes_what_the_other_has_made",
        Skip,
        "Between two versions of it nothing is promised.",
    ),
    ("sbr::owners::rules_of_others_stay", Differs, BY_ADDRESS),
    ("sbr::owners::rules_of_the_go_plugin_are_found_by_the_result", Differs, BY_ADDRESS),
    (
        "sbr::owners::what_was_never_added_is_gone",
        Older,
        "1.1.1 fails where the interface is not there any more.",
    ),
    ("sbr::whole::a_route_moves_with_all_that_the_kernel_says_of_it", Differs, MOVED),
    ("sbr::whole::a_route_that_another_interface_shares_stays", Differs, MOVED),
];
