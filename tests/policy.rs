//! What holds for the source, the binaries and the tree, as long as a machine looks.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use testbed::{is_reference, programs::workspace};

/// How many packages the lock file may name, ours included. Thirty of them are zbus and what it
/// needs: D-Bus has a handshake, a type system and a wire format of its own, and nobody but
/// `firewall` (and a firewalld of the tests) pays for it. Fifty are dhcproto and what it needs: names
/// of the DNS, of which Unicode is two thirds, and what Cargo lists for other operating systems. Nobody
/// but `dhcp` has any of it.
const PACKAGES: usize = 180;
/// What a program may weigh, in bytes. A quarter of it is the code for the messages of rtnetlink,
/// which all but host-local need; `firewall` speaks D-Bus besides.
const BINARY: u64 = 4 << 20;
/// What cnitool may, which reads the configurations of all of them.
const TOOL: u64 = 5 << 20;
/// What all of them may weigh in one executable.
const ALL_IN_ONE: u64 = 7 << 20;
/// Lines of a source file, before its tests.
const LINES: usize = 400;

/// The rooms of `common`, each of which may use those before it, and what else it may.
const ROOMS: [(&str, &[&str]); 4] = [
    ("cni", &[]),
    ("net", &[]),
    ("attach", &["cni", "net"]),
    ("filter", &["cni", "net", "attach"]),
];

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a directory of the workspace, by extension.
fn files(dir: impl AsRef<Path>, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![workspace().join(dir)];
    while let Some(dir) = open.pop() {
        let entries =
            fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of a file without its comments and its tests.
fn code(path: &Path) -> String {
    let text = read(path);
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    lines.map(code).collect()
}

/// Which of `words` a file says in its code.
fn says(path: &Path, words: &[&str]) -> Vec<String> {
    let code = code(path);
    words.iter().filter(|word| code.contains(**word)).map(ToString::to_string).collect()
}

fn assert_silent(files: &[PathBuf], words: &[&str], why: &str) {
    assert!(!files.is_empty(), "nothing to look at: {why}");
    for file in files {
        let said = says(file, words);
        assert!(said.is_empty(), "{}: says {said:?}, but {why}", file.display());
    }
}

/// The dependencies of a manifest: the keys of its `[dependencies]`.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = read(manifest);
    let (_, rest) = text.split_once("\n[dependencies]").unwrap_or_default();
    let lines = rest.lines().skip(1).take_while(|line| !line.starts_with('['));
    let key = |line: &str| line.split(['.', '=', ' ']).next().unwrap_or_default().to_owned();
    lines.filter(|line| line.starts_with(char::is_alphabetic)).map(key).collect()
}

/// The packages of plugins, by folder.
fn plugins() -> Vec<PathBuf> {
    let packages = |dir| fs::read_dir(workspace().join(dir)).unwrap();
    let found = packages("plugins").chain(packages("ipam")).map(|entry| entry.unwrap().path());
    found.filter(|path| path.is_dir()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap()
}

#[test]
fn the_kernel_side_knows_no_protocol() {
    let words = ["CNI_", "prevResult", "cniVersion", "serde"];
    assert_silent(&files("common/src/net", "rs"), &words, "net is below cni's concerns");
}

#[test]
fn the_protocol_side_knows_no_kernel() {
    let words = ["rtnetlink", "netlink", "/proc/sys", "setns"];
    assert_silent(&files("common/src/cni", "rs"), &words, "cni makes no system calls");
}

#[test]
fn a_room_uses_only_those_before_it() {
    let everything: Vec<_> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (room, allowed) in ROOMS {
        let others = everything.iter().filter(|other| **other != room && !allowed.contains(other));
        let paths: Vec<_> = others
            .flat_map(|other| ["crate", "super", "super::super"].map(|up| format!("{up}::{other}")))
            // A list of rooms could hold any.
            .chain(["crate::{".to_owned()])
            .collect();
        let words: Vec<_> = paths.iter().map(String::as_str).collect();
        let why = format!("{room} may use {allowed:?} only");
        assert_silent(&files(format!("common/src/{room}"), "rs"), &words, &why);
    }
    let source = workspace().join("common/src");
    for entry in fs::read_dir(&source).unwrap().map(|entry| entry.unwrap().path()) {
        // `file` uses nothing of ours, and every room may use it.
        let is_known =
            everything.contains(&name(&entry)) || ["lib.rs", "file.rs"].contains(&name(&entry));
        assert!(is_known, "{}: no room of ours", entry.display());
    }
    assert_silent(&[source.join("file.rs")], &["crate::", "super::"], "file stands alone");
}

#[test]
fn netlink_is_spoken_in_one_room() {
    for room in ["cni", "attach", "filter"] {
        let words = ["netlink_packet", "netlink_sys", "rtnetlink", "NlasIterator"];
        let files = files(format!("common/src/{room}"), "rs");
        assert_silent(&files, &words, "messages of netlink are taken apart in net");
    }
}

#[test]
fn no_plugin_uses_another() {
    let all = plugins();
    for plugin in &all {
        let used = dependencies(&plugin.join("Cargo.toml"));
        let others: Vec<_> = all.iter().filter(|other| used.contains(name(other))).collect();
        assert!(others.is_empty(), "{}: uses {others:?}", plugin.display());
    }
}

#[test]
fn a_plugin_depends_on_little() {
    for plugin in plugins() {
        let mut allowed = BTreeSet::from(["common", "serde", "ipnetwork"].map(str::to_owned));
        // Its lease file has checksums.
        allowed.extend((name(&plugin) == "host-local").then(|| "crc32fast".to_owned()));
        // Its allowlist has regular expressions, for which the small one of two crates is enough, and its
        // backups are the Go plugin's JSON.
        let texts = ["regex-lite", "serde_json"].map(str::to_owned);
        allowed.extend(texts.into_iter().filter(|_| name(&plugin) == "tuning"));
        // firewalld is asked over D-Bus, which may not answer.
        let bus = ["tokio", "zbus"].map(str::to_owned);
        allowed.extend(bus.into_iter().filter(|_| name(&plugin) == "firewall"));
        // It writes a configuration for another plugin, whose keys it does not know.
        allowed.extend((name(&plugin) == "flannel").then(|| "serde_json".to_owned()));
        // A daemon, whose packets are of DHCP, whose socket may come from systemd, and whose clients have
        // an identity of a fixed length.
        let daemon = ["dhcproto", "sd-listen-fds", "serde_json", "sha2", "tokio"];
        let daemon = daemon.map(str::to_owned);
        allowed.extend(daemon.into_iter().filter(|_| name(&plugin) == "dhcp"));
        let used = dependencies(&plugin.join("Cargo.toml"));
        let more: Vec<_> = used.difference(&allowed).collect();
        assert!(more.is_empty(), "{}: depends on {more:?}", plugin.display());
    }
}

#[test]
fn a_plugin_makes_no_system_call_of_its_own() {
    let words =
        ["process::Command", "Command::new", "netlink_", "Netlink::open", "use nix", "std::env"];
    for plugin in plugins() {
        let files = files(plugin.join("src"), "rs");
        assert_silent(&files, &words, "common is there for it");
        // An IPAM plugin's business is files, those that tell who is alive among them.
        if !plugin.starts_with(workspace().join("ipam")) {
            assert_silent(&files, &["/proc"], "common is there for it");
        }
    }
}

#[test]
fn an_ipam_plugin_touches_no_network() {
    // dhcp asks a server, and by the container's own link.
    let others = |file: &PathBuf| !file.starts_with(workspace().join("ipam/dhcp"));
    for file in files("ipam", "rs").into_iter().filter(others) {
        let words = says(&file, &["common::net", "sandbox::", "veth::", "common::filter"]);
        assert!(words.is_empty(), "{}: says {words:?}", file.display());
    }
}

#[test]
fn folder_package_and_binary_have_one_name() {
    for plugin in plugins() {
        let manifest = read(plugin.join("Cargo.toml"));
        let own = format!("name = \"{}\"", name(&plugin));
        assert!(manifest.contains(&own), "{}: the package has another name", plugin.display());
        assert!(plugin.join("src/main.rs").is_file(), "{}", plugin.display());
    }
}

#[test]
fn the_tests_are_black_box() {
    let used = dependencies(&workspace().join("tests/Cargo.toml"));
    assert_eq!(used, BTreeSet::from(["nix", "serde_json", "zbus"].map(str::to_owned)));
}

/// The kind of an ELF program header that asks for a dynamic linker.
const PT_INTERP: u32 = 3;

/// The kinds of a 64-bit little-endian ELF file's program headers.
fn program_headers(elf: &[u8]) -> Vec<u32> {
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "not a 64-bit little-endian ELF file");
    let short = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
    let start = usize::try_from(u64::from_le_bytes(elf[32..40].try_into().unwrap())).unwrap();
    let (size, count) = (short(54), short(56));
    let kind = |number| elf[start + number * size..][..4].try_into().unwrap();
    (0..count).map(|number| u32::from_le_bytes(kind(number))).collect()
}

#[test]
fn the_binaries_are_static_and_small() {
    if is_reference() {
        return;
    }
    let all = plugins();
    let budgets = all.iter().map(|path| (name(path), BINARY));
    let budgets = budgets.chain([("cnitool", TOOL), ("girder", ALL_IN_ONE)]);
    for (plugin, budget) in budgets {
        let path = workspace().join("bin").join(plugin);
        let elf = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!program_headers(&elf).contains(&PT_INTERP), "{plugin} needs a dynamic linker");
        let size = u64::try_from(elf.len()).unwrap();
        assert!(size < budget, "{plugin} has {size} bytes");
    }
}

