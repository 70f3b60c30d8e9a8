//! The command that makes another plan in the place of a saved one that does not hold any more.

use super::{Flags, Saved, Var, again};
use crate::failure::Failure;
use crate::text::{file_word, shell_word};

impl Saved {
    /// Returns the command that makes a new plan of the same plan file, steps and variables. A value that is not kept is `…`.
    pub(super) fn again(&self) -> String {
        let Flags { only, skip, vars, .. } = self.flags();
        let file = file_word(self.file());
        let source = if self.plan_file().is_some() { format!("- --as {file}") } else { file };
        let mut plan = format!("provision plan {source}");
        for (option, ids) in [("--only", only), ("--skip", skip)] {
            if !ids.is_empty() {
                plan.push_str(&format!(" {option} {}", shell_word(&ids.join(","))));
            }
        }
        for (name, var) in vars {
            let value = if let Var::Value(value) = var { value } else { "…" };
            plan.push_str(&format!(" --var {}", shell_word(&format!("{name}={value}"))));
        }
        again(&self.path, &plan)
    }

    /// The failure of a plan that was applied before.
    pub(super) fn used(&self, by: &[u8]) -> Failure {
        let by = String::from_utf8_lossy(by);
        let by = by.trim();
        let run = if by.is_empty() { String::new() } else { format!(", by the run {by}") };
        Failure::new(format!("the saved plan was applied already{run}: it is used once")).hint(self.again())
    }

    /// The failure of a plan that is not valid here, if anything `differs`.
    pub(super) fn refused(&self, differs: &[String]) -> Result<(), Failure> {
        if differs.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("the saved plan does not hold here: {}", differs.join("; "))).hint(self.again()))
    }
}
