//! A real Chromium, driven over the DevTools protocol: opens a page, asks it questions, takes pictures, and collects
//! everything that the browser complained about.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::WebSocket;

use super::broker::{die_with_parent, scratch};
use super::wait;

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub struct Browser {
    process: Child,
    directory: PathBuf,
    socket: WebSocket<TcpStream>,
    calls: u64,
    /// Console errors and warnings, exceptions, and what the browser itself logs (violations of the page's policy).
    pub complaints: Vec<String>,
}

impl Browser {
    /// Starts a browser with an empty page. It dies with the thread that made it.
    pub fn start(what: &str) -> Self {
        let directory = scratch(what);
        let mut process = spawn(&directory);
        let active = directory.join("DevToolsActivePort");
        let port: u16 = wait::until("a browser that listens", Duration::from_secs(60), || {
            let ended = process.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the browser ended: {ended:?}");
            std::fs::read_to_string(&active).ok()?.lines().next()?.parse().ok()
        });
        let pages = wait::until("an empty page", wait::SOON, || {
            let response = super::http::try_get(([127, 0, 0, 1], port).into(), "/json/list")?;
            Some(response.json()).filter(|pages| page_address(pages).is_some())
        });
        let address = page_address(&pages).expect("a page");
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the browser listens");
        let request = address.into_client_request().expect("the browser's own address");
        let (socket, _) = tungstenite::client(request, stream).expect("DevTools accepts");
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
        let mut browser = Self { process, directory, socket, calls: 0, complaints: Vec::new() };
        for domain in ["Runtime", "Log", "Page"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// One DevTools call, and its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let text = json!({"id": id, "method": method, "params": parameters}).to_string();
        self.socket.send(Message::text(text)).expect("the browser reads");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let mut message: Value = serde_json::from_str(text.as_str()).expect("DevTools speaks JSON");
                    if message["id"] == id {
                        assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                        return message["result"].take();
                    }
                    self.hear(&message);
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                {
                    assert!(Instant::now() < deadline, "{method} was not answered");
                }
                Err(error) => panic!("{method}: {error}"),
            }
        }
    }

    fn hear(&mut self, message: &Value) {
        let parameters = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(format!("exception: {}", parameters["exceptionDetails"]));
            }
            Some("Runtime.consoleAPICalled")
                if matches!(parameters["type"].as_str(), Some("error" | "warning" | "assert")) =>
            {
                self.complaints.push(format!("console: {}", parameters["args"]));
            }
            Some("Log.entryAdded") if matches!(parameters["entry"]["level"].as_str(), Some("error" | "warning")) => {
                self.complaints.push(format!("log: {} {}", parameters["entry"]["text"], parameters["entry"]["url"]));
            }
            _ => {}
        }
    }

    pub fn open(&mut self, address: &str) {
        let result = self.call("Page.navigate", json!({"url": address}));
        assert!(result["errorText"].is_null(), "{address}: {}", result["errorText"]);
        self.until("a page that is loaded", "document.readyState === 'complete'");
    }

    pub fn reload(&mut self) {
        self.run("window.before = true");
        self.call("Page.reload", json!({}));
        self.until("a page that is loaded again", "!window.before && document.readyState === 'complete'");
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `dark` or `light`, as the system would say it.
    pub fn prefer(&mut self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// The value of an expression in the page.
    pub fn run(&mut self, expression: &str) -> Value {
        let mut result = self
            .call("Runtime.evaluate", json!({"expression": expression, "awaitPromise": true, "returnByValue": true}));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Waits until an expression in the page is true.
    pub fn until(&mut self, what: &str, expression: &str) {
        wait::until_true(what, Duration::from_secs(90), || self.run(expression) == true);
    }

    /// Presses and releases one key.
    pub fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if key.len() == 1 && kind == "keyDown" { key } else { "" };
            self.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key, "text": text}));
        }
    }

    pub fn picture(&mut self, path: &Path) {
        let result = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let data = result["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(path, bytes).expect("the picture can be written");
    }
}

fn spawn(directory: &Path) -> Child {
    for name in NAMES {
        let mut command = Command::new(name);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", directory.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        die_with_parent(&mut command);
        match command.spawn() {
            Ok(process) => return process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    panic!("none of {NAMES:?} is installed: run tests/run");
}

fn page_address(pages: &Value) -> Option<String> {
    let page = pages.as_array()?.iter().find(|page| page["type"] == "page")?;
    page["webSocketDebuggerUrl"].as_str().map(str::to_owned)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have died already, which is then what the test is about.
        drop(self.process.kill());
        drop(self.process.wait());
        if !std::thread::panicking() {
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}
