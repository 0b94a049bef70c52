//! Where `firewall` of the Go plugins differs.

use super::OLD;
use super::What::{self, Differs};

const ISOLATED: &str = "1.1.1 does not know this policy yet; later ones need br_netfilter for it.";

const TRANSLATED: &str =
    "1.1.1 does not know this policy; later ones drop what comes back, unless somebody accepts it.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("firewall::translated::a_pod_that_is_kept_apart_reaches_its_own_service", Differs, TRANSLATED),
    (
        "firewall::translated::a_pod_that_is_kept_apart_reaches_its_own_service_where_frames_are_filtered",
        Differs,
        TRANSLATED,
    ),
    (
        "firewall::iptables::iptables_keeps_bridges_apart",
        What::Older,
        "1.1.1 has another comment at rules that both policies share.",
    ),
    (
        "firewall::a_policy_lasts_until_the_configuration_has_another",
        Differs,
        "1.1.1 does not know isolated, and no version opens a bridge that was closed.",
    ),
    ("firewall::who_comes_with_a_laxer_policy_opens_nothing", What::Older, ISOLATED),
    ("firewall::one_add_heals_all_pods", Differs, "Its rules are about one pod each."),
    ("firewall::isolated_keeps_pods_of_one_bridge_apart_too", What::Older, ISOLATED),
    (
        "firewall::who_drops_in_a_table_of_its_own_is_named_with_the_way_out",
        Differs,
        "It has no STATUS, and does not look at tables that are not those of iptables.",
    ),
    ("firewall::who_may_have_rules_for_pods_is_mentioned_only", Differs, OLD),
    (
        "firewall::firewalld::a_bus_that_does_not_answer_is_no_firewalld",
        What::Skip,
        "It waits for such a bus for ever.",
    ),
    (
        "firewall::iptables::a_missing_rule_of_iptables_is_noticed",
        Differs,
        "It does not check ingressPolicy.",
    ),
    (
        "firewall::firewalld::a_source_that_firewalld_forgot_is_noticed",
        Differs,
        "Its CHECK asks firewalld, and does not look at the answer.",
    ),
    (
        "firewall::iptables::del_and_gc_find_rules_of_iptables_without_a_result",
        Differs,
        "Without a result it deletes nothing.",
    ),
    (
        "firewall::firewalld::del_and_gc_find_sources_without_a_result",
        Differs,
        "Without a result it deletes nothing.",
    ),
    (
        "firewall::iptables::iptables_keeps_pods_of_one_bridge_apart_where_it_sees_them",
        What::Older,
        ISOLATED,
    ),
    (
        "firewall::iptables::an_add_that_fails_takes_back_only_what_it_has_added",
        Differs,
        "It does not run ip6tables-save, without which this ADD succeeds.",
    ),
    (
        "firewall::iptables::without_nftables_rules_of_iptables_come_and_go",
        Differs,
        "It opens no socket of nfnetlink, so that none can fail.",
    ),
    (
        "firewall::iptables::rules_that_another_backend_has_made_are_removed_too",
        Differs,
        "Of rules that are there twice it deletes one.",
    ),
    (
        "firewall::firewalld::what_firewalld_refuses_is_rolled_back",
        Differs,
        "The addresses before the refused one stay in the zone.",
    ),
    (
        "firewall::firewalld::without_firewalld_a_bus_changes_nothing",
        Differs,
        "Its other backend is iptables, and it has no STATUS.",
    ),
    (
        "firewall::iptables::without_its_programs_iptables_cannot_be_asked_but_del_works",
        Differs,
        "Without the programs its DEL fails, and the container stays.",
    ),
    (
        "firewall::owners::a_late_del_does_not_hurt_the_next_owner_of_an_address",
        Differs,
        "It deletes by address, whosever that is by now.",
    ),
    ("firewall::owners::an_answer_that_cannot_be_written_leaves_nothing", Differs, ISOLATED),
    ("firewall::owners::check_sees_what_is_missing", Differs, ISOLATED),
    ("firewall::owners::del_needs_to_know_nothing", Differs, ISOLATED),
    ("firewall::owners::twenty_at_once_make_one_packet_filter", Differs, ISOLATED),
    ("firewall::owners::fifty_pods_have_the_rules_of_one", Differs, ISOLATED),
    ("firewall::owners::gc_removes_what_is_not_listed", Differs, OLD),
    ("firewall::owners::nft_loads_what_it_has_listed", Differs, ISOLATED),
    (
        "firewall::owners::no_program_is_started_where_nobody_drops",
        Differs,
        "It starts iptables, many times.",
    ),
    (
        "firewall::owners::what_cannot_be_meant_is_refused_before_anything_is_touched",
        Differs,
        "It takes a typo for no backend, and finds a wrong policy when the rules are made.",
    ),
    ("crash::a_killed_firewall_is_cleaned_up_by_one_del", Differs, ISOLATED),
    (
        "crash::a_killed_firewall_with_iptables_is_cleaned_up_by_one_del",
        Differs,
        "Without a result its DEL deletes nothing.",
    ),
    ("versions::firewall_passes_on_each_version", Differs, "It begins at 0.4.0."),
];
