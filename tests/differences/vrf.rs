//! Where the Go plugin vrf differs, and why.

use super::What::{self, Differs, Older, Skip};

const LUCK: &str = "It has several threads and no lock, so luck decides.";

const TOLD: &str = "It looks for the VRF that is configured now, and fails without it.";

const SCOPE: &str = "1.1.1 gives no routes back, and later ones only those of global scope: not what is on the link.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("vrf::a_link_that_is_no_vrf_is_refused", Differs, "Its DEL fails for a link that is no VRF."),
    ("vrf::addresses_and_routes_come_with_the_interface", Differs, SCOPE),
    (
        "vrf::an_interface_that_has_a_master_is_refused",
        Differs,
        "It has made the VRF by then, and leaves it.",
    ),
    (
        "vrf::check_finds_what_is_different",
        Differs,
        "It does not look whether the VRF is up, nor at its table.",
    ),
    ("vrf::packets_come_and_go_by_its_table", Older, "1.1.1 gives no routes back."),
    (
        "vrf::the_table_is_the_first_one_that_nothing_uses",
        Differs,
        "It takes a table that rules and routes use, but no VRF.",
    ),
    (
        "vrf::beside_sbr::of_both_the_second_one_is_refused",
        Differs,
        "It has both, and the second one loses the routes of the first.",
    ),
    ("vrf::beside_sbr::rules_may_lead_into_the_table_of_the_vrf", Differs, SCOPE),
    ("vrf::crash::a_failed_add_puts_everything_back", Skip, LUCK),
    ("vrf::crash::del_is_complete_whatever_is_still_known", Differs, TOLD),
    ("vrf::crash::interfaces_come_and_go_at_once", Skip, LUCK),
    ("vrf::crash::what_was_killed_is_gone_after_del", Skip, LUCK),
];
