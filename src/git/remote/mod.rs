//! Speaks to remotes by the `git` program, so that they are reached as git reaches them, and says clearly why one cannot be
//! reached.
//!
//! [`command`] runs git at a [`Site`]: with its configuration ([`settings`]), without the password of a URL ([`login`]), and
//! with an ssh that asks nothing ([`ssh`]). [`scratch`] is where it writes. [`list`] and [`fetch`] are what it is asked for,
//! [`failure`] explains why it failed, and [`remedy`], [`ssh_remedy`] and [`port_hint`] how to fix it.

mod command;
pub mod configured;
mod failure;
mod fetch;
mod list;
mod login;
mod port_hint;
mod remedy;
#[cfg(test)]
mod remedy_tests;
pub mod scratch;
mod settings;
mod shim;
mod site;
mod ssh;
mod ssh_config;
mod ssh_remedy;
mod url;
mod withheld;

pub use fetch::{History, Tag, download, download_all, follow_tags, moved_on};
pub use list::{Answer, ask, default_branch};
pub use scratch::{DownloadError, Scratch};
pub use site::{CheckoutState, Site};
pub use url::{absolute, local_path, same_place, same_url, ssh_host};
