//! Ids of runs.

use jiff::Timestamp;

use crate::host::secret::Digester;

/// Returns a unique id for this run. Ids sort by time, because the part after the second begins with the microseconds.
pub fn run_id(digester: &Digester) -> String {
    id_at(Timestamp::now(), digester)
}

fn id_at(now: Timestamp, digester: &Digester) -> String {
    let digest = digester.digest(now.as_nanosecond().to_string().as_bytes());
    let random = digest.short().get(..3).unwrap_or_default();
    format!("{}-{:05x}{random}", now.strftime("%Y%m%dT%H%M%SZ"), now.subsec_nanosecond() / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_within_a_second() {
        let times = ["20:31:35.000009", "20:31:35.00001", "20:31:35.1", "20:31:35.999999", "20:31:36"];
        let id = |(number, time): (usize, &&str)| {
            let key = [u8::try_from(number).unwrap(); 32];
            id_at(format!("2026-11-29T{time}Z").parse().unwrap(), &Digester::with_key(key))
        };
        let ids: Vec<String> = times.iter().enumerate().map(id).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == "20261129T203135Z-17c98223".len()), "{ids:?}");
    }
}
