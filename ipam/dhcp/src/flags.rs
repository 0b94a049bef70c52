//! The daemon's command line, in the syntax that Go's flags have: `-timeout 2s`, `--timeout=2s`.

use std::path::PathBuf;
use std::time::Duration;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where to write the number of the process.
    pub(crate) pidfile: Option<PathBuf>,
    /// What comes before every path of a socket and of a namespace.
    pub(crate) hostprefix: PathBuf,
    /// Where to listen.
    pub(crate) socketpath: PathBuf,
    /// Where to keep the leases; `None` for beside the socket.
    pub(crate) leases: Option<PathBuf>,
    /// Whether servers are told to send their answers to all.
    pub(crate) broadcast: bool,
    /// For how long one try waits for each answer.
    pub(crate) timeout: Duration,
    /// Where the pauses between tries end to grow.
    pub(crate) resendmax: Duration,
    /// For how long an ADD tries.
    pub(crate) resendtimeout: Duration,
}

/// Why there are no settings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing but help was asked for.
    Help,
    /// What is wrong.
    Wrong(String),
}

/// For `--help` and after an error.
pub(crate) const USAGE: &str = "\
Usage: dhcp daemon [flags]
  -broadcast
        have servers send their answers to all
  -hostprefix path
        put before the paths of the socket and of namespaces
  -leases path
        where the leases are kept (default: the socket's path, ending in .leases)
  -pidfile path
        where the number of the process is written
  -resendmax duration
        where the pauses between tries end to grow (default 62s)
  -resendtimeout duration
        for how long an ADD tries (default 208s)
  -socketpath path
        where to listen (default /run/cni/dhcp.sock)
  -timeout duration
        for how long one try waits for each answer (default 10s)
A duration is as 500ms, 2s, 1m30s. systemd may hand over the socket (cni-dhcp.socket).";

impl Default for Settings {
    fn default() -> Self {
        Self {
            pidfile: None,
            hostprefix: PathBuf::new(),
            socketpath: crate::protocol::SOCKET.into(),
            leases: None,
            broadcast: false,
            timeout: Duration::from_secs(10),
            resendmax: Duration::from_secs(62),
            resendtimeout: Duration::from_secs(208),
        }
    }
}

impl Settings {
    /// # Errors
    /// For a flag that there is not, or a value that is none.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Refused> {
        let mut settings = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else { break };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            if flag.is_empty() {
                break;
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if name == "broadcast" {
                settings.broadcast =
                    boolean(value.unwrap_or("true")).ok_or_else(|| wrong(name, value))?;
                continue;
            }
            if !NAMES.contains(&name) {
                return Err(match name {
                    "h" | "help" => Refused::Help,
                    _ => Refused::Wrong(format!("flag provided but not defined: -{name}")),
                });
            }
            let value = value.or_else(|| words.next().map(String::as_str));
            let missing = || Refused::Wrong(format!("flag needs an argument: -{name}"));
            settings.set(name, value.ok_or_else(missing)?)?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Refused> {
        let time = || duration(value).ok_or_else(|| wrong(name, Some(value)));
        match name {
            "pidfile" => self.pidfile = Some(value.into()),
            "hostprefix" => self.hostprefix = value.into(),
            "socketpath" => self.socketpath = value.into(),
            "leases" => self.leases = Some(value.into()),
            "timeout" => self.timeout = time()?,
            "resendmax" => self.resendmax = time()?,
            _ => self.resendtimeout = time()?,
        }
        Ok(())
    }
}

/// The flags that have a value.
const NAMES: [&str; 7] =
    ["pidfile", "hostprefix", "socketpath", "leases", "timeout", "resendmax", "resendtimeout"];

fn wrong(name: &str, value: Option<&str>) -> Refused {
    let value = value.unwrap_or_default();
    Refused::Wrong(format!("invalid value {value:?} for flag -{name}: parse error"))
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Numbers with their units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let is_number = |sign: char| sign.is_ascii_digit() || sign == '.';
        let (number, unit) = rest.split_at(rest.find(|sign| !is_number(sign))?);
        let (unit, next) = unit.split_at(unit.find(is_number).unwrap_or(unit.len()));
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let one = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()?;
        sum = sum.checked_add(one)?;
        rest = next;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Settings, Refused> {
        Settings::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_written_in_four_ways() {
        let expected = Settings { timeout: Duration::from_secs(2), ..Settings::default() };
        for line in
            ["-timeout 2s", "--timeout 2s", "-timeout=2s", "--timeout=2000ms", "-timeout 2s x -y"]
        {
            assert_eq!(parse(line).as_ref(), Ok(&expected), "{line}");
        }
        assert!(parse("-broadcast -timeout 2s").unwrap().broadcast);
        assert!(!parse("-broadcast=false").unwrap().broadcast);
        assert_eq!(parse("-- -x"), Ok(Settings::default()));
        assert_eq!(parse("-socketpath /a -hostprefix=/b").unwrap().hostprefix, PathBuf::from("/b"));
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in
            [("1m30s", 90_000), ("2s", 2000), ("1.5h", 5_400_000), (".5s", 500), ("0", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "2", "s", "2x", "-1s", "1m30", "1..2s", "1e3s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_flag_is_named() {
        let said = |line: &str| match parse(line) {
            Err(Refused::Wrong(said)) => said,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(said("-x"), "flag provided but not defined: -x");
        assert_eq!(said("-timeout"), "flag needs an argument: -timeout");
        assert!(said("-timeout 2").starts_with("invalid value \"2\" for flag -timeout"));
        assert!(said("-broadcast=2").starts_with("invalid value \"2\""));
        assert_eq!(parse("--help"), Err(Refused::Help));
    }
}
