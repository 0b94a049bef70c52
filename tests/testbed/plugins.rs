//! Every plugin of the suite, for tests of what they have in common.

use crate::{bed::Testbed, call::Call, config::least, place::Sandbox};

/// Every plugin of the suite. A new plugin is a new name.
pub const PLUGINS: [&str; 5] = ["loopback", "bridge", "portmap", "firewall", "host-local"];

/// A call that would succeed.
pub fn add<'bed>(bed: &'bed Testbed, plugin: &str, pod: &Sandbox) -> Call<'bed> {
    bed.call("ADD", "c1", &least(plugin)).netns(pod.path())
}

/// Runs `body` for every plugin, and says which one it was.
pub fn each(body: impl Fn(&Testbed, &str, &Sandbox)) -> impl FnOnce(&Testbed) {
    move |bed| {
        let pod = bed.sandbox("pod");
        for plugin in PLUGINS {
            println!("-- {plugin}");
            body(bed, plugin, &pod);
        }
    }
}
