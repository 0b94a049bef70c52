//! Every plugin against everything that is wrong with a call before the plugin's own work begins.

use serde_json::{Value, json};
use testbed::is_reference;

use crate::differences::case_each;

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The versions up to 1.0.0 that a plugin knows. Some of the reference know no old ones.
fn known(plugin: &str) -> &'static [&'static str] {
    let first = match plugin {
        _ if !is_reference() => 0,
        "bandwidth" => 2,
        "vrf" => 3,
        "firewall" => 4,
        _ => 0,
    };
    &VERSIONS[first..6]
}

#[test]
fn without_a_verb_a_plugin_introduces_itself() {
    case_each(|it| {
        for call in [it.program(), it.program().command("")] {
            let outcome = call.without("CNI_PATH").run();
            outcome.silent();
            let about = format!("CNI {} plugin ", it.plugin);
            assert!(outcome.stderr.starts_with(&about), "{outcome}");
            let versions =
                format!("CNI protocol versions supported: {}", known(&it.plugin).join(", "));
            assert!(outcome.stderr.lines().nth(1).unwrap().starts_with(&versions), "{outcome}");
        }
    });
}

#[test]
fn asked_on_the_command_line_a_plugin_says_its_version() {
    case_each(|it| {
        let outcome = it.program().argument("--version").run();
        let about = format!("CNI {} plugin v1.9.1+girder.", it.plugin);
        assert!(outcome.success().stdout.starts_with(&about), "{outcome}");
    });
}

#[test]
fn version_needs_nothing_and_lists_all_versions() {
    case_each(|it| {
        let version = it.program().command("VERSION").without("CNI_PATH").run();
        let expected = json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS});
        assert_eq!(version.result(), expected, "{version}");
    });
}

#[test]
fn all_missing_variables_are_named_at_once() {
    case_each(|it| {
        let rows = [
            ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
            ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
            ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
        ];
        for (verb, missing) in rows {
            let call = it.program().command(verb).without("CNI_PATH");
            let error = call.config(&it.config.clone()).run().error();
            assert_eq!((error.code, error.details.as_str()), (4, ""));
            assert_eq!(error.msg, format!("required env variables [{missing}] missing"));
        }
    });
}

#[test]
fn each_verb_requires_its_variables_and_no_other() {
    case_each(|it| {
        let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
        for (verb, required) in [("ADD", &all[..]), ("CHECK", &all[..]), ("DEL", &all[..])] {
            for variable in required.iter().filter(|name| (verb, **name) != ("DEL", "CNI_NETNS")) {
                // Empty is missing.
                for call in [it.call("ADD").without(variable), it.call("ADD").env(variable, "")] {
                    let missing = format!("required env variables [{variable}] missing");
                    call.command(verb).run().fails_with(4, &missing);
                }
            }
        }
        it.call("DEL").without("CNI_NETNS").run().silent();
    });
}

#[test]
fn gc_and_status_require_only_the_path() {
    case_each(|it| {
        let mut config = it.with("cniVersion", "1.1.0");
        config["cni.dev/valid-attachments"] = json!([]);
        for verb in ["GC", "STATUS"] {
            let call = it.program().command(verb).config(&config);
            call.clone().without("CNI_PATH").run().fails_with(4, "[CNI_PATH]");
            // What a verb does not use is not looked at.
            call.container("!").ifname("/").run().silent();
        }
    });
}

#[test]
fn an_error_is_no_result() {
    case_each(|it| {
        let mut config = it.with("cniVersion", "1.0.0");
        config["prevResult"] = json!({"cniVersion": "1.0.0", "code": 11, "msg": "come again"});
        for verb in ["ADD", "CHECK"] {
            it.call(verb).config(&config).run().fails_with(6, "it is an error, no result");
        }
        // DEL does without.
        it.call("DEL").config(&config).run().success();
    });
}

