//! The TLS state of one connection: records in, records out, and no I/O.
//!
//! This file is the only one that knows rustls' unbuffered API. rustls 0.24 replaces that API by one
//! of the same shape as [`Engine`]: an input buffer of the caller's, payloads handed out as slices,
//! and output appended to a buffer.

use rustls::{
    ClientConfig, CommonState, Error, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadTraffic,
        UnbufferedConnectionCommon, UnbufferedStatus, WriteTraffic,
    },
};
use std::sync::Arc;

/// The payload of a full record, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 16 * 1024;

/// At least what encryption adds to a record, in bytes: header, explicit nonce and tag.
const RECORD_OVERHEAD: usize = 64;

/// The TLS state of one connection.
pub(crate) enum Engine {
    /// The side that accepted the connection.
    Server(Box<UnbufferedServerConnection>),
    /// The side that opened it.
    Client(Box<UnbufferedClientConnection>),
}

/// What [`Engine::read`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many bytes at the front of the input were used.
    pub(crate) used: usize,
    /// The handshake is over: payload may be written.
    pub(crate) established: bool,
    /// The peer has sent close_notify: no payload follows.
    pub(crate) close_notify: bool,
}

/// The connection failed. What is in the output, an alert, is still to be sent.
#[derive(Debug)]
pub(crate) struct Failed {
    /// How many bytes at the front of the input were used.
    pub(crate) used: usize,
    /// Why.
    pub(crate) error: Error,
}

/// Bytes that are to be sent. rustls writes into slices: room that was used before is not cleared again.
#[derive(Debug, Default)]
pub(crate) struct Output {
    room: Vec<u8>,
    len: usize,
}

impl Output {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops the bytes and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends bytes.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.room.truncate(self.len);
        self.room.extend_from_slice(bytes);
        self.len = self.room.len();
    }

    /// Appends what `write` writes into a slice of at least `room` bytes. `write` fails with the number
    /// of bytes that it needs, or with `None` if no number would do.
    fn append(
        &mut self,
        mut room: usize,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
    ) -> Result<(), Error> {
        loop {
            if self.room.len() < self.len + room {
                self.room.resize(self.len + room, 0);
            }
            match write(&mut self.room[self.len..]) {
                Ok(written) => {
                    self.len += written;
                    return Ok(());
                }
                Err(Some(needed)) if needed > room => room = needed,
                Err(_) => return Err(Error::EncryptError),
            }
        }
    }
}

