//! Callers that no test here can run: their lists as they write them, their calls in their order, and
//! what they read in the answer.

use serde_json::{Value, json};
use testbed::{
    Sandbox, Snapshot, Testbed, bin_dir, chain::with_result, config::changed, programs::is_missing,
    reach::knock,
};

use crate::differences::case;

/// A caller on a host.
struct Caller<'bed> {
    bed: &'bed Testbed,
    /// Its list, whose capabilities it serves with these.
    list: Value,
    capabilities: Value,
    args: &'static str,
    /// Where it has its plugins; otherwise they are those under test.
    plugins: Option<&'static str>,
}

impl<'bed> Caller<'bed> {
    fn new(bed: &'bed Testbed, list: Value, capabilities: Value) -> Self {
        Self { bed, list, capabilities, args: "", plugins: None }
    }

    /// What a plugin reads: its own keys, those of the list, and what it has asked for.
    fn config(&self, plugin: &Value, result: &Value) -> Value {
        let list = json!({"cniVersion": self.list["cniVersion"], "name": self.list["name"]});
        let wanted = plugin["capabilities"].as_object().into_iter().flatten();
        let served = wanted.filter(|(name, _)| !self.capabilities[name].is_null());
        let served: Value = served
            .map(|(name, _)| (name.clone(), self.capabilities[name].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let served = if served == json!({}) { Value::Null } else { served };
        let keys = json!({"capabilities": null, "runtimeConfig": served});
        with_result(&changed(changed(plugin.clone(), &list), &keys), result)
    }

    fn call(&self, verb: &str, id: &str, netns: &str, config: &Value) -> testbed::Outcome {
        let plugin = config["type"].as_str().unwrap();
        let mut call = self.bed.plugin(plugin);
        if let Some(folder) = self.plugins {
            call = call.program(format!("{folder}/{plugin}")).cni_path(folder);
        }
        call = call.command(verb).container(id).netns(netns).ifname("eth0").config(config);
        call.args(self.args).run()
    }

    fn plugins(&self) -> Vec<Value> {
        self.list["plugins"].as_array().unwrap().clone()
    }

    /// Attaches a container.
    fn add(&self, id: &str, pod: &Sandbox) -> Value {
        self.plugins().iter().fold(Value::Null, |result, plugin| {
            self.call("ADD", id, pod.path(), &self.config(plugin, &result)).result()
        })
    }

    fn check(&self, id: &str, pod: &Sandbox, result: &Value) {
        for plugin in self.plugins() {
            self.call("CHECK", id, pod.path(), &self.config(&plugin, result)).silent();
        }
    }

    fn del(&self, id: &str, netns: &str, result: &Value) {
        for plugin in self.plugins().iter().rev() {
            self.call("DEL", id, netns, &self.config(plugin, result)).silent();
        }
    }

    /// The host after a first container has come and gone.
    fn settle(&self) -> Snapshot {
        let pod = self.bed.sandbox("earlier");
        let result = self.add("earlier", &pod);
        self.del("earlier", pod.path(), &result);
        self.bed.destroy(&pod);
        self.bed.snapshot()
    }
}

/// The addresses that a caller takes for the container's: those of the interface that it has asked for,
/// by their index, in the namespace that it has said.
fn addresses_of(result: &Value, pod: &Sandbox) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    let own = ips.filter(|ip| {
        let index = usize::try_from(ip["interface"].as_u64().unwrap()).unwrap();
        let interface = &result["interfaces"][index];
        interface["name"] == "eth0" && interface["sandbox"] == pod.path()
    });
    own.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}

fn has_lo(pod: &Sandbox) -> bool {
    pod.ip("-o addr show dev lo").contains("127.0.0.1/8")
}

#[test]
fn nomad_has_loopback_in_its_list() {
    case(|bed| {
        let list = json!({"cniVersion": "0.4.0", "name": "nomad", "plugins": [
            {"type": "loopback"},
            {"type": "bridge", "bridge": "nomad", "ipMasq": true, "isGateway": true, "forceAddress": true,
             "hairpinMode": false,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": "172.26.64.0/20"}]],
                      "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/var/run/cni"}},
            {"type": "firewall", "backend": "iptables", "iptablesAdminChainName": "NOMAD-ADMIN"},
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ]});
        let ports = json!([{"hostPort": 22334, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
                           {"hostPort": 22334, "containerPort": 80, "protocol": "udp", "hostIP": ""}]);
        let args = "IgnoreUnknown=true;NOMAD_ALLOC_ID=5f6e;NOMAD_REGION=global;\
                    CONSUL_IPTABLES_CONFIG={\"ConsulDNSIP\":\"192.0.2.1\",\"ProxyInboundPort\":20000}";
        let caller = Caller { args, ..Caller::new(bed, list, json!({"portMappings": ports})) };
        let before = caller.settle();
        let pod = bed.sandbox("5f6e");
        let result = caller.add("5f6e", &pod);
        assert!(has_lo(&pod));
        assert_eq!(addresses_of(&result, &pod), ["172.26.64.3/20"]);
        assert_eq!(result["ips"][0]["version"], "4");
        for answer in knock(bed, "127.0.0.1:22334", &pod, 80, true) {
            answer.unwrap();
        }
        caller.check("5f6e", &pod, &result);
        caller.del("5f6e", pod.path(), &result);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn nerdctl_deletes_first_and_says_addresses_by_arguments() {
    case(|bed| {
        let list = json!({"cniVersion": "1.0.0", "name": "bridge", "nerdctlID": "17f29b073143",
                          "nerdctlLabels": {}, "plugins": [
            {"type": "bridge", "bridge": "nerdctl0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
             "capabilities": {"ips": true},
             "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
                      "ranges": [[{"gateway": "10.4.0.1", "subnet": "10.4.0.0/24"}]]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "firewall", "ingressPolicy": "same-bridge"},
            {"type": "tuning"},
        ]});
        let ports = json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "0.0.0.0"},
                           {"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "0.0.0.0"}]);
        let caller = Caller::new(bed, list, json!({"portMappings": ports}));
        let before = caller.settle();
        let args =
            "IgnoreUnknown=1;IP=10.4.0.77;MAC=0a:00:00:00:00:77;NERDCTL_CNI_DHCP_HOSTNAME=c1";
        let caller = Caller { args, ..caller };
        let pod = bed.sandbox("c1");
        caller.del("c1", "", &Value::Null);
        let result = caller.add("c1", &pod);
        assert_eq!(addresses_of(&result, &pod), ["10.4.0.77/24"]);
        let own = result["interfaces"].as_array().unwrap();
        let own = own.iter().find(|it| it["name"] == "eth0").unwrap();
        assert_eq!(own["mac"], "0a:00:00:00:00:77");
        for answer in knock(bed, "127.0.0.1:8080", &pod, 80, true) {
            answer.unwrap();
        }
        caller.del("c1", pod.path(), &result);
        bed.assert_unchanged_since(&before);
        // How it learns whether `firewall` knows that policy.
        let said = bed.plugin("firewall").run();
        let said = said.stdout + &said.stderr;
        let version = said.trim().lines().next().unwrap().rsplit(' ').next().unwrap();
        assert!(version.starts_with("v1.") && version.split('.').count() >= 3, "{said}");
    });
}

#[test]
fn minikube_says_yes_as_a_text() {
    case(|bed| {
        let list = json!({"cniVersion": "0.4.0", "name": "bridge", "plugins": [
            {"type": "bridge", "bridge": "bridge", "addIf": "true", "isDefaultGateway": true,
             "forceAddress": false, "ipMasq": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "subnet": "10.244.0.0/16"}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "firewall"},
        ]});
        let caller = Caller::new(bed, list, json!({}));
        let before = caller.settle();
        let pod = bed.sandbox("c1");
        let result = caller.add("c1", &pod);
        assert_eq!(addresses_of(&result, &pod), ["10.244.0.3/16"]);
        assert_eq!(result["ips"][0]["gateway"], "10.244.0.1");
        caller.del("c1", pod.path(), &result);
        // RemovePodSandbox comes without the namespace.
        caller.del("c1", "", &result);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn cri_o_collects_with_null_checks_at_once_and_maps_no_ports() {
    case(|bed| {
        let list = json!({"cniVersion": "1.1.0", "name": "crio", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                      "ranges": [[{"subnet": "10.85.0.0/16"}], [{"subnet": "1100:200::/24"}]]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let caller = Caller::new(bed, list, json!({"portMappings": []}));
        drop(caller.settle());
        let collect = |valid: Value| {
            let keys = json!({"cni.dev/attachments": valid, "cni.dev/valid-attachments": valid});
            for plugin in caller.plugins() {
                let mut config = caller.config(&plugin, &Value::Null);
                for (key, value) in keys.as_object().unwrap() {
                    config[key] = value.clone();
                }
                let plugin = config["type"].as_str().unwrap().to_owned();
                bed.plugin(&plugin).command("GC").config(&config).run().silent();
                bed.plugin(&plugin).command("STATUS").config(&config).run().silent();
            }
        };
        collect(Value::Null);
        let before = bed.snapshot();
        let pod = bed.sandbox("c1");
        let result = caller.add("c1", &pod);
        caller.check("c1", &pod, &result);
        assert_eq!(addresses_of(&result, &pod), ["10.85.0.3/16", "1100:200::3/24"]);
        // It starts again, and knows its pods.
        let attached = bed.snapshot();
        collect(json!([{"containerID": "c1", "ifname": "eth0"}]));
        bed.assert_unchanged_since(&attached);
        caller.check("c1", &pod, &result);
        caller.del("c1", pod.path(), &result);
        collect(Value::Null);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn kind_keeps_its_leases_elsewhere() {
    case(|bed| {
        let list = json!({"cniVersion": "0.3.1", "name": "kindnet", "plugins": [
            {"type": "ptp", "ipMasq": false, "mtu": 1400,
             "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
                      "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.244.1.0/24"}]]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let ports = json!([{"HostPort": 80, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
                           {"HostPort": 80, "ContainerPort": 80, "Protocol": "udp", "HostIP": ""}]);
        let caller = Caller::new(bed, list, json!({"portMappings": ports}));
        let before = caller.settle();
        let pod = bed.sandbox("c1");
        let result = caller.add("c1", &pod);
        assert_eq!(addresses_of(&result, &pod).len(), 1);
        assert_eq!(result["ips"][0]["version"], "4");
        assert!(pod.ip("-o link show dev eth0").contains(" mtu 1400 "));
        assert!(bed.file("/run/cni-ipam-state/kindnet").is_dir());
        for answer in knock(bed, "127.0.0.1:80", &pod, 80, true) {
            answer.unwrap();
        }
        caller.del("c1", pod.path(), &result);
        caller.del("c1", "", &result);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn k3s_has_flannel_ports_and_limits() {
    case(|bed| {
        if is_missing("flannel") {
            return println!("skipped: this reference comes without flannel");
        }
        let list = json!({"cniVersion": "1.0.0", "name": "cbr0", "plugins": [
            {"type": "flannel",
             "delegate": {"forceAddress": true, "hairpinMode": true, "isDefaultGateway": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        ]});
        bed.lease_subnet();
        let served = json!({
            "portMappings": [{"HostPort": 80, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""},
                             {"HostPort": 80, "ContainerPort": 80, "Protocol": "udp", "HostIP": ""}],
            "bandwidth": {"IngressRate": 10_000_000, "IngressBurst": 2_147_483_647u32,
                          "EgressRate": 0, "EgressBurst": 0},
        });
        let caller = Caller::new(bed, list, served);
        let before = caller.settle();
        let pod = bed.sandbox("c1");
        let result = caller.add("c1", &pod);
        assert_eq!(addresses_of(&result, &pod).len(), 1, "{result}");
        for answer in knock(bed, "127.0.0.1:80", &pod, 80, true) {
            answer.unwrap();
        }
        caller.check("c1", &pod, &result);
        caller.del("c1", pod.path(), &result);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn buildkit_calls_plugins_by_names_of_its_own() {
    case(|bed| {
        let folder = "/run/test/buildkit";
        bed.succeed("mkdir", &["-p", folder]);
        for plugin in ["loopback", "bridge", "host-local", "firewall"] {
            let target = bin_dir().join(plugin).display().to_string();
            bed.succeed("ln", &["-s", &target, &format!("{folder}/buildkit-cni-{plugin}")]);
        }
        let list = json!({"cniVersion": "1.0.0", "name": "buildkit", "plugins": [
            {"type": "buildkit-cni-loopback"},
            {"type": "buildkit-cni-bridge", "bridge": "buildkit0", "isDefaultGateway": true, "ipMasq": true,
             "ipam": {"type": "buildkit-cni-host-local", "ranges": [[{"subnet": "10.10.0.0/16"}]]}},
            {"type": "buildkit-cni-firewall", "ingressPolicy": "same-bridge"},
        ]});
        let caller =
            Caller { plugins: Some("/run/test/buildkit"), ..Caller::new(bed, list, json!({})) };
        let before = caller.settle();
        // Its pool makes namespaces before anybody needs them.
        let pods = ["c1", "c2", "c3"].map(|id| bed.sandbox(id));
        let results: Vec<_> = pods
            .iter()
            .zip(["c1", "c2", "c3"])
            .map(|(pod, id)| {
                let result = caller.add(id, pod);
                assert_eq!(addresses_of(&result, pod).len(), 1, "{result}");
                assert!(has_lo(pod));
                result
            })
            .collect();
        for ((pod, id), result) in pods.iter().zip(["c1", "c2", "c3"]).zip(&results) {
            caller.del(id, pod.path(), result);
        }
        bed.assert_unchanged_since(&before);
    });
}
