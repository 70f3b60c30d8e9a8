//! What a worker records of its work, and how it gets to the launcher.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

use super::frame::{self, Answer};
use super::pipes::Output;
use crate::telemetry::{self, Filter, Record};

/// The maximum number of records that wait to be sent.
const MAX_RECORDS_WAITING: usize = 100_000;
/// How often records are sent during a long request.
const RECORDS_INTERVAL: Duration = Duration::from_millis(200);

/// Records that have not been sent yet.
#[derive(Default)]
pub struct Records(StdMutex<Vec<Record>>);

impl Records {
    /// Sends all waiting records.
    pub async fn send(&self, output: &Mutex<Output>) -> std::io::Result<()> {
        // The lock is held until they are sent, so that records reach the launcher in order.
        let mut output = output.lock().await;
        let records = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if records.is_empty() {
            return Ok(());
        }
        frame::send(&mut *output, &Answer::Recorded(records)).await?;
        output.flush().await
    }
}

/// Starts recording if the launcher asks for it. Records are sent before each answer, and periodically during a long
/// request.
pub fn record(recording: Option<(String, u16)>, records: &Arc<Records>, output: &Arc<Mutex<Output>>) {
    let Some((filter, namespace)) = recording else { return };
    let Ok(filter) = Filter::parse(&filter) else { return };
    let kept = Arc::clone(records);
    let keep = move |record| {
        let mut records = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The buffer is limited in case the launcher does not read.
        if records.len() < MAX_RECORDS_WAITING {
            records.push(record);
        }
    };
    telemetry::start_in_worker(filter, namespace, Arc::new(keep));
    let (records, output) = (Arc::clone(records), Arc::clone(output));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RECORDS_INTERVAL).await;
            if records.send(&output).await.is_err() {
                break;
            }
        }
    });
}
