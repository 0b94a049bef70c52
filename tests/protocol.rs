//! Every plugin against everything that is wrong with a call before the plugin's own work begins.

use serde_json::{Value, json};
use testbed::{
    config, is_reference,
    plugins::{add, each},
};

use crate::differences::case;

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The versions up to 1.0.0 that a plugin knows. The reference's firewall begins at 0.4.0.
fn known(plugin: &str) -> &'static [&'static str] {
    let first = if plugin == "firewall" && is_reference() { 4 } else { 0 };
    &VERSIONS[first..6]
}

fn with(plugin: &str, key: &str, value: impl Into<Value>) -> Value {
    let mut config = config::least(plugin);
    config[key] = value.into();
    config
}

#[test]
fn without_a_verb_a_plugin_introduces_itself() {
    case(|bed| {
        each(|bed, plugin, _| {
            for call in [bed.plugin(plugin), bed.plugin(plugin).command("")] {
                let outcome = call.without("CNI_PATH").run();
                outcome.silent();
                let about = format!("CNI {plugin} plugin ");
                assert!(outcome.stderr.starts_with(&about), "{outcome}");
                let versions =
                    format!("CNI protocol versions supported: {}", known(plugin).join(", "));
                assert!(outcome.stderr.lines().nth(1).unwrap().starts_with(&versions), "{outcome}");
            }
        })(bed);
    });
}

#[test]
fn asked_on_the_command_line_a_plugin_says_its_version() {
    case(|bed| {
        each(|bed, plugin, _| {
            let outcome = bed.plugin(plugin).argument("--version").run();
            let about = format!("CNI {plugin} plugin v1.9.1+girder.");
            assert!(outcome.success().stdout.starts_with(&about), "{outcome}");
        })(bed);
    });
}

#[test]
fn version_needs_nothing_and_lists_all_versions() {
    case(|bed| {
        each(|bed, plugin, _| {
            let version = bed.plugin(plugin).command("VERSION").without("CNI_PATH").run();
            let expected = json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS});
            assert_eq!(version.result(), expected, "{version}");
        })(bed);
    });
}

#[test]
fn all_missing_variables_are_named_at_once() {
    case(|bed| {
        each(|bed, plugin, _| {
            let rows = [
                ("ADD", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
                ("CHECK", "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
                ("DEL", "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
            ];
            for (verb, missing) in rows {
                let call = bed.plugin(plugin).command(verb).without("CNI_PATH");
                let error = call.config(&config::least(plugin)).run().error();
                assert_eq!((error.code, error.details.as_str()), (4, ""));
                assert_eq!(error.msg, format!("required env variables [{missing}] missing"));
            }
        })(bed);
    });
}

#[test]
fn each_verb_requires_its_variables_and_no_other() {
    case(|bed| {
        each(|bed, plugin, pod| {
            let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
            for (verb, required) in [("ADD", &all[..]), ("CHECK", &all[..]), ("DEL", &all[..])] {
                for variable in
                    required.iter().filter(|name| (verb, **name) != ("DEL", "CNI_NETNS"))
                {
                    // Empty is missing.
                    for call in [
                        add(bed, plugin, pod).without(variable),
                        add(bed, plugin, pod).env(variable, ""),
                    ] {
                        let missing = format!("required env variables [{variable}] missing");
                        call.command(verb).run().fails_with(4, &missing);
                    }
                }
            }
            add(bed, plugin, pod).command("DEL").without("CNI_NETNS").run().silent();
        })(bed);
    });
}

#[test]
fn gc_and_status_require_only_the_path() {
    case(|bed| {
        each(|bed, plugin, _| {
            let mut config = with(plugin, "cniVersion", "1.1.0");
            config["cni.dev/valid-attachments"] = json!([]);
            for verb in ["GC", "STATUS"] {
                let call = bed.plugin(plugin).command(verb).config(&config);
                call.clone().without("CNI_PATH").run().fails_with(4, "[CNI_PATH]");
                // What a verb does not use is not looked at.
                call.container("!").ifname("/").run().silent();
            }
        })(bed);
    });
}

#[test]
fn a_bad_container_id_is_refused() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for bad in ["-a", "_a", ".", "..", "a b", "a/b", "../a", "a\n", "é"] {
                for verb in ["ADD", "DEL", "CHECK"] {
                    let error = add(bed, plugin, pod).command(verb).container(bad).run().error();
                    assert_eq!(error.code, 4, "{bad:?}");
                    assert_eq!(error.msg, "invalid characters in containerID");
                    assert_eq!(error.details, bad);
                }
            }
        })(bed);
    });
}

