//! Incomplete reads of the catalog.

use provision::resource::Resource as _;

use crate::double::Fault;
use crate::kit::{DAY, apply, connect, observe_context, plan, summaries};
use crate::target::Target;

/// Incomplete reads are not believed: missing columns, a missing answer, a table that existed a moment ago.
#[tokio::test]
async fn an_empty_catalog_read_is_not_absence() {
    let target = Target::double().await;
    let double = target.double.as_ref().unwrap();
    let warehouse = connect(&target.url);
    let step = target.table(crate::suite::EXCEPTIONS);
    apply(&step, &warehouse, DAY).await;
    for (when, code) in [("FROM pg_attribute", "00000"), ("pg_get_userbyid", "00000"), ("FROM pg_attribute", "02000")] {
        double.inject(Fault { when, code, message: "", done: true });
        let found = plan(&step, &warehouse, DAY).await.unwrap_or_else(|refusal| panic!("{when} {code}: {refusal:?}"));
        assert_eq!(summaries(&found), Vec::<String>::new(), "{when} {code}");
        assert_eq!(double.left(), 0, "{when} {code}: the injected answer was sent");
    }
    // What is really gone is gone for a second session too.
    target.sql("DROP TABLE settlement_ods.order_tracking_exceptions").await;
    assert_eq!(apply(&step, &warehouse, DAY).await.len(), 1);
    // If it never ends, the read has failed and nothing is planned.
    for _ in 0..8 {
        double.inject(Fault { when: "FROM pg_attribute", code: "00000", message: "", done: true });
    }
    warehouse.invalidate().await;
    let failure = step.observe(&observe_context(&warehouse, DAY)).await.unwrap_err();
    assert!(failure.message.contains("none of its columns"), "{failure:?}");
    assert_eq!(failure.hint.as_deref(), Some("run it again"));
}
