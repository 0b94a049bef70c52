//! Where the Go plugins differ in links, VLANs, names and limits of bridges, and in races of ADDs.

use super::What::{self, Differs, Older, Skip};
use super::{CODES, OLD, UNDONE};

const VLANS: &str = "It looks neither at the gateway of a VLAN nor at a port in one VLAN too many.";

const IGNORED: &str = "It does not know the key, and ignores it.";

const FORMER: &str = "It gives random names to its links, and its GC removes none.";

const LIMITS: &str = "It leaves what it has made, and panics where it cannot open a socket.";

const RACE: &str = "It has nothing against another ADD of the same attachment: who wins is luck.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    (
        "bridge::mac::of_a_mere_switch_may_change",
        Differs,
        "Its CHECK fails when the port comes whose address the kernel prefers.",
    ),
    (
        "bridge::mac::is_given_to_a_bridge_that_was_left_with_none",
        Differs,
        "It gives the address of zeros to the bridge, which the kernel refuses.",
    ),
    (
        "bridge::vlan::a_gateway_whose_name_is_too_long_is_refused_before_anything_is_touched",
        Differs,
        CODES,
    ),
    (
        "bridge::vlan::a_link_that_cannot_be_the_gateway_is_refused_before_anything_is_touched",
        Skip,
        VLANS,
    ),
    (
        "bridge::vlan::a_gateway_that_was_broken_is_found_by_check_and_repaired_by_the_next_add",
        Skip,
        VLANS,
    ),
    ("bridge::vlan::a_gateway_survives_its_bridge", Skip, VLANS),
    ("bridge::vlan::a_port_in_one_vlan_too_many_is_found_by_check", Skip, VLANS),
    ("bridge::vlan::an_administrators_vlan_link_is_the_gateway", Skip, VLANS),
    ("versions::runtimes_understand_the_version_that_a_plugin_says", Differs, UNKNOWN),
    ("bridge::links::what_add_refuses_is_no_reason_for_del_and_gc_to_fail", Differs, FORMER),
    ("names::a_bridge_with_a_percent_sign_is_refused", Differs, CODES),
    (
        "names::a_name_with_a_percent_sign_is_refused",
        Differs,
        "It makes a link of another name, which its DEL does not find.",
    ),
    (
        "names::a_container_may_have_a_long_id",
        Differs,
        "Its chains are named after the container, and nft refuses them.",
    ),
    (
        "names::chained_plugins_take_a_long_id",
        Older,
        "1.1.1 fails its own CHECK of a host port in both address families.",
    ),
    ("names::a_link_of_the_former_name_is_checked_and_deleted", Differs, FORMER),
    ("names::a_link_of_the_former_name_is_garbage_when_nobody_lists_it", Differs, FORMER),
    ("names::leaked_links_are_deleted_with_one_request", Differs, FORMER),
    ("names::a_strangers_link_of_the_former_name_is_left_alone", Older, OLD),
    ("names::gc_and_status_do_not_look_at_cni_args", Older, OLD),
    ("limits::without_a_privilege_it_answers", Skip, LIMITS),
    ("limits::where_files_cannot_grow_it_answers", Skip, LIMITS),
    ("limits::with_few_files_open_it_answers", Skip, LIMITS),
    ("limits::when_the_way_into_a_namespace_or_back_is_barred_it_answers", Skip, LIMITS),
    (
        "limits::a_plugin_that_delegates_is_no_ipam_plugin",
        Skip,
        "It starts itself again and again, until the machine has no room for more.",
    ),
    ("lost_links::an_add_leaves_nothing", Differs, UNDONE),
    ("lost_links::an_add_to_a_switch_leaves_nothing", Differs, UNDONE),
    ("lost_links::the_first_add_of_all_leaves_no_link_and_no_lease", Differs, UNDONE),
    (
        "lost_links::a_del_is_repeated",
        Skip,
        "Which of its system calls is hit, and in which of its threads, is luck.",
    ),
    ("once::one_of_eight_adds_at_once_succeeds", Skip, RACE),
    ("once::one_of_eight_adds_into_different_namespaces_succeeds", Skip, RACE),
    ("once::an_attachment_of_the_go_plugins_is_not_made_again", Differs, UNDONE),
    ("once::no_add_begins_before_the_one_before_it_is_answered", Skip, RACE),
    ("once::no_add_begins_before_a_del_has_ended", Skip, RACE),
    ("once::gc_lets_an_add_end_that_it_is_told_of", Older, OLD),
    ("once::gc_lets_an_add_end_that_it_is_not_told_of", Older, OLD),
    (
        "once::gc_lets_an_add_end_that_has_no_link_yet",
        Differs,
        "It makes the bridge and the links before it asks for addresses.",
    ),
    (
        "bridge::undo::del_after_a_refused_add_leaves_what_another_plugin_made",
        Differs,
        "It deletes whatever has the interface's name.",
    ),
    ("once::gc_leaves_what_is_young", Differs, OLD),
    ("once::gc_removes_what_is_old", Differs, FORMER),
    ("once::gc_removes_what_is_young_and_dead", Differs, FORMER),
    ("bridge::uplink::a_failed_add_detaches_what_it_has_attached", Differs, IGNORED),
    ("bridge::uplink::a_link_that_others_need_is_not_taken", Differs, IGNORED),
    ("bridge::uplink::check_and_status_miss_the_uplink", Differs, IGNORED),
    ("bridge::uplink::check_misses_the_vlan_of_the_uplink", Differs, IGNORED),
    ("bridge::uplink::group_addresses_that_no_bridge_forwards_are_refused", Differs, IGNORED),
    ("bridge::uplink::pods_are_machines_on_the_wire_outside", Differs, IGNORED),
    ("bridge::uplink::the_bridge_forwards_the_group_addresses_that_it_is_told", Differs, IGNORED),
];

const UNKNOWN: &str = "Distributions build it without a version: it says \"version unknown\".";