#[test]
fn a_bad_interface_name_is_refused() {
    case(|bed| {
        each(|bed, plugin, pod| {
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
                let error = add(bed, plugin, pod).ifname(bad).run().error();
                assert_eq!((error.code, error.msg.as_str()), (4, message), "{bad:?}");
            }
        })(bed);
    });
}

#[test]
fn a_bad_variable_is_reported_before_a_missing_one() {
    case(|bed| {
        each(|bed, plugin, pod| {
            let call = add(bed, plugin, pod).ifname("a/b").without("CNI_CONTAINERID");
            call.run().fails_with(4, "interface name contains / or : or whitespace characters");
        })(bed);
    });
}

#[test]
fn what_is_not_one_json_object_is_code_6() {
    case(|bed| {
        each(|bed, plugin, pod| {
            let text = config::least(plugin).to_string();
            let (half, trailing) = (&text[..text.len() / 2], format!("{text} x"));
            let (twice, array) = (format!("{text}{text}"), format!("[{text}]"));
            let inputs = ["", " ", "garbage", "\"text\"", "1", half, &trailing, &twice, &array];
            let wrong_type = [with(plugin, "name", 1), with(plugin, "cniVersion", json!([]))];
            let wrong_type = wrong_type.map(|config| config.to_string());
            for input in inputs.into_iter().chain(wrong_type.iter().map(String::as_str)) {
                for verb in ["ADD", "DEL", "CHECK"] {
                    let outcome = add(bed, plugin, pod).command(verb).stdin(input).run();
                    assert_eq!(outcome.error_code(), 6, "{outcome}");
                }
            }
            add(bed, plugin, pod).stdin(b"\xff\xfe{}".to_vec()).run().fails_with(6, "");
        })(bed);
    });
}

#[test]
fn a_missing_or_bad_name_is_code_7() {
    case(|bed| {
        each(|bed, plugin, pod| {
            let mut nameless = config::least(plugin);
            nameless.as_object_mut().unwrap().remove("name");
            for config in [nameless, with(plugin, "name", ""), with(plugin, "name", json!(null))] {
                add(bed, plugin, pod).config(&config).run().fails_with(7, "missing network name");
            }
            for bad in ["../net", "a/b", "-a", "a b", ".hidden", ""] {
                let config = with(plugin, "name", bad);
                let error = add(bed, plugin, pod).config(&config).run().error();
                assert_eq!((error.code, error.details.as_str()), (7, bad), "{bad:?}");
            }
        })(bed);
    });
}

#[test]
fn a_version_that_nobody_knows_is_code_1() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for (verb, version) in
                [("ADD", "9.9.9"), ("DEL", "9.9.9"), ("ADD", "1.0"), ("ADD", "v1.0.0")]
            {
                let config = with(plugin, "cniVersion", version);
                let error = add(bed, plugin, pod).command(verb).config(&config).run().error();
                assert_eq!((error.code, error.msg.as_str()), (1, "incompatible CNI versions"));
                let known = known(plugin).join("\" \"");
                let details = format!("config is \"{version}\", plugin supports [\"{known}\"");
                assert!(error.details.starts_with(&details), "{}", error.details);
            }
        })(bed);
    });
}

#[test]
fn check_needs_a_configuration_of_0_4_0() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1"] {
                let config = with(plugin, "cniVersion", version);
                let check = add(bed, plugin, pod).command("CHECK").config(&config).run();
                check.fails_with(1, "config version does not allow CHECK");
            }
        })(bed);
    });
}

