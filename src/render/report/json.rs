//! A report as JSON lines.

use serde_json::json;

use super::groups::Report;
use crate::render::to_json_line;

pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for missing in &report.without_result {
        let mut line = json!({ "event": "report_no_result", "file": missing.file, "reason": missing.why });
        if let Some((host, plan)) = &missing.run {
            (line["host"], line["plan"]) = (json!(host), json!(plan));
        }
        text += &to_json_line(&line);
    }
    for group in &report.groups {
        let mut line = json!({ "event": "report_group" });
        if let (Some(line), Ok(serde_json::Value::Object(fields))) = (line.as_object_mut(), serde_json::to_value(group))
        {
            line.extend(fields);
        }
        text += &to_json_line(&line);
    }
    text += &to_json_line(&json!({
        "event": "report_finished",
        "hosts": report.host_count(),
        "groups": report.groups.len(),
        "without_result": report.without_result.len(),
        "ok": report.is_ok(),
    }));
    text
}
