//! Every plugin of the suite, for tests of what they have in common.

use crate::{bed::Testbed, call::Call, config::least, place::Sandbox, programs::plugins};

/// A call that would succeed.
pub fn add<'bed>(bed: &'bed Testbed, plugin: &str, pod: &Sandbox) -> Call<'bed> {
    bed.call("ADD", "c1", &least(plugin)).netns(pod.path())
}

/// Runs `body` for every plugin, and says which one it was. The host has a LAN, for some make links
/// on its, and a subnet of a cluster.
pub fn each(body: impl Fn(&Testbed, &str, &Sandbox)) -> impl FnOnce(&Testbed) {
    move |bed| {
        let _neighbour = bed.neighbour();
        bed.lease_subnet();
        let pod = bed.sandbox("pod");
        for plugin in plugins() {
            println!("-- {plugin}");
            body(bed, &plugin, &pod);
        }
    }
}
