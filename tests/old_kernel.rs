//! Kernels that lack something. What asks for it is altered on its way, so that today's kernel does
//! not understand it either, and says so as an old one does.

use serde_json::{Value, json};
use testbed::{Testbed, config, trace::position};

use crate::differences::case;

/// A flag of a set that no kernel knows.
const UNKNOWN_FLAG: u8 = 0x40;

fn portmap(bed: &Testbed) -> (String, Value) {
    let pod = bed.sandbox("pod");
    let result = bed.network(config::bridge(&config::dual_stack())).add(&pod, "c1").result();
    let config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "portmap", "prevResult": result,
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    });
    (pod.path().to_owned(), config)
}

/// The message that makes a set, and its beginning with a flag that is not understood.
fn with_unknown_flag(sent: &[Vec<u8>], set: &str) -> Option<(usize, Vec<u8>)> {
    const FLAGS: [u8; 4] = [8, 0, 3, 0];
    let name = [set.as_bytes(), &[0]].concat();
    sent.iter().enumerate().find_map(|(number, bytes)| {
        let at = position(bytes, &name, &FLAGS)?;
        let mut bytes = bytes[..at + 8].to_vec();
        bytes[at + 6] |= UNKNOWN_FLAG;
        Some((number + 1, bytes))
    })
}

#[test]
fn host_ports_name_the_kernel_that_they_need() {
    case(|bed| {
        let (netns, config) = portmap(bed);
        // On one host it is seen what is sent, on an equal one it is altered.
        for verb in ["ADD", "STATUS"] {
            let messages = match verb {
                "ADD" => {
                    let twin = Testbed::new();
                    let (netns, config) = portmap(&twin);
                    twin.sent(twin.call(verb, "c1", &config).netns(&netns))
                }
                _ => bed.sent(bed.call(verb, "c1", &config).netns(&netns)),
            };
            let (number, bytes) = with_unknown_flag(&messages, "hostport-spans").unwrap();
            let before = bed.snapshot();
            let refused = bed.altered(bed.call(verb, "c1", &config).netns(&netns), number, &bytes);
            let said = &refused.stdout;
            assert!(said.contains("needs Linux 5.6"), "{verb}: {refused}");
            assert_eq!(said.contains("\"code\": 50"), verb == "STATUS", "{said}");
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn an_unknown_kind_of_name_is_reported_once() {
    case(|bed| {
        const NEW_LINK_PROPERTY: u16 = 108;
        let (first, twin) = (bed, Testbed::new());
        let run = |bed: &Testbed| {
            (bed.sandbox("pod").path().to_owned(), config::bridge(&config::dual_stack()))
        };
        let kind = |bytes: &Vec<u8>| u16::from_ne_bytes([bytes[4], bytes[5]]);
        let (netns, config) = run(&twin);
        let messages = twin.sent(twin.call("ADD", "c1", &config).netns(&netns));
        let number = 1 + messages.iter().position(|one| kind(one) == NEW_LINK_PROPERTY).unwrap();
        let mut bytes = messages[number - 1][..6].to_vec();
        // `RTM_MAX` is far away from that.
        bytes[4] = 0xfc;
        let (netns, config) = run(first);
        let added = first.altered(first.call("ADD", "c1", &config).netns(&netns), number, &bytes);
        assert!(added.status.success(), "{added}");
        let said = &added.stderr;
        let lines: Vec<_> = said.lines().filter(|line| line.contains("marked")).collect();
        assert!(lines.len() == 1 && lines[0].contains("needs Linux 5.5"), "{said}");
    });
}

#[test]
fn isolation_of_ports_is_refused_where_there_is_none() {
    case(|bed| {
        const IFLA_BRPORT_ISOLATED: [u8; 4] = [5, 0, 33, 0];
        const UNKNOWN: u8 = 0x7f;
        let (first, twin) = (bed, Testbed::new());
        let isolated = config::bridge(&json!({"portIsolation": true}));
        let run = |bed: &Testbed| {
            bed.network(config::bridge(&json!({}))).add(&bed.sandbox("other"), "other").success();
            bed.sandbox("pod").path().to_owned()
        };
        let messages = twin.sent(twin.call("ADD", "c1", &isolated).netns(&run(&twin)));
        let found = messages.iter().enumerate().find_map(|(number, bytes)| {
            let at = position(bytes, &[], &IFLA_BRPORT_ISOLATED)?;
            let mut bytes = bytes[..at + 4].to_vec();
            bytes[at + 2] = UNKNOWN;
            Some((number + 1, bytes))
        });
        let (number, bytes) = found.unwrap();
        let netns = run(first);
        let before = first.snapshot();
        let refused =
            first.altered(first.call("ADD", "c1", &isolated).netns(&netns), number, &bytes);
        let said = &refused.stdout;
        assert!(said.contains("needs Linux 4.18") && said.contains("\"code\": 7"), "{refused}");
        first.assert_unchanged_since(&before);
    });
}
