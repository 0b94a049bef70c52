//! Messages of protobuf: as much of its encoding as CRI needs, which is numbers, texts and messages in
//! messages, all of them by the numbers of their fields.

/// A number, seven bits in each byte.
const VARINT: u64 = 0;
/// Bytes behind their count: a text, or a message.
const BYTES: u64 = 2;

/// A message that is being written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    pub(crate) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(crate) fn inner(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// The message as gRPC sends it: not compressed, and behind its length.
    pub(crate) fn framed(&self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("a short message");
        [&[0][..], &length.to_be_bytes(), &self.0].concat()
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(u64::try_from(value.len()).expect("a length"));
        self.0.extend(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A message that has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<(u64, Value)>);

#[derive(Debug, Clone)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Fields {
    /// What gRPC has sent.
    pub(crate) fn of_frame(frame: &[u8]) -> Self {
        Self::of(frame.get(5..).unwrap_or_default())
    }

    fn of(mut rest: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = take_varint(&mut rest);
            let value = match key & 7 {
                VARINT => Value::Number(take_varint(&mut rest)),
                BYTES => {
                    let length = usize::try_from(take_varint(&mut rest)).expect("a length");
                    let (bytes, after) = rest.split_at(length);
                    rest = after;
                    Value::Bytes(bytes.to_vec())
                }
                other => panic!("a field of kind {other}, which CRI does not have"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    /// What is zero is not sent.
    pub(crate) fn number(&self, field: u64) -> u64 {
        let find = |(number, value): &(u64, Value)| match value {
            Value::Number(value) if *number == field => Some(*value),
            _ => None,
        };
        self.0.iter().find_map(find).unwrap_or_default()
    }

    pub(crate) fn text(&self, field: u64) -> String {
        let bytes = self.all(field).next().unwrap_or_default();
        String::from_utf8(bytes.to_vec()).expect("a text")
    }

    pub(crate) fn inner(&self, field: u64) -> Self {
        Self::of(self.all(field).next().unwrap_or_default())
    }

    pub(crate) fn inners(&self, field: u64) -> impl Iterator<Item = Self> {
        self.all(field).map(Self::of)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter_map(move |(number, value)| match value {
            Value::Bytes(bytes) if *number == field => Some(bytes.as_slice()),
            _ => None,
        })
    }
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, after) = rest.split_first().expect("a number that ends");
        *rest = after;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}
