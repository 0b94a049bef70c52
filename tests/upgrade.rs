//! A node whose pods were made by the Go plugins, after ours have taken their place.

use serde_json::{Value, json};
use testbed::{
    Outcome, REFERENCE, SYSTEM_PATH, Sandbox, Snapshot, Testbed,
    config::{self, changed},
    later_reference,
    result::addresses,
};

use crate::differences::case;

const LEGACY: &str = "/run/test/legacy";

/// A version of theirs, and whom it asks to filter packets.
#[derive(Clone, Copy)]
struct Theirs {
    dir: &'static str,
    /// Where it finds programs first.
    path: &'static str,
    /// Whether that is nft.
    nft: bool,
}

const IPTABLES: Theirs = Theirs { dir: REFERENCE, path: "/nowhere", nft: false };

impl Theirs {
    /// 1.1.1 with both kinds of iptables; and a later version with both of its backends.
    fn all() -> Vec<Self> {
        let later = later_reference().into_iter();
        let later = later.flat_map(|dir| [false, true].map(|nft| Self { dir, nft, ..IPTABLES }));
        [IPTABLES, Self { path: LEGACY, ..IPTABLES }].into_iter().chain(later).collect()
    }

    fn keys(self, plugin: &str) -> Value {
        match plugin {
            _ if !self.nft => json!({}),
            "bridge" => json!({"ipMasqBackend": "nftables"}),
            _ => json!({"backend": "nftables"}),
        }
    }

    /// What it has made, without counters.
    fn rules(self, bed: &Testbed) -> String {
        if self.path != LEGACY {
            return bed.succeed("nft", &["-s", "list", "ruleset"]);
        }
        let script = "iptables-legacy-save -t nat; ip6tables-legacy-save -t nat";
        let text = bed.succeed("sh", &["-c", script]);
        let rules = text.lines().filter(|line| line.starts_with([':', '-']));
        rules.map(|line| line.split(" [").next().unwrap().to_owned() + "\n").collect()
    }
}

/// A bridge and portmap of theirs, and the same of ours.
struct Upgrade<'bed> {
    bed: &'bed Testbed,
    theirs: Theirs,
    bridge: Value,
    portmap: Value,
    before: Snapshot,
}

impl<'bed> Upgrade<'bed> {
    /// With an attachment of theirs that stays, so that what is shared is there.
    fn new(bed: &'bed Testbed, theirs: Theirs, keys: &Value) -> Self {
        let link = format!(
            "mkdir -p {LEGACY} && cd {LEGACY} && for tool in iptables ip6tables; do \
             for end in '' -save -restore; do ln -s /usr/sbin/$tool-legacy$end $tool$end; done; done"
        );
        bed.succeed("sh", &["-c", &link]);
        let bridge = changed(changed(config::pods(), &json!({"cniVersion": "1.0.0"})), keys);
        let portmap = json!({
            "cniVersion": "1.0.0", "name": bridge["name"], "type": "portmap",
            "runtimeConfig": {"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": 53, "containerPort": 53, "protocol": "udp"}
            ]}
        });
        let mut upgrade = Self { bed, theirs, bridge, portmap, before: bed.snapshot() };
        upgrade.add(&bed.sandbox("earlier"), "earlier");
        upgrade.before = bed.snapshot();
        upgrade
    }

    fn theirs(&self, config: &Value, pod: &Sandbox, container: &str) -> Outcome {
        let (plugin, Theirs { dir, path, .. }) = (config["type"].as_str().unwrap(), self.theirs);
        let config = changed(config.clone(), &self.theirs.keys(plugin));
        let call = self.bed.call("ADD", container, &config).program(format!("{dir}/{plugin}"));
        let call = call.netns(pod.path()).cni_path(dir);
        call.env("PATH", &format!("{path}:{SYSTEM_PATH}")).run()
    }

    fn add(&self, pod: &Sandbox, container: &str) -> Value {
        let result = self.theirs(&self.bridge, pod, container).result();
        let portmap = changed(self.portmap.clone(), &json!({"prevResult": result}));
        self.theirs(&portmap, pod, container).success();
        result
    }

    /// DEL of ours, which find no program anywhere near; with what the runtime knows, or nothing.
    fn del(&self, pod: Option<&Sandbox>, container: &str, result: Option<&Value>) {
        for config in [&self.portmap, &self.bridge] {
            let config = changed(config.clone(), &json!({"prevResult": result}));
            let call = self.bed.call("DEL", container, &config);
            let call = call.netns(pod.map_or("", |pod| pod.path()));
            call.clone().run().silent();
            call.run().silent();
        }
    }
}

