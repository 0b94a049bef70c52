//! Pods that have a link of the host: which one, how it goes, and how it comes back.

mod addresses;
mod back;
mod crash;
mod selectors;
mod stale;

use serde_json::{Value, json};
use testbed::{
    Network, Sandbox, Testbed, attachment::host_device, config::changed, reach::seen,
    result::addresses,
};

use crate::differences::case;

/// A link that is down and has no addresses, which is all that the Go plugin gives back.
fn plain(bed: &Testbed) {
    bed.ip("link add card type veth peer name card-peer");
}

/// A network without addresses on it.
fn bare(bed: &Testbed) -> (Network<'_>, Sandbox) {
    (bed.network(host_device(&json!({"ipam": null}))), bed.sandbox("pod"))
}

#[test]
fn works_without_ipam() {
    case(|bed| {
        plain(bed);
        let before = bed.snapshot();
        let mac = bed.link("card")["address"].clone();
        let (network, pod) = bare(bed);
        let result = network.add(&pod, "c1").result();
        let own = json!({"name": "eth0", "mac": mac, "sandbox": pod.path()});
        assert_eq!((&result["interfaces"], &result["ips"]), (&json!([own]), &Value::Null));
        assert!(!bed.has_link("card"));
        let link = pod.link("eth0");
        assert_eq!((&link["address"], &link["ifalias"]), (&mac, &json!("card")));
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.has_only_lo());
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_pod_is_on_the_wire() {
    case(|bed| {
        let (wire, pod) = (bed.card(), bed.sandbox("pod"));
        let network = bed.network(host_device(&json!({})));
        let own = addresses(&network.add(&pod, "c1").result());
        assert_eq!(own, ["198.51.100.10", "2001:db8:2::10"]);
        for (address, other) in own.iter().zip(["198.51.100.2", "2001:db8:2::2"]) {
            assert_eq!(&seen(&pod, &wire, other), address);
            assert_eq!(seen(&wire, &pod, address), other);
        }
        assert_eq!(pod.link("eth0")["mtu"], 1400);
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.has_only_lo() && bed.leases("cards").is_empty());
    });
}

#[test]
fn another_link_of_the_name_in_the_container_does_not_matter() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for place in [&**bed, &*pod] {
            place.ip("link add eth0 type veth peer name other");
        }
        let mac = bed.link("eth0")["address"].clone();
        let config = host_device(&json!({"device": "eth0", "ipam": null}));
        let network = bed.network(config).ifname("net1");
        network.add(&pod, "c1").success();
        assert_eq!(pod.link("net1")["address"], mac);
        assert!(pod.has_link("eth0") && !bed.has_link("eth0"));
        network.del(&pod, "c1").silent();
        assert_eq!(bed.link("eth0")["address"], mac);
        assert!(pod.has_link("eth0") && !pod.has_link("net1"));
    });
}

#[test]
fn an_interface_that_is_taken_stays_whose_it_is() {
    case(|bed| {
        plain(bed);
        let before = bed.snapshot();
        let (network, pod) = bare(bed);
        pod.ip("link add eth0 type veth peer name other");
        network.add(&pod, "c1").fails_with(4, "eth0");
        bed.assert_unchanged_since(&before);
        network.del(&pod, "c1").silent();
        assert!(pod.has_link("eth0"));
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_link_that_another_pod_has_names_the_pod() {
    case(|bed| {
        plain(bed);
        let (network, pod) = bare(bed);
        let other = bed.sandbox("other");
        network.add(&pod, "c1").success();
        network.add(&other, "c2").fails_with(11, "cards c1 eth0");
        assert!(other.has_only_lo());
        network.check(&pod, "c1").silent();
        network.del(&other, "c2").silent();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        network.add(&other, "c2").success();
    });
}

#[test]
fn of_several_adds_at_once_one_gets_it() {
    case(|bed| {
        let _wire = bed.card();
        let before = bed.snapshot();
        let network = bed.network(host_device(&json!({})));
        let pods: Vec<_> = (0..6).map(|number| bed.sandbox(&format!("p{number}"))).collect();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let add = |number: usize| network.add(&pods[number], &format!("c{number}"));
            let running: Vec<_> = (0..6).map(|number| scope.spawn(move || add(number))).collect();
            running.into_iter().map(|add| add.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..6).filter(|n| outcomes[*n].status.success()).collect();
        let [winner] = winners[..] else { panic!("{winners:?} have it") };
        let id = format!("c{winner}");
        network.check(&pods[winner], &id).silent();
        assert_eq!(bed.leases("cards").len(), 2);
        assert!(
            pods.iter().enumerate().all(|(number, pod)| pod.has_only_lo() == (number != winner))
        );
        network.del(&pods[winner], &id).silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn check_finds_what_is_different() {
    case(|bed| {
        let _wire = bed.card();
        for (breakage, object) in [
            ("link set eth0 name net7", "eth0"),
            ("link set eth0 down", "eth0"),
            ("link set eth0 address 02:00:00:00:00:77", "02:00:00:00:00:77"),
            ("addr del 198.51.100.10/24 dev eth0", "198.51.100.10"),
        ] {
            let network = bed.network(host_device(&json!({})));
            let pod = bed.sandbox("pod");
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            pod.ip("link set eth0 up");
            if breakage.contains("name") {
                pod.ip("link set eth0 down");
            }
            pod.ip(breakage);
            let error = network.check(&pod, "c1").error();
            assert!(error.msg.contains(object), "{breakage}: {error:?}");
            network.del(&pod, "c1").silent();
            bed.succeed("rm", &["-r", "/var/lib/cni/networks/cards"]);
            pod.destroy();
        }
    });
}

#[test]
fn status_misses_a_device() {
    case(|bed| {
        plain(bed);
        let network = |device: &str| {
            let changes = json!({"cniVersion": "1.1.0", "device": device, "ipam": null});
            bed.network(host_device(&changes))
        };
        network("card").status().silent();
        assert_eq!(network("nowhere0").status().error_code(), 50);
        let pod = bed.sandbox("pod");
        network("card").add(&pod, "c1").success();
        network("card").status().silent();
        // Which device is meant, the runtime says with ADD.
        let told = json!({"device": null, "capabilities": {"deviceID": true}});
        bed.network(changed(network("").config().clone(), &told)).status().silent();
    });
}
