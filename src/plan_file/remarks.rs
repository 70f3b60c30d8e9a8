//! Remarks on plan files: what is valid, but probably a mistake.

use super::keys::diagnose;
use super::{DiagnosticPlace, Inputs, PlanFile};

impl PlanFile {
    /// Returns the remarks of the kinds with their places. Invalid steps have none.
    pub fn remarks(&self, inputs: &Inputs) -> Vec<DiagnosticPlace> {
        let evaluator = self.evaluator(inputs);
        let mut found = Vec::new();
        for written in &self.steps {
            if let Ok(step) = self.step(written, &evaluator) {
                let remarks = step.resource.remarks().into_iter();
                found.extend(remarks.map(|error| diagnose(error, &written.body, &written.kind_span, evaluator.text())));
            }
        }
        if found.is_empty() { Vec::new() } else { self.problems(found).places() }
    }
}
