//! Where the Go plugin dhcp differs, and why.

use super::What::{self, Differs, Older, Skip};
use super::{CODES, OLD, YOUNGER};

const FORGETS: &str = "Its daemon knows its leases only as long as it lives.";

const FORM: &str =
    "It extends a lease by a broadcast from 0.0.0.0, and never asks the server alone.";

const NO_IPV6: &str = "It has no IPv6.";

const REFUSED: &str = "It goes on asking for the address that was refused, 1.1.1 without a pause.";

const RELEASE: &str = "Its RELEASE does not reach the server, or the server passes over it.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "nonsense::whatever_it_reads_a_plugin_answers",
        Differs,
        "Without the section ipam, dhcp panics.",
    ),
    (
        "dhcp::a_failed_add_gives_the_lease_back",
        Differs,
        "It does not name the route that the kernel refused.",
    ),
    (
        "cnitool::doctor::a_dead_dhcp_daemon_and_a_lost_lease_are_problems",
        Differs,
        "Distributions do not ship its cnitool, which has no doctor.",
    ),
    ("dhcp::changes::a_link_has_the_lease_of_its_latest_add", Differs, FORGETS),
    ("dhcp::changes::a_link_that_is_switched_off_is_released_too", Differs, RELEASE),
    ("dhcp::changes::a_route_that_somebody_has_removed_does_not_come_back", Skip, REFUSED),
    (
        "dhcp::changes::another_router_and_another_mask_are_followed",
        Differs,
        "It renews, and whatever else the server says then is not applied.",
    ),
    ("dhcp::changes::another_server_cannot_take_an_address", Differs, FORM),
    ("dhcp::changes::routes_that_sbr_has_moved_stay_where_they_are", Skip, REFUSED),
    ("dhcp::changes::what_a_server_does_not_repeat_stays", Differs, FORM),
    ("dhcp::daemon::its_leases_are_not_where_its_socket_is", Skip, "It writes no leases."),
    (
        "dhcp::daemon::its_number_goes_through_no_link",
        Differs,
        "It writes into the file that the link leads to.",
    ),
    ("dhcp::daemon::leases_that_cannot_be_written_down_are_told", Differs, FORGETS),
    ("dhcp::ipv6::another_server_cannot_take_an_address", Differs, NO_IPV6),
    (
        "dhcp::a_list_of_routes_may_be_longer_than_an_option",
        Older,
        "1.1.1 knows the last part of it only.",
    ),
    ("dhcp::a_lease_without_a_mask_is_given_back", Skip, "1.9 does not release it, 1.1.1 does."),
    ("dhcp::a_release_goes_to_the_server_from_the_address", Differs, RELEASE),
    (
        "dhcp::a_route_on_the_link_is_the_pods",
        Differs,
        "Its CHECK looks for the router 0.0.0.0, which no route of the kernel has.",
    ),
    ("dhcp::an_exhausted_server_is_not_waited_for_for_ever", Older, YOUNGER),
    ("dhcp::an_unknown_option_is_named", Differs, CODES),
    (
        "dhcp::broadcast_is_asked_for_where_it_is_told",
        Skip,
        "1.9 reads the flag and does not use it, 1.1.1 does.",
    ),
    ("dhcp::dnsmasq_honours_the_release", Differs, RELEASE),
    ("dhcp::main_plugins_lend_the_link_and_take_it_back_after_the_release", Differs, RELEASE),
    ("dhcp::options_are_asked_for_and_told", Skip, "It asks for options in no certain order."),
    ("dhcp::the_result_is_the_servers", Older, YOUNGER),
    ("dhcp::daemon::a_killed_add_leaves_no_lease", Differs, FORGETS),
    (
        "dhcp::daemon::a_socket_that_nobody_listens_at_is_replaced",
        Differs,
        "It does not start while there is one.",
    ),
    (
        "dhcp::daemon::it_leases_from_udhcpd_too",
        Skip,
        "udhcpd does not hear the RELEASE of 1.9, and hears that of 1.1.1.",
    ),
    ("dhcp::daemon::it_writes_its_number_and_tidies_up", Older, "1.1.1 leaves both files."),
    ("dhcp::daemon::killed_and_started_again_it_goes_on", Differs, FORGETS),
    ("dhcp::daemon::nonsense_is_answered", Differs, "It speaks another protocol."),
    ("dhcp::daemon::one_that_hangs_is_not_waited_for_for_ever", Differs, OLD),
    ("dhcp::daemon::systemd_hands_over_the_socket", Older, "1.1.1 ends otherwise when told to."),
    (
        "dhcp::daemon::there_is_one_daemon",
        Differs,
        "The second one fails because of the socket, whoever has left it.",
    ),
    ("dhcp::daemon::what_was_lost_meanwhile_is_noticed", Differs, FORGETS),
    ("dhcp::daemon::without_it_every_verb_says_so", Differs, OLD),
    ("dhcp::ipv6::a_daemon_that_was_killed_goes_on", Differs, NO_IPV6),
    ("dhcp::ipv6::a_failed_add_gives_the_ipv4_address_back", Differs, NO_IPV6),
    ("dhcp::ipv6::a_killed_add_gives_the_ipv4_address_back", Skip, NO_IPV6),
    ("dhcp::ipv6::a_network_may_have_ipv6_alone", Differs, NO_IPV6),
    ("dhcp::ipv6::a_refused_address_is_replaced_on_the_interface", Differs, NO_IPV6),
    ("dhcp::ipv6::a_router_may_send_to_a_dhcpv6_server", Differs, NO_IPV6),
    ("dhcp::ipv6::a_segment_without_a_router_is_told", Differs, NO_IPV6),
    ("dhcp::ipv6::an_address_may_come_at_once", Differs, NO_IPV6),
    ("dhcp::ipv6::an_interface_makes_its_own_address_of_a_routers_prefix", Differs, NO_IPV6),
    ("dhcp::ipv6::each_family_has_a_life_of_its_own", Differs, NO_IPV6),
    ("dhcp::ipv6::it_is_renewed_by_its_server_and_then_by_any", Differs, NO_IPV6),
    ("dhcp::ipv6::one_add_gives_both_families_and_del_gives_both_back", Differs, NO_IPV6),
    ("dhcp::ipv6::other_main_plugins_lend_their_links_too", Differs, NO_IPV6),
    ("dhcp::ipv6::what_is_no_way_to_an_address_is_refused", Differs, NO_IPV6),
    ("dhcp::ipv6::when_it_ends_it_is_taken_and_asked_for_again", Differs, NO_IPV6),
    ("dhcp::lease::a_refused_address_is_replaced_on_the_interface", Skip, REFUSED),
    ("dhcp::lease::a_server_that_says_no_times_is_asked_at_half_of_the_lease", Differs, FORM),
    (
        "dhcp::lease::at_its_end_the_interface_is_switched_off_until_there_is_another",
        Differs,
        "It switches the interface off for good.",
    ),
    ("dhcp::lease::check_acquires_nothing", Differs, FORGETS),
    ("dhcp::lease::gc_releases_what_is_not_listed", Differs, OLD),
    ("dhcp::lease::it_ends_with_its_namespace", Differs, FORGETS),
    ("dhcp::lease::it_is_rebound_before_its_end", Differs, FORM),
    ("dhcp::lease::it_is_renewed_by_its_server", Differs, FORM),
    (
        "dhcp::lease::who_does_not_hear_is_asked_so_that_all_hear",
        Older,
        "1.1.1 sends options with it that RFC 2131 forbids there.",
    ),
    (
        "dhcp::daemon::killed_during_an_add_it_leaves_nothing_that_the_next_one_minds",
        Skip,
        "A socket that a killed daemon has left keeps the next one from starting.",
    ),
    ("dhcp::routers::a_router_that_is_no_way_out_is_no_gateway", Differs, NO_IPV6),
    ("dhcp::routers::another_prefix_of_the_router_is_another_address", Differs, NO_IPV6),
];