#[test]
fn the_lock_file_keeps_its_budget() {
    let count = read(workspace().join("Cargo.lock")).matches("[[package]]").count();
    assert!(count <= PACKAGES, "{count} packages, and {PACKAGES} are allowed: is it worth it?");
}

#[test]
fn every_example_is_tested() {
    let tests = read(workspace().join("tests/conf.rs"));
    for file in files("conf", "conflist").iter().chain(&files("conf", "conf")) {
        assert!(tests.contains(&format!("\"{}\"", name(file))), "{} is never used", file.display());
    }
}

#[test]
fn no_file_is_too_long() {
    for dir in ["common", "plugins", "ipam", "cnitool", "tests"] {
        for file in files(dir, "rs") {
            let text = read(&file);
            let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
            assert!(lines <= LINES, "{}: {lines} lines miss a noun", file.display());
        }
    }
}

#[test]
fn the_readme_names_what_exists() {
    let readme = read(workspace().join("README.md"));
    for part in ["common", "plugins", "ipam", "cnitool", "conf", "tests"] {
        assert!(readme.contains(&format!("{part}/")), "the README does not name {part}/");
    }
    for plugin in plugins() {
        assert!(readme.contains(name(&plugin)), "the README does not name {}", name(&plugin));
    }
    // Paths, as `common/src/cni/undo.rs`, are of files that are there.
    for word in readme.split(|sign: char| sign.is_whitespace() || "`()|,".contains(sign)) {
        let (first, rest) = word.split_once('/').unwrap_or((word, ""));
        let ours = ["common", "plugins", "ipam", "cnitool", "conf", "tests"].contains(&first);
        if ours && !rest.is_empty() {
            let path = word.trim_end_matches(['.', ';', ':']);
            assert!(workspace().join(path).exists(), "the README names {path}");
        }
    }
}
