//! Where `host-local` of the Go plugins differs: leases, and what becomes of them.

use super::What::{self, Differs, Skip};
use super::{CODES, OLD};

const FILES: &str = "It keeps a file for each address, and no log.";

const STICKY: &str = "It knows no `sticky`: a pod that comes back gets the next address.";

const TOOL: &str = "Its cnitool, which distributions do not ship, knows nothing of leases.";

const LEAKS: &str = "It reclaims nothing: a lease ends with DEL, or with an administrator's rm.";

const AGAIN: &str = "It refuses every second ADD: a container that was lost needs a DEL first.";

const STATUS: &str = "Its STATUS looks at nothing but the configuration.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("host_local::netns::three_hundred_failing_adds_do_not_exhaust_a_range", Differs, LEAKS),
    ("host_local::netns::a_namespace_that_is_held_somehow_lives", Differs, LEAKS),
    ("host_local::netns::a_namespace_that_only_a_socket_holds_lives", Differs, LEAKS),
    ("host_local::netns::by_default_too_a_link_that_is_gone_is_proof_at_any_age", Differs, LEAKS),
    ("host_local::again::after_a_reboot_a_container_gets_its_address_again", Differs, AGAIN),
    ("host_local::again::without_a_link_a_path_that_is_gone_proves_nothing", What::Older, OLD),
    ("host_local::again::only_a_living_one_is_refused_when_its_link_is_known", Differs, AGAIN),
    (
        "host_local::again::another_address_that_is_asked_for_is_given_and_the_lost_one_is_free",
        Differs,
        AGAIN,
    ),
    (
        "host_local::again::a_pod_whose_interface_or_namespace_was_lost_gets_its_addresses_again",
        Differs,
        AGAIN,
    ),
    (
        "host_local::again::gc_ends_at_any_age_what_has_lost_its_link_but_not_an_add_that_runs",
        Differs,
        LEAKS,
    ),
    (
        "host_local::again::without_room_what_has_lost_its_link_goes_first_at_any_age",
        Differs,
        LEAKS,
    ),
    (
        "host_local::again::in_another_network_namespace_a_missing_link_proves_nothing",
        Differs,
        LEAKS,
    ),
    ("host_local::again::no_gc_comes_between_a_lease_and_its_link", What::Older, OLD),
    ("host_local::doubt::an_index_with_any_byte_flipped_is_made_anew", Differs, FILES),
    ("host_local::doubt::an_index_with_any_entry_lost_is_made_anew", Differs, FILES),
    (
        "host_local::doubt::a_lease_of_the_future_or_of_no_time_is_not_young_for_ever",
        Differs,
        FILES,
    ),
    ("host_local::doubt::sixty_thousand_strange_files_are_taken_over_and_given_up", Differs, FILES),
    (
        "host_local::doubt::files_that_one_owner_has_lost_are_healed_and_then_given_back",
        Differs,
        FILES,
    ),
    (
        "host_local::doubt::whatever_is_planted_nobody_hangs_and_nothing_else_is_written",
        Skip,
        "It hangs, and reads /dev/zero into memory.",
    ),
    (
        "host_local::doubt::name_servers_come_from_files_that_end_through_links_too",
        Skip,
        "A pipe holds it for ever.",
    ),
    (
        "host_local::doubt::whatever_key_is_broken_by_now_del_and_gc_free_the_lease",
        Differs,
        "It reads the whole configuration for DEL as for ADD.",
    ),
    (
        "host_local::local::a_network_that_is_all_of_this_host_is_passed_over_with_one_line",
        Differs,
        "It hands out the host's own addresses.",
    ),
    ("host_local::status::a_full_range_is_told_and_fails_only_where_one_says_so", Differs, STATUS),
    ("host_local::status::it_fails_where_no_file_can_be_made", Differs, STATUS),
    (
        "host_local::status::it_fails_where_the_leases_are_none_and_not_because_somebody_is_at_work",
        Differs,
        STATUS,
    ),
    ("host_local::status::validate_knows_the_words", Differs, TOOL),
    ("cnitool::leases::figures_are_right_to_the_last_address_of_all", Differs, TOOL),
    ("host_local::reboot::five_more_after_a_reboot_and_late_dels_of_the_old_five", Differs, LEAKS),
    ("host_local::reboot::never_is_never_and_the_error_says_what_to_do", Differs, CODES),
    (
        "host_local::reboot::leases_of_the_go_plugin_end_with_the_boot_after_they_were_seen",
        Differs,
        LEAKS,
    ),
    (
        "host_local::reboot::a_pod_that_comes_back_gets_its_address_also_after_a_reboot",
        Differs,
        STICKY,
    ),
    (
        "host_local::reboot::by_its_name_alone_if_one_says_so_and_not_at_all_by_default",
        Differs,
        STICKY,
    ),
    (
        "host_local::reboot::what_is_kept_goes_under_pressure_oldest_first_and_to_who_asks_for_it",
        Differs,
        STICKY,
    ),
    ("cnitool::leases::the_list_tells_who_where_since_when_and_whether_they_live", Differs, TOOL),
    (
        "cnitool::leases::what_has_no_configuration_is_listed_too_and_a_read_only_directory_will_do",
        Differs,
        TOOL,
    ),
    ("cnitool::leases::the_figures_add_up_also_for_prometheus", Differs, TOOL),
    ("cnitool::leases::who_may_be_alive_is_released_by_force_only", Differs, TOOL),
    ("cnitool::leases::a_pod_behind_a_bridge_is_alive_whatever_its_path", Differs, TOOL),
    ("cnitool::leases::repair_explains_and_then_does_and_a_dry_run_does_nothing", Differs, TOOL),
    ("cnitool::leases::watch_tells_what_happens_in_order", Differs, TOOL),
    ("host_local::luck::fifty_adds_race_gc_and_lose_no_address", What::Older, OLD),
    ("host_local::luck::gc_spares_an_add_of_which_the_runtime_has_no_answer_yet", What::Older, OLD),
    (
        "host_local::luck::killed_at_any_call_add_costs_at_most_what_its_del_gives_back",
        Skip,
        "Killed between making a file and writing it, it loses the address; its threads decide whether a kill falls between.",
    ),
    (
        "host_local::luck::sixty_thousand_leases_fit_into_twelve_megabytes",
        Differs,
        "A Go program reserves more than that before it begins.",
    ),
    (
        "host_local::directory::a_file_that_an_administrator_removes_ends_the_lease",
        Differs,
        "It does not tell that anything has changed.",
    ),
    (
        "host_local::directory::a_lease_that_somebody_has_lost_is_not_handed_out_again",
        Differs,
        "It hands out whatever has no file.",
    ),
    (
        "host_local::directory::strange_files_are_held_and_never_handed_out",
        Differs,
        "It tells nobody of them, and DEL reads them all: a pipe holds it for ever.",
    ),
    ("host_local::file::it_can_be_read_by_people_and_checked_by_machines", Differs, FILES),
    ("host_local::file::cut_anywhere_it_is_healed_from_the_directory", Differs, FILES),
    ("host_local::file::with_any_bit_flipped_it_is_healed_from_the_directory", Differs, FILES),
    ("host_local::file::of_a_later_version_it_is_refused_and_left_alone", Differs, FILES),
    ("host_local::file::what_is_damaged_is_kept_for_whoever_wants_to_know", Differs, FILES),
    ("host_local::file::additions_of_later_versions_are_kept", Differs, FILES),
    ("host_local::file::it_does_not_grow_for_ever", Differs, FILES),
    ("host_local::file::a_directory_that_cannot_be_written_is_named", Differs, FILES),
    (
        "host_local::file::on_a_full_disk_nothing_is_handed_out",
        Differs,
        "It leaves an empty file behind, with which the address is gone.",
    ),
    ("host_local::file::without_inodes_nothing_is_handed_out", Differs, CODES),
    ("host_local::file::who_holds_the_lock_too_long_is_named", Differs, "It waits for ever."),
];
