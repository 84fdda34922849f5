//! The web page and its assets, embedded in the binary: `asset` finds one by request path.
//! What the page does lives in `assets/`, as plain ES modules without a build step; who serves them, and with which
//! HTTP headers, is decided by the HTTP fronts. Nothing here reads a file or a socket.

/// Sent with every asset. The page loads nothing from elsewhere and holds no inline script or style, so that text
/// from a record can never become code.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    pub content_type: &'static str,
    pub body: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Every file, by the path it is served at.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("/", HTML, include_bytes!("assets/index.html")),
    ("/page/favicon.svg", SVG, include_bytes!("assets/favicon.svg")),
    ("/page/style.css", CSS, include_bytes!("assets/style.css")),
    ("/page/boot.js", JS, include_bytes!("assets/boot.js")),
    ("/page/main.js", JS, include_bytes!("assets/main.js")),
    ("/page/app.js", JS, include_bytes!("assets/app.js")),
    ("/page/client.js", JS, include_bytes!("assets/client.js")),
    ("/page/connection.js", JS, include_bytes!("assets/connection.js")),
    ("/page/backoff.js", JS, include_bytes!("assets/backoff.js")),
    ("/page/ledger.js", JS, include_bytes!("assets/ledger.js")),
    ("/page/model.js", JS, include_bytes!("assets/model.js")),
    ("/page/meter.js", JS, include_bytes!("assets/meter.js")),
    ("/page/storage.js", JS, include_bytes!("assets/storage.js")),
    ("/page/runs_state.js", JS, include_bytes!("assets/runs_state.js")),
    ("/page/words.js", JS, include_bytes!("assets/words.js")),
    ("/page/view.js", JS, include_bytes!("assets/view.js")),
    ("/page/runs_view.js", JS, include_bytes!("assets/runs_view.js")),
    ("/page/run_view.js", JS, include_bytes!("assets/run_view.js")),
    ("/page/stream_view.js", JS, include_bytes!("assets/stream_view.js")),
    ("/page/clients_view.js", JS, include_bytes!("assets/clients_view.js")),
    ("/page/chart.js", JS, include_bytes!("assets/chart.js")),
    ("/page/dom.js", JS, include_bytes!("assets/dom.js")),
    ("/page/format.js", JS, include_bytes!("assets/format.js")),
];

/// The asset at a request path (without its query), or none.
pub fn asset(path: &str) -> Option<Asset> {
    let path = if path == "/index.html" { "/" } else { path };
    ASSETS
        .iter()
        .find(|(served_at, ..)| *served_at == path)
        .map(|&(_, content_type, body)| Asset { content_type, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_the_page_names_is_served() {
        let mut named = 0;
        for (served_at, _, body) in ASSETS {
            let text = std::str::from_utf8(body).expect("assets are text");
            for (before, after) in
                [("href=\"./page/", "\""), ("src=\"./page/", "\""), ("from './", "'"), ("import('./", "'")]
            {
                for piece in text.split(before).skip(1) {
                    let file = piece.split(after).next().unwrap_or_default();
                    named += 1;
                    assert!(asset(&format!("/page/{file}")).is_some(), "{served_at} names {file}, which is not served");
                }
            }
        }
        assert!(named >= 30, "only {named} names were found");
    }

    #[test]
    fn every_file_in_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/page/assets");
        let mut files = 0;
        for entry in std::fs::read_dir(folder).expect("the assets folder") {
            let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
            let path = if name == "index.html" { "/".to_owned() } else { format!("/page/{name}") };
            assert!(asset(&path).is_some(), "{name} is not served");
            files += 1;
        }
        assert_eq!(files, ASSETS.len());
    }

    #[test]
    fn nothing_in_the_page_needs_what_the_policy_forbids() {
        let html = std::str::from_utf8(asset("/").expect("the page").body).expect("text");
        for forbidden in ["<style", " style=", " onclick=", " onload=", "javascript:", "http://", "https://"] {
            assert!(!html.contains(forbidden), "index.html holds {forbidden}");
        }
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
        for (path, content_type, body) in ASSETS {
            let text = std::str::from_utf8(body).expect("assets are text");
            if *content_type == JS {
                for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "new Function", "parseFloat"]
                {
                    assert!(!text.contains(forbidden), "{path} uses {forbidden}");
                }
            }
        }
    }

    #[test]
    fn every_module_is_fetched_at_once() {
        let html = std::str::from_utf8(asset("/").expect("the page").body).expect("text");
        for (path, content_type, _) in ASSETS.iter().filter(|(path, ..)| *path != "/page/boot.js") {
            let preload = format!("<link rel=\"modulepreload\" href=\".{path}\">");
            assert!(*content_type != JS || html.contains(&preload), "{path} is found out about only later");
        }
    }

    #[test]
    fn unknown_paths_are_none() {
        for path in ["", "/page", "/page/", "/page/../mod.rs", "/page/nothing.js", "//", "/PAGE/main.js"] {
            assert!(asset(path).is_none(), "{path:?}");
        }
        assert!(asset("/index.html").is_some());
    }
}
