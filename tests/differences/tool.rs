//! The runtime's side.

use super::What::{self, Differs};

const TOOL: &str = "Distributions do not ship its cnitool, which has neither doctor nor restore.";

pub(super) const ROWS: &[(&str, What, &str)] = &[
    ("cnitool::configurations_are_files_and_nobody_waits_for_anything_else", Differs, TOOL),
    ("cnitool::del_finds_an_attachment_by_its_namespace_however_it_is_written", Differs, TOOL),
    ("cnitool::del_finds_it_when_the_namespace_or_its_configuration_is_gone", Differs, TOOL),
    ("cnitool::del_leaves_alone_who_is_attached_elsewhere_or_by_somebody_else", Differs, TOOL),
    ("cnitool::results_are_read_from_files_and_written_through_nothing", Differs, TOOL),
    ("restore::a_stale_record_does_not_get_what_is_a_living_pods", Differs, TOOL),
];
