//! A configuration that somebody has edited since ADD.

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    chain::Chain,
    config::{changed, pods},
    death::step,
};

/// What becomes of a key: another value, one that cannot be meant, or (null) nothing.
#[derive(Debug)]
pub struct Edit {
    /// Where it stands.
    pub path: &'static [&'static str],
    /// What becomes of it, in turn.
    pub values: Vec<Value>,
}

/// Values that no key means; some of them, if all would take too long.
#[must_use]
pub fn broken() -> Vec<Value> {
    let all =
        vec![Value::Null, json!([{"x": [1]}]), json!("unheard-of"), json!(-7), json!({"y": 1})];
    let count = if step(2) == 1 { all.len() } else { 2 };
    all.into_iter().take(count).collect()
}

/// A key with `more` values that it may mean.
#[must_use]
pub fn edit(path: &'static [&'static str], more: &Value) -> Edit {
    let mut values = broken();
    values.extend(more.as_array().expect("values are a list").clone());
    Edit { path, values }
}

/// Sets what stands at `path`; null removes it.
pub fn set(config: &mut Value, path: &[&str], value: &Value) {
    let (last, above) = path.split_last().expect("a path has an end");
    let mut object = config;
    for key in above {
        object = &mut object[*key];
    }
    match object.as_object_mut() {
        Some(object) if value.is_null() => drop(object.remove(*last)),
        Some(object) => drop(object.insert((*last).to_owned(), value.clone())),
        None => panic!("{path:?} is not there"),
    }
}

/// ADD by `plugins`, one key of the plugin `of` edited, and then DEL, with a result and without, and
/// GC: each leaves what was there before. `earlier` is what the attachment before differs in.
pub fn survive_edits(
    bed: &Testbed,
    plugins: &[Value],
    (of, earlier): (&str, &Value),
    edits: &[Edit],
) {
    let number =
        plugins.iter().position(|plugin| plugin["type"] == of).expect("it is in the chain");
    let list = Chain::new(bed, plugins);
    let mut first = plugins.to_vec();
    first[number] = changed(first[number].clone(), earlier);
    Chain::new(bed, first).add(&bed.sandbox("earlier"), "earlier");
    let pod = bed.sandbox("pod");
    let before = bed.snapshot();
    for Edit { path, values } in edits {
        for value in values {
            let mut edited = Chain::new(bed, plugins);
            set(&mut edited.plugins[number], path, value);
            for how in ["DEL", "DEL without a result", "GC"] {
                let result = list.add(&pod, "c1");
                match how {
                    "DEL" => edited.del(&pod, "c1", &result),
                    "GC" => edited.gc(&["earlier"]),
                    _ => edited.del(&pod, "c1", &Value::Null),
                }
                let now = bed.snapshot();
                let is_same = std::panic::catch_unwind(|| before.assert_same(&now));
                if let Err(panic) = is_same {
                    println!("{of}: {path:?} edited to {value}, then {how}:");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

/// A bridge of today's version, and what is chained behind it.
#[must_use]
pub fn behind_bridge(chained: &Value) -> Vec<Value> {
    let common = json!({"cniVersion": "1.1.0", "name": "pods"});
    [&pods(), chained].map(|plugin| changed(plugin.clone(), &common)).into()
}
