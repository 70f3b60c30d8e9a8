//! What was observed of a step's tables.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::host::warehouse::Catalog;

/// What was observed: the catalog, and the date that determines the current period.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Actual {
    pub as_of: Date,
    pub catalog: Catalog,
}
