//! Where callers that no test can run would meet another answer.

use super::What::{self, Differs, Older};

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "callers::nomad_has_loopback_in_its_list",
        Older,
        "1.1.1's CHECK misses rules of IPv6 for a pod that has no address of it.",
    ),
    (
        "callers::nerdctl_deletes_first_and_says_addresses_by_arguments",
        Differs,
        "Distributions build it without a version, so nerdctl does not isolate its networks.",
    ),
    ("callers::cri_o_collects_with_null_checks_at_once_and_maps_no_ports", Older, super::OLD),
    (
        "portmap::owners::a_container_of_two_networks_has_its_ports_once",
        Differs,
        "It makes rules for each of the container's networks, of which the oldest win.",
    ),
];
