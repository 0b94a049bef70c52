//! Where the Go plugin static differs, and why.

use super::What::{self, Differs, Older};
use super::{CODES, OLD};

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "static_ipam::a_living_pod_keeps_its_address_to_itself",
        Differs,
        "Its bridge does not look who has the address, and both pods have it, one of them in vain.",
    ),
    ("static_ipam::an_error_has_the_code_of_its_source", Differs, CODES),
    (
        "static_ipam::check_wants_all_that_it_has_given_and_takes_more",
        Differs,
        "Its CHECK is content when an address is missing.",
    ),
    (
        "static_ipam::status_fails_for_what_add_refuses",
        Differs,
        "Its STATUS does not read the configuration.",
    ),
    ("static_ipam::the_answer_is_what_it_says_in_the_newest_version", Older, OLD),
];
