//! The rules of the wire protocol that a peer can break. Each text is a metric label.

use operation::Violation;

/// A length in a header that no message can have.
pub(crate) const BAD_LENGTH: Violation = Violation("length");
/// The first bytes are a TLS handshake.
pub(crate) const LOOKS_LIKE_TLS: Violation = Violation("looks_like_tls");
/// The first bytes are HTTP.
pub(crate) const LOOKS_LIKE_HTTP: Violation = Violation("looks_like_http");
/// The first bytes are a PROXY protocol header.
pub(crate) const LOOKS_LIKE_PROXY_HEADER: Violation = Violation("looks_like_proxy_header");
/// A message that is shorter than its header.
pub(crate) const BAD_MESSAGE: Violation = Violation("bad_message");
/// A section or a document with a wrong length or an unknown element type.
pub(crate) const BAD_DOCUMENT: Violation = Violation("bad_document");
/// An `OP_MSG` without a section of kind 0.
pub(crate) const NO_BODY: Violation = Violation("no_body");
/// A body without a first field, which names the command.
pub(crate) const NO_COMMAND: Violation = Violation("no_command");
/// A field of a command, or a section of its message, occurs twice: servers differ in which of
/// the two they use.
pub(crate) const DUPLICATE_FIELD: Violation = Violation("duplicate_field");
/// A legacy command that contains another one as `$query`.
pub(crate) const MISPLACED_QUERY: Violation = Violation("misplaced_query");
/// A section of an unknown kind, or more sequences than a server accepts.
pub(crate) const UNKNOWN_SECTION: Violation = Violation("unknown_section");
/// More fields in a command than are checked for duplicates.
pub(crate) const TOO_MANY_FIELDS: Violation = Violation("too_many_fields");
/// A pooled connection sends a reply to no request of the client that uses it.
pub(crate) const UNEXPECTED_REPLY: Violation = Violation("unexpected_reply");
/// More requests without a reply than are tracked.
pub(crate) const TOO_MANY_OPEN: Violation = Violation("too_many_open");
/// A compressed request on a connection whose `hello` offered no compressor.
pub(crate) const NOT_NEGOTIATED: Violation = Violation("compression_not_negotiated");
/// Compressed bytes that cannot be decompressed, or not to the size that was announced.
pub(crate) const BAD_COMPRESSION: Violation = Violation("bad_compression");
/// An `OP_COMPRESSED` inside an `OP_COMPRESSED`.
pub(crate) const NESTED_COMPRESSION: Violation = Violation("nested_compression");
/// More decompressed bytes than announced or allowed. The connection is closed: to continue would
/// cost memory or time.
pub(crate) const DECOMPRESSION_BOMB: Violation = Violation("decompression_bomb");
/// The rest of a compressed request is needed and cannot be decompressed: see
/// [`crate::decompressor::DecompressionBudget`].
pub(crate) const NOT_INFLATED: Violation = Violation("not_inflated");
