//! Where the Go plugin tap differs, and why.

use super::What::{self, Differs};
use super::{CODES, UNDONE};

const HIJACKED: &str = "It takes an interface of that name for the tap that it has made.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("tap::a_bridge_that_is_missing_is_named", Differs, UNDONE),
    ("tap::a_failed_add_leaves_nothing", Differs, UNDONE),
    ("tap::a_label_needs_a_host_that_has_labels", Differs, CODES),
    (
        "tap::a_process_of_its_own_makes_the_tap_it_is_told_to",
        Differs,
        "It has `ip` run with the label.",
    ),
    (
        "tap::all_that_is_asked_for_is_kept",
        Differs,
        "With owner and group it ignores MTU and hardware address.",
    ),
    ("tap::an_interface_that_is_taken_stays_whose_it_is", Differs, HIJACKED),
    (
        "tap::check_finds_what_is_different",
        Differs,
        "Its CHECK looks at addresses and routes only.",
    ),
    ("tap::del_after_a_refused_add_leaves_the_link_of_a_program", Differs, HIJACKED),
    ("tap::del_leaves_what_is_another_networks", Differs, HIJACKED),
    (
        "tap::what_a_killed_add_has_left_is_nobody_elses_tap",
        Differs,
        "It stays under a name that nobody finds.",
    ),
    ("tap::status_needs_the_device", Differs, "Its STATUS looks at nothing but the IPAM plugin."),
];
