//! The contract: what people and scripts may rely on, held against the program as it is started on a real host.
//!
//! Each test has a throwaway host (`scripts/host`) with real users, sudo, git, PostgreSQL and sshd. One file a theme.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that cannot go on fails its test"
)]

mod sandbox;
mod self_test;