#[test]
fn a_bad_container_id_is_refused() {
    case_each(|it| {
        for bad in ["-a", "_a", ".", "..", "a b", "a/b", "../a", "a\n", "é"] {
            for verb in ["ADD", "DEL", "CHECK"] {
                let error = it.call(verb).container(bad).run().error();
                assert_eq!(error.code, 4, "{bad:?}");
                assert_eq!(error.msg, "invalid characters in containerID");
                assert_eq!(error.details, bad);
            }
        }
    });
}

#[test]
fn a_bad_interface_name_is_refused() {
    case_each(|it| {
        let odd = "interface name contains / or : or whitespace characters";
        for (bad, message) in [
            ("sixteen-letters.", "interface name is too long"),
            (".", "interface name is . or .."),
            ("..", "interface name is . or .."),
            ("a/b", odd),
            ("a:b", odd),
            ("a b", odd),
            ("a\u{a0}b", odd),
            ("a\u{85}b", odd),
        ] {
            let error = it.call("ADD").ifname(bad).run().error();
            assert_eq!((error.code, error.msg.as_str()), (4, message), "{bad:?}");
        }
    });
}

#[test]
fn a_bad_variable_is_reported_before_a_missing_one() {
    case_each(|it| {
        let call = it.call("ADD").ifname("a/b").without("CNI_CONTAINERID");
        call.run().fails_with(4, "interface name contains / or : or whitespace characters");
    });
}

#[test]
fn what_is_not_one_json_object_is_code_6() {
    case_each(|it| {
        let text = it.config.clone().to_string();
        let (half, trailing) = (&text[..text.len() / 2], format!("{text} x"));
        let (twice, array) = (format!("{text}{text}"), format!("[{text}]"));
        let inputs = ["", " ", "garbage", "\"text\"", "1", half, &trailing, &twice, &array];
        let wrong_type = [it.with("name", 1), it.with("cniVersion", json!([]))];
        let wrong_type = wrong_type.map(|config| config.to_string());
        for input in inputs.into_iter().chain(wrong_type.iter().map(String::as_str)) {
            for verb in ["ADD", "DEL", "CHECK"] {
                let outcome = it.call(verb).stdin(input).run();
                assert_eq!(outcome.error_code(), 6, "{outcome}");
            }
        }
        it.call("ADD").stdin(b"\xff\xfe{}".to_vec()).run().fails_with(6, "");
    });
}

#[test]
fn a_missing_or_bad_name_is_code_7() {
    case_each(|it| {
        let mut nameless = it.config.clone();
        nameless.as_object_mut().unwrap().remove("name");
        for config in [nameless, it.with("name", ""), it.with("name", json!(null))] {
            it.call("ADD").config(&config).run().fails_with(7, "missing network name");
        }
        for bad in ["../net", "a/b", "-a", "a b", ".hidden", ""] {
            let config = it.with("name", bad);
            let error = it.call("ADD").config(&config).run().error();
            assert_eq!((error.code, error.details.as_str()), (7, bad), "{bad:?}");
        }
    });
}

#[test]
fn a_version_that_nobody_knows_is_code_1() {
    case_each(|it| {
        for (verb, version) in
            [("ADD", "9.9.9"), ("DEL", "9.9.9"), ("ADD", "1.0"), ("ADD", "v1.0.0")]
        {
            let config = it.with("cniVersion", version);
            let error = it.call(verb).config(&config).run().error();
            assert_eq!((error.code, error.msg.as_str()), (1, "incompatible CNI versions"));
            let known = known(&it.plugin).join("\" \"");
            let details = format!("config is \"{version}\", plugin supports [\"{known}\"");
            assert!(error.details.starts_with(&details), "{}", error.details);
        }
    });
}

#[test]
fn check_needs_a_configuration_of_0_4_0() {
    case_each(|it| {
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1"] {
            let config = it.with("cniVersion", version);
            let check = it.call("CHECK").config(&config).run();
            check.fails_with(1, "config version does not allow CHECK");
        }
    });
}

