//! The hardware address of a bridge that somebody else has made: containers look for their gateway
//! there.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testbed::{Place, Testbed, config, traffic::uninterrupted};

use crate::differences::case;

/// As long as a packet may take on a busy machine. One that is lost never comes.
const PATIENCE: Duration = Duration::from_secs(2);

fn mac(bed: &Testbed) -> Value {
    bed.ip_json("link show br0")[0]["address"].clone()
}

/// Asks a server of `to` and waits for its answer: whether it came.
fn is_answered(client: &UdpSocket, server: &UdpSocket, number: u32) -> bool {
    let word = number.to_ne_bytes();
    let comes_to = |socket: &UdpSocket| {
        let mut found = [0; 4];
        loop {
            match uninterrupted(|| socket.recv_from(&mut found)) {
                Ok((_, from)) if found == word => return Some(from),
                // Of an earlier question, too late.
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    };
    let asked = client.send(&word).is_ok().then(|| comes_to(server)).flatten();
    let answered = asked.and_then(|from| server.send_to(&word, from).ok());
    answered.is_some() && comes_to(client).is_some()
}

/// Asks `at` again and again while `work` goes on, and at least some hundred times: how many
/// questions there were, and how many of them were lost.
fn ask_during(from: &Place, to: &Place, at: &str, work: impl FnOnce() + Send) -> (u32, u32) {
    let server = to.udp_server(&format!("{at}:0"));
    let client = from.udp_server("0.0.0.0:0");
    client.connect(server.local_addr().unwrap()).unwrap();
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    assert!(is_answered(&client, &server, 0), "before anything happens");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            work();
            is_over.store(true, Ordering::Relaxed);
        });
        let (mut asked, mut lost) = (0, 0);
        while asked < 300 || !is_over.load(Ordering::Relaxed) && !worker.is_finished() {
            asked += 1;
            lost += u32::from(!is_answered(&client, &server, asked));
        }
        worker.join().unwrap();
        (asked, lost)
    })
}

/// Twenty pods come and go on the bridge while the first one asks its gateway.
fn assert_undisturbed(bed: &Testbed) {
    let network = bed.network(config::bridge(&json!({"isDefaultGateway": true})));
    let first = bed.sandbox("first");
    let result = network.add(&first, "first").result();
    assert_eq!(result["interfaces"][0]["mac"], mac(bed), "{result}");
    network.check(&first, "first").silent();
    let (asked, lost) = ask_during(&first, bed, "10.1.0.1", || {
        for round in 0..2 {
            let pods: Vec<_> = (0..10).map(|n| (bed.sandbox(&format!("p{round}{n}")), n)).collect();
            for (pod, number) in &pods {
                network.add(pod, &format!("c{round}{number}")).success();
            }
            for (pod, number) in &pods {
                network.del(pod, &format!("c{round}{number}")).silent();
            }
        }
    });
    println!("{asked} asked, {lost} lost");
    assert_eq!(lost, 0, "of {asked}");
    network.check(&first, "first").silent();
    assert_eq!(result["interfaces"][0]["mac"], mac(bed));
}

#[test]
fn stays_while_pods_come_and_go() {
    case(|bed| {
        bed.ip("link add br0 type bridge");
        bed.ip("link set br0 up");
        let before = mac(bed);
        assert_undisturbed(bed);
        assert!(testbed::is_reference() || mac(bed) == before, "the one that it had");
    });
}

#[test]
fn is_given_to_a_bridge_that_was_left_with_none() {
    case(|bed| {
        bed.ip("link add br0 type bridge");
        bed.ip("link add port type veth peer name other");
        bed.ip("link set port master br0");
        bed.ip("link del port");
        assert_eq!(mac(bed), "00:00:00:00:00:00");
        assert_undisturbed(bed);
        assert_ne!(mac(bed), "00:00:00:00:00:00");
    });
}

#[test]
fn is_that_of_a_port_no_more_when_the_port_goes() {
    case(|bed| {
        bed.ip("link add br0 type bridge");
        bed.ip("link add port address 02:00:00:00:00:05 type veth peer name other");
        bed.ip("link set port master br0");
        let (network, pod) = (bed.network(config::bridge(&json!({}))), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        assert_eq!(mac(bed), "02:00:00:00:00:05");
        bed.ip("link del port");
        assert_eq!(mac(bed), "02:00:00:00:00:05");
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn of_a_mere_switch_may_change() {
    case(|bed| {
        bed.ip("link add br0 type bridge");
        let network = bed.network(config::bridge(&json!({"isGateway": false})));
        let pod = bed.sandbox("pod");
        let result = network.add(&pod, "c1").result();
        assert_eq!(result["interfaces"][0]["mac"], mac(bed), "{result}");
        bed.ip("link add port address 00:00:00:00:00:01 type veth peer name other");
        bed.ip("link set port master br0");
        assert_eq!(mac(bed), "00:00:00:00:00:01");
        network.check(&pod, "c1").silent();
    });
}
