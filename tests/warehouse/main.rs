//! The warehouse and the table kinds on real servers.

#![allow(clippy::disallowed_methods, reason = "tests prepare files and read what they are started with")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod calendars;
mod certificates;
mod cluster;
mod connecting;
mod ddl;
mod double;
mod drift;
mod faults;
mod generated;
mod hostile_peers;
mod kit;
mod names;
mod obstacles;
mod pooler;
mod readings;
mod rights;
mod services;
mod soak;
mod suite;
mod target;
mod tunnel;
mod views;
mod views_of_people;

/// The suite on one server. Each case can have an attribute.
macro_rules! suite {
    ($server:ident, $target:expr, $attribute:meta) => {
        suite!($server, $target, $attribute:
            the_exceptions_table_is_made_once,
            history_tables_are_made_and_gaps_filled,
            another_shape_is_refused_column_by_column,
            what_has_taken_the_name_is_refused_with_its_kind,
            a_missing_parent_or_schema_blocks,
            grants_and_owner_are_given_and_kept,
            grants_to_roles_are_given_and_kept,
            an_external_schema_is_refused,
            drift_is_reported_and_what_can_be_is_mended,
            dist_and_sort_count_on_redshift,
            two_applies_at_once_both_end_well,
            names_that_need_quotation_marks_work,
            a_plan_writes_nothing,
            what_is_there_is_adopted,
            a_view_over_a_series_is_made_and_kept_right,
        );
    };
    ($server:ident, $target:expr, $attribute:meta: $($case:ident,)*) => {
        mod $server {
            $(
                #[$attribute]
                #[tokio::test]
                async fn $case() {
                    crate::suite::$case(&$target).await;
                }
            )*
        }
    };
}

suite!(postgresql, crate::target::Target::postgresql(), cfg(test));
suite!(dialect_double, crate::target::Target::double().await, cfg(test));
suite!(live_redshift, crate::target::Target::live().await, ignore = "needs a live cluster in REDSHIFT_TEST_URL");