#[test]
fn del_of_ours_removes_what_add_of_theirs_has_made() {
    for theirs in Theirs::all() {
        case(|bed| {
            let upgrade = Upgrade::new(bed, theirs, &json!({}));
            let before = theirs.rules(bed);
            for known in [true, false] {
                let pod = bed.sandbox("pod");
                let result = upgrade.add(&pod, "c1");
                assert_ne!(theirs.rules(bed), before);
                upgrade.del(Some(&pod), "c1", known.then_some(&result));
                bed.assert_unchanged_since(&upgrade.before);
                assert_eq!(theirs.rules(bed), before);
                pod.destroy();
            }
        });
    }
}

/// A pod of theirs with ports of the host, and one of ours that wants one of them.
struct Heir<'bed> {
    upgrade: Upgrade<'bed>,
    theirs: Sandbox,
    ours: Sandbox,
    result: Value,
}

impl<'bed> Heir<'bed> {
    fn new(bed: &'bed Testbed, theirs: Theirs) -> Self {
        let upgrade = Upgrade::new(bed, theirs, &json!({}));
        let (theirs, ours) = (bed.sandbox("theirs"), bed.sandbox("ours"));
        upgrade.add(&theirs, "c1");
        let result = bed.call("ADD", "c2", &upgrade.bridge).netns(ours.path()).run().result();
        Self { upgrade, theirs, ours, result }
    }

    /// portmap's ADD of ours; theirs have the ports already.
    fn add(&self, mapping: &Value) -> Outcome {
        let keys = json!({"prevResult": self.result, "runtimeConfig": {"portMappings": [mapping]}});
        let config = changed(self.upgrade.portmap.clone(), &keys);
        self.upgrade.bed.call("ADD", "c2", &config).netns(self.ours.path()).run()
    }

    fn earlier_goes(&self) {
        self.upgrade.del(None, "earlier", None);
    }
}

#[test]
fn a_lost_container_of_theirs_gives_its_ports_up() {
    for theirs in Theirs::all() {
        case(|bed| {
            let neighbour = bed.neighbour();
            let heir = Heir::new(bed, theirs);
            heir.earlier_goes();
            let mapping = config::mapping(8080, 80, "tcp");
            let before = bed.snapshot();
            let outcome = heir.add(&mapping);
            assert!(
                outcome.error().msg.contains("8080/tcp is taken by container \"c1\""),
                "{outcome}"
            );
            bed.assert_unchanged_since(&before);
            // Others are as free as they were.
            for other in [config::mapping(8081, 80, "tcp"), config::mapping(8080, 80, "udp")] {
                heir.add(&other).success();
            }
            bed.destroy(&heir.theirs);
            heir.add(&mapping).success();
            let server = heir.ours.tcp_server("0.0.0.0:80");
            assert!(neighbour.tcp("203.0.113.1:8080", &server).is_ok());
            assert!(bed.tcp("127.0.0.1:8080", &server).is_ok());
            let left = theirs.rules(bed);
            assert!(!left.contains("CNI-DN-") && !left.contains("comment \"c1\""), "{left}");
        });
    }
}

#[test]
fn ports_of_one_address_are_in_nobodys_way_at_another() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let heir = Heir::new(bed, IPTABLES);
        heir.earlier_goes();
        // As later versions write it, by nft.
        let script = "table ip cni_hostport {\n chain hostports {\n ip daddr 203.0.113.1 tcp dport \
                      9090 dnat to 10.1.0.3:80 comment \"c1\"\n }\n}\n";
        assert!(bed.feed("nft", &["-f", "-"], script.as_bytes()).status.success());
        let at = |ip: &str| json!({"hostPort": 9090, "containerPort": 80, "protocol": "tcp", "hostIP": ip});
        heir.add(&at("203.0.113.9")).success();
        let outcome = heir.add(&at("203.0.113.1"));
        assert!(outcome.error().msg.contains("taken by container \"c1\""), "{outcome}");
        bed.destroy(&heir.theirs);
        heir.add(&at("203.0.113.1")).success();
        assert!(!bed.succeed("nft", &["list", "ruleset"]).contains("dport 9090 dnat"));
    });
}

