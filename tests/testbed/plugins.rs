//! Every plugin of the suite, for tests of what they have in common.

use crate::{
    bed::Testbed, call::Call, config::least, dhcp::Served, place::Sandbox, programs::plugins,
};

/// A call that would succeed.
pub fn add<'bed>(bed: &'bed Testbed, plugin: &str, pod: &Sandbox) -> Call<'bed> {
    bed.call("ADD", "c1", &least(plugin)).netns(pod.path())
}

/// Runs `body` for every plugin, and says which one it was. The host has a LAN, for some make links
/// on its.
pub fn each(body: impl Fn(&Testbed, &str, &Sandbox)) -> impl FnOnce(&Testbed) {
    move |bed| {
        let neighbour = bed.neighbour();
        let pod = bed.sandbox("pod");
        for plugin in plugins() {
            println!("-- {plugin}");
            let _served = (plugin == "dhcp").then(|| Served::new(bed, &neighbour, &pod));
            body(bed, &plugin, &pod);
        }
    }
}
