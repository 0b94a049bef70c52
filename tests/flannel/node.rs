//! What `cnitool` does for the pods of a node whose network is flannel's.

use serde_json::json;
use testbed::{cnitool, flannel::flannel, node::Node, reach::seen};

use crate::differences::case;

#[test]
fn cnitool_looks_after_what_the_delegate_has() {
    case(|bed| {
        bed.lease_subnet();
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        let plugins = json!([flannel(&json!({})), portmap]);
        let node =
            Node::of(bed, &json!({"cniVersion": "1.1.0", "name": "pods", "plugins": plugins}));
        let as_host = || seen(&node.other, &node.neighbour, "203.0.113.2");
        assert_eq!(as_host(), "203.0.113.1");
        let before = bed.snapshot();
        bed.succeed("nft", &["flush", "ruleset"]);
        let text = node.succeeds(&[], &["restore"]);
        assert!(text.contains("are back of 2 attachments"), "{text}");
        bed.assert_unchanged_since(&before);
        assert_eq!(as_host(), "203.0.113.1");
        let leases = node.succeeds(&[], &["leases"]);
        assert!(leases.contains("10.5.17.2") && leases.contains("10.5.17.3"), "{leases}");
        bed.destroy(&node.web);
        cnitool::succeeds(bed, &[], &["gc", "pods", "--gone"]);
        assert_eq!(bed.leases("pods").len(), 1);
        assert_eq!(as_host(), "203.0.113.1");
    });
}
