//! A network of nothing but addresses: host-local, called as a main plugin calls it.

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
    config,
    network::Network,
    place::Sandbox,
    programs::REFERENCE,
    result::cidrs,
};

/// Where the leases of the network `net` are.
pub const DIR: &str = "/var/lib/cni/networks/net";

/// A network of nothing but addresses.
#[derive(Debug)]
pub struct Ipam<'bed> {
    /// The network of host-local.
    pub network: Network<'bed>,
    /// Where its containers are.
    pub pod: Sandbox,
}

impl<'bed> Ipam<'bed> {
    /// The network `net`, with this `ipam` section.
    #[must_use]
    pub fn new(bed: &'bed Testbed, ipam: &Value) -> Self {
        Self::named(bed, "net", ipam)
    }

    /// A network of another name; host-local is not told more about it.
    #[must_use]
    pub fn named(bed: &'bed Testbed, name: &str, ipam: &Value) -> Self {
        Self::of(bed, config::host_local(name, ipam))
    }

    /// The network of this configuration.
    #[must_use]
    pub fn of(bed: &'bed Testbed, config: Value) -> Self {
        let text = |key: &str| config[key].as_str().expect("a name and a version");
        let pod = format!("pod-{}-{}", text("name"), text("cniVersion"));
        Self { network: bed.network(config), pod: bed.sandbox(&pod) }
    }

    /// The network `net` with its leases in [`SMALL`], a file system with these mount options.
    #[must_use]
    pub fn on_small_disk(bed: &'bed Testbed, options: &str) -> Self {
        bed.succeed("mkdir", &["-p", SMALL]);
        bed.succeed("mount", &["-t", "tmpfs", "-o", options, "small", SMALL]);
        Self::new(bed, &json!({"subnet": "10.1.2.0/24", "dataDir": SMALL}))
    }

    /// ADD.
    pub fn add(&self, container: &str) -> Outcome {
        self.network.add(&self.pod, container)
    }

    /// The addresses of a new attachment, in CIDR notation.
    #[must_use]
    pub fn ips(&self, container: &str) -> Vec<String> {
        cidrs(&self.add(container).result())
    }

    /// The one address of a new attachment, in CIDR notation.
    #[must_use]
    pub fn ip(&self, container: &str) -> String {
        let ips = self.ips(container);
        assert_eq!(ips.len(), 1, "{container}: {ips:?}");
        ips[0].clone()
    }

    /// DEL, which succeeds.
    pub fn del(&self, container: &str) {
        self.network.del(&self.pod, container).silent();
    }

    /// An ADD to be changed before it is run.
    pub fn call(&self, container: &str) -> Call<'bed> {
        self.network.call("ADD", container).netns(self.pod.path())
    }

    /// A verb of the Go plugin for the same network.
    pub fn by_reference(&self, verb: &str, container: &str) -> Outcome {
        let program = format!("{REFERENCE}/host-local");
        self.network.call(verb, container).netns(self.pod.path()).program(program).run()
    }
}

/// Where [`Ipam::on_small_disk`] has its leases.
pub const SMALL: &str = "/run/test/small";

/// The addresses that the network `net` holds, each with `container interface`.
#[must_use]
pub fn held(bed: &Testbed) -> Vec<(String, String)> {
    bed.leases("net").into_iter().map(|(ip, owner)| (ip.to_string(), owner)).collect()
}
