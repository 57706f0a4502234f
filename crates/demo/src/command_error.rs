//! The errors of the demonstration server.

use bson::{Document, doc};

/// An error as MongoDB reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandError {
    /// The server's number for it, from MongoDB's `error_codes.yml`.
    pub code: i32,
    /// The server's name for that number.
    pub name: &'static str,
    /// The message.
    pub message: String,
    /// Further fields of the error, such as a duplicate's key. Boxed, because few errors have any.
    pub detail: Box<Document>,
}

impl CommandError {
    /// An error without further detail.
    pub fn new(code: i32, name: &'static str, message: impl Into<String>) -> Self {
        Self { code, name, message: message.into(), detail: Box::default() }
    }

    /// A value that is invalid in its place.
    pub(crate) fn bad_value(message: impl Into<String>) -> Self {
        Self::new(2, "BadValue", message)
    }

    /// A value of the wrong type.
    pub fn wrong_type(message: impl Into<String>) -> Self {
        Self::new(14, "TypeMismatch", message)
    }

    /// Something that exceeds the limits of the demonstration.
    pub fn full(what: &str) -> Self {
        Self::new(14031, "OutOfDiskSpace", format!("the demonstration has no room for more {what}"))
    }

    /// The reply to a command that failed.
    pub fn reply(&self) -> Document {
        let mut reply = doc! {
            "ok": 0.0, "errmsg": &self.message, "code": self.code, "codeName": self.name,
        };
        reply.extend(*self.detail.clone());
        reply
    }

    /// The entry in `writeErrors` for the write at `index` of a batch.
    pub(crate) fn write_error(&self, index: usize) -> Document {
        let mut error = doc! { "index": index as i32, "code": self.code, "errmsg": &self.message };
        error.extend(*self.detail.clone());
        error
    }
}
