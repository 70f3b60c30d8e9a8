//! Series of every calendar, from a fixed or a moving start.

use provision::resource::period_tables::PeriodTables;

use crate::cluster::shared;
use crate::kit::{apply, connect, plan, summaries};

fn series(every: &str, from: &str, lines: &str) -> PeriodTables {
    let text = format!(
        "connection: warehouse\nevery: {every}\nfrom: {from}\n{lines}\ntables: [{{ name: 's.{every}_{{period}}', like: s.m }}]"
    );
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[tokio::test]
async fn every_calendar_makes_its_periods_once() {
    let database = shared().database();
    shared().psql(&database, "CREATE SCHEMA s; CREATE TABLE s.m (a int)");
    let warehouse = connect(&shared().socket_url(&database));
    for (every, first, last, next_day) in [
        ("year", "2025", "2027", "2027-01-01"),
        ("half_year", "2025_h2", "2026_h2", "2026-07-01"),
        ("quarter", "2025_q4", "2026_q2", "2026-04-01"),
        ("month", "2026_01", "2026_03", "2026-03-01"),
        ("week", "2026_w06", "2026_w08", "2026-02-16"),
        ("day", "2026_02_09", "2026_02_11", "2026-02-11"),
    ] {
        let step = series(every, "current-1", "ahead: 1");
        let made = apply(&step, &warehouse, "2026-02-10").await;
        assert_eq!(made.len(), 3, "{every}: {made:?}");
        assert_eq!(made[0], format!("create table s.{every}_{first} like s.m"));
        assert_eq!(made[2], format!("create table s.{every}_{last} like s.m"));
        assert_eq!(apply(&step, &warehouse, "2026-02-10").await, Vec::<String>::new(), "{every}");
        // The day that the next period begins: the start moves on, and one table is due.
        let next = plan(&step, &warehouse, next_day).await.unwrap();
        assert_eq!(summaries(&next).len(), 1, "{every}: {:?}", summaries(&next));
        let fixed = series(every, &format!("\"{first}\""), "ahead: 1");
        assert_eq!(apply(&fixed, &warehouse, "2026-02-10").await, Vec::<String>::new(), "{every}");
    }
}
