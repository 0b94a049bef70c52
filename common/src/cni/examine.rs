//! A configuration that is read in order to learn which keys the plugins know, and which value they
//! cannot read, as `cnitool validate` does. A plugin that serves a call does not need this.

use super::{Call, Plugin, Result, Verb, json};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::rc::Rc;

/// A document, and which keys have been asked for. Several plugins may read one document, because
/// its `ipam` section is for another plugin: a key is known if any of them knows it.
#[derive(Debug)]
pub struct Reading {
    document: Value,
    asked: RefCell<Vec<(Object, Asked)>>,
    misread: RefCell<Option<json::Error>>,
}

/// An object of the document, identified by its address in memory, which stays the same because
/// nothing changes the document while it is read.
type Object = *const Map<String, Value>;

/// The fields of a struct, or None for a map, which takes any key.
type Asked = Option<&'static [&'static str]>;

impl Reading {
    /// A document that has not been read yet.
    pub fn new(document: Value) -> Rc<Self> {
        Rc::new(Self { document, asked: RefCell::default(), misread: RefCell::default() })
    }

    /// The document.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Reads the document as `T`, whose keys are known from then on.
    ///
    /// # Errors
    /// When a key that `T` needs is missing or of another type; it is kept for
    /// [`misread`](Self::misread).
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, json::Error> {
        let read = json::read(&self.document, Some(self));
        if let Err(error) = &read {
            self.misread.borrow_mut().get_or_insert_with(|| error.clone());
        }
        read
    }

    /// The first value that could not be read.
    pub fn misread(&self) -> Option<json::Error> {
        self.misread.borrow().clone()
    }

    /// Every key that was asked of an object of the document. `None` if the object has not been read,
    /// or was read as a map, which takes any key.
    pub fn known(&self, object: &Map<String, Value>) -> Option<Vec<&'static str>> {
        let asked = self.asked.borrow();
        let mut of_object =
            asked.iter().filter(|(other, _)| std::ptr::eq(*other, object)).peekable();
        of_object.peek()?;
        let fields: Option<Vec<_>> = of_object.map(|(_, fields)| *fields).collect();
        Some(fields?.concat())
    }

    pub(super) fn note(&self, object: &Map<String, Value>, asked: Asked) {
        self.asked.borrow_mut().push((object, asked));
    }
}

/// Has a plugin understand a configuration as its ADD does, and touches nothing. The plugin's keys
/// are known to `reading` from then on.
///
/// # Errors
/// What ADD finds wrong with it.
pub fn examine<P: Plugin>(reading: &Rc<Reading>) -> Result<()> {
    P::load(&Call::examined(reading)?).map(drop)
}

impl Call {
    /// An ADD of a configuration that is only examined, understood without an environment.
    ///
    /// # Errors
    /// Codes 1, 6 and 7 as for any call.
    pub fn examined(reading: &Rc<Reading>) -> Result<Self> {
        let mut call =
            Self::without_environment(Verb::Add, reading.document().to_string().into_bytes())?;
        call.network.reading = Some(Rc::clone(reading));
        Ok(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    #[derive(Default)]
    struct One {
        is_gateway: bool,
        ipam: Inner,
        list: Vec<Inner>,
        free: BTreeMap<String, bool>,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Inner {
        r#type: String,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Other {
        ipam: Ranges,
    }

    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Ranges {
        subnet: Option<String>,
    }

    fn object<'a>(reading: &'a Reading, path: &str) -> &'a Map<String, Value> {
        reading.document().pointer(path).and_then(Value::as_object).unwrap()
    }

    #[test]
    fn a_key_is_known_that_any_reader_knows() {
        let reading = Reading::new(json!({
            "ISGATEWAY": true, "ipam": {"type": "t", "subnet": "s"}, "list": [{"x": 1}],
            "free": {"a": true}, "unread": {"b": 1}
        }));
        let one: One = reading.read().unwrap();
        assert!(one.is_gateway && one.ipam.r#type == "t" && one.list.len() == 1 && one.free["a"]);
        assert_eq!(reading.known(object(&reading, "/ipam")).unwrap(), ["type"]);
        let other: Other = reading.read().unwrap();
        assert_eq!(other.ipam.subnet.as_deref(), Some("s"));
        assert_eq!(reading.known(object(&reading, "/ipam")).unwrap(), ["type", "subnet"]);
        assert_eq!(reading.known(object(&reading, "/list/0")).unwrap(), ["type"]);
        assert_eq!(
            reading.known(object(&reading, "")).unwrap(),
            ["isGateway", "ipam", "list", "free", "ipam"]
        );
        assert_eq!(reading.known(object(&reading, "/free")), None, "a map takes any key");
        assert_eq!(reading.known(object(&reading, "/unread")), None);
        assert_eq!(reading.misread(), None);
    }

    #[test]
    fn the_first_value_that_cannot_be_read_is_kept() {
        for (document, path, sentence) in [
            (json!({"isGateway": "yes"}), "isGateway", "must be true or false, not a string"),
            (json!({"ipam": {"type": 5}}), "ipam.type", "must be a string, not 5"),
            (json!({"list": {}}), "list", "must be a list, not an object"),
            (json!({"list": [{}, []]}), "list[1]", "must be an object, not a list"),
        ] {
            let reading = Reading::new(document);
            assert!(reading.read::<One>().is_err() && reading.read::<Other>().is_ok());
            let error = reading.misread().unwrap();
            assert_eq!((error.path(), error.sentence()), (path, sentence));
        }
    }
}
