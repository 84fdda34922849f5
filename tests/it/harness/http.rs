//! A GET over a plain socket, and Prometheus text as numbers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body in UTF-8")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }
}

/// `None` when nobody answers.
pub fn try_get(address: SocketAddr, path: &str) -> Option<Response> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

pub fn get(address: SocketAddr, path: &str) -> Response {
    try_get(address, path).unwrap_or_else(|| panic!("GET {path} at {address} was not answered"))
}

/// Sends `head` as it is and reads one response.
pub fn request(address: SocketAddr, head: &str) -> Option<Response> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    // A server may reset the connection after its answer; what came before counts.
    let _ended = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

pub fn parse(bytes: &[u8]) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &bytes[end + 4..];
    let chunked = headers.iter().any(|(key, value)| key == "transfer-encoding" && value == "chunked");
    let body = if chunked { join_chunks(body)? } else { body.to_vec() };
    if let Some((_, length)) = headers.iter().find(|(key, _)| key == "content-length") {
        assert_eq!(length.parse(), Ok(body.len()), "Content-Length and body differ");
    }
    Some(Response { status, headers, body })
}

fn join_chunks(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).ok()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(end + 2..end + 2 + length)?);
        bytes = bytes.get(end + 2 + length + 2..)?;
    }
}

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// `name{labels}` as written, and the value.
    pub series: Vec<(String, f64)>,
    pub text: String,
}

impl Metrics {
    pub fn parse(text: String) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
                (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("a number: {line}")))
            })
            .collect();
        Self { series, text }
    }

    /// All series of `name` whose labels contain every one of `labels` (`partition="3"`).
    pub fn all(&self, name: &str, labels: &[&str]) -> Vec<f64> {
        self.series
            .iter()
            .filter(|(series, _)| {
                let (bare, rest) = series.split_once('{').unwrap_or((series, ""));
                bare == name && labels.iter().all(|label| rest.contains(label))
            })
            .map(|(_, value)| *value)
            .collect()
    }

    /// The sum over all such series; panics when there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let all = self.all(name, labels);
        assert!(!all.is_empty(), "no series {name} with {labels:?} in:\n{}", self.text);
        all.iter().sum()
    }
}
