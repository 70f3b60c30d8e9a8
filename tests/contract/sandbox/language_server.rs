//! The language server for YAML that editors run, over its standard input and output.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Where scripts/setup installs what the tests run.
pub fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools")
}

/// A server that checks every plan file with one schema.
pub struct LanguageServer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    settings: Value,
    requests: u64,
    problems: BTreeMap<String, Vec<Value>>,
}

impl LanguageServer {
    pub fn start(schema: &Path) -> Self {
        let mut process = Command::new(tools().join("python/bin/node"))
            .arg(tools().join("node/node_modules/yaml-language-server/bin/yaml-language-server"))
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/setup --tests installs the language server");
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let settings = json!({
            "schemas": { address(schema): "*.yaml" }, "schemaStore": { "enable": false },
            "validate": true, "completion": true, "hover": true,
        });
        let mut server = Self { process, input, output, settings, requests: 0, problems: BTreeMap::new() };
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
        loop {
            if let Some(problems) = self.problems.get(&address(file)) {
                return problems.clone();
            }
            self.receive();
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
        loop {
            let message = self.receive();
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
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    /// Reads a message, and answers it if it is a question.
    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the language server has ended");
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut text = vec![0; length];
        self.output.read_exact(&mut text).unwrap();
        let message: Value = serde_json::from_slice(&text).unwrap();
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

fn address(file: &Path) -> String {
    format!("file://{}", file.display())
}
