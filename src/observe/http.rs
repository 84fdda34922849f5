//! One answer to one request, for both HTTP fronts: the admin port and the service port. Pure: bodies were rendered
//! before, and are only pointed at here.
//!
//! Deliberately absent: sockets, request parsing, the upgrade at `/ws`, and authentication.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::page;

/// Bodies as they were last rendered, swapped as a whole, so that they agree with each other.
pub type SharedBodies = Arc<ArcSwap<Bodies>>;

/// Older than this, bodies say nothing about now: whoever renders them hangs. Ten times the interval of rendering.
const STALE_MS: u64 = 10_000;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the admin port shows at its root; the page itself needs the socket of the service port.
const ADMIN_INDEX: &[u8] = b"DashStream, admin port\n\n/health\n/ready\n/live\n/version\n/config\n/clients\n/metrics\n";

#[derive(Clone, Debug)]
pub struct Bodies {
    /// Monotonic ms.
    pub rendered_at_ms: u64,
    pub ready: bool,
    pub live: bool,
    pub health_json: Arc<[u8]>,
    pub ready_json: Arc<[u8]>,
    pub live_json: Arc<[u8]>,
    pub version_json: Arc<[u8]>,
    pub config_json: Arc<[u8]>,
    pub clients_json: Arc<[u8]>,
    pub metrics_text: Arc<[u8]>,
}

#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As in the request line: with its query, if any.
    pub path: &'a str,
    /// The header of this name.
    pub if_none_match: Option<&'a str>,
    /// Monotonic ms.
    pub now_ms: u64,
}

/// Which front asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Surface {
    /// `public`: bound to an address that is not loopback. Metrics, configuration and clients are then for the admin port only.
    Service {
        public: bool,
    },
    Admin,
}

#[derive(Clone, Debug)]
pub enum Body {
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
    /// The answer to HEAD: the headers of the body without the body.
    pub head_only: bool,
}

impl Surface {
    /// The front that listens at `host`.
    pub fn service(host: IpAddr) -> Self {
        Self::Service { public: !host.to_canonical().is_loopback() }
    }
}

