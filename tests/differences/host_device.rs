//! Where the Go plugin host-device differs, and why.

use super::What::{self, Differs, Older};
use super::{CODES, OLD, YOUNGER};

const BARE: &str = "It gives the link back down, without its addresses, with the container's MTU.";

const FORGOTTEN: &str =
    "It looks for the link in the namespace only, and fails for as long as there is none.";

const KEPT: &str = "Its failed ADD leaves the link in the container.";

const LOST_CARD: &str =
    "Killed while the link is in a namespace of its own, it does not find the link again.";

const RENAMED: &str = "Its DEL fails when the container has renamed the link.";

const TAKES: &str = "It takes whatever link the path and the interface lead to.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "host_device::a_link_that_another_pod_has_names_the_pod",
        Differs,
        "It says \"Link not found\".",
    ),
    ("host_device::an_interface_that_is_taken_stays_whose_it_is", Differs, CODES),
    (
        "host_device::another_link_of_the_name_in_the_container_does_not_matter",
        Older,
        "1.1.1 moves the link before it renames it.",
    ),
    ("host_device::check_finds_what_is_different", Differs, RENAMED),
    ("host_device::of_several_adds_at_once_one_gets_it", Differs, BARE),
    (
        "host_device::status_misses_a_device",
        Differs,
        "Its STATUS looks at nothing but the IPAM plugin.",
    ),
    (
        "host_device::addresses::a_record_of_an_earlier_version_is_understood",
        Differs,
        "It keeps no records.",
    ),
    ("host_device::addresses::they_come_back_as_they_were", Differs, BARE),
    ("host_device::addresses::what_the_host_refuses_by_now_keeps_nothing_else", Differs, BARE),
    ("host_device::back::a_failed_add_gives_it_back", Differs, KEPT),
    ("host_device::back::an_answer_that_cannot_be_written_gives_it_back", Differs, KEPT),
    (
        "host_device::back::del_after_a_refused_add_takes_nothing_from_another_network",
        Differs,
        CODES,
    ),
    ("host_device::back::del_gives_it_back_as_it_was", Differs, BARE),
    (
        "host_device::back::del_succeeds_as_often_as_one_likes",
        Differs,
        "Its DEL fails for what is gone.",
    ),
    (
        "host_device::back::del_without_a_path_finds_the_namespace",
        Differs,
        "Without a path its DEL does nothing at all.",
    ),
    ("host_device::back::gc_leaves_alone_what_is_young", Differs, OLD),
    ("host_device::back::gc_restores_what_is_not_listed", Differs, OLD),
    (
        "host_device::back::hardware_that_nobody_deletes_is_restored_by_the_next_add",
        Differs,
        FORGOTTEN,
    ),
    ("host_device::back::hardware_whose_name_is_taken_stays_usable", Differs, FORGOTTEN),
    ("host_device::back::hardware_whose_namespace_is_gone_is_restored_by_del", Differs, FORGOTTEN),
    ("host_device::back::nothing_is_left_whatever_has_become_of_the_configuration", Differs, BARE),
    (
        "host_device::back::the_directory_of_records_may_be_elsewhere",
        Differs,
        "It keeps no records.",
    ),
    (
        "host_device::back::the_pod_keeps_its_addresses_meanwhile",
        Differs,
        "It moves the link, notices, and moves it back, without its addresses.",
    ),
    (
        "host_device::back::theirs_gives_back_what_ours_has_taken",
        Differs,
        "Its DEL fails for what is gone.",
    ),
    (
        "host_device::back::what_dies_with_a_namespace_that_is_gone_is_forgotten_too",
        Differs,
        "Its DEL fails for a namespace that is gone, and releases nothing.",
    ),
    (
        "host_device::back::what_dies_with_its_namespace_is_forgotten",
        Differs,
        "Its DEL fails for what is gone.",
    ),
    ("host_device::back::what_the_pod_has_changed_is_changed_back", Differs, BARE),
    ("host_device::back::what_theirs_has_taken_comes_back", Older, "1.1.1 leaves the alias."),
    ("host_device::crash::a_killed_add_is_cleaned_up_by_gc", Differs, OLD),
    ("host_device::crash::a_killed_add_is_cleaned_up_by_one_del", Differs, LOST_CARD),
    ("host_device::crash::a_killed_del_is_repeated", Differs, LOST_CARD),
    ("host_device::crash::a_del_whose_calls_fail_is_repeated", Differs, BARE),
    ("host_device::crash::after_a_killed_del_the_next_add_finds_it_whole", Differs, LOST_CARD),
    ("host_device::crash::an_add_whose_calls_fail_gives_it_back", Differs, KEPT),
    ("host_device::crash::an_answer_that_nobody_reads_gives_it_back", Differs, KEPT),
    ("host_device::selectors::by_a_name_on_the_auxiliary_bus", Older, YOUNGER),
    (
        "host_device::selectors::what_belongs_to_a_program_is_not_moved",
        Older,
        "1.1.1 answers without an interface.",
    ),
    (
        "host_device::selectors::what_leads_out_of_its_bus_is_no_device",
        Differs,
        "It follows any path.",
    ),
    ("host_device::stale::a_dead_pod_takes_nothing_from_the_next_one_at_its_path", Differs, TAKES),
    (
        "host_device::stale::a_device_that_nobody_has_is_missed_whatever_others_have",
        Differs,
        "Its STATUS looks at nothing but the IPAM plugin.",
    ),
    ("host_device::stale::a_directory_that_was_changed_since_loses_nothing", Differs, BARE),
    ("host_device::stale::another_link_of_the_name_stays_as_the_administrator_made_it", Older, OLD),
    (
        "host_device::stale::del_after_a_refused_add_takes_no_link_that_somebody_gave_an_alias",
        Differs,
        CODES,
    ),
    ("host_device::stale::del_during_add_is_told_to_wait", Differs, "It keeps no records."),
    (
        "host_device::stale::gc_of_a_dead_pod_takes_nothing_from_the_next_one_at_its_path",
        Differs,
        OLD,
    ),
    ("host_device::stale::the_pod_may_change_all_that_it_is_recognized_by", Differs, RENAMED),
    (
        "host_device::stale::what_is_no_record_keeps_nobody_from_anything",
        Differs,
        "It keeps no records.",
    ),
    (
        "host_device::stale::who_has_given_it_back_by_another_plugin_cannot_take_it_again",
        Differs,
        TAKES,
    ),
];