#[test]
fn gc_and_status_need_a_configuration_of_1_1_0() {
    case_each(|it| {
        for (verb, version) in [("GC", "1.0.0"), ("STATUS", "1.0.0"), ("GC", "0.4.0")] {
            let config = it.with("cniVersion", version);
            let outcome = it.call(verb).config(&config).run();
            outcome.fails_with(1, &format!("config version does not allow {verb}"));
        }
    });
}

#[test]
fn an_unknown_verb_is_code_4() {
    case_each(|it| {
        for verb in ["add", "NONSENSE", "ADD "] {
            let outcome = it.call(verb).run();
            outcome.fails_with(4, &format!("unknown CNI_COMMAND: {verb}"));
        }
    });
}

#[test]
fn the_plugins_own_namespace_is_refused_before_anything_is_touched() {
    case_each(|it| {
        it.bed.succeed(
            "sh",
            &["-c", "touch /run/netns/own; mount --bind /proc/self/ns/net /run/netns/own"],
        );
        let before = it.bed.snapshot();
        for verb in ["ADD", "DEL"] {
            let call = it.call(verb).netns("/run/netns/own");
            call.run().fails_with(8, "should not be the same");
            it.bed.assert_unchanged_since(&before);
        }
        it.bed.succeed("umount", &["/run/netns/own"]);
    });
}

#[test]
fn the_plugins_own_namespace_is_accepted_when_told_so() {
    case_each(|it| {
        for yes in ["1", "true", "TRUE"] {
            for verb in ["ADD", "DEL"] {
                let call = it.call(verb).netns("/proc/1/ns/net");
                let outcome = call.ifname("own0").env("CNI_NETNS_OVERRIDE", yes).run();
                // The host is no container, so more may be wrong with it than that.
                if outcome.status.success() {
                    assert_eq!(outcome.success().stdout.is_empty(), verb == "DEL", "{outcome}");
                } else {
                    assert_ne!(outcome.error_code(), 8, "{outcome}");
                }
            }
        }
    });
}

#[test]
fn a_namespace_that_is_none_is_named() {
    case_each(|it| {
        it.bed.write("/run/test/file", "no namespace");
        let before = it.bed.snapshot();
        for path in ["/run/netns/missing", "/run/test/file", "/run", "relative"] {
            let outcome = it.call("ADD").netns(path).run();
            if outcome.status.success() {
                // It has nothing to do there.
                it.call("DEL").netns(path).run().silent();
            } else {
                outcome.fails_with(4, &format!("failed to open netns \"{path}\""));
                it.bed.assert_unchanged_since(&before);
            }
            // Nothing is there any more: that is what was asked for.
            if path.ends_with("missing") {
                it.call("DEL").netns(path).run().silent();
            }
        }
    });
}

#[test]
fn an_error_says_its_version() {
    case_each(|it| {
        for version in VERSIONS {
            let mut config = it.with("cniVersion", version);
            config["name"] = json!("a/b");
            let error = it.call("ADD").config(&config).run().error();
            assert_eq!(error.cni_version.as_deref(), Some(version));
        }
        // Before the configuration is read, it is the newest.
        let error = it.call("ADD").container("!").run().error();
        assert_eq!(error.cni_version.as_deref(), Some("1.1.0"));
    });
}

#[test]
fn keys_are_found_in_any_case_and_null_is_absent() {
    case_each(|it| {
        let mut config = it.config.clone();
        let name = config.as_object_mut().unwrap().remove("name").unwrap();
        config["NAME"] = name;
        for absent in ["prevResult", "dns", "args", "runtimeConfig", "mtu"] {
            // A chained plugin cannot do without a result.
            if config[absent].is_null() {
                config[absent] = Value::Null;
            }
        }
        let added = it.call("ADD").config(&config).run();
        assert_eq!(added.result()["cniVersion"], "1.0.0", "{added}");
        it.call("ADD").config(&config).command("DEL").run().silent();
    });
}
