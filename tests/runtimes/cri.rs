//! CRI, version 1, as the kubelet speaks it: each call is a POST of HTTP/2, which `curl` makes.
//!
//! Messages are known by the numbers of their fields, which never change. Who asks for more finds them
//! in `api.proto` of Kubernetes.

use std::time::Duration;

use crate::{
    containerd::{Containerd, SOCKET},
    message::{Fields, Message},
};

/// What `curl` says besides: how long it waited for the answer.
const TOOK: &str = "took=";

/// What has come of a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) fields: Fields,
    pub(crate) took: Duration,
}

/// A pod's sandbox as the runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) is_ready: bool,
    pub(crate) addresses: Vec<String>,
    /// The path of its network namespace.
    pub(crate) netns: String,
    /// Its pause process.
    pub(crate) pid: i64,
}

impl Containerd<'_> {
    /// A call of CRI.
    ///
    /// # Errors
    /// With the runtime's own words, or none if it died meanwhile.
    pub(crate) fn call(&self, method: &str, request: &Message) -> Result<Answer, String> {
        let url = format!("http://localhost/runtime.v1.RuntimeService/{method}");
        let write = format!("%{{stderr}}{TOOK}%{{time_total}}\n");
        let headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
        let from = ["-sS", "--http2-prior-knowledge", "--unix-socket", SOCKET];
        let how = ["--data-binary", "@-", "-D", "/dev/stderr", "-w", &write, &url];
        let words = [&from[..], &headers, &how].concat();
        let output = self.node.feed("curl", &words, &request.framed());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let value = |key: &str| said.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        if value("grpc-status:") != Some("0") {
            return Err(value("grpc-message:").unwrap_or(&said).to_owned());
        }
        let took = value(TOOK).and_then(|it| it.parse().ok()).map(Duration::from_secs_f64);
        let took = took.expect("curl says how long it took");
        Ok(Answer { fields: Fields::of_frame(&output.stdout), took })
    }

    /// A call of CRI that must succeed.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, request: &Message) -> Answer {
        self.call(method, request).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// A call about one pod or one container, which must succeed.
    #[track_caller]
    pub(crate) fn ask_of(&self, method: &str, id: &str) -> Answer {
        self.ask(method, &Message::default().text(1, id))
    }

    /// Whether it finds its network ready, or why not.
    pub(crate) fn network_ready(&self) -> Result<(), String> {
        let status = self.ask("Status", &Message::default()).fields.inner(1);
        let condition = status.inners(1).find(|it| it.text(1) == "NetworkReady");
        let condition = condition.expect("a condition of the network");
        if condition.number(2) == 1 { Ok(()) } else { Err(condition.text(4)) }
    }

    /// A pod's sandbox.
    #[track_caller]
    pub(crate) fn sandbox(&self, id: &str) -> Sandbox {
        let answer =
            self.ask("PodSandboxStatus", &Message::default().text(1, id).number(2, 1)).fields;
        let status = answer.inner(1);
        let network = status.inner(5);
        let more = network.inners(2).map(|ip| ip.text(1));
        let addresses = [network.text(1)].into_iter().chain(more).filter(|ip| !ip.is_empty());
        let info = answer.inners(2).find(|entry| entry.text(1) == "info");
        let info = info.expect("containerd's own account of it").text(2);
        let info: serde_json::Value = serde_json::from_str(&info).expect("which is JSON");
        let spaces = info["runtimeSpec"]["linux"]["namespaces"].as_array();
        let netns = spaces.into_iter().flatten().find(|space| space["type"] == "network");
        let path = netns.and_then(|space| space["path"].as_str()).unwrap_or_default();
        Sandbox {
            is_ready: status.number(3) == 0,
            addresses: addresses.collect(),
            netns: path.to_owned(),
            pid: info["pid"].as_i64().unwrap_or_default(),
        }
    }
}
