//! The messages of SCRAM (RFC 5802, section 7), read strictly and without extensions.

use super::{BASE64, MAX_SASL_MESSAGE, SaslError};
use base64::Engine;

/// What a client's message begins with if it has no channel binding and acts as the user itself.
const NO_BINDING: &str = "n,,";

/// The same in base64, as the client's last message repeats it.
const NO_BINDING_ENCODED: &str = "biws";

/// The fewest iterations that RFC 7677 and drivers accept.
const MIN_ITERATIONS: u32 = 4096;

/// The most iterations that are computed: they take the processor's time.
pub(super) const MAX_ITERATIONS: u32 = 1_000_000;

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst {
    /// The user's name.
    pub(crate) user: String,
    /// The client's nonce.
    pub(super) nonce: String,
    /// The message without its header, which both sides sign.
    pub(super) bare: String,
}

impl ClientFirst {
    /// Reads `n,,n=user,r=nonce`.
    ///
    /// # Errors
    /// Why the log-in is refused.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, SaslError> {
        let message = text(message)?;
        let (binding, rest) = message.split_once(',').ok_or(SaslError::Malformed)?;
        match binding {
            "n" => {}
            "y" => return Err(SaslError::ChannelBinding),
            _ if binding.starts_with("p=") => return Err(SaslError::ChannelBinding),
            _ => return Err(SaslError::Malformed),
        }
        let (identity, bare) = rest.split_once(',').ok_or(SaslError::Malformed)?;
        if !identity.is_empty() {
            return Err(SaslError::AuthorizationIdentity);
        }
        let [user, nonce] = fields(bare, ["n=", "r="])?;
        let user = decode_name(user).filter(|name| !name.is_empty());
        let user = user.ok_or(SaslError::Malformed)?;
        check_nonce(nonce)?;
        Ok(Self { user, nonce: nonce.to_owned(), bare: bare.to_owned() })
    }

    /// The message of a client with this name and nonce.
    pub(super) fn new(user: &str, nonce: String) -> Self {
        let escaped = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={escaped},r={nonce}");
        Self { user: user.to_owned(), nonce, bare }
    }

    /// The whole message.
    pub(super) fn encode(&self) -> Vec<u8> {
        format!("{NO_BINDING}{}", self.bare).into_bytes()
    }
}

/// The server's first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFirst<'a> {
    /// The client's nonce, and the server's after it.
    pub(super) nonce: &'a str,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl<'a> ServerFirst<'a> {
    /// Reads `r=nonce,s=salt,i=iterations`.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, SaslError> {
        let [nonce, salt, iterations] = fields(text(message)?, ["r=", "s=", "i="])?;
        check_nonce(nonce)?;
        let salt = decode(salt).filter(|salt| !salt.is_empty()).ok_or(SaslError::Malformed)?;
        let iterations = number(iterations).ok_or(SaslError::Malformed)?;
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations) {
            return Err(SaslError::Iterations);
        }
        Ok(Self { nonce, salt, iterations })
    }

    /// The message.
    pub(super) fn encode(&self) -> String {
        let Self { nonce, salt, iterations } = self;
        format!("r={nonce},s={},i={iterations}", BASE64.encode(salt))
    }
}

/// The client's last message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientFinal<'a> {
    pub(super) nonce: &'a str,
    /// The message without its proof, which both sides sign.
    pub(super) without_proof: &'a str,
    pub(super) proof: Vec<u8>,
}

impl<'a> ClientFinal<'a> {
    /// Reads `c=biws,r=nonce,p=proof`.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, SaslError> {
        let message = text(message)?;
        let [binding, nonce, proof] = fields(message, ["c=", "r=", "p="])?;
        if binding != NO_BINDING_ENCODED {
            return Err(SaslError::ChannelBinding);
        }
        let (without_proof, _) = message.rsplit_once(",p=").ok_or(SaslError::Malformed)?;
        let proof = decode(proof).ok_or(SaslError::Malformed)?;
        Ok(Self { nonce, without_proof, proof })
    }
}

/// The last message of a client with this nonce, without its proof.
pub(super) fn client_final_without_proof(nonce: &str) -> String {
    format!("c={NO_BINDING_ENCODED},r={nonce}")
}

/// Reads the server's last message, `v=signature`. An error of the server, `e=…`, is an error.
pub(super) fn parse_server_final(message: &[u8]) -> Result<Vec<u8>, SaslError> {
    let message = text(message)?;
    if message.starts_with("e=") {
        return Err(SaslError::Refused);
    }
    let [signature] = fields(message, ["v="])?;
    decode(signature).ok_or(SaslError::Malformed)
}

/// What both sides sign: the messages so far.
pub(super) fn signed_text(first_bare: &str, server_first: &str, without_proof: &str) -> Vec<u8> {
    format!("{first_bare},{server_first},{without_proof}").into_bytes()
}

fn text(message: &[u8]) -> Result<&str, SaslError> {
    let message = Some(message).filter(|message| message.len() <= MAX_SASL_MESSAGE);
    message.and_then(|message| std::str::from_utf8(message).ok()).ok_or(SaslError::Malformed)
}

/// The values of a message that has exactly these fields, in this order.
fn fields<'a, const N: usize>(
    message: &'a str,
    prefixes: [&str; N],
) -> Result<[&'a str; N], SaslError> {
    let mut parts = message.split(',');
    let mut values = [""; N];
    for (value, prefix) in values.iter_mut().zip(prefixes) {
        let part = parts.next().and_then(|part| part.strip_prefix(prefix));
        *value = part.ok_or(SaslError::Malformed)?;
    }
    if parts.next().is_some() { Err(SaslError::Malformed) } else { Ok(values) }
}

/// A nonce is printable ASCII without commas.
fn check_nonce(nonce: &str) -> Result<(), SaslError> {
    let is_valid = !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid { Ok(()) } else { Err(SaslError::Malformed) }
}

/// A name in which `=2C` stands for a comma and `=3D` for an equal sign.
fn decode_name(escaped: &str) -> Option<String> {
    let mut parts = escaped.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (escape, rest) = part.split_at_checked(2)?;
        name.push(match escape {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.contains('\0')).then_some(name)
}

/// A positive number without a sign or leading zeros.
fn number(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    is_plain.then(|| digits.parse().ok()).flatten()
}

pub(super) fn decode(encoded: &str) -> Option<Vec<u8>> {
    BASE64.decode(encoded).ok()
}
