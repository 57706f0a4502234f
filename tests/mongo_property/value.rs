//! BSON in which a name may be there twice, which no library of documents would write.

/// A value of a document.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Symbol(String),
    Uuid,
    Int(i32),
    Long(i64),
    Double(f64),
    Bytes(Vec<u8>),
    Document(Fields),
    Array(Vec<Value>),
}

/// The fields of a document, in their order.
pub(crate) type Fields = Vec<(String, Value)>;

/// A document of these fields, for tests to write.
pub(crate) fn fields<const N: usize>(all: [(&str, Value); N]) -> Fields {
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Value::Int(number)
    }
}

impl<const N: usize> From<[(&str, Value); N]> for Value {
    fn from(all: [(&str, Value); N]) -> Self {
        Value::Document(fields(all))
    }
}

impl From<Vec<Value>> for Value {
    fn from(all: Vec<Value>) -> Self {
        Value::Array(all)
    }
}

impl Value {
    /// The same with other texts.
    pub(crate) fn renamed(&self, name: &dyn Fn(&str) -> String) -> Value {
        match self {
            Value::Text(text) => Value::Text(name(text)),
            Value::Symbol(text) => Value::Symbol(name(text)),
            Value::Array(all) => Value::Array(all.iter().map(|it| it.renamed(name)).collect()),
            Value::Document(fields) => {
                let fields = fields.iter().map(|(key, it)| (key.clone(), it.renamed(name)));
                Value::Document(fields.collect())
            }
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::Bytes(name(text).into_bytes()),
                Err(_) => self.clone(),
            },
            other => other.clone(),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Value::Double(_) => 1,
            Value::Text(_) => 2,
            Value::Document(_) => 3,
            Value::Array(_) => 4,
            Value::Uuid | Value::Bytes(_) => 5,
            Value::Symbol(_) => 14,
            Value::Int(_) => 16,
            Value::Long(_) => 18,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Double(number) => out.extend(number.to_le_bytes()),
            Value::Int(number) => out.extend(number.to_le_bytes()),
            Value::Long(number) => out.extend(number.to_le_bytes()),
            Value::Text(text) | Value::Symbol(text) => {
                out.extend((text.len() as i32 + 1).to_le_bytes());
                out.extend(text.as_bytes());
                out.push(0);
            }
            Value::Document(fields) => out.extend(document(fields)),
            Value::Array(values) => {
                let numbered = values.iter().enumerate();
                let fields: Fields =
                    numbered.map(|(at, it)| (at.to_string(), it.clone())).collect();
                out.extend(document(&fields));
            }
            Value::Uuid => binary(4, &[7; 16], out),
            Value::Bytes(bytes) => binary(0, bytes, out),
        }
    }
}

fn binary(subtype: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as i32).to_le_bytes());
    out.push(subtype);
    out.extend(bytes);
}

/// A document's bytes.
pub(crate) fn document(fields: &Fields) -> Vec<u8> {
    let mut out = vec![0; 4];
    for (name, value) in fields {
        out.push(value.kind());
        out.extend(name.as_bytes());
        out.push(0);
        value.write(&mut out);
    }
    out.push(0);
    let len = (out.len() as i32).to_le_bytes();
    out[..4].copy_from_slice(&len);
    out
}
