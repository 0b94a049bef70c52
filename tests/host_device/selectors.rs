//! Every way to say which link is meant. The buses are made of files, because a virtual link has none.

use serde_json::{Value, json};
use testbed::{Sandbox, Testbed, attachment::host_device, config::changed, result::addresses};

use crate::differences::case;

/// A network on whatever link `changes` says.
fn network(changes: &Value) -> Value {
    changed(host_device(&json!({"device": null, "ipam": null})), changes)
}

/// A directory for a device in `/sys`, whose link is `card`, and which has this driver.
fn device(bed: &Testbed, path: &str, driver: &str, link: &str) {
    let (_, rest) = path.split_at(5);
    let above = rest.split('/').next().unwrap();
    let made = format!(
        "mountpoint -q /sys/{above} || mount -t tmpfs none /sys/{above}; \
         mkdir -p {path} /sys/{above}/drivers/{driver}; ln -s /sys/{above}/drivers/{driver} {path}/driver; \
         [ -z '{link}' ] || mkdir -p {path}/{link}"
    );
    bed.succeed("sh", &["-ec", &made]);
}

/// Adds it, has CHECK agree, and deletes it again.
#[track_caller]
fn is_card(bed: &Testbed, changes: &Value) {
    let (mac, pod) = (bed.link("card")["address"].clone(), bed.sandbox("pod"));
    let network = bed.network(network(changes));
    let result = network.add(&pod, "c1").result();
    assert_eq!(result["interfaces"][0]["mac"], mac);
    assert_eq!(pod.link("eth0")["address"], mac);
    network.check(&pod, "c1").silent();
    network.del(&pod, "c1").silent();
    assert_eq!(bed.link("card")["address"], mac);
    pod.destroy();
}

fn card(bed: &Testbed) {
    bed.ip("link add card address 02:00:00:00:00:11 type veth peer name card-peer");
}

fn refused(bed: &Testbed, changes: &Value) -> String {
    let pod = bed.sandbox("pod");
    let error = bed.network(network(changes)).add(&pod, "c1").error();
    assert!(pod.has_only_lo());
    pod.destroy();
    format!("{}; {}", error.msg, error.details)
}

#[test]
fn one_of_them_is_needed() {
    case(|bed| {
        let pod: Sandbox = bed.sandbox("pod");
        let error = bed.network(network(&json!({}))).add(&pod, "c1").error();
        let msg = r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#;
        assert!(error.msg.contains(msg), "{error:?}");
        let told = network(&json!({"capabilities": {"deviceID": true}}));
        let error = bed.network(told).add(&pod, "c1").error();
        assert!(error.msg.contains(msg), "{error:?}");
    });
}

#[test]
fn by_hardware_address() {
    case(|bed| {
        card(bed);
        is_card(bed, &json!({"hwaddr": "02:00:00:00:00:11"}));
        is_card(bed, &json!({"hwaddr": "02-00-00-00-00-11"}));
        let missing = json!({"hwaddr": "02:00:00:00:00:12"});
        assert!(refused(bed, &missing).contains("failed to find physical interface"));
        assert!(refused(bed, &json!({"hwaddr": "nonsense"})).contains("nonsense"));
    });
}

#[test]
fn by_kernel_path() {
    case(|bed| {
        card(bed);
        let path = "/sys/devices/pci0000:00/0000:00:1f.6";
        device(bed, path, "e1000e", "net/card");
        is_card(bed, &json!({"kernelpath": path}));
        for wrong in ["/etc", "sys/devices/x", "/sys/devices/nowhere"] {
            assert!(refused(bed, &json!({"kernelpath": wrong})).contains(wrong), "{wrong}");
        }
    });
}

#[test]
fn by_pci_address() {
    case(|bed| {
        card(bed);
        device(bed, "/sys/bus/pci/devices/0000:00:1f.6", "e1000e", "net/card");
        device(bed, "/sys/bus/pci/devices/0000:00:05.0", "virtio-pci", "virtio3/net/card");
        for id in ["0000:00:1f.6", "0000:00:05.0"] {
            is_card(bed, &json!({"pciBusID": id}));
            is_card(bed, &json!({"runtimeConfig": {"deviceID": id}}));
            // What the runtime says is about this attachment.
            is_card(bed, &json!({"pciBusID": "0000:ff:1f.7", "runtimeConfig": {"deviceID": id}}));
        }
    });
}

#[test]
fn by_a_name_on_the_auxiliary_bus() {
    case(|bed| {
        card(bed);
        device(bed, "/sys/bus/auxiliary/devices/mlx5_core.sf.4", "mlx5_core.sf", "net/card");
        is_card(bed, &json!({"runtimeConfig": {"deviceID": "mlx5_core.sf.4"}}));
        let said = refused(bed, &json!({"runtimeConfig": {"deviceID": "mlx5_core.sf.5"}}));
        assert!(said.contains("mlx5_core.sf.5 not found or unsupported"), "{said}");
    });
}

#[test]
fn a_name_beats_all_others() {
    case(|bed| {
        card(bed);
        bed.ip("link add other type veth peer name other-peer");
        device(bed, "/sys/bus/pci/devices/0000:00:1f.6", "e1000e", "net/other");
        is_card(bed, &json!({"device": "card", "pciBusID": "0000:00:1f.6"}));
        is_card(bed, &json!({"device": "card", "hwaddr": bed.link("other")["address"]}));
    });
}

#[test]
fn what_leads_out_of_its_bus_is_no_device() {
    case(|bed| {
        card(bed);
        device(bed, "/sys/bus/pci/devices/0000:00:1f.6", "e1000e", "net/card");
        for id in ["../devices/0000:00:1f.6", "."] {
            refused(bed, &json!({"pciBusID": id}));
            refused(bed, &json!({"runtimeConfig": {"deviceID": id}}));
        }
    });
}

#[test]
fn what_belongs_to_a_program_is_not_moved() {
    case(|bed| {
        card(bed);
        bed.ipam(&[("198.51.100.10/24", "198.51.100.1")]);
        for (number, driver) in ["vfio-pci", "uio_pci_generic", "igb_uio"].into_iter().enumerate() {
            let id = format!("0000:00:1f.{number}");
            device(bed, &format!("/sys/bus/pci/devices/{id}"), driver, "");
            let pod = bed.sandbox("pod");
            let before = bed.snapshot();
            let config = network(&json!({"pciBusID": id, "ipam": {"type": "ipam"}}));
            let network = bed.network(config);
            let result = network.add(&pod, "c1").result();
            let own = json!({"name": "eth0", "sandbox": pod.path()});
            assert_eq!(result["interfaces"], json!([own]));
            assert_eq!(addresses(&result), ["198.51.100.10"]);
            assert!(pod.has_only_lo());
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            pod.destroy();
        }
    });
}
