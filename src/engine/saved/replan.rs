//! The hint for a saved plan that is not valid: the command that makes a new plan.

use super::{Flags, Saved, Var, replan_hint};
use crate::failure::Failure;
use crate::text::{file_word, shell_word};

impl Saved {
    /// Returns how to make a new plan of the same plan file with the same flags. `…` stands for a value that is not kept.
    pub(super) fn replan_hint(&self) -> String {
        let Flags { only, skip, as_of, vars } = self.flags();
        let file = file_word(self.file());
        let source = if self.plan_file().is_some() { format!("- --as {file}") } else { file };
        let mut plan = format!("plan {source}");
        for (option, ids) in [("--only", only), ("--skip", skip)] {
            if !ids.is_empty() {
                plan.push_str(&format!(" {option} {}", shell_word(ids.join(","))));
            }
        }
        // The default is the day of the plan, which may have passed.
        if !self.body.made.starts_with(&as_of.to_string()) {
            plan.push_str(&format!(" --as-of {as_of}"));
        }
        for (name, var) in vars {
            let value = if let Var::Value(value) = var { value } else { "…" };
            plan.push_str(&format!(" --var {}", shell_word(format!("{name}={value}"))));
        }
        if self.plan_file().is_some() {
            // The command would wait for the plan file on the terminal.
            let saved = file_word(&self.path);
            let how = "then send the plan file to provision again, with these arguments";
            return format!("remove {saved}, {how}: {plan} --out {saved}");
        }
        replan_hint(&self.path, &format!("provision {plan}"))
    }

    /// Returns the failure for a plan that was already applied.
    pub(super) fn used(&self, by: &[u8]) -> Failure {
        let by = String::from_utf8_lossy(by);
        let by = by.trim();
        let run = if by.is_empty() { String::new() } else { format!(" by run {by}") };
        Failure::new(format!("the saved plan was already applied{run}; a saved plan can be applied only once"))
            .hint(self.replan_hint())
    }

    /// Fails if anything `differs` from when the plan was made.
    pub(super) fn refused(&self, differs: &[String]) -> Result<(), Failure> {
        if differs.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("the saved plan is not valid here: {}", differs.join("; "))).hint(self.replan_hint()))
    }
}