#[test]
fn gc_and_status_need_a_configuration_of_1_1_0() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for (verb, version) in [("GC", "1.0.0"), ("STATUS", "1.0.0"), ("GC", "0.4.0")] {
                let config = with(plugin, "cniVersion", version);
                let outcome = add(bed, plugin, pod).command(verb).config(&config).run();
                outcome.fails_with(1, &format!("config version does not allow {verb}"));
            }
        })(bed);
    });
}

#[test]
fn an_unknown_verb_is_code_4() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for verb in ["add", "NONSENSE", "ADD "] {
                let outcome = add(bed, plugin, pod).command(verb).run();
                outcome.fails_with(4, &format!("unknown CNI_COMMAND: {verb}"));
            }
        })(bed);
    });
}

#[test]
fn the_plugins_own_namespace_is_refused_before_anything_is_touched() {
    case(|bed| {
        each(|bed, plugin, pod| {
            bed.succeed(
                "sh",
                &["-c", "touch /run/netns/own; mount --bind /proc/self/ns/net /run/netns/own"],
            );
            let before = bed.snapshot();
            for verb in ["ADD", "DEL"] {
                let call = add(bed, plugin, pod).command(verb).netns("/run/netns/own");
                call.run().fails_with(8, "should not be the same");
                bed.assert_unchanged_since(&before);
            }
            bed.succeed("umount", &["/run/netns/own"]);
        })(bed);
    });
}

#[test]
fn the_plugins_own_namespace_is_accepted_when_told_so() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for yes in ["1", "true", "TRUE"] {
                for verb in ["ADD", "DEL"] {
                    let call = add(bed, plugin, pod).command(verb).netns("/proc/1/ns/net");
                    let outcome = call.env("CNI_NETNS_OVERRIDE", yes).run();
                    assert_eq!(outcome.success().stdout.is_empty(), verb == "DEL", "{outcome}");
                }
            }
        })(bed);
    });
}

#[test]
fn a_namespace_that_is_none_is_named() {
    case(|bed| {
        each(|bed, plugin, pod| {
            bed.write("/run/test/file", "no namespace");
            let before = bed.snapshot();
            for path in ["/run/netns/missing", "/run/test/file", "/run", "relative"] {
                let outcome = add(bed, plugin, pod).netns(path).run();
                // None of these enters it, bandwidth not without limits.
                if !matches!(plugin, "host-local" | "portmap" | "firewall" | "bandwidth") {
                    outcome.fails_with(4, &format!("failed to open netns \"{path}\""));
                    bed.assert_unchanged_since(&before);
                }
                // Nothing is there any more: that is what was asked for.
                if path.ends_with("missing") {
                    add(bed, plugin, pod).command("DEL").netns(path).run().silent();
                }
            }
        })(bed);
    });
}

#[test]
fn an_error_says_its_version() {
    case(|bed| {
        each(|bed, plugin, pod| {
            for version in VERSIONS {
                let mut config = with(plugin, "cniVersion", version);
                config["name"] = json!("a/b");
                let error = add(bed, plugin, pod).config(&config).run().error();
                assert_eq!(error.cni_version.as_deref(), Some(version));
            }
            // Before the configuration is read, it is the newest.
            let error = add(bed, plugin, pod).container("!").run().error();
            assert_eq!(error.cni_version.as_deref(), Some("1.1.0"));
        })(bed);
    });
}

#[test]
fn keys_are_found_in_any_case_and_null_is_absent() {
    case(|bed| {
        each(|bed, plugin, pod| {
            let mut config = config::least(plugin);
            let name = config.as_object_mut().unwrap().remove("name").unwrap();
            config["NAME"] = name;
            for absent in ["prevResult", "dns", "args", "runtimeConfig", "mtu"] {
                // A chained plugin cannot do without a result.
                if config[absent].is_null() {
                    config[absent] = Value::Null;
                }
            }
            let added = add(bed, plugin, pod).config(&config).run();
            assert_eq!(added.result()["cniVersion"], "1.0.0", "{added}");
            add(bed, plugin, pod).config(&config).command("DEL").run().silent();
        })(bed);
    });
}
