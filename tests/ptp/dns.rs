//! Name servers in the answer: of the IPAM plugin, unless the configuration says anything of them.

use serde_json::{Value, json};
use testbed::{Testbed, attachment::ptp};

use crate::differences::case;

/// What the answer says when the configuration says `dns`, and the IPAM plugin something else.
fn answered(bed: &Testbed, number: usize, dns: &Value) -> Value {
    let text = "nameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:2\n\
                domain a.example\n";
    bed.write("/run/test/resolv.conf", text);
    let mut config = ptp(&json!({"dns": dns}));
    config["ipam"]["resolvConf"] = json!("/run/test/resolv.conf");
    let id = format!("c{number}");
    bed.network(config).add(&bed.sandbox(&id), &id).result()["dns"].clone()
}

/// The parts that something is said of.
fn said(dns: &Value) -> Value {
    let mut dns = if dns.is_null() { json!({}) } else { dns.clone() };
    let is_empty = |part: &Value| part == &json!([]) || part == "";
    dns.as_object_mut().unwrap().retain(|_, part| !is_empty(part));
    dns
}

#[test]
fn those_of_ipam_stay_when_nothing_is_said() {
    case(|bed| {
        let of_ipam = json!({
            "nameservers": ["192.0.2.53"], "domain": "a.example",
            "search": ["a.example", "b.example"], "options": ["ndots:2"]
        });
        for (number, dns) in
            [Value::Null, json!({}), json!({"domain": ""}), json!({"nameservers": null})]
                .into_iter()
                .enumerate()
        {
            assert_eq!(answered(bed, number, &dns), of_ipam, "{dns}");
        }
    });
}

#[test]
fn one_word_of_the_configuration_replaces_all_of_them() {
    case(|bed| {
        for (number, dns) in [
            json!({"nameservers": ["192.0.2.1"]}),
            json!({"domain": "own.example"}),
            json!({"search": ["own.example"]}),
            json!({"options": ["timeout:1"]}),
            json!({"nameservers": ["192.0.2.1"], "search": ["own.example"]}),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(said(&answered(bed, number, &dns)), dns);
        }
    });
}

#[test]
fn an_empty_list_is_a_word_too() {
    case(|bed| {
        for (number, dns) in [
            json!({"nameservers": []}),
            json!({"search": []}),
            json!({"options": []}),
            json!({"nameservers": [], "search": [], "options": []}),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(said(&answered(bed, number, &dns)), json!({}), "{dns}");
        }
    });
}
