//! Why a run could not be prepared.

use crate::failure::Failure;
use crate::plan_file::Diagnostics;

/// Why a run could not be prepared. Nothing was changed.
#[derive(Debug)]
pub enum NotPrepared {
    Failure(Failure),
    /// The plan file is wrong.
    Diagnostics(Diagnostics),
    /// The run was stopped by this signal.
    Stopped(i32),
}

impl From<Failure> for NotPrepared {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Diagnostics> for NotPrepared {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Diagnostics(diagnostics)
    }
}
