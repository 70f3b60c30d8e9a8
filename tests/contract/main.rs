//! The contract: what people and scripts may rely on, tested with the program on a real host.
//!
//! Each test has a throwaway host (`scripts/host`) with real users, sudo, git, PostgreSQL and sshd. There is one file
//! per topic. `law_*` are the laws in docs/architecture.md.
#![allow(clippy::disallowed_methods, reason = "tests prepare files and read their settings")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that cannot continue fails its test"
)]

mod sandbox;

mod adopt;
mod ansible;
mod bastions;
mod checkout_denials;
mod checkout_modes;
mod closed_ways;
mod command_line;
mod connection_defaults;
mod denials;
mod diagnostics;
mod documents;
mod events;
mod examples;
mod exposed_sources;
#[cfg(target_arch = "x86_64")]
mod faults;
mod files;
mod follow_ups;
mod generated_plans;
mod git_configuration;
mod history;
mod hostile;
mod law_1_no_trace;
mod law_2_plan_is_apply;
mod law_3_second_apply;
mod law_5_rescue;
mod law_6_secrets;
mod law_7_failures;
mod law_8_users;
mod law_9_bad_input;
mod limits;
mod lock;
mod many_hosts;
mod many_hosts_measured;
mod max_changes;
mod metrics;
mod names;
mod oracle;
mod packaging;
mod pasted;
mod pasted_remedies;
mod races;
mod recipes;
mod recordings;
mod relations;
mod relations_of_paths;
mod relations_reads;
mod remote_matrix;
mod remotes;
mod rescue_output;
mod rescued_files;
mod rotation;
mod rotation_faults;
mod saved_plans;
mod schema;
mod screens;
mod secret_commands;
mod secret_sources;
mod self_test;
mod signals;
mod standard_input;
mod surface;
mod terminal;
mod trees;
mod unreadable_checkouts;
mod unreadable_trees;
mod warehouse;
mod warehouse_relations;
mod workers;
