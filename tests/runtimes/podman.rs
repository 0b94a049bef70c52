//! podman with its CNI backend: networks of its own making, as docker has them.

use crate::{
    differences::case,
    node::{IMAGE, Node, image_archive},
    ports::leads,
};
use testbed::Place;

const CONFIG: &str = r#"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "/run/test/podman/tmp"
[containers]
default_sysctls = []
log_driver = "k8s-file"
"#;

/// podman on a node.
struct Podman<'node>(&'node Node);

impl<'node> Podman<'node> {
    fn new(node: &'node Node) -> Self {
        node.write("/run/test/containers.conf", CONFIG);
        let this = Self(node);
        this.says(&format!("load -q -i {}", image_archive()));
        this.says(
            "network create --subnet 10.79.0.0/24 --ipv6 --subnet fd00:79::/64 --disable-dns one",
        );
        this.says("network create --subnet 10.80.0.0/24 --disable-dns two");
        this
    }

    /// What it says to these words, to which it must say something.
    #[track_caller]
    fn says(&self, words: &str) -> String {
        let own = "CONTAINERS_CONF=/run/test/containers.conf TMPDIR=/run/test/tmp podman \
                   --root /var/lib/containers --runroot /run/test/podman/run --storage-driver overlay";
        let words: Vec<_> = own.split_whitespace().chain(words.split_whitespace()).collect();
        self.0.succeed("env", &words).trim().to_owned()
    }

    /// Starts a container that does nothing, with these options.
    #[track_caller]
    fn run(&self, name: &str, options: &str) {
        let group = self.0.cgroup();
        let own = format!("run -d --name {name} --cgroup-parent {group} --stop-timeout 0");
        self.says(&format!("{own} {options} {IMAGE}"));
    }

    #[track_caller]
    fn exec(&self, name: &str, words: &str) -> String {
        self.says(&format!("exec {name} {words}"))
    }

    /// Something about a container, in the words of podman's templates.
    fn inspect(&self, name: &str, what: &str) -> String {
        self.says(&format!("container inspect --format {{{{{what}}}}} {name}"))
    }

    /// The network of a container.
    fn place(&self, name: &str) -> Place {
        self.0.place_at(&self.inspect(name, ".NetworkSettings.SandboxKey"))
    }

    fn address(&self, name: &str) -> String {
        self.inspect(name, ".NetworkSettings.Networks.one.IPAddress")
    }
}

/// Runs a test on a node that has had a container of each network, and removes all others after it.
#[track_caller]
fn case_of(body: impl FnOnce(&Podman<'_>)) {
    case(|node| {
        let podman = Podman::new(node);
        for network in ["one", "two"] {
            podman.run("first", &format!("--network {network} -p 8000:80"));
            podman.says("rm -f -t 0 first");
        }
        let before = node.state();
        body(&podman);
        podman.says("rm -f -a -t 0");
        node.assert_back_to(&before);
    });
}

#[test]
fn containers_reach_each_other_and_have_ports() {
    case_of(|podman| {
        podman.run("server", "--network one -p 8080:80 -p 8080:80/udp");
        podman.run("client", "--network one");
        let server = podman.address("server");
        for (ping, at) in [("ping", &*server), ("ping6", "fd00:79::1")] {
            let said = podman.exec("client", &format!("{ping} -c 1 -w 5 {at}"));
            assert!(said.contains("0% packet loss"), "{said}");
        }
        let works = || {
            let (server, client) = (podman.place("server"), podman.place("client"));
            leads(podman.0, "127.0.0.1:8080", &server);
            leads(&client, "10.79.0.1:8080", &server);
            leads(&server, "10.79.0.1:8080", &server);
        };
        works();
        podman.says("stop -t 0 server");
        assert!(!podman.0.leases("one").values().any(|it| it.contains("server")));
        assert_eq!(podman.0.leases("one").len(), 2, "of the client: one of each family");
        podman.says("start server");
        works();
        podman.says("restart -t 0 server");
        works();
    });
}

#[test]
fn a_container_may_say_its_addresses() {
    case_of(|podman| {
        podman.run("one", "--network one --ip 10.79.0.77 --mac-address 0a:00:00:00:00:77");
        assert_eq!(podman.address("one"), "10.79.0.77");
        let said = podman.exec("one", "ip addr show dev eth0");
        assert!(said.contains(" 10.79.0.77/24") && said.contains(" 0a:00:00:00:00:77 "), "{said}");
    });
}

#[test]
fn a_second_network_comes_and_goes() {
    case_of(|podman| {
        podman.run("one", "--network one -p 8080:80 -p 8080:80/udp");
        for _ in 0..2 {
            podman.says("network connect two one");
            let said = podman.exec("one", "ip -o addr show dev eth1");
            assert!(said.contains(" 10.80.0."), "{said}");
            assert_eq!(podman.0.leases("two").len(), 1);
            podman.says("network disconnect two one");
            assert!(!podman.place("one").has_link("eth1"));
            assert_eq!(podman.0.leases("two").len(), 0);
            leads(podman.0, "127.0.0.1:8080", &podman.place("one"));
        }
    });
}

/// podman tells the plugins of every network of a container about its ports.
#[test]
fn a_container_of_two_networks_has_its_ports_once() {
    case_of(|podman| {
        podman.run("one", "--network one --network two -p 8080:80 -p 8080:80/udp");
        leads(podman.0, "127.0.0.1:8080", &podman.place("one"));
        podman.says("restart -t 0 one");
        leads(podman.0, "127.0.0.1:8080", &podman.place("one"));
    });
}

#[test]
fn a_pod_is_one_attachment() {
    case_of(|podman| {
        let group = podman.0.cgroup();
        podman.says(&format!(
            "pod create --name pod --network one -p 8080:80 -p 8080:80/udp --infra-name infra \
             --infra-image {IMAGE} --cgroup-parent {group}"
        ));
        for name in ["one", "two"] {
            podman.says(&format!("run -d --pod pod --name {name} {IMAGE}"));
        }
        let net = "readlink /proc/self/ns/net";
        assert_eq!(podman.exec("one", net), podman.exec("two", net));
        assert_eq!(podman.0.leases("one").len(), 2, "one of each family");
        leads(podman.0, "127.0.0.1:8080", &podman.place("infra"));
        podman.says("pod stop -t 0 pod");
        assert_eq!(podman.0.leases("one").len(), 0);
        podman.says("pod start pod");
        leads(podman.0, "127.0.0.1:8080", &podman.place("infra"));
        podman.says("pod rm -f -t 0 pod");
    });
}

#[test]
fn the_networks_of_others_are_none_of_ours() {
    case_of(|podman| {
        let before = podman.0.state();
        podman.run("guest", "--network host");
        assert_eq!(
            podman.exec("guest", "readlink /proc/self/ns/net"),
            podman.0.succeed("readlink", &["/proc/self/ns/net"]).trim()
        );
        podman.0.assert_back_to(&before);
        podman.run("alone", "--network none");
        assert_eq!(podman.exec("alone", "ip -o link").lines().count(), 1);
        podman.run("owner", "--network one");
        podman.run("second", "--network container:owner");
        assert!(podman.exec("second", "ip addr").contains(&podman.address("owner")));
        assert_eq!(podman.0.leases("one").len(), 2, "of the owner alone");
        podman.says("rm -f -t 0 second");
    });
}
