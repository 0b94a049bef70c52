//! Where the Go plugins differ in the packet filter: masquerading, ports of the host, repair.

use super::What::{self, Differs, Skip};
use super::{KILLED, OLD, YOUNGER};

const FLUSHED: &str = "Nothing of it makes rules anew that somebody has flushed.";

const SHARED: &str = "It lets two containers have one port.";

const TRACED: &str =
    "What is traced there is one of many threads, or a program that it has started.";

const EDITED: &str = "It deletes what today's configuration and result say, not what it has made.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("packet_filter::gc::who_comes_to_have_what_the_dead_had_keeps_it", Skip, TRACED),
    ("edited::a_source_of_firewalld_is_found_by_its_owner", Differs, EDITED),
    ("edited::bridge_by_iptables_is_found_by_its_owner", Differs, EDITED),
    ("edited::bridge_is_found_by_its_owner", Differs, EDITED),
    ("edited::firewall_by_iptables_is_found_by_its_owner", Differs, EDITED),
    ("edited::firewall_is_found_by_its_owner", Differs, EDITED),
    ("edited::portmap_by_iptables_is_found_by_its_owner", Differs, EDITED),
    ("edited::portmap_is_found_by_its_owner", Differs, EDITED),
    ("lost_answers::of_a_bridge", Skip, TRACED),
    ("lost_answers::of_a_firewall", Skip, TRACED),
    ("lost_answers::of_host_ports", Skip, TRACED),
    (
        "lost_answers::an_add_that_is_refused_takes_nothing_from_the_one_before",
        What::Older,
        "1.1.1 does not know ingressPolicy isolated.",
    ),
    ("old_kernel::an_unknown_kind_of_name_is_reported_once", Skip, TRACED),
    ("old_kernel::host_ports_name_the_kernel_that_they_need", Skip, TRACED),
    ("old_kernel::isolation_of_ports_is_refused_where_there_is_none", Skip, TRACED),
    ("packet_filter::del_lists_nothing_that_it_is_told", Skip, TRACED),
    (
        "packet_filter::what_nft_has_loaded_serves_as_what_was_made",
        Differs,
        "nft does not load what it lists of rules of iptables.",
    ),
    ("packet_filter::gc::chains_that_nobody_needs_go_with_gc", Differs, OLD),
    ("packet_filter::gc::gc_takes_no_chain_from_who_is_just_coming", Skip, TRACED),
    (
        "portmap::flows::a_client_that_keeps_its_port_follows_over_ipv6",
        Differs,
        "It flushes connections on ADD only: after DEL they lead to an address without a pod.",
    ),
    ("portmap::flows::a_list_of_connections_that_loses_its_end_is_read_again", Skip, TRACED),
    (
        "portmap::owners::thousands_of_ports_of_one_address_go_at_once",
        Skip,
        "It takes a rule for each, and minutes.",
    ),
    ("conf::units_of_systemd_start_what_there_is", Differs, FLUSHED),
    ("bridge::filter::a_pod_sends_with_its_own_address_only", Differs, OLD),
    (
        "bridge::filter::masquerading_may_be_for_one_family_and_have_exceptions",
        Differs,
        "There ipMasq is true or false.",
    ),
    ("bridge::filter::the_check_of_addresses_leaves_nothing", Differs, OLD),
    (
        "masquerade::a_flushed_packet_filter_is_made_again_by_the_next",
        Differs,
        "Its DEL fails for rules that are gone already.",
    ),
    (
        "masquerade::a_flushed_packet_filter_is_noticed",
        Differs,
        "Its CHECK does not look at the packet filter.",
    ),
    (
        "masquerade::a_table_that_lost_its_rules_is_completed",
        Differs,
        "Its rules are those of iptables, and there is no table to be flushed.",
    ),
    (
        "masquerade::as_many_rules_for_thirty_as_for_one",
        Differs,
        "It adds a chain and three rules for each pod and family.",
    ),
    (
        "masquerade::nft_loads_what_it_has_listed",
        Differs,
        "Its rules are those of iptables, which nft lists and does not understand.",
    ),
    (
        "masquerade::the_next_owner_of_an_address_replaces_the_last",
        Differs,
        "The lost container's rules stay beside those of the next owner.",
    ),
    (
        "masquerade::iptables::an_add_that_fails_leaves_the_container_its_other_interface",
        Differs,
        "It does not run ip6tables-save, without which this ADD succeeds.",
    ),
    ("masquerade::iptables::networks_that_are_excluded_see_the_pod", Differs, YOUNGER),
    (
        "masquerade::iptables::pods_are_seen_as_the_host_and_leave_no_rule",
        Differs,
        "Its CHECK does not look at rules.",
    ),
    ("packet_filter::no_program_is_started_but_ipam", Differs, "It starts iptables, many times."),
    (
        "packet_filter::two_thousand_attachments_have_the_rules_of_two",
        Skip,
        "Each has rules of its own, and adding one takes longer with each.",
    ),
    ("portmap::conditions_say_who_may_use_a_port", Differs, YOUNGER),
    (
        "portmap::sctp_is_translated_too",
        Differs,
        "It takes protocols as they are written, and iptables knows no SCTP in capitals.",
    ),
    ("portmap::with_masq_all_nobody_is_seen_as_itself", Differs, YOUNGER),
    (
        "portmap::iptables::a_chain_of_somebody_elses_marks",
        Differs,
        "Its failed ADD leaves the chains that it has made.",
    ),
    (
        "portmap::iptables::an_add_that_fails_leaves_the_container_its_other_ports",
        Differs,
        "It does not run ip6tables-save, without which this ADD succeeds.",
    ),
    (
        "portmap::iptables::chains_of_the_other_kind_of_iptables_make_way",
        Differs,
        "It looks at the kind of iptables only that the host has now.",
    ),
    ("portmap::iptables::a_port_has_one_owner_whoever_translates", Differs, SHARED),
    (
        "portmap::iptables::check_misses_any_rule",
        Differs,
        "Its CHECK of two families looks for the rules of one in the other.",
    ),
    (
        "portmap::iptables::del_needs_to_know_nothing_and_leaves_what_is_shared",
        Differs,
        "Its DEL without mappings removes nothing.",
    ),
    (
        "portmap::iptables::the_rules_are_those_of_the_go_plugin",
        What::Older,
        "Its CHECK of two families looks for the rules of one in the other.",
    ),
    (
        "portmap::owners::a_client_that_keeps_its_port_follows",
        Differs,
        "It flushes connections on ADD only: after DEL they lead to an address without a pod.",
    ),
    (
        "portmap::owners::a_dead_owner_is_replaced",
        Differs,
        "It appends rules, and the first one, which leads to the dead container, wins.",
    ),
    ("portmap::owners::of_two_at_the_same_time_one_gets_the_port", Differs, SHARED),
    ("portmap::owners::a_port_has_one_owner", Differs, SHARED),
    (
        "portmap::owners::check_and_gc_look_at_every_port",
        Differs,
        "1.1.1 has no GC, and its CHECK does not find IPv6 rules that it has made.",
    ),
    (
        "portmap::owners::del_needs_to_know_nothing",
        Differs,
        "Without mappings its DEL does nothing, and a renamed network has other chains.",
    ),
    (
        "portmap::owners::ten_thousand_ports_are_one_interval",
        Differs,
        "It has rules for every port.",
    ),
    (
        "portmap::owners::what_cannot_be_meant_is_refused",
        Differs,
        "It reports code 999, and leaves protocols and addresses to iptables.",
    ),
    (
        "portmap::owners::without_mappings_nothing_is_touched",
        Differs,
        "It reports code 999 where there is no result.",
    ),
    ("cnitool::restore::a_flushed_packet_filter_is_noticed_and_made_anew", Differs, FLUSHED),
    (
        "cnitool::restore::a_healthy_node_has_no_problem_and_each_trouble_has_its_sentence",
        Differs,
        FLUSHED,
    ),
    ("cnitool::restore::del_after_a_restore_leaves_nothing", Differs, FLUSHED),
    ("cnitool::restore::whatever_is_missing_comes_back_and_what_is_there_stays", Differs, FLUSHED),
    ("cnitool::restore::who_goes_meanwhile_does_not_come_back_either", Differs, FLUSHED),
    ("cnitool::restore::who_is_gone_does_not_come_back", Differs, FLUSHED),
    ("upgrade::a_lost_container_of_theirs_gives_its_ports_up", Differs, SHARED),
    ("upgrade::del_of_ours_removes_what_add_of_theirs_has_made", Skip, KILLED),
    ("upgrade::gc_of_ours_removes_what_lost_containers_of_theirs_had", Differs, OLD),
    ("upgrade::ports_of_one_address_are_in_nobodys_way_at_another", Differs, SHARED),
    ("upgrade::rules_of_nft_go_by_their_comments", Differs, YOUNGER),
    ("cnitool::restore::a_reload_of_firewalld_is_made_good", Differs, FLUSHED),
    ("cnitool::restore::rules_of_iptables_come_back_too", Differs, FLUSHED),
];
