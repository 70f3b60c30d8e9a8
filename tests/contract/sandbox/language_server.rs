//! The language server for YAML that editors run, over its standard input and output.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Where scripts/setup installs what the tests run.
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// How long an answer may take, on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A server that checks every plan file with one schema.
pub struct LanguageServer {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    /// All messages and the standard error, for a test that fails.
    log: Arc<Mutex<String>>,
    settings: Value,
    timeout: Duration,
    requests: u64,
    problems: BTreeMap<String, Vec<Value>>,
}

impl LanguageServer {
    pub fn start(schema: &Path) -> Self {
        let mut command = Command::new(tools().join("python/bin/node"));
        command.arg(tools().join("node/node_modules/yaml-language-server/bin/yaml-language-server")).arg("--stdio");
        Self::run(&mut command, schema, ANSWER_TIMEOUT)
    }

    /// Starts a server by its command. An answer may take `timeout`.
    fn run(command: &mut Command, schema: &Path, timeout: Duration) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = pipes.spawn().expect("scripts/setup --tests installs the language server");
        let log = Arc::new(Mutex::new(String::new()));
        let input = process.stdin.take().unwrap();
        let messages = read_messages(process.stdout.take().unwrap(), &log);
        read_errors(process.stderr.take().unwrap(), &log);
        let settings = json!({
            "schemas": { address(schema): "*.yaml" }, "schemaStore": { "enable": false },
            "validate": true, "completion": true, "hover": true,
        });
        let mut server =
            Self { process, input, messages, log, settings, timeout, requests: 0, problems: BTreeMap::new() };
        let capabilities = json!({ "workspace": { "configuration": true } });
        server.request("initialize", &json!({ "processId": null, "rootUri": null, "capabilities": capabilities }));
        server.send(&json!({ "method": "initialized", "params": {} }));
        server.send(&json!({ "method": "workspace/didChangeConfiguration", "params": { "settings": {} } }));
        server
    }

    /// Opens a file as an editor does.
    pub fn open(&mut self, file: &Path, text: &str) {
        let document = json!({ "uri": address(file), "languageId": "yaml", "version": 1, "text": text });
        self.send(&json!({ "method": "textDocument/didOpen", "params": { "textDocument": document } }));
    }

    /// Waits for the problems of a file that was opened.
    pub fn problems(&mut self, file: &Path) -> Vec<Value> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(problems) = self.problems.get(&address(file)) {
                return problems.clone();
            }
            self.receive(deadline, "the problems of a file");
        }
    }

    /// Returns the words that are offered at a position, with lines and columns from 0.
    pub fn completions(&mut self, file: &Path, line: u32, column: u32) -> Vec<String> {
        let answer = self.at("completion", file, line, column);
        let items = answer["items"].as_array().or(answer.as_array()).unwrap();
        items.iter().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns what is shown about the word at a position.
    pub fn hover(&mut self, file: &Path, line: u32, column: u32) -> String {
        self.at("hover", file, line, column)["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    fn at(&mut self, method: &str, file: &Path, line: u32, column: u32) -> Value {
        let position = json!({ "line": line, "character": column });
        let params = json!({ "textDocument": { "uri": address(file) }, "position": position });
        self.request(&format!("textDocument/{method}"), &params)
    }

    fn request(&mut self, method: &str, params: &Value) -> Value {
        self.requests += 1;
        let id = self.requests;
        self.send(&json!({ "id": id, "method": method, "params": params }));
        let deadline = Instant::now() + self.timeout;
        loop {
            let message = self.receive(deadline, method);
            if message["id"] == id && message["method"].is_null() {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn send(&mut self, message: &Value) {
        let mut message = message.clone();
        message["jsonrpc"] = "2.0".into();
        let text = message.to_string();
        // A server that has ended is reported by what is waited for next.
        let sent = write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len());
        drop(sent.and_then(|()| self.input.flush()));
    }

    /// Takes a message, and answers it if it is a question. `what` is waited for.
    fn receive(&mut self, deadline: Instant, what: &str) -> Value {
        let message = self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        let message = message.unwrap_or_else(|error| {
            let why = match error {
                RecvTimeoutError::Timeout => "has not sent",
                RecvTimeoutError::Disconnected => "has ended without sending",
            };
            panic!("the language server {why} {what}; its output:\n{}", self.log.lock().unwrap());
        });
        let params = &message["params"];
        if message["method"] == "textDocument/publishDiagnostics" {
            let problems = params["diagnostics"].as_array().unwrap().clone();
            self.problems.insert(params["uri"].as_str().unwrap().to_owned(), problems);
        } else if !message["method"].is_null() && !message["id"].is_null() {
            let sections = params["items"].as_array().into_iter().flatten();
            let answer = |item: &Value| if item["section"] == "yaml" { self.settings.clone() } else { Value::Null };
            let answers: Vec<Value> = sections.map(answer).collect();
            self.send(&json!({ "id": message["id"], "result": answers }));
        }
        message
    }
}

impl Drop for LanguageServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Reads messages until the output ends.
fn read_messages(output: ChildStdout, log: &Arc<Mutex<String>>) -> Receiver<Value> {
    let (sender, messages) = channel();
    let (mut output, log) = (BufReader::new(output), Arc::clone(log));
    std::thread::spawn(move || {
        while let Some(text) = read_message(&mut output) {
            log.lock().unwrap().push_str(&format!("{text}\n"));
            let Ok(message) = serde_json::from_str(&text) else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    messages
}

fn read_message(output: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut text = vec![0; length];
    output.read_exact(&mut text).ok()?;
    String::from_utf8(text).ok()
}

fn read_errors(errors: ChildStderr, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            log.lock().unwrap().push_str(&format!("{line}\n"));
        }
    });
}

fn address(file: &Path) -> String {
    format!("file://{}", file.display())
}

#[test]
#[should_panic(expected = "the language server has not sent initialize; its output:\nnot ready\n")]
fn a_silent_server_fails_its_test_with_its_output() {
    let mut silent = Command::new("sh");
    silent.args(["-c", "echo not ready >&2; exec sleep 100"]);
    LanguageServer::run(&mut silent, Path::new("/schema.json"), Duration::from_secs(5));
}

#[test]
#[should_panic(expected = "the language server has ended without sending initialize")]
fn a_server_that_ends_fails_its_test() {
    LanguageServer::run(&mut Command::new("true"), Path::new("/schema.json"), ANSWER_TIMEOUT);
}
