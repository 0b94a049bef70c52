//! Which settings an administrator lets networks change: a file of regular expressions, one on a line.
//! Without the file, all that belong to the namespace.

use crate::sysctls::Sysctl;
use common::cni::Context as _;
use common::{Code, Error, Result, file};
use regex_lite::Regex;
use std::io::ErrorKind;
use std::path::Path;

/// As in the Go plugin, no key says where it is: whoever writes networks may not be who writes this.
const FILE: &str = "/etc/cni/tuning/allowlist.conf";

/// Far more than anybody writes.
const LIMIT: u64 = 1 << 20;

/// Refuses settings that the file does not have. An expression may match any part of the key as it is
/// written in the configuration.
///
/// # Errors
/// Code 7 for such a setting, 5 and 6 for a file that cannot be understood.
pub(crate) fn refuse_unlisted(sysctls: &[Sysctl]) -> Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let text = match file::open_named(Path::new(FILE)).and_then(|opened| file::read(opened, LIMIT))
    {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.context(format_args!("failed to read {FILE}"))?,
    };
    let text = String::from_utf8_lossy(&text);
    let mut expressions = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() {
            expressions.push(Regex::new(line).map_err(|error| {
                let place = format!("{FILE}, line {}", number + 1);
                Error::new(
                    Code::Decode,
                    format!("{place}: {line:?} is no regular expression: {error}"),
                )
            })?);
        }
    }
    let is_listed = |key: &str| expressions.iter().any(|expression| expression.is_match(key));
    match sysctls.iter().find(|sysctl| !is_listed(&sysctl.key)) {
        None => Ok(()),
        Some(Sysctl { key, .. }) => Err(Error::config(format!("Sysctl {key} is not allowed"))
            .details(format!("no line of {FILE} matches it"))),
    }
}
