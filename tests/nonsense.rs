//! Every plugin against configurations that are nearly right: it answers, whatever it reads.

use serde_json::json;
use testbed::bin_dir;

use crate::differences::{case, case_each};

/// Numbers that look random and are the same each time.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap() % limit
    }
}

fn mutate(text: &str, random: &mut Xorshift) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "\"",
        "{",
        "]",
        ",",
        "null",
        "-1",
        "1e999",
        "\\u0000",
        "true",
        "\"\"",
        "9999999999",
        "\u{fffd}",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] = b' ' + u8::try_from(random.below(95)).unwrap(),
            1 => bytes.truncate(at + 1),
            2 => drop(bytes.remove(at)),
            _ => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
        }
        bytes.extend(bytes.is_empty().then_some(b'{'));
    }
    bytes
}

#[test]
fn whatever_it_reads_a_plugin_answers() {
    case_each(|it| {
        let mut full = it.config.clone();
        full["ipam"] = json!({
            "type": "host-local", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
            "ranges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9"}], [{"subnet": "fd00::/64"}]],
        });
        full["dns"] = json!({"nameservers": ["10.1.0.1"], "search": ["a.example"]});
        full["args"] = json!({"cni": {"ips": ["10.1.0.20"]}});
        full["mtu"] = json!(1400);
        let (text, mut random) = (full.to_string(), Xorshift(0x5eed));
        for round in 0..200 {
            let verb = ["ADD", "CHECK", "DEL", "ADD"][random.below(4)];
            let call = it.call(verb).container(&format!("c{round}"));
            let outcome = call.stdin(mutate(&text, &mut random)).run();
            match outcome.status.code() {
                Some(0) if verb == "ADD" => drop(outcome.result()),
                Some(0) => outcome.silent(),
                _ => drop(outcome.error()),
            }
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
            // A free name for the next one.
            if it.is_first() && it.pod.has_link("eth0") {
                it.pod.ip("link del eth0");
            }
        }
    });
}

#[test]
fn what_nobody_reads_takes_little_memory() {
    case_each(|it| {
        let mut large = it.config.clone();
        large["cniVersion"] = json!("1.1.0");
        let entry = json!({"a": 1, "b": [1, 2, {"c": "x"}]});
        large["somebody-elses"] = vec![entry; 300_000].into();
        let program = bin_dir().join(&it.plugin);
        // Address space in KiB. The configuration has ten thousand of them.
        let script = format!("ulimit -v 40000; exec {}", program.display());
        let output = it.bed.feed(
            "env",
            &["-i", "CNI_COMMAND=STATUS", "CNI_PATH=/", "/bin/sh", "-c", &script],
            large.to_string().as_bytes(),
        );
        // Loaded as a plugin of a chain, or as one that needs a key more: it has answered.
        let is_answered = output.status.success() || output.stdout.starts_with(b"{");
        assert!(is_answered, "{}: {output:?}", it.plugin);
    });
}

#[test]
fn no_link_has_a_name_that_is_too_long() {
    case(|bed| {
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        for (plugin, key) in [
            ("macvlan", "master"),
            ("ipvlan", "master"),
            ("vlan", "master"),
            ("host-device", "device"),
            ("tap", "bridge"),
            ("bridge", "bridge"),
            ("bridge", "uplinkInterface"),
        ] {
            for name in ["x".repeat(16), "x".repeat(70_000), "x\0".to_owned()] {
                let config = json!({
                    "cniVersion": "1.0.0", "name": "net", "type": plugin, "vlanId": 5, key: name
                });
                let call = |verb| bed.call(verb, "c1", &config).netns(pod.path()).run();
                call("ADD").fails_with(7, "");
                call("DEL").silent();
                bed.assert_unchanged_since(&before);
            }
        }
    });
}
