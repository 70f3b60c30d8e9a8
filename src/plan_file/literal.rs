//! Text that a plan file takes literally, although it may look like a template.

use super::template::has_template;

/// Returns a text for a plan file that evaluates to the given text.
pub fn literal(text: &str) -> String {
    if !has_template(text) {
        return text.to_owned();
    }
    // JSON's strings are also valid in Jinja.
    format!("{{{{ {} }}}}", serde_json::Value::from(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan_file::{Inputs, PlanFile};

    fn evaluated(text: &str) -> String {
        let plan = serde_json::json!({
            "name": "x",
            "steps": [{ "id": "a", "title": "a", "compose_env": {
                "file": "/a", "variable": "A", "value": { "command": [literal(text)] },
            } }],
        });
        let text = serde_yaml::to_string(&plan).unwrap();
        let plan = PlanFile::parse("x.yaml", &text).unwrap();
        let described = plan.describe(&[], &Inputs::default()).unwrap().remove(0).step.unwrap();
        let resource = serde_json::to_value(described.resource).unwrap();
        resource["compose_env"]["value"]["command"][0].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_looks_like_a_template_is_given_as_it_is() {
        for text in ["{{ x }}", "a{{", "}}{{'\"\\", "{% raw %}", "{#", "{{\n}}\t", "{{ \u{1} \u{1f600} }}", "plain { }"]
        {
            assert_eq!(evaluated(text), text);
        }
        assert_eq!(literal("/srv/a b"), "/srv/a b");
    }

    proptest! {
        #[test]
        fn evaluating_gives_the_text_back(text in "[a{}%#'\"\\\\ \n\u{e9}-]{1,12}") {
            prop_assert_eq!(evaluated(&text), text);
        }
    }
}
