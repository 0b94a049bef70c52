//! JSON as existing network configurations rely on it: keys match in any case when none matches
//! exactly, `null` is the same as absent, unknown keys are ignored, the last of two equal keys
//! wins. Errors say where: `ipam.ranges[0][1].subnet: invalid CIDR address: ...`.

use super::examine::Reading;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::fmt::{self, Display};

/// Where the value stands, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Error {
    path: String,
    reason: String,
    /// The reason in the words of JSON instead of Rust's types, for a value of the wrong type.
    plain: Option<String>,
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: Display>(reason: T) -> Self {
        Self { reason: reason.to_string(), ..Self::default() }
    }
}

impl Error {
    /// Where, as `ipam.ranges[0][1].subnet`; empty when it is about the whole value.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, in the words of JSON where its type is: `must be a number, not a string`.
    pub fn sentence(&self) -> &str {
        self.plain.as_deref().unwrap_or(&self.reason)
    }

    fn within(mut self, outer: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{outer}{dot}{}", self.path);
        self
    }
}

/// Reads a value as `T`.
///
/// # Errors
/// When a key that `T` needs is missing or of another type.
pub(crate) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    read(value, None)
}

/// As [`from_value`], and records in `reading` which keys are read.
pub(super) fn read<T: DeserializeOwned>(
    value: &Value,
    reading: Option<&Reading>,
) -> Result<T, Error> {
    T::deserialize(Node { value, reading })
}

/// What a JSON value is, in words.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The keys that `T` reads, if it is a struct that names them.
pub(crate) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    // `Fields` notes the names that serde gives it and fails then: there is no value to read.
    drop(T::deserialize(Fields(&mut fields)));
    fields
}

struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::default())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The value of a top-level key, found as `T`'s keys are.
pub fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object
        .get(key)
        .or_else(|| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v))
        .filter(|value| !value.is_null())
}

/// What a value is read as.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Integer,
    Number,
    Text,
    List,
    Object,
    /// Any value; the type that reads it checks it.
    Any,
}

impl Kind {
    fn is_of(self, value: &Value) -> bool {
        match self {
            Self::Bool => value.is_boolean(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Text => value.is_string(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
            Self::Any => true,
        }
    }

    /// The error of a value. One that is of this kind is wrong for the reason given, not for its type.
    fn error(self, value: &Value, reason: String) -> Error {
        let expected = match self {
            Self::Bool => "true or false",
            Self::Integer if value.is_number() => "a whole number",
            Self::Integer | Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object | Self::Any => "an object",
        };
        let found = if value.is_number() { value.to_string() } else { type_of(value).to_owned() };
        let plain = (!self.is_of(value)).then(|| format!("must be {expected}, not {found}"));
        Error { path: String::new(), reason, plain }
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    reading: Option<&'a Reading>,
}

macro_rules! forward_to_value {
    ($kind:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let read = self.value.$method(visitor);
            read.map_err(|error| Kind::$kind.error(self.value, error.to_string()))
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Error;

    forward_to_value! { Bool: deserialize_bool }
    forward_to_value! { Integer:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }
    forward_to_value! { Number: deserialize_f32 deserialize_f64 }
    forward_to_value! { Text: deserialize_char deserialize_str deserialize_string }
    forward_to_value! { Any:
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_any
        deserialize_ignored_any deserialize_identifier
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(object) => visitor.visit_map(self.entries(object, Some(fields))),
            other => Err(invalid_type(other, Kind::Object, &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(object) => visitor.visit_map(self.entries(object, None)),
            other => Err(invalid_type(other, Kind::Object, &visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = match self.value {
            Value::Array(items) => items.as_slice(),
            // Go writes an empty list as null.
            Value::Null => &[],
            other => return Err(invalid_type(other, Kind::List, &visitor)),
        };
        visitor.visit_seq(Items { items: items.iter(), index: 0, reading: self.reading })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(variant) => visitor.visit_enum(Variant(variant)),
            other => Err(invalid_type(other, Kind::Text, &visitor)),
        }
    }
}

impl<'a> Node<'a> {
    /// The entries that the fields of a struct ask for; all of them for a map, which has no fields.
    fn entries(
        self,
        object: &'a Map<String, Value>,
        fields: Option<&'static [&'static str]>,
    ) -> Entries<'a> {
        if let Some(reading) = self.reading {
            reading.note(object, fields);
        }
        let entries: Vec<_> = match fields {
            Some(fields) => {
                fields.iter().filter_map(|field| Some((*field, get(object, field)?))).collect()
            }
            None => object.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        };
        Entries { entries: entries.into_iter(), next: None, reading: self.reading }
    }
}

fn invalid_type(value: &Value, kind: Kind, expected: &dyn Expected) -> Error {
    let found = match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(_) => Unexpected::Other("number"),
        Value::String(value) => Unexpected::Str(value),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    let error: Error = serde::de::Error::invalid_type(found, expected);
    kind.error(value, error.reason)
}

struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a str, &'a Value)>,
    next: Option<(&'a str, &'a Value)>,
    reading: Option<&'a Reading>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next = self.entries.next();
        let Some((key, _)) = self.next else { return Ok(None) };
        seed.deserialize(IntoDeserializer::<Error>::into_deserializer(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.next.take().unwrap_or(("", &Value::Null));
        let node = Node { value, reading: self.reading };
        seed.deserialize(node).map_err(|error| error.within(key))
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    index: usize,
    reading: Option<&'a Reading>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        let node = Node { value, reading: self.reading };
        seed.deserialize(node).map(Some).map_err(|error| error.within(&format!("[{index}]")))
    }
}

struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let value = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(self.0))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Error> {
        Err(serde::de::Error::custom("a word was expected to stand alone"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a word was expected to stand alone"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a word was expected to stand alone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Inner {
        host_port: u16,
        names: Vec<String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Outer {
        mtu: Option<u32>,
        is_gateway: bool,
        runtime_config: Inner,
        list: Vec<Vec<Inner>>,
    }

    #[test]
    fn keys_match_exactly_or_else_in_any_case() {
        let outer: Outer = from_value(&json!({
            "MTU": 1400, "isGateway": true, "ISGATEWAY": false, "RuntimeConfig": {"HostPort": 80}
        }))
        .unwrap();
        assert_eq!(outer.mtu, Some(1400));
        assert!(outer.is_gateway);
        assert_eq!(outer.runtime_config.host_port, 80);
    }

    #[test]
    fn null_is_absent_and_unknown_is_ignored() {
        let outer: Outer = from_value(&json!({
            "mtu": null, "isGateway": null, "list": null, "runtimeConfig": {"names": null}, "x": 1
        }))
        .unwrap();
        assert_eq!(outer, Outer::default());
    }

    #[test]
    fn errors_say_where() {
        let error = from_value::<Outer>(&json!({"list": [[], [{"hostPort": "80"}]]})).unwrap_err();
        assert!(error.to_string().starts_with("list[1][0].hostPort: "), "{error}");
        let error = from_value::<Outer>(&json!({"mtu": "1500"})).unwrap_err();
        assert!(error.to_string().starts_with("mtu: invalid type: string \"1500\""), "{error}");
        let error = from_value::<Outer>(&json!([])).unwrap_err();
        assert!(error.to_string().starts_with("invalid type: sequence"), "{error}");
    }
}
