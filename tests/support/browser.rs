//! Chromium, driven over the WebDriver protocol by chromedriver.

use super::{PATIENCE, eventually, tools};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::Instant,
};

/// A browser window without a screen. Closed when dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser. `None` where there is none; see [`tools::program`].
    pub fn start() -> Option<Self> {
        let chromium = tools::program("chromium")?;
        let mut driver = tools::program("chromedriver")?;
        let driver = driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = driver.spawn().expect("chromedriver runs");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            line.split_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
        });
        // Its later output has a reader, so that it never waits.
        std::thread::spawn(move || lines.for_each(drop));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("a port")));
        let profile = tempfile::tempdir().expect("a directory");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--no-proxy-server",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let options = json!({ "binary": chromium.get_program().to_str(), "args": arguments });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
            "unhandledPromptBehavior": "ignore",
        } } });
        let mut this = Self { driver, address, session: String::new(), _profile: profile };
        let session = this.send("POST", "/session", &wanted)["sessionId"].clone();
        this.session = session.as_str().expect("a session").to_owned();
        Some(this)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let (status, mut answer) = ask(self.address, method, path, &body).expect("an answer");
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer["value"].take()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.send(method, &format!("/session/{}{path}", self.session), body)
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of the page, as people see it.
    pub fn text(&self) -> String {
        self.value("document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page shows this text.
    pub fn wait_for(&self, text: &str) {
        let began = Instant::now();
        while !self.text().contains(text) {
            assert!(began.elapsed() < PATIENCE, "no {text:?} in {}", self.text());
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    }

    /// Clicks on the first element that has this selector and exactly this text, once it is there.
    pub fn click(&self, selector: &str, text: &str) {
        let (quoted, text) = (json!(selector), json!(text));
        let find = format!(
            "[...document.querySelectorAll({quoted})].find(it => it.textContent == {text})"
        );
        let click = format!("(() => {{ const it = {find}; it?.click(); return !!it }})()");
        eventually(&format!("{selector} {text}"), || (self.value(&click) == true).then_some(()));
    }

    /// Types into the focused element.
    pub fn type_keys(&self, text: &str) {
        let press = |key: char| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let keys: Vec<Value> = text.chars().flat_map(press).collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] });
        self.command("POST", "/actions", &actions);
    }

    /// Sets what the user prefers: `light` or `dark`.
    pub fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let command =
            json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": features } });
        self.command("POST", "/goog/cdp/execute", &command);
    }

    /// Sets the size of the window, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params });
        self.command("POST", "/goog/cdp/execute", &command);
    }

    /// What the console has shown since the last call: warnings and errors.
    pub fn console(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().into_iter().flatten();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Whether the page has opened a dialog of the browser, such as `alert`.
    pub fn has_dialog(&self) -> bool {
        let path = format!("/session/{}/alert/text", self.session);
        ask(self.address, "GET", &path, "").expect("an answer").0 == 200
    }
}

/// Sends a request to the driver, which leaves the connection open: the status and the JSON of the answer.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    // A session begins with the start of a browser.
    stream.set_read_timeout(Some(3 * PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut length = 0;
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok((status, serde_json::from_slice(&answer).expect("JSON")))
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _ = ask(self.address, "DELETE", &path, "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