impl Body {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

/// The whole decision.
pub fn respond(request: &Request<'_>, bodies: &Bodies, surface: Surface) -> Response {
    let path = request.path.split(['?', '#']).next().unwrap_or_default();
    let found = find(path, request, bodies, surface);
    let mut response = match (found, request.method) {
        (None, _) => text(404, b"Not found\n"),
        (Some(response), "GET") => response,
        (Some(response), "HEAD") => Response { head_only: true, ..response },
        (Some(_), _) => text(405, b"Only GET and HEAD\n").with("Allow", "GET, HEAD"),
    };
    response.headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
    if !response.headers.iter().any(|(name, _)| *name == "Cache-Control") {
        response.headers.push(("Cache-Control", "no-store".to_owned()));
    }
    response
}

fn find(path: &str, request: &Request<'_>, bodies: &Bodies, surface: Surface) -> Option<Response> {
    let age_ms = request.now_ms.saturating_sub(bodies.rendered_at_ms);
    let stale = age_ms > STALE_MS;
    let private = surface == Surface::Service { public: true };
    let ok = |good: bool| if good && !stale { 200 } else { 503 };
    let response = match path {
        "/health" if stale => json(200, stale_health(age_ms)),
        "/health" => json(200, bodies.health_json.clone()),
        "/ready" | "/live" if stale => json(503, stale_health(age_ms)),
        "/ready" => json(ok(bodies.ready), bodies.ready_json.clone()),
        "/live" => json(ok(bodies.live), bodies.live_json.clone()),
        "/version" => json(200, bodies.version_json.clone()),
        "/config" | "/clients" | "/metrics" if private => text(403, b"On the admin port only\n"),
        "/config" => json(200, bodies.config_json.clone()),
        "/clients" if stale => text(503, b"The list is stale\n"),
        "/clients" => json(200, bodies.clients_json.clone()),
        // A scrape that fails is better than one that repeats old numbers.
        "/metrics" if stale => text(503, b"The numbers are stale\n"),
        "/metrics" => Response::new(200, super::exposition::CONTENT_TYPE, Body::Shared(bodies.metrics_text.clone())),
        "/ws" if surface != Surface::Admin => {
            text(426, b"This is a WebSocket\n").with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13")
        }
        "/" if surface == Surface::Admin => text(200, ADMIN_INDEX),
        _ if surface == Surface::Admin => return None,
        _ => return page::asset(path).map(|asset| asset_response(request, asset)),
    };
    Some(response)
}

/// Assets change with the binary only: the browser keeps them and asks whether they are still the same.
fn asset_response(request: &Request<'_>, asset: page::Asset) -> Response {
    let tag = format!("\"{:016x}\"", fnv1a(asset.body));
    let same = request.if_none_match.is_some_and(|tags| {
        tags.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    let response = if same {
        Response::new(304, asset.content_type, Body::Static(b""))
    } else {
        Response::new(200, asset.content_type, Body::Static(asset.body))
    };
    response
        .with("ETag", &tag)
        .with("Cache-Control", "no-cache")
        .with("Content-Security-Policy", page::CONTENT_SECURITY_POLICY)
        .with("Referrer-Policy", "no-referrer")
        .with("X-Frame-Options", "DENY")
        .with("Cross-Origin-Opener-Policy", "same-origin")
}

/// Tells versions of an asset apart; nobody has to be kept from forging it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn stale_health(age_ms: u64) -> Arc<[u8]> {
    let reason = format!("these numbers would be {} s old: the http thread does not render", age_ms / 1_000);
    let body = serde_json::json!({"status": "degraded", "ready": false, "live": false, "reasons": [reason]});
    body.to_string().into_bytes().into()
}

fn json(status: u16, body: Arc<[u8]>) -> Response {
    Response::new(status, JSON, Body::Shared(body))
}

fn text(status: u16, body: &'static [u8]) -> Response {
    Response::new(status, TEXT, Body::Static(body))
}

impl Response {
    fn new(status: u16, content_type: &'static str, body: Body) -> Self {
        Self { status, content_type, headers: Vec::new(), body, head_only: false }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The bytes after the head: none for HEAD and 304.
    pub fn body_bytes(&self) -> &[u8] {
        if self.head_only || self.status == 304 { b"" } else { self.body.as_bytes() }
    }

    /// Status line and headers, for a front that writes its own HTTP/1.1 and closes after one answer.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nConnection: close\r\nContent-Type: {}\r\n",
            self.status,
            phrase(self.status),
            self.content_type
        );
        if self.status != 304 {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.as_bytes().len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: Surface = Surface::Service { public: false };
    const PUBLIC: Surface = Surface::Service { public: true };

    fn bodies(ready: bool) -> Bodies {
        let body = |text: &str| -> Arc<[u8]> { text.as_bytes().into() };
        Bodies {
            rendered_at_ms: 1_000,
            ready,
            live: true,
            health_json: body("health"),
            ready_json: body("ready"),
            live_json: body("live"),
            version_json: body("version"),
            config_json: body("config"),
            clients_json: body("clients"),
            metrics_text: body("metrics 1\n"),
        }
    }

    fn ask(method: &str, path: &str, surface: Surface) -> Response {
        respond(&Request { method, path, if_none_match: None, now_ms: 1_500 }, &bodies(true), surface)
    }

    fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn every_path_on_every_surface() {
        // Status at the service port on loopback, at a public one, and at the admin port.
        for (method, path, local, public, admin) in [
            ("GET", "/health", 200, 200, 200),
            ("GET", "/ready", 200, 200, 200),
            ("GET", "/live", 200, 200, 200),
            ("GET", "/version", 200, 200, 200),
            ("GET", "/config", 200, 403, 200),
            ("GET", "/clients", 200, 403, 200),
            ("GET", "/clients?x=1", 200, 403, 200),
            ("HEAD", "/clients", 200, 403, 200),
            ("POST", "/clients", 405, 405, 405),
            ("GET", "/metrics", 200, 403, 200),
            ("GET", "/metrics?x=1", 200, 403, 200),
            ("GET", "/health?", 200, 200, 200),
            ("GET", "/", 200, 200, 200),
            ("GET", "/index.html", 200, 200, 404),
            ("GET", "/page/main.js", 200, 200, 404),
            ("GET", "/ws", 426, 426, 404),
            ("HEAD", "/metrics", 200, 403, 200),
            ("HEAD", "/", 200, 200, 200),
            ("POST", "/health", 405, 405, 405),
            ("DELETE", "/", 405, 405, 405),
            ("get", "/health", 405, 405, 405),
            ("GET", "/nothing", 404, 404, 404),
            ("POST", "/nothing", 404, 404, 404),
            ("GET", "", 404, 404, 404),
            ("GET", "//health", 404, 404, 404),
            ("GET", "/health/", 404, 404, 404),
            ("GET", "/page/../src/main.rs", 404, 404, 404),
            ("GET", "http://elsewhere/health", 404, 404, 404),
        ] {
            for (surface, expected) in [(LOCAL, local), (PUBLIC, public), (Surface::Admin, admin)] {
                let response = ask(method, path, surface);
                assert_eq!(response.status, expected, "{method} {path} {surface:?}");
                assert_eq!(header(&response, "X-Content-Type-Options"), Some("nosniff"), "{path}");
                assert!(header(&response, "Cache-Control").is_some(), "{path}");
                assert_eq!(response.status == 405, header(&response, "Allow") == Some("GET, HEAD"), "{path}");
                assert_ne!(phrase(response.status), "Unknown", "{}", response.status);
            }
        }
    }

    #[test]
    fn a_service_is_public_unless_it_listens_on_loopback() {
        for (host, public) in [
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("10.0.0.1", true),
        ] {
            assert_eq!(Surface::service(host.parse().expect(host)), Surface::Service { public }, "{host}");
        }
    }

    #[test]
    fn bodies_go_to_their_paths_with_their_types() {
        for (path, content_type, body) in [
            ("/health", JSON, "health"),
            ("/ready", JSON, "ready"),
            ("/live", JSON, "live"),
            ("/version", JSON, "version"),
            ("/config", JSON, "config"),
            ("/clients", JSON, "clients"),
            ("/metrics", "text/plain; version=0.0.4", "metrics 1\n"),
        ] {
            let response = ask("GET", path, LOCAL);
            assert_eq!((response.content_type, response.body_bytes()), (content_type, body.as_bytes()), "{path}");
            assert_eq!(header(&response, "Cache-Control"), Some("no-store"), "{path}");
        }
    }

    #[test]
    fn trouble_is_503_in_ready_and_200_in_health() {
        let request = |path| Request { method: "GET", path, if_none_match: None, now_ms: 1_500 };
        assert_eq!(respond(&request("/ready"), &bodies(false), LOCAL).status, 503);
        assert_eq!(respond(&request("/health"), &bodies(false), LOCAL).status, 200);
        assert_eq!(respond(&request("/live"), &bodies(false), LOCAL).status, 200);
    }

    #[test]
    fn bodies_that_nobody_renders_any_more_are_not_believed() {
        for (path, fresh, stale) in [
            ("/ready", 200, 503),
            ("/live", 200, 503),
            ("/metrics", 200, 503),
            ("/clients", 200, 503),
            ("/health", 200, 200),
            ("/version", 200, 200),
        ] {
            for (now_ms, expected) in [(11_000, fresh), (11_001, stale), (0, fresh)] {
                let request = Request { method: "GET", path, if_none_match: None, now_ms };
                assert_eq!(respond(&request, &bodies(true), Surface::Admin).status, expected, "{path} at {now_ms}");
            }
        }
        let request = Request { method: "GET", path: "/health", if_none_match: None, now_ms: 61_000 };
        let response = respond(&request, &bodies(true), LOCAL);
        let body: serde_json::Value = serde_json::from_slice(response.body_bytes()).expect("JSON");
        assert_eq!(body["status"], "degraded");
        assert!(body["reasons"][0].as_str().is_some_and(|reason| reason.contains("60 s old")), "{body}");
    }

    #[test]
    fn the_page_is_served_under_its_policy_and_kept_by_the_browser() {
        for path in ["/", "/page/main.js", "/page/style.css"] {
            let response = ask("GET", path, PUBLIC);
            assert_eq!(header(&response, "Content-Security-Policy"), Some(page::CONTENT_SECURITY_POLICY), "{path}");
            assert_eq!(header(&response, "Cache-Control"), Some("no-cache"), "{path}");
            assert!(!response.body_bytes().is_empty());
            let tag = header(&response, "ETag").expect("a tag").to_owned();
            for (known, expected) in [
                (tag.clone(), 304),
                (format!("W/{tag}"), 304),
                (format!("\"x\", {tag}"), 304),
                ("*".to_owned(), 304),
                ("\"x\"".to_owned(), 200),
                (String::new(), 200),
            ] {
                let request = Request { method: "GET", path, if_none_match: Some(&known), now_ms: 1_500 };
                let response = respond(&request, &bodies(true), PUBLIC);
                assert_eq!(response.status, expected, "{path} {known}");
                assert_eq!(response.body_bytes().is_empty(), expected == 304);
            }
        }
    }

    #[test]
    fn heads_are_exact() {
        let response = ask("HEAD", "/metrics", Surface::Admin);
        assert_eq!(
            String::from_utf8(response.head_bytes()).expect("text"),
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; version=0.0.4\r\n\
             Content-Length: 10\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n"
        );
        assert!(response.body_bytes().is_empty());
        let response = ask("PUT", "/metrics", Surface::Admin);
        let head = String::from_utf8(response.head_bytes()).expect("text");
        assert!(
            head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n") && head.contains("Allow: GET, HEAD\r\n"),
            "{head}"
        );
    }
}
