//! Leases.

use super::What::{self, Differs};
use super::{CODES, OLD};

const FILES: &str = "It keeps a file for each address, and no log.";

const STICKY: &str = "It knows no `sticky`: a pod that comes back gets the next address.";

const TOOL: &str = "Its cnitool, which distributions do not ship, knows nothing of leases.";

const LEAKS: &str = "It reclaims nothing: a lease ends with DEL, or with an administrator's rm.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("lease_netns::three_hundred_failing_adds_do_not_exhaust_a_range", Differs, LEAKS),
    ("lease_netns::a_namespace_that_is_held_somehow_lives", Differs, LEAKS),
    ("lease_netns::a_namespace_that_only_a_socket_holds_lives", Differs, LEAKS),
    ("lease_netns::nobody_is_reclaimed_by_default_in_this_boot", Differs, CODES),
    ("lease_reboot::five_more_after_a_reboot_and_late_dels_of_the_old_five", Differs, LEAKS),
    ("lease_reboot::never_is_never_and_the_error_says_what_to_do", Differs, CODES),
    (
        "lease_reboot::leases_of_the_go_plugin_end_with_the_boot_after_they_were_seen",
        Differs,
        LEAKS,
    ),
    ("lease_reboot::a_pod_that_comes_back_gets_its_address_also_after_a_reboot", Differs, STICKY),
    ("lease_reboot::by_its_name_alone_if_one_says_so_and_not_at_all_by_default", Differs, STICKY),
    (
        "lease_reboot::what_is_kept_goes_under_pressure_oldest_first_and_to_who_asks_for_it",
        Differs,
        STICKY,
    ),
    ("lease_tool::the_list_tells_who_where_since_when_and_whether_they_live", Differs, TOOL),
    (
        "lease_tool::what_has_no_configuration_is_listed_too_and_a_read_only_directory_will_do",
        Differs,
        TOOL,
    ),
    ("lease_tool::the_figures_add_up_also_for_prometheus", Differs, TOOL),
    ("lease_tool::who_may_be_alive_is_released_by_force_only", Differs, TOOL),
    ("lease_tool::a_pod_behind_a_bridge_is_alive_whatever_its_path", Differs, TOOL),
    ("lease_tool::repair_explains_and_then_does_and_a_dry_run_does_nothing", Differs, TOOL),
    ("lease_tool::watch_tells_what_happens_in_order", Differs, TOOL),
    ("lease_luck::fifty_adds_race_gc_and_lose_no_address", What::Older, OLD),
    ("lease_luck::gc_spares_an_add_of_which_the_runtime_has_no_answer_yet", What::Older, OLD),
    (
        "lease_luck::killed_at_any_call_add_costs_at_most_what_its_del_gives_back",
        Differs,
        "Killed between making a file and writing it, it loses the address.",
    ),
    (
        "lease_luck::sixty_thousand_leases_fit_into_twelve_megabytes",
        Differs,
        "A Go program reserves more than that before it begins.",
    ),
    (
        "lease_mirror::a_file_that_an_administrator_removes_ends_the_lease",
        Differs,
        "It does not tell that anything has changed.",
    ),
    (
        "lease_mirror::a_lease_that_somebody_has_lost_is_not_handed_out_again",
        Differs,
        "It hands out whatever has no file.",
    ),
    (
        "lease_mirror::strange_files_are_held_and_never_handed_out",
        Differs,
        "It tells nobody of them, and DEL reads them all: a pipe holds it for ever.",
    ),
    ("lease_file::it_can_be_read_by_people_and_checked_by_machines", Differs, FILES),
    ("lease_file::cut_anywhere_it_is_healed_from_the_directory", Differs, FILES),
    ("lease_file::with_any_bit_flipped_it_is_healed_from_the_directory", Differs, FILES),
    ("lease_file::of_a_later_version_it_is_refused_and_left_alone", Differs, FILES),
    ("lease_file::what_is_damaged_is_kept_for_whoever_wants_to_know", Differs, FILES),
    ("lease_file::additions_of_later_versions_are_kept", Differs, FILES),
    ("lease_file::it_does_not_grow_for_ever", Differs, FILES),
    ("lease_file::a_directory_that_cannot_be_written_is_named", Differs, FILES),
    (
        "lease_file::on_a_full_disk_nothing_is_handed_out",
        Differs,
        "It leaves an empty file behind, with which the address is gone.",
    ),
    ("lease_file::without_inodes_nothing_is_handed_out", Differs, CODES),
    ("lease_file::who_holds_the_lock_too_long_is_named", Differs, "It waits for ever."),
];
