//! Where the Go plugin bandwidth differs, and why.

use super::OLD;
use super::What::{self, Differs, Older};

const NUMBERS: &str =
    "Its CHECK compares the numbers of the first queues, if there are any, and nothing else.";

const VALIDATES: &str =
    "Its DEL validates rates, so an edited configuration leaves the ifb for good.";

const LARGE: &str = "It computes in 32 bits, and the kernel refuses what comes of it.";

const ONE: &str = "Its ifb is named after network and container, so a second interface has none.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "bandwidth::a_burst_that_no_packet_fits_into_is_mentioned",
        Differs,
        "It sets such a burst, and the pod loses packets for a reason that nobody tells.",
    ),
    (
        "bandwidth::check::a_plugin_behind_it_may_change_the_mtu",
        Differs,
        "Its tuning changes one end, and larger packets to it are lost.",
    ),
    ("bandwidth::check::it_compares_with_the_configuration_of_today", Differs, NUMBERS),
    ("bandwidth::check::it_finds_what_is_wrong_with_a_bucket", Differs, NUMBERS),
    ("bandwidth::check::it_finds_what_is_wrong_with_classes", Differs, NUMBERS),
    ("bandwidth::check::it_finds_what_is_wrong_with_the_redirection", Differs, NUMBERS),
    ("bandwidth::check::it_needs_a_result_with_the_links", Differs, NUMBERS),
    ("bandwidth::crash::a_killed_add_is_cleaned_up_by_del_and_by_gc", Differs, OLD),
    ("bandwidth::crash::a_killed_del_is_repeated", Older, OLD),
    (
        "bandwidth::crash::del_during_add_is_told_to_wait",
        Differs,
        "It does not know of an ADD that runs, and takes its ifb.",
    ),
    ("bandwidth::crash::gc_lets_those_be_that_are_being_added", Older, OLD),
    ("bandwidth::crash::of_two_adds_at_once_one_makes_the_limits", Older, OLD),
    ("bandwidth::it_is_chained_or_refused", Differs, "Without limits and result it crashes."),
    ("bandwidth::limits_of_the_configuration_beat_those_of_the_runtime", Differs, VALIDATES),
    (
        "bandwidth::no_burst_of_a_runtime_is_not_half_a_gigabyte",
        Differs,
        "It lets a pod send half a gigabyte before any limit of an annotation is felt.",
    ),
    ("bandwidth::odd_values_are_taken_or_refused_by_name", Differs, LARGE),
    (
        "bandwidth::others::a_filter_of_somebody_elses_in_the_same_place_stays",
        Differs,
        "It cannot be used beside clsact.",
    ),
    ("bandwidth::others::a_link_of_somebody_elses_of_that_name_stays", Differs, ONE),
    (
        "bandwidth::others::a_queue_of_somebody_elses_is_named_and_stays",
        Differs,
        "It says \"file exists\".",
    ),
    (
        "bandwidth::others::filters_of_others_stay_and_come_first",
        Differs,
        "It cannot be used beside clsact.",
    ),
    ("bandwidth::theirs::their_limits_of_another_interface_stay", Differs, ONE),
    (
        "bandwidth::theirs::what_a_del_of_theirs_has_left_loses_no_packets",
        Differs,
        "Its DEL leaves the filter, whose link is gone.",
    ),
    ("bandwidth::theirs::without_a_result_theirs_of_another_interface_stay", Differs, ONE),
    (
        "bandwidth::rates::only_what_is_exchanged_with_some_networks_is_limited",
        Differs,
        "Only 1.5 knew the keys.",
    ),
    ("bandwidth::the_largest_numbers_get_to_the_kernel", Differs, LARGE),
    (
        "bandwidth::the_other_end_of_this_interface_is_found_among_several",
        Differs,
        "Its ptp does not connect a container to a network twice.",
    ),
    (
        "bandwidth::undo::a_failed_add_leaves_nothing_whatever_it_failed_for",
        Differs,
        "It leaves queues and ifb.",
    ),
    ("bandwidth::undo::del_needs_neither_namespace_nor_result_nor_sense", Differs, VALIDATES),
    (
        "bandwidth::undo::del_takes_the_limits_off_a_link_that_stays",
        Differs,
        "It leaves the queue to the deletion of the link, so ADD cannot be repeated before.",
    ),
    ("bandwidth::undo::each_interface_of_a_container_has_limits_of_its_own", Differs, ONE),
    ("bandwidth::undo::gc_deletes_what_belongs_to_nobody", Differs, OLD),
    ("bandwidth::undo::limits_are_set_once", Differs, "It says \"file exists\"."),
    (
        "bandwidth::undo::status_has_nothing_against_it",
        Differs,
        "It has no STATUS, so nobody is told that its configuration is wrong.",
    ),
    (
        "bandwidth::without_limits_the_result_is_passed_on",
        Older,
        "CHECK of 1.1.1 crashes without limits.",
    ),
];
