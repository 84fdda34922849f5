//! The first request on a connection: an upgrade to one of the three protocols, or a plain GET.
//!
//! Pure: bytes in, a verdict out. Deliberately absent: limits in time and in number (`shard`).

use tungstenite::handshake::derive_accept_key;

use crate::observe::stats::Protocol;

/// Headers that a request may have.
const HEADERS_MAX: usize = 64;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// More bytes are needed.
    Incomplete,
    /// A WebSocket upgrade of `/ws`; `head_bytes` were read.
    Upgrade { protocol: Protocol, response: Vec<u8>, forwarded_for: Vec<String>, head_bytes: usize },
    /// Anything else that is HTTP.
    Plain { method: String, path: String, if_none_match: Option<String> },
    /// Not a request that we answer; status and text.
    Bad { status: u16, text: &'static str },
}

/// Reads what has come so far.
pub fn read(bytes: &[u8]) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Request::Incomplete,
        Err(httparse::Error::TooManyHeaders) => return Request::Bad { status: 431, text: "too many headers" },
        Err(_) => return Request::Bad { status: 400, text: "not an HTTP request" },
    };
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    if path != "/ws" {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("If-None-Match"));
        let if_none_match = header.map(|header| String::from_utf8_lossy(header.value).into_owned());
        return Request::Plain { method: method.to_owned(), path: path.to_owned(), if_none_match };
    }
    upgrade(method, request.version, request.headers, head_bytes)
}

fn upgrade(method: &str, version: Option<u8>, headers: &[httparse::Header<'_>], head_bytes: usize) -> Request {
    let all = |name: &'static str| headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    let has_token = |name: &'static str, token: &str| {
        all(name).any(|header| {
            let value = String::from_utf8_lossy(header.value);
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    };
    if !has_token("Upgrade", "websocket") || !has_token("Connection", "upgrade") {
        return Request::Bad { status: 426, text: "/ws is a WebSocket: connect with an upgrade" };
    }
    if method != "GET" || version != Some(1) {
        return Request::Bad { status: 400, text: "an upgrade is a GET of HTTP/1.1" };
    }
    let mut versions = all("Sec-WebSocket-Version");
    if versions.next().is_none_or(|version| version.value != b"13") || versions.next().is_some() {
        return Request::Bad { status: 426, text: "Sec-WebSocket-Version must be 13" };
    }
    let mut keys = all("Sec-WebSocket-Key");
    let key = keys.next().map(|key| key.value.trim_ascii()).filter(|key| is_key(key));
    let (Some(key), None) = (key, keys.next()) else {
        return Request::Bad { status: 400, text: "Sec-WebSocket-Key must be 16 bytes in base64" };
    };
    let offered: Vec<_> = all("Sec-WebSocket-Protocol")
        .flat_map(|header| header.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
        .collect();
    let chosen =
        offered.iter().find_map(|name| Protocol::ALL.into_iter().find(|protocol| protocol.label().as_bytes() == *name));
    let protocol = match chosen {
        Some(protocol) => protocol,
        None if offered.is_empty() => Protocol::V1,
        None => {
            return Request::Bad {
                status: 400,
                text: "unknown subprotocol: offer dashstream.v1, dashstream.v2, dashstream.json or none",
            };
        }
    };
    let mut response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key)
    );
    if !offered.is_empty() {
        response.push_str("Sec-WebSocket-Protocol: ");
        response.push_str(protocol.label());
        response.push_str("\r\n");
    }
    response.push_str("\r\n");
    let forwarded_for =
        all("X-Forwarded-For").map(|header| String::from_utf8_lossy(header.value).into_owned()).collect();
    Request::Upgrade { protocol, response: response.into_bytes(), forwarded_for, head_bytes }
}

/// The answer to a request that is turned away; the connection is closed after it.
pub fn refusal(status: u16, text: &str) -> Vec<u8> {
    let phrase = match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let more = match status {
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        429 | 503 => "Retry-After: 2\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n{more}Content-Length: {}\r\n\r\n{text}\n",
        text.len() + 1
    )
    .into_bytes()
}

/// 16 bytes in base64: 22 characters and two of padding.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn check(request: &str, expected: &str) {
        let found = match read(request.as_bytes()) {
            Request::Incomplete => "incomplete".to_owned(),
            Request::Upgrade { protocol, .. } => protocol.label().to_owned(),
            Request::Plain { method, path, .. } => format!("{method} {path}"),
            Request::Bad { status, .. } => status.to_string(),
        };
        assert_eq!(found, expected, "{request}");
    }

    #[test]
    fn requests_are_told_apart() {
        check("GET /he", "incomplete");
        check("GET /health?x=1 HTTP/1.1\r\n\r\n", "GET /health");
        check("POST / HTTP/1.0\r\n\r\n", "POST /");
        check("\x16\x03\x01\x02\x00 tls hello\r\n\r\n", "400");
        check("GET /ws HTTP/1.1\r\n\r\n", "426");
        check(&format!("{UPGRADE}\r\n"), "dashstream.v1");
        for (offer, expected) in [
            ("dashstream.v1", "dashstream.v1"),
            ("chat, dashstream.json", "dashstream.json"),
            ("dashstream.v2, dashstream.json", "dashstream.v2"),
            ("chat", "400"),
        ] {
            check(&format!("{UPGRADE}Sec-WebSocket-Protocol: {offer}\r\n\r\n"), expected);
        }
        check(&format!("{}\r\n", UPGRADE.replace("13", "8")), "426");
        check(&format!("{}\r\n", UPGRADE.replace("dGhl", "....")), "400");
        check(&format!("{}\r\n", UPGRADE.replace("GET", "POST")), "400");
        let many: String = (0..100).map(|index| format!("X-{index}: y\r\n")).collect();
        check(&format!("{UPGRADE}{many}\r\n"), "431");
    }

    #[test]
    fn the_accept_key_is_that_of_the_standard() {
        let Request::Upgrade { response, .. } = read(format!("{UPGRADE}\r\n").as_bytes()) else { panic!("an upgrade") };
        assert!(String::from_utf8(response).unwrap().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
