//! `flannel`: the node's part of a cluster network. flanneld writes the node's subnet into a file, and
//! this plugin has another one, as a rule `bridge`, attach the container to it.

mod config;
mod gateway;
mod state;
mod subnet_env;

use common::attach::running;
use common::cni::{Attachment, Delegate, Reading};
use common::{Add, Call, Check, Del, Error, Errors, Gc, Plugin, Result, Status, Success, Undo};
use config::{Object, Plan, kind_of, set};
use serde_json::{Map, Value, json};
use state::State;
use std::rc::Rc;
use subnet_env::SubnetEnv;

/// What flanneld has written on some node (RFC 5737), where it does not masquerade.
const EXAMPLE: &str = "FLANNEL_NETWORK=192.0.2.0/24\nFLANNEL_SUBNET=192.0.2.1/25\n\
                       FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// The plugin.
#[derive(Debug)]
pub struct Flannel {
    plan: Plan,
}

impl Plugin for Flannel {
    const NAME: &'static str = "flannel";
    const ABOUT: &'static str =
        "Has another plugin attach the container to the subnet that flanneld gave this node.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        request.refuse_as_ipam()?;
        let subnet = SubnetEnv::load(&self.plan.subnet_file)?;
        let config = self.plan.delegate(Some(&subnet));
        let delegate = open(request.call, &config)?;
        // Of two ADDs of an attachment, the one that is refused must not take the other one's state.
        running::announce_chained(Self::NAME, &request.owner(), undo)?;
        let network = &request.call.network.name;
        State::of(&self.plan.data_dir, network, &request.attachment).create(&config, undo)?;
        gateway::delete_former(&config, &subnet, undo)?;
        delegate.start_add(None, None, undo)?.finish()
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let plan = Plan::tolerant(request.call);
        let state = State::of(&plan.data_dir, &request.call.network.name, &request.attachment);
        let running = running::announce_chained_del(Self::NAME, &request.owner());
        // Without state, what is configured now finds what ADD has made.
        let mut config = state.read().unwrap_or_else(|| plan.delegate(None));
        if request.prev_result.is_some() {
            hand_on(request.call, &mut config);
        }
        let deleted = open(request.call, &config).and_then(|delegate| delegate.del());
        // An ADD that runs will need its state.
        if errors.note(deleted).is_some() && running.is_alone() {
            errors.note(state.delete());
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        open(request.call, &attached(request.call, &self.plan, &request.attachment)?)?.check()
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let plan = Plan::tolerant(request.call);
        let mut config = plan.delegate(None);
        let valid = request.valid.iter().map(|attachment| {
            let (container, ifname) = (attachment.container.as_str(), attachment.ifname.as_str());
            json!({"containerID": container, "ifname": ifname})
        });
        set(&mut config, "cni.dev/valid-attachments", valid.collect());
        let collected = open(request.call, &config).and_then(|delegate| delegate.gc());
        // What the delegate could not collect may need its state.
        if errors.note(collected).is_some() {
            state::sweep(&plan.data_dir, request, errors);
        }
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        let subnet = SubnetEnv::load(&self.plan.subnet_file).map_err(Error::unavailable)?;
        open(request.call, &self.plan.delegate(Some(&subnet)))?.status()
    }
}

impl Flannel {
    /// What the delegate would read on a node that has some subnet, if this plugin read this; `None` if
    /// this one refuses it.
    pub fn delegated(reading: &Rc<Reading>) -> Option<Map<String, Value>> {
        let plan = Plan::new(&Call::examined(reading).ok()?).ok()?;
        Some(plan.delegate(Some(&SubnetEnv::parse(EXAMPLE).ok()?)))
    }

    /// The `type` of the plugin that has made an attachment, and what that one would read for CHECK if
    /// this one read `stdin`.
    ///
    /// # Errors
    /// As of CHECK.
    pub fn delegate_of(stdin: Vec<u8>, attachment: &Attachment) -> Result<(String, Vec<u8>)> {
        let (call, _) = Call::recorded(stdin)?;
        let config = attached(&call, &Plan::new(&call)?, attachment)?;
        Ok((kind_of(&config).to_owned(), to_bytes(&config)))
    }
}

/// The configuration by which an attachment was made, or that it would get now.
fn attached(call: &Call, plan: &Plan, attachment: &Attachment) -> Result<Object> {
    let mut config = match State::of(&plan.data_dir, &call.network.name, attachment).read() {
        Some(config) => config,
        None => plan.delegate(Some(&SubnetEnv::load(&plan.subnet_file)?)),
    };
    hand_on(call, &mut config);
    Ok(config)
}

/// The plugin that a configuration names, which gets it.
fn open(call: &Call, config: &Object) -> Result<Delegate> {
    call.delegate_with(kind_of(config), to_bytes(config))
}

fn to_bytes(config: &Object) -> Vec<u8> {
    Value::from(config.clone()).to_string().into_bytes()
}

/// Completes a configuration that was kept since ADD with what the runtime says in this call.
fn hand_on(call: &Call, config: &mut Object) {
    for key in ["prevResult", "cniVersion"] {
        if let Some(value) = call.network.tolerant::<Value>(&[key]) {
            set(config, key, value);
        }
    }
}
