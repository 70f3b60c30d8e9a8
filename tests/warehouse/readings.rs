//! Readings of the catalog that are not the whole truth.

use provision::resource::Resource as _;

use crate::double::Fault;
use crate::kit::{DAY, apply, connect, look, plan, summaries};
use crate::target::Target;

/// Readings that leave something out are not taken for the truth: columns that do not come, an answer that is missing, a
/// table that was there a moment ago.
#[tokio::test]
async fn an_empty_read_is_no_absence() {
    let target = Target::double().await;
    let double = target.double.as_ref().unwrap();
    let warehouse = connect(&target.url);
    let step = target.table(crate::suite::EXCEPTIONS);
    apply(&step, &warehouse, DAY).await;
    for (when, code) in [("FROM pg_attribute", "00000"), ("pg_get_userbyid", "00000"), ("FROM pg_attribute", "02000")] {
        double.inject(Fault { when, code, message: "", done: true });
        let found = plan(&step, &warehouse, DAY).await.unwrap_or_else(|refusal| panic!("{when} {code}: {refusal:?}"));
        assert_eq!(summaries(&found), Vec::<String>::new(), "{when} {code}");
        assert_eq!(double.left(), 0, "{when} {code}: the answer was met");
    }
    // What is gone in truth is gone for a second session too.
    target.sql("DROP TABLE settlement_ods.order_tracking_exceptions").await;
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
    // Where it never ends, the reading has failed: nothing is planned.
    for _ in 0..8 {
        double.inject(Fault { when: "FROM pg_attribute", code: "00000", message: "", done: true });
    }
    warehouse.invalidate().await;
    let failure = step.observe(&look(&warehouse, DAY)).await.unwrap_err();
    assert!(failure.message.contains("shows none of its columns"), "{failure:?}");
    assert_eq!(failure.hint.as_deref(), Some("run it again"));
}
