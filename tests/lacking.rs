//! Kernels whose nftables was built without something. `make test-vm` boots one without the modules
//! that stand here; elsewhere there is nothing to see.

use std::env;

use serde_json::json;
use testbed::{Testbed, cnitool, config, config::mappings, portmap::Chain, reach::seen};

use crate::differences::case;

/// Runs a test on a kernel without these modules, whose names are in `WITHOUT`.
fn case_without(modules: &[&str], body: impl FnOnce(&Testbed)) {
    let left_out = env::var("WITHOUT").unwrap_or_default();
    if modules.iter().all(|module| left_out.split(' ').any(|word| word == *module)) {
        case(body);
    } else {
        println!("needs a kernel without {modules:?}");
    }
}

#[test]
fn without_masquerade_in_nftables_iptables_does_it() {
    case_without(&["nft_masq"], |bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let network =
            bed.network(config::bridge(&json!({"isDefaultGateway": true, "ipMasq": true})));
        let outcome = network.add(&pod, "c1");
        let said = &outcome.stderr;
        assert!(said.contains("CONFIG_NFT_MASQ") && said.contains("iptables"), "{outcome}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(outcome.status.success(), "{outcome}");
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.1");
        network.check(&pod, "c1").silent();
        bed.succeed("iptables", &["-t", "nat", "-F"]);
        let found = network.check(&pod, "c1");
        assert!(found.stdout.contains("nat has no"), "{found}");
        network.del(&pod, "c1").silent();
        let rules = bed.succeed("iptables-save", &["-t", "nat"]);
        assert!(!rules.contains("c1"), "{rules}");
    });
}

#[test]
fn a_backend_that_is_named_is_kept_to() {
    case_without(&["nft_masq"], |bed| {
        let pod = bed.sandbox("pod");
        let keys = json!({"isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables"});
        let refused = bed.network(config::bridge(&keys)).add(&pod, "c1");
        assert!(refused.stdout.contains("CONFIG_NFT_MASQ"), "{refused}");
        assert!(pod.has_only_lo());
    });
}

#[test]
fn host_ports_name_what_the_kernel_lacks() {
    case_without(&["nft_fib_ipv4"], |bed| {
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        chain.attach(&pod, "c1");
        let list = mappings(&[(8080, 80)], &json!({}));
        let mut config = chain.config("c1", &list);
        config["cniVersion"] = json!("1.1.0");
        for verb in ["ADD", "STATUS"] {
            let refused = bed.call(verb, "c1", &config).netns(pod.path()).run();
            assert!(refused.stdout.contains("CONFIG_NFT_"), "{verb}: {refused}");
        }
        let doctor = cnitool::run(bed, &[], &["doctor"]);
        let said = String::from_utf8_lossy(&doctor.stdout);
        assert!(said.contains("CONFIG_NFT_FIB_IPV4"), "{said}");
    });
}
