//! Where the Go plugin macvlan differs, and why.

use super::What::{self, Differs, Older};
use super::{OLD, UNDONE, YOUNGER};

const LOADED: &str =
    "1.1.1 reads the configuration for DEL as for ADD, and fails when there is no such master.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("link_versions::macvlan_answers_in_the_newest_version", Older, OLD),
    ("macvlan::a_master_that_is_missing_is_named", Differs, "It says \"Link not found\"."),
    ("macvlan::an_mtu_that_the_kernel_does_not_take_leaves_nothing", Differs, UNDONE),
    ("macvlan::broadcasts_have_a_queue_as_long_as_told", Older, YOUNGER),
    (
        "macvlan::changes_of_the_pods_link_are_announced",
        Older,
        "1.1.1 announces IPv4 addresses only.",
    ),
    ("macvlan::the_default_master_in_the_container_is_by_its_own_routes", Older, YOUNGER),
    ("macvlan::the_master_is_by_default_where_the_default_route_leads", Older, LOADED),
    ("macvlan::the_master_may_be_in_the_container", Older, YOUNGER),
    (
        "macvlan::check::another_path_to_the_namespace_leads_there_too",
        Differs,
        "It compares paths as strings.",
    ),
    (
        "macvlan::check::it_finds_a_link_of_another_master",
        Differs,
        "It is content when there is a link of the master's name.",
    ),
    (
        "macvlan::crash::a_killed_add_is_cleaned_up_by_one_del",
        Differs,
        "Killed before it has renamed the link, it does not find it again.",
    ),
    (
        "macvlan::mac::arguments_that_nobody_knows_are_refused_unless_told_otherwise",
        Older,
        "1.1.1 reads CNI_ARGS for DEL too, and fails for what ADD has refused.",
    ),
    (
        "macvlan::mac::what_is_no_hardware_address_is_refused",
        Differs,
        "It does not say which one the kernel has refused.",
    ),
    ("macvlan::undo::a_failed_add_can_be_repeated_at_once", Differs, UNDONE),
    ("macvlan::undo::a_failed_add_leaves_nothing_whatever_it_failed_for", Differs, UNDONE),
    ("macvlan::undo::an_ipam_plugin_that_refuses_is_quoted", Differs, UNDONE),
    (
        "macvlan::undo::an_ipam_plugin_without_addresses_is_asked_to_clean_up",
        Differs,
        "It just fails, and whatever the IPAM plugin has done stays.",
    ),
    (
        "macvlan::undo::del_after_a_refused_add_leaves_a_link_that_somebody_gave_an_alias",
        Differs,
        "It deletes whatever has the interface's name.",
    ),
    (
        "macvlan::undo::del_after_a_refused_add_leaves_what_another_plugin_made",
        Differs,
        "It deletes whatever has the interface's name.",
    ),
    ("macvlan::undo::gc_frees_what_is_not_listed", Differs, OLD),
    (
        "macvlan::undo::nothing_is_left_when_a_key_cannot_be_read_any_more",
        Differs,
        "It reads the whole configuration for DEL as for ADD.",
    ),
    ("macvlan::undo::nothing_is_left_whatever_has_become_of_the_configuration", Older, LOADED),
    ("macvlan::undo::nothing_is_left_when_link_or_master_are_gone_already", Older, LOADED),
    (
        "macvlan::undo::status_misses_a_master",
        Differs,
        "Its STATUS looks at nothing but the IPAM plugin.",
    ),
    ("macvlan::undo::status_is_that_of_the_ipam_plugin", Older, OLD),
    ("macvlan::undo::what_was_never_added_is_gone", Older, LOADED),
    ("macvlan::undo::without_addresses_gc_has_nothing_to_do", Older, OLD),
];
