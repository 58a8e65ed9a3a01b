//! The beginning of a connection: encryption requests, cancel requests, the startup message.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use cairn_sql::session::{ClientInfo, TransactionStatus};
use cairn_sql::{Result, SqlError, SqlState};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup,
};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frontend::violation;
use super::output::Output;
use super::registry::Handle;

/// As in PostgreSQL: enough for a name, a database and some settings.
const MAX_STARTUP_BYTES: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// The newest minor version of protocol 3 spoken here.
const NEWEST_MINOR: u16 = 2;

/// What a client wants.
#[derive(Debug)]
pub enum Greeting {
    /// A session.
    Session(Hello),
    /// The end of another session's statement.
    Cancel {
        /// Process id.
        id: u32,
        /// Its key.
        secret: Bytes,
    },
    /// Nothing: the client left.
    Nothing,
}

/// A startup message.
#[derive(Debug)]
pub struct Hello {
    /// Who connects.
    pub client: ClientInfo,
    /// Minor protocol version to be spoken.
    minor: u16,
    /// Whether the client asked for something else and must be told.
    negotiate: bool,
    /// Protocol options (`_pq_.…`) that are not known.
    unsupported: Vec<String>,
}

/// Reads up to the startup message, declining encryption on the way.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, address: &str) -> Result<Greeting> {
    let mut declined = 0;
    loop {
        let Some(packet) = read_packet(stream).await? else { return Ok(Greeting::Nothing) };
        let code = u32::from_be_bytes(packet[4..8].try_into().expect("four bytes"));
        match code {
            // Either may be asked for once; a third time nobody means well.
            SSL_REQUEST | GSS_REQUEST if packet.len() == 8 && declined < 2 => {
                declined += 1;
                if stream.write_all(b"N").await.is_err() {
                    return Ok(Greeting::Nothing);
                }
            }
            CANCEL_REQUEST => return decode_cancel(packet),
            _ => return decode_startup(packet, address).map(Greeting::Session),
        }
    }
}

/// Answers the startup message of an accepted session.
pub fn welcome<W: AsyncWrite + Unpin + Send>(
    output: &mut Output<W>,
    hello: &Hello,
    handle: &Handle,
    settings: Vec<(String, String)>,
    status: TransactionStatus,
) {
    if hello.negotiate {
        let newest = (3 << 16) | i32::from(hello.minor);
        output.pgwire(&NegotiateProtocolVersion::new(newest, hello.unsupported.clone()));
    }
    output.pgwire(&Authentication::Ok);
    for (name, value) in settings {
        output.pgwire(&ParameterStatus::new(name, value));
    }
    let secret = match hello.minor {
        0 => {
            let short = handle.short_secret().try_into().expect("four bytes");
            SecretKey::I32(i32::from_be_bytes(short))
        }
        _ => SecretKey::Bytes(Bytes::copy_from_slice(handle.secret())),
    };
    output.pgwire(&BackendKeyData::new(handle.id() as i32, secret));
    output.ready_for_query(status);
}

/// A whole packet, length included; `None` when the client leaves before one.
async fn read_packet<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<BytesMut>> {
    let mut packet = BytesMut::zeroed(8);
    if stream.read_exact(&mut packet[..]).await.is_err() {
        return Ok(None);
    }
    let length = u32::from_be_bytes(packet[..4].try_into().expect("four bytes")) as usize;
    if !(8..=MAX_STARTUP_BYTES).contains(&length) {
        return Err(violation("invalid length of startup packet"));
    }
    packet.resize(length, 0);
    if stream.read_exact(&mut packet[8..]).await.is_err() {
        return Ok(None);
    }
    Ok(Some(packet))
}

fn decode_cancel(mut packet: BytesMut) -> Result<Greeting> {
    // Read as 3.2, a key of 3.0 is a key of four bytes.
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    match CancelRequest::decode(&mut packet, &context) {
        Ok(Some(CancelRequest { pid, secret_key: SecretKey::Bytes(secret), .. })) => {
            Ok(Greeting::Cancel { id: pid as u32, secret })
        }
        _ => Err(violation("invalid length of cancel request packet")),
    }
}

fn decode_startup(mut packet: BytesMut, address: &str) -> Result<Hello> {
    let (major, minor) = ((&packet[4..6]).get_u16(), (&packet[6..8]).get_u16());
    if major != 3 {
        let message =
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}");
        return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    // pgwire takes what it finds up to an empty name; the terminator must be the packet's end.
    if packet.len() < 9 || packet[packet.len() - 1] != 0 {
        return Err(violation("invalid startup packet layout: expected terminator as last byte"));
    }
    if std::str::from_utf8(&packet[8..]).is_err() {
        let message = "invalid byte sequence for encoding \"UTF8\" in the startup packet";
        return Err(SqlError::new(SqlState::CHARACTER_NOT_IN_REPERTOIRE, message));
    }
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    let mut parameters = match Startup::decode(&mut packet, &context) {
        Ok(Some(startup)) if packet.is_empty() => startup.parameters,
        _ => return Err(violation("invalid startup packet layout")),
    };
    // 3.1 was never published: PostgreSQL speaks 3.0 with who asks for it.
    let spoken = if minor >= NEWEST_MINOR { NEWEST_MINOR } else { 0 };
    let unsupported: Vec<String> =
        parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    parameters.retain(|name, _| !name.starts_with("_pq_."));
    let negotiate = spoken != minor || !unsupported.is_empty();
    Ok(Hello { client: client(parameters, address)?, minor: spoken, negotiate, unsupported })
}

fn client(mut parameters: BTreeMap<String, String>, address: &str) -> Result<ClientInfo> {
    let Some(user) = parameters.remove("user").filter(|user| !user.is_empty()) else {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(SqlError::new(SqlState::INVALID_AUTHORIZATION, message));
    };
    let database =
        parameters.remove("database").filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    if let Some(replication) = parameters.remove("replication")
        && !matches!(&*replication, "false" | "off" | "no" | "0")
    {
        return Err(SqlError::unsupported("the replication protocol"));
    }
    let mut settings = Vec::new();
    if let Some(options) = parameters.remove("options") {
        settings = settings_of_options(&options)?;
    }
    settings.extend(parameters);
    Ok(ClientInfo { user, database, address: address.to_owned(), settings })
}

/// Settings in the `options` parameter: `-c name=value`, `-cname=value`, `--name=value`; a
/// backslash takes the next character as it is.
fn settings_of_options(options: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
        } else {
            let literal = if character == '\\' { characters.next() } else { Some(character) };
            word.get_or_insert_default().extend(literal);
        }
    }
    words.extend(word);
    let invalid = |word: &str| {
        let message = format!("invalid command-line argument for server process: {word}");
        SqlError::new(SqlState::SYNTAX_ERROR, message)
    };
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or_else(|| invalid(&word))?
        } else if let Some(setting) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            setting.to_owned()
        } else {
            return Err(invalid(&word));
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| invalid(&word))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_like_a_command_line() {
        let settings = settings_of_options(r"-c a=b  --search-path=x\ y\\ -cc=").unwrap();
        let expected = [("a", "b"), ("search_path", r"x y\"), ("c", "")];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for bad in ["-c", "-c a", "-x", "--a"] {
            assert!(settings_of_options(bad).is_err(), "{bad}");
        }
    }
}