#[test]
fn a_spoof_check_of_theirs_goes_too() {
    case(|bed| {
        let upgrade = Upgrade::new(bed, IPTABLES, &json!({"macspoofchk": true}));
        let pod = bed.sandbox("pod");
        let result = upgrade.add(&pod, "c1");
        upgrade.del(Some(&pod), "c1", Some(&result));
        bed.assert_unchanged_since(&upgrade.before);
    });
}

#[test]
fn gc_of_ours_removes_what_lost_containers_of_theirs_had() {
    for theirs in Theirs::all() {
        case(|bed| {
            let upgrade = Upgrade::new(bed, theirs, &json!({"macspoofchk": true}));
            let (before, rules) = (bed.snapshot(), theirs.rules(bed));
            let pod = bed.sandbox("pod");
            upgrade.add(&pod, "c1");
            assert_ne!(theirs.rules(bed), rules);
            bed.destroy(&pod);
            let valid = json!([{"containerID": "earlier", "ifname": "eth0"}]);
            let now = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid});
            for config in [&upgrade.portmap, &upgrade.bridge] {
                let config = changed(config.clone(), &now);
                let plugin = config["type"].as_str().unwrap();
                bed.plugin(plugin).command("GC").config(&config).run().silent();
            }
            bed.assert_unchanged_since(&before);
            assert_eq!(theirs.rules(bed), rules);
        });
    }
}

/// A rule of theirs for an interface and container of the network.
fn masquerading(bed: &Testbed, instance: &str) -> String {
    let hash = |text: &str| {
        let sums = bed.feed("sha512sum", &[], text.as_bytes());
        String::from_utf8(sums.stdout).unwrap()[..16].to_owned()
    };
    let comment = format!("{}-{}, net: pods", hash("pods"), hash(instance));
    format!(
        "add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.0.7 ip daddr != 10.1.0.0/24 \
         masquerade comment \"{comment}\"\n"
    )
}

#[test]
fn rules_of_nft_go_by_their_comments() {
    case(|bed| {
        let upgrade = Upgrade::new(bed, IPTABLES, &json!({}));
        // As later versions write them: for c1, and for others that stay.
        let script = r#"
            table inet cni_plugins_masquerade {
                chain masq_checks {
                    ip saddr 10.1.0.9 ip daddr != 10.1.0.0/24 masquerade comment "6f04a8a3a3a3a3a3-0000000000000000, net: x"
                }
            }
            table ip cni_hostport {
                chain hostports {
                    tcp dport 81 dnat to 10.1.0.8:80 comment "c11"
                }
            }
        "#;
        let applied = bed.feed("nft", &["-f", "-"], script.as_bytes());
        assert!(applied.status.success(), "{applied:?}");
        let before = bed.snapshot();
        let rules = [
            masquerading(bed, "eth0:c1"),
            "add rule ip cni_hostport hostports tcp dport 8080 dnat to 10.1.0.7:80 comment \"c1\""
                .to_owned(),
        ];
        let applied = bed.feed("nft", &["-f", "-"], rules.join("\n").as_bytes());
        assert!(applied.status.success(), "{applied:?}");
        upgrade.del(None, "c1", None);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn what_is_not_theirs_stays() {
    case(|bed| {
        let upgrade = Upgrade::new(bed, IPTABLES, &json!({}));
        let own = "iptables -t nat -N CNI-mine; iptables -t nat -A POSTROUTING -m comment \
                   --comment 'id: \"c1\"' -j CNI-mine; iptables -t nat -A PREROUTING -p tcp \
                   --dport 99 -j REDIRECT --to-ports 98";
        bed.succeed("sh", &["-c", own]);
        let before = bed.snapshot();
        let pod = bed.sandbox("pod");
        assert_eq!(addresses(&upgrade.add(&pod, "c1")).len(), 2);
        upgrade.del(Some(&pod), "c1", None);
        bed.assert_unchanged_since(&before);
    });
}
