//! A pod, as the kubelet asks for it.

use testbed::Place;

use crate::{
    containerd::Containerd,
    cri::{Answer, Sandbox},
    message::Message,
    node::IMAGE,
};

/// Namespaces of the node instead of the pod's own, in CRI's words.
const NODE: u64 = 2;

/// A port of the node that leads to the pod.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Port {
    Tcp(u16, u16),
    Udp(u16, u16),
}

/// What a pod should be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    name: String,
    ports: Vec<Port>,
    has_node_network: bool,
    volume: Option<String>,
    attempt: u64,
}

impl Wish {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(crate) fn port(mut self, port: Port) -> Self {
        self.ports.push(port);
        self
    }

    /// It is to live in the node's network.
    pub(crate) fn on_the_node(self) -> Self {
        Self { has_node_network: true, ..self }
    }

    /// It takes the place of one that has died.
    pub(crate) fn again(self) -> Self {
        Self { attempt: self.attempt + 1, ..self }
    }

    /// A directory of the node that all of its containers see as `/volume`.
    pub(crate) fn volume(self, path: &str) -> Self {
        Self { volume: Some(path.to_owned()), ..self }
    }

    fn message(&self, cgroup: &str) -> Message {
        let metadata = Message::default().text(1, &self.name).text(2, &self.name);
        let metadata = metadata.text(3, "default").number(4, self.attempt);
        let options = Message::default().number(1, if self.has_node_network { NODE } else { 0 });
        let security = Message::default().inner(1, &options);
        let linux = Message::default().text(1, cgroup).inner(2, &security);
        // A pod that has the node's network has the node's name as well.
        let hostname = if self.has_node_network { "" } else { &self.name };
        let own =
            Message::default().inner(1, &metadata).text(2, hostname).text(3, "/run/test/logs");
        let ports = self.ports.iter().map(|port| {
            let (protocol, host, inner) = match *port {
                Port::Tcp(host, inner) => (0, host, inner),
                Port::Udp(host, inner) => (1, host, inner),
            };
            let message = Message::default().number(1, protocol);
            message.number(2, u64::from(inner)).number(3, u64::from(host))
        });
        ports.fold(own, |own, port| own.inner(5, &port)).inner(8, &linux)
    }
}

/// A pod that runs, or has run.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) id: String,
    runtime: &'a Containerd<'a>,
    wish: Wish,
    /// Of the kubelet's request: its containers are made with the same words.
    config: Message,
}

impl<'a> Pod<'a> {
    /// A pod that must come to life.
    #[track_caller]
    pub(crate) fn new(runtime: &'a Containerd<'_>, wish: Wish) -> Self {
        Self::timed(runtime, wish).unwrap_or_else(|error| panic!("RunPodSandbox: {error}")).0
    }

    /// The same, with the runtime's answer to the request.
    ///
    /// # Errors
    /// With the runtime's own words.
    pub(crate) fn timed(runtime: &'a Containerd<'_>, wish: Wish) -> Result<(Self, Answer), String> {
        let config = wish.message(runtime.node.cgroup());
        let answer = runtime.call("RunPodSandbox", &Message::default().inner(1, &config))?;
        let id = answer.fields.text(1);
        Ok((Self { id, runtime, wish, config }, answer))
    }

    #[track_caller]
    pub(crate) fn sandbox(&self) -> Sandbox {
        self.runtime.sandbox(&self.id)
    }

    /// Its address of IPv4.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        self.sandbox().addresses.first().expect("a pod has an address").clone()
    }

    /// Its network.
    #[track_caller]
    pub(crate) fn place(&self) -> Place {
        self.runtime.node.place_at(&self.sandbox().netns)
    }

    /// Starts a container in it, which runs a script of the shell's.
    #[track_caller]
    pub(crate) fn container(&self, name: &str, script: &str) -> Container<'a> {
        let metadata = Message::default().text(1, name);
        let image = Message::default().text(1, IMAGE);
        let config = Message::default().inner(1, &metadata).inner(2, &image);
        let config = ["sh", "-c", script].iter().fold(config, |config, word| config.text(3, word));
        let config = match &self.wish.volume {
            Some(path) => config.inner(7, &Message::default().text(1, "/volume").text(2, path)),
            None => config,
        };
        let request = Message::default().text(1, &self.id).inner(2, &config).inner(3, &self.config);
        let id = self.runtime.ask("CreateContainer", &request).fields.text(1);
        self.runtime.ask_of("StartContainer", &id);
        Container { id, runtime: self.runtime }
    }

    #[track_caller]
    pub(crate) fn stop(&self) -> Answer {
        self.runtime.ask_of("StopPodSandbox", &self.id)
    }

    #[track_caller]
    pub(crate) fn remove(&self) {
        self.runtime.ask_of("RemovePodSandbox", &self.id);
    }
}

/// A container of a pod.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    id: String,
    runtime: &'a Containerd<'a>,
}

impl Container<'_> {
    /// Runs a script of the shell's in it, which must succeed: what it prints.
    #[track_caller]
    pub(crate) fn says(&self, script: &str) -> String {
        let words = ["sh", "-c", script];
        let request = Message::default().text(1, &self.id);
        let request =
            words.iter().fold(request, |request, word| request.text(2, word)).number(3, 20);
        let answer = self.runtime.ask("ExecSync", &request).fields;
        assert_eq!(answer.number(3), 0, "{script}: {}", answer.text(2));
        answer.text(1).trim().to_owned()
    }

    /// Ends it at once, and forgets it.
    #[track_caller]
    pub(crate) fn remove(&self) {
        self.runtime.ask_of("StopContainer", &self.id);
        self.runtime.ask_of("RemoveContainer", &self.id);
    }
}
