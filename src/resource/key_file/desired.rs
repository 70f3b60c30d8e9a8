//! The desired state of a key file, as a plan file has it.

use serde::{Deserialize, Serialize};

use super::proof::Verify;
use crate::host::secret::{Secret, SecretSource, optional_source};
use crate::host::ssh::repaired;
use crate::resource::ObserveContext;
use crate::resource::value::{AbsolutePath, Account, Mode};

/// The mode that `ssh` and the runbook require for a key.
const DEFAULT_MODE: Mode = Mode::from_bits(0o400);

/// The resource as written in the plan file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    pub path: AbsolutePath,
    /// The source of the key. Without it, existing content is left alone.
    #[serde(default, deserialize_with = "optional_source")]
    pub source: Option<SecretSource>,
    /// Defaults to 0400.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// The user of the file. A new file belongs to the acting user if it is not given.
    #[serde(default)]
    pub owner: Option<Account>,
    #[serde(default)]
    pub group: Option<Account>,
    #[serde(default)]
    pub verify: Option<Verify>,
}

impl KeyFile {
    pub fn desired_mode(&self) -> Mode {
        self.mode.unwrap_or(DEFAULT_MODE)
    }

    /// Returns the value of the source. Shells (`$(…)`) and many tools remove the final line ending that `ssh`
    /// requires, and white space may have been added around the key. Both are repaired.
    pub fn key(&self, cx: &ObserveContext) -> Option<Secret> {
        let secret = cx.secret()?;
        Some(repaired(secret.expose()).unwrap_or_else(|| secret.clone()))
    }
}
