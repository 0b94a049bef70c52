//! Where the Go plugin tuning differs, and why.

use super::What::{self, Differs, Older, Skip};
use super::{CODES, OLD, YOUNGER};

const STAY: &str = "It never sets sysctls back.";
const LEFT: &str = "Its failed ADD leaves what it has set before it failed.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "tuning::both_ends_of_a_pair_have_the_mtu",
        Differs,
        "It changes one end, and larger packets to it are lost.",
    ),
    ("tuning::each_attribute_is_set_and_given_back", Older, YOUNGER),
    ("tuning::the_file_is_the_go_plugins", Older, YOUNGER),
    ("tuning::the_keys_of_the_container_count_most", Older, YOUNGER),
    ("tuning::what_makes_no_sense_is_refused_before_anything_is_touched", Differs, CODES),
    (
        "tuning::where_there_is_nothing_to_do_nothing_is_looked_at",
        Differs,
        "It enters the namespace to do nothing there.",
    ),
    ("tuning::check::it_finds_each_difference", Older, YOUNGER),
    (
        "tuning::check::it_finds_the_hosts_end_changed",
        Differs,
        "It knows nothing of the other end.",
    ),
    ("tuning::check::it_names_all_differences_at_once", Differs, "It ends at the first one."),
    (
        "tuning::check::somebody_who_listens_is_no_difference",
        Skip,
        "1.9.1 takes a capture of packets for a setting.",
    ),
    (
        "tuning::check::values_are_the_same_however_they_are_written",
        Differs,
        "It compares texts: upper-case addresses and values of several words are never the same.",
    ),
    ("tuning::sysctl::a_key_stands_there_once", Older, "1.1.1 takes the last one."),
    (
        "tuning::sysctl::a_list_that_cannot_be_understood_allows_nothing",
        Older,
        "1.1.1 goes on with the next line.",
    ),
    (
        "tuning::sysctl::a_secret_has_no_value_before_it_is_set",
        Differs,
        "It compares texts, and the kernel shows all of an address.",
    ),
    (
        "tuning::sysctl::a_setting_for_all_links_does_not_undo_that_of_one",
        Skip,
        "It writes them in any order.",
    ),
    (
        "tuning::sysctl::a_value_smuggles_nothing_in",
        Differs,
        "It writes whatever the value is, and leaves it to the kernel.",
    ),
    (
        "tuning::sysctl::a_value_that_the_kernel_refuses_is_named_and_nothing_is_left",
        Skip,
        "Which sysctl it writes first, and so whether it leaves one, is luck.",
    ),
    (
        "tuning::sysctl::an_administrator_lists_what_is_allowed",
        Older,
        "1.1.1 takes an empty file for none.",
    ),
    ("tuning::sysctl::del_sets_back_what_the_kernel_has_overwritten", Differs, STAY),
    ("tuning::sysctl::del_sets_them_back", Differs, STAY),
    ("tuning::sysctl::status_tells_what_add_would_refuse", Differs, "It has no STATUS."),
    ("tuning::sysctl::the_container_may_ask_where_nobody_else_does", Differs, "It crashes."),
    (
        "tuning::sysctl::the_hosts_own_namespace_is_refused_unless_it_is_meant",
        Differs,
        "It notices when the host's setting is written.",
    ),
    (
        "tuning::sysctl::the_name_of_a_link_may_have_dots",
        Older,
        "1.1.1 takes the dots of the name for those of the key.",
    ),
    (
        "tuning::sysctl::two_names_of_one_setting_have_one_value",
        Differs,
        "It takes them for two, and which one is written last is luck.",
    ),
    ("tuning::sysctl::what_is_not_the_namespaces_is_refused", Differs, CODES),
    ("tuning::undo::a_failed_add_leaves_nothing", Differs, LEFT),
    ("tuning::undo::a_file_that_is_none_stops_nobody", Differs, "It leaves the file."),
    ("tuning::undo::a_killed_add_is_cleaned_up_by_one_del", Differs, STAY),
    ("tuning::undo::a_killed_del_is_repeated", Differs, STAY),
    (
        "tuning::undo::a_repeated_add_keeps_what_was_before_the_first",
        Differs,
        "It notes the tuned values as those from before.",
    ),
    ("tuning::undo::an_add_whose_calls_fail_leaves_nothing", Differs, LEFT),
    ("tuning::undo::del_needs_to_know_nothing", Differs, STAY),
    ("tuning::undo::gc_leaves_what_the_go_plugin_has_written", Older, OLD),
    ("tuning::undo::gc_removes_files_of_the_dead", Differs, OLD),
    (
        "tuning::undo::nothing_is_left_when_the_namespace_or_the_link_is_gone",
        Differs,
        "It leaves the file.",
    ),
    (
        "tuning::undo::a_file_of_another_container_is_not_restored",
        Differs,
        "It does not write down whose a file is.",
    ),
    ("tuning::undo::ours_gives_back_what_the_go_plugin_has_changed", Older, YOUNGER),
    ("tuning::undo::the_go_plugin_gives_back_what_ours_has_changed", Older, YOUNGER),
    (
        "tuning::undo::what_is_left_of_an_earlier_container_is_not_given_to_a_later_one",
        Differs,
        STAY,
    ),
    (
        "tuning::backup::a_killed_repeated_add_keeps_what_was_before_the_first",
        Skip,
        "It writes over the first backup; where its threads were killed decides.",
    ),
    (
        "tuning::backup::del_takes_nothing_from_an_add_that_runs",
        Differs,
        "Its ADD does not say that it runs.",
    ),
    (
        "tuning::backup::gc_tells_of_a_directory_that_cannot_be_read",
        Differs,
        "Its GC does nothing.",
    ),
];
