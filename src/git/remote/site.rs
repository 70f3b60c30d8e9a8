//! What git has to know about a remote and the checkout.

use std::path::Path;

/// A remote, and the checkout from which it is reached.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The remote's name in the configuration.
    pub remote: &'a str,
    /// Its URL in the configuration, or else in the step.
    pub url: &'a str,
    /// A URL of the same place whose user and password are used instead of those in `url`: that of the step.
    pub login: Option<&'a str>,
    /// The branch that the checkout is to be on.
    pub branch: &'a str,
    /// The checkout's top directory.
    pub top: &'a Path,
    pub checkout: CheckoutState<'a>,
}

/// Whether the checkout exists.
#[derive(Debug, Clone, Copy)]
pub enum CheckoutState<'a> {
    /// It exists.
    Present,
    /// It does not exist yet.
    Missing,
    /// It is being cloned. This is its git directory, which still has another name.
    Building(&'a Path),
}