impl Engine {
    /// The state of a connection that was accepted.
    ///
    /// # Errors
    /// The config is inconsistent.
    pub(crate) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::Server(Box::new(UnbufferedServerConnection::new(config)?)))
    }

    /// The state of a connection that was opened to a server of this name.
    ///
    /// # Errors
    /// The config is inconsistent.
    pub(crate) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        Ok(Self::Client(Box::new(UnbufferedClientConnection::new(config, name)?)))
    }

    /// What both sides have agreed upon.
    pub(crate) fn state(&self) -> &CommonState {
        match self {
            Self::Server(server) => server,
            Self::Client(client) => client,
        }
    }

    /// Processes the records in `input`, in place. Appends what must be sent to `output`, and calls
    /// `deliver` with each payload.
    ///
    /// An incomplete record at the end is left: pass it again, with more bytes behind it.
    ///
    /// # Errors
    /// The peer breaks the protocol, sends an alert, or has a certificate that is not accepted.
    pub(crate) fn read(
        &mut self,
        input: &mut [u8],
        output: &mut Output,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Result<Progress, Failed> {
        match self {
            Self::Server(server) => process(&mut ***server, input, output, deliver, None),
            Self::Client(client) => process(&mut ***client, input, output, deliver, None),
        }
    }

    /// Encrypts `payload` and appends the records to `output`. `input` is what [`Engine::read`] left.
    ///
    /// # Errors
    /// The handshake is not over, the connection failed before, or its keys are used up.
    pub(crate) fn write(
        &mut self,
        payload: Outgoing<'_>,
        input: &mut [u8],
        output: &mut Output,
    ) -> Result<(), Error> {
        // A whole record is never left in the input, so no payload can come of it.
        let deliver = &mut |_: &[u8]| {};
        let written = match self {
            Self::Server(server) => process(&mut ***server, input, output, deliver, Some(payload)),
            Self::Client(client) => process(&mut ***client, input, output, deliver, Some(payload)),
        };
        match written {
            Ok(progress) if progress.established => Ok(()),
            Ok(_) => Err(Error::HandshakeNotComplete),
            Err(failed) => Err(failed.error),
        }
    }
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outgoing<'a> {
    /// Payload.
    Payload(&'a [u8]),
    /// The alert that says that no payload follows.
    CloseNotify,
}

/// A connection of either side.
trait Records: Sized {
    /// rustls' data of that side.
    type Data;

    /// Whether a message waits to be encoded, so that the next call of `process` takes no input.
    fn has_output(&self) -> bool;

    /// Processes records until the state changes.
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Records for UnbufferedConnectionCommon<ServerConnectionData> {
    type Data = ServerConnectionData;

    fn has_output(&self) -> bool {
        self.wants_write()
    }

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Records for UnbufferedConnectionCommon<ClientConnectionData> {
    type Data = ClientConnectionData;

    fn has_output(&self) -> bool {
        self.wants_write()
    }

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

/// Processes all that can be processed, and then writes `outgoing` if the handshake is over.
fn process<R: Records>(
    connection: &mut R,
    input: &mut [u8],
    output: &mut Output,
    deliver: &mut dyn FnMut(&[u8]),
    mut outgoing: Option<Outgoing<'_>>,
) -> Result<Progress, Failed> {
    let mut progress = Progress::default();
    loop {
        let left = input.get_mut(progress.used..).unwrap_or_default();
        let UnbufferedStatus { discard, state } = connection.process(left);
        let mut over = false;
        let done = match state {
            Ok(ConnectionState::ReadTraffic(records)) => {
                deliver_records(records, deliver).map(|more| progress.used += more)
            }
            Ok(ConnectionState::EncodeTlsData(message)) => append_message(message, output),
            Ok(ConnectionState::TransmitTlsData(sent)) => {
                sent.done();
                Ok(())
            }
            Ok(ConnectionState::PeerClosed) => {
                progress.close_notify = true;
                Ok(())
            }
            Ok(ConnectionState::WriteTraffic(traffic)) => {
                progress.established = true;
                over = true;
                outgoing.take().map_or(Ok(()), |outgoing| append_records(traffic, outgoing, output))
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                over = true;
                Ok(())
            }
            // Early data is not accepted, and other states are not known.
            Ok(_) => Err(Error::General("a state of TLS that is not supported".to_owned())),
            Err(error) => Err(error),
        };
        progress.used += discard;
        if let Err(error) = done {
            let left = input.get_mut(progress.used..).unwrap_or_default();
            append_alert(connection, left, output);
            return Err(Failed { used: progress.used, error });
        }
        if over {
            return Ok(progress);
        }
    }
}

/// Hands out decrypted payloads. Returns how many more bytes of the input were used.
fn deliver_records<D>(
    mut records: ReadTraffic<'_, '_, D>,
    deliver: &mut dyn FnMut(&[u8]),
) -> Result<usize, Error> {
    let mut used = 0;
    while let Some(record) = records.next_record() {
        let record = record?;
        used += record.discard;
        deliver(record.payload);
    }
    Ok(used)
}

/// Appends a handshake message or an alert.
fn append_message<D>(mut message: EncodeTlsData<'_, D>, output: &mut Output) -> Result<(), Error> {
    output.append(0, |room| match message.encode(room) {
        Ok(written) => Ok(written),
        Err(EncodeError::InsufficientSize(needs)) => Err(Some(needs.required_size)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    })
}

/// Encrypts payload, or the alert that ends it, and appends the records.
fn append_records<D>(
    mut traffic: WriteTraffic<'_, D>,
    outgoing: Outgoing<'_>,
    output: &mut Output,
) -> Result<(), Error> {
    let room = match outgoing {
        Outgoing::Payload(payload) => {
            payload.len() + (payload.len() / MAX_PAYLOAD + 1) * RECORD_OVERHEAD
        }
        Outgoing::CloseNotify => RECORD_OVERHEAD,
    };
    output.append(room, |room| {
        let written = match outgoing {
            Outgoing::Payload(payload) => traffic.encrypt(payload, room),
            Outgoing::CloseNotify => traffic.queue_close_notify(room),
        };
        written.map_err(|error| match error {
            EncryptError::InsufficientSize(needs) => Some(needs.required_size),
            EncryptError::EncryptExhausted => None,
        })
    })
}

/// Appends the alert that a failure has left, if there is one. `input` must still have what a
/// handshake message began with; a record that has failed must not be processed once more.
fn append_alert<R: Records>(connection: &mut R, input: &mut [u8], output: &mut Output) {
    while connection.has_output() {
        let Ok(ConnectionState::EncodeTlsData(alert)) = connection.process(input).state else {
            return;
        };
        if append_message(alert, output).is_err() {
            return;
        }
    }
}
