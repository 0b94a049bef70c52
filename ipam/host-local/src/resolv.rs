//! Name servers from a file in the format of resolv.conf(5).

use common::cni::{Context as _, Dns};
use common::{Result, file};
use std::path::Path;

/// Far more than any resolver reads.
const LIMIT: u64 = 1 << 20;

/// Reads the file.
///
/// # Errors
/// Code 5, naming it.
pub fn read(path: &Path) -> Result<Dns> {
    let bytes = file::open_named(path)
        .and_then(|file| file::read(file, LIMIT))
        .context(format_args!("failed to read resolvConf {}", path.display()))?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let (Some(key), Some(first)) = (words.next(), words.next()) else { continue };
        let all = std::iter::once(first).chain(words).map(str::to_owned);
        match key {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => first.clone_into(&mut dns.domain),
            "search" => dns.search.extend(all),
            "options" => dns.options.extend(all),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_simple_resolv_conf_file() {
        let dns = parse("nameserver 192.0.2.0\nnameserver 192.0.2.1\n");
        assert_eq!(dns.nameservers, ["192.0.2.0", "192.0.2.1"]);
        assert!(dns.domain.is_empty() && dns.search.is_empty() && dns.options.is_empty());
    }

    #[test]
    fn ignores_comments() {
        let dns = parse("nameserver 192.0.2.0\n;nameserver 192.0.2.1\n# nameserver x\nsearch\n");
        assert_eq!(dns.nameservers, ["192.0.2.0"]);
        assert!(dns.search.is_empty());
    }

    #[test]
    fn parses_all_fields() {
        let dns = parse(
            "nameserver 192.0.2.0\nnameserver 192.0.2.2\ndomain example.com\n;nameserver x\n\
             search example.net example.org\nsearch example.gov\noptions one two three\noptions four",
        );
        assert_eq!(dns.nameservers, ["192.0.2.0", "192.0.2.2"]);
        assert_eq!(dns.domain, "example.com");
        assert_eq!(dns.search, ["example.net", "example.org", "example.gov"]);
        assert_eq!(dns.options, ["one", "two", "three", "four"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nowhere/resolv.conf")).unwrap_err();
        assert_eq!(error.code(), common::Code::Io);
        assert!(error.to_string().contains("/nowhere/resolv.conf"));
    }
}
