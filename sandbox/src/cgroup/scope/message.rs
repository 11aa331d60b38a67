//! D-Bus messages, as many as one request needs (the D-Bus specification, "Message Format"). The values
//! in them are encoded and decoded by zbus; here is only what frames them.

use std::io::{self, Read};

use serde::{Serialize, de::DeserializeOwned};
use zbus::{
    DynamicType, Signature, Type, Variant,
    wire::{Endian, serialized::Context, serialized::Data, to_bytes},
};

/// Of a message, the part whose length does not vary: up to the length of the fields.
const FIXED: usize = 16;
/// The specification allows 128 MiB; the manager's messages to us are a few hundred bytes.
const LONGEST: usize = 1 << 20;

/// Byte order, type, flags, version, length of the body, serial, fields.
type Header<F> = (u8, u8, u8, u8, u32, u32, Vec<(u8, F)>);
type Received<'a> = Header<Variant<'a>>;

/// What a field of a header is written as.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Field<'a> {
    Value(Variant<'a>),
    /// The types of the arguments: several in a row, which zbus's own variant of a signature would put
    /// into parentheses.
    Types {
        signature: Signature,
        value: String,
    },
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl<'a, V: Into<Variant<'a>>> From<V> for Field<'a> {
    fn from(value: V) -> Self {
        Self::Value(value.into())
    }
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What is called.
pub(super) struct Method {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
}

/// A call with these arguments. `serial` is what the reply names.
pub(super) fn call<B: Serialize + DynamicType>(
    method: &Method,
    serial: u32,
    arguments: &B,
) -> io::Result<Vec<u8>> {
    let path = zbus::ObjectPath::try_from(method.path).map_err(io::Error::other)?;
    let fields = vec![
        (PATH, path.into()),
        (INTERFACE, method.interface.into()),
        (MEMBER, method.member.into()),
        (DESTINATION, method.destination.into()),
    ];
    encode(Endian::Little, METHOD_CALL, serial, fields, arguments)
}

/// A message of this kind, with its arguments.
fn encode<B: Serialize + DynamicType>(
    order: Endian,
    kind: u8,
    serial: u32,
    mut fields: Vec<(u8, Field<'_>)>,
    arguments: &B,
) -> io::Result<Vec<u8>> {
    // The arguments begin at a multiple of 8, where a tuple is encoded as its parts are.
    let body = to_bytes(Context::new(order, 0), arguments).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let value = arguments.signature().to_string_no_parens();
    fields.push((SIGNATURE, Field::Types { signature: Signature::Signature, value }));
    let flag = if matches!(order, Endian::Big) { b'B' } else { b'l' };
    let header: Header<Field> = (flag, kind, 0, 1, length, serial, fields);
    let header = to_bytes(Context::new(order, 0), &header).map_err(io::Error::other)?;
    let mut bytes = header.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// What a message is, as far as that matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The reply to the call with this serial.
    Return(u32),
    /// The call with this serial failed, with an error of this name.
    Error(u32, String),
    /// A signal of this name.
    Signal(String),
    Other,
}

/// A received message.
pub(super) struct Message {
    pub(super) kind: Kind,
    body: Data<'static, 'static>,
    signature: Option<Signature>,
}

impl Message {
    /// Reads the next one.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = vec![0; FIXED];
        from.read_exact(&mut bytes)?;
        let order = match bytes[0] {
            b'l' => Endian::Little,
            b'B' => Endian::Big,
            _ => return Err(malformed("its byte order is unknown")),
        };
        let number = |at: usize| {
            let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            let number =
                if bytes[0] == b'B' { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) };
            usize::try_from(number).unwrap_or(usize::MAX)
        };
        let (body, fields) = (number(4), number(12));
        if body > LONGEST || fields > LONGEST {
            return Err(malformed("it is too long"));
        }
        let begins = (FIXED + fields).next_multiple_of(8);
        bytes.resize(begins + body, 0);
        from.read_exact(&mut bytes[FIXED..])?;
        let body = bytes.split_off(begins);
        let header = Data::new(bytes, Context::new(order, 0));
        let (header, _) = header.deserialize::<Received>().map_err(malformed)?;
        Ok(Self {
            kind: kind(&header),
            signature: header.6.iter().find_map(|(code, value)| match value {
                Variant::Signature(signature) if *code == SIGNATURE => Some(signature.clone()),
                _ => None,
            }),
            body: Data::new(body, Context::new(order, 0)),
        })
    }

    /// Its arguments, if they are of this type.
    pub(super) fn arguments<B: DeserializeOwned + Type>(&self) -> io::Result<B> {
        let types = self.signature.as_ref().map(Signature::to_string_no_parens);
        if types.as_deref() != Some(&B::SIGNATURE.to_string_no_parens()) {
            return Err(malformed("its arguments are of other types than documented"));
        }
        self.body.deserialize().map(|(arguments, _)| arguments).map_err(malformed)
    }
}

fn kind(header: &Received) -> Kind {
    let field = |code| header.6.iter().find(|(found, _)| *found == code).map(|(_, value)| value);
    let text = |code| match field(code) {
        Some(Variant::Str(text)) => text.as_str().to_owned(),
        _ => String::new(),
    };
    match (header.1, field(REPLY_SERIAL)) {
        (METHOD_RETURN, Some(Variant::U32(serial))) => Kind::Return(*serial),
        (ERROR, Some(Variant::U32(serial))) => Kind::Error(*serial, text(ERROR_NAME)),
        (SIGNAL, _) => Kind::Signal(format!("{}.{}", text(INTERFACE), text(MEMBER))),
        _ => Kind::Other,
    }
}

fn malformed(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message cannot be read: {why}"))
}

/// What a manager sends.
#[cfg(test)]
pub(super) mod sent {
    use super::*;

    pub(crate) fn returned(serial: u32) -> Vec<u8> {
        let fields = vec![(REPLY_SERIAL, serial.into())];
        encode(Endian::Little, METHOD_RETURN, 7, fields, &(job(),)).unwrap()
    }

    pub(crate) fn refused(serial: u32, words: &str) -> Vec<u8> {
        let name = "org.freedesktop.DBus.Error.AccessDenied";
        let fields = vec![(ERROR_NAME, name.into()), (REPLY_SERIAL, serial.into())];
        encode(Endian::Little, ERROR, 7, fields, &(words,)).unwrap()
    }

    pub(crate) fn removed(order: Endian, unit: &str, result: &str) -> Vec<u8> {
        let path = zbus::ObjectPath::try_from("/org/freedesktop/systemd1").unwrap();
        let fields = vec![
            (PATH, path.into()),
            (INTERFACE, "org.freedesktop.systemd1.Manager".into()),
            (MEMBER, "JobRemoved".into()),
        ];
        encode(order, SIGNAL, 7, fields, &(1_u32, job(), unit, result)).unwrap()
    }

    fn job() -> zbus::ObjectPath<'static> {
        zbus::ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap()
    }
}
