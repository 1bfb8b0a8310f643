//! What is planned and does not run yet, in one place: each entry goes when its operator comes.

use super::error::Error;
use crate::query::{FeatureQuery, Shape, Window};

/// Refuses a query that the engine cannot run yet.
pub(super) fn check(query: &FeatureQuery) -> Result<(), Error> {
    let waiting = [
        (
            reads_window(query, |w| matches!(w, Window::Hop { .. } | Window::Cumulate { .. })),
            "a column of a window that overlaps others, read before the aggregate",
            AFTER,
        ),
        (
            reads_window(query, |w| matches!(w, Window::Session { .. })),
            "a column of a session, read before the aggregate",
            AFTER,
        ),
    ];
    match waiting.iter().find(|(found, ..)| *found) {
        Some((_, construct, hint)) => Err(Error::unsupported(construct, hint)),
        None => Ok(()),
    }
}

const AFTER: &str =
    "read window_start and window_end after it, in the SELECT list or in HAVING; or use TUMBLE";

/// Whether what a record becomes depends on which window it is taken into, of windows that it says nothing
/// about by itself: it lies in several, or later records decide.
fn reads_window(query: &FeatureQuery, is: impl Fn(&Window) -> bool) -> bool {
    match &query.shape {
        Shape::Windowed(windowed) => {
            is(&windowed.window)
                && crate::epoch::depends_on_window(windowed, query.input.schema.fields().len())
        }
        Shape::Rolling(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::plan;
    use crate::sql::tests::streams;

    /// What waits for its operator is refused by name when a group is created.
    #[test]
    fn what_does_not_run_yet_is_refused_by_name() {
        let hop = "FROM HOP(clicks, DESCRIPTOR(ts), INTERVAL '1' DAY, INTERVAL '2' DAYS)";
        for list in ["COUNT(*) FILTER (WHERE window_end > ts) AS n", "MAX(window_start) AS n"] {
            let sql = format!("SELECT user_id, {list} {hop} GROUP BY user_id, window_end");
            assert!(plan(&sql, &streams()).unwrap_err().construct.starts_with("a column of a window"));
        }
        let session = "FROM SESSION(clicks, DESCRIPTOR(ts), INTERVAL '1' DAY)";
        let sql = format!(
            "SELECT user_id, COUNT(*) AS n {session} WHERE window_start < ts GROUP BY user_id, window_end"
        );
        assert!(plan(&sql, &streams()).unwrap_err().construct.starts_with("a column of a session"));
        let after =
            format!("SELECT user_id, window_start, COUNT(*) AS n {hop} GROUP BY user_id, window_start");
        assert!(plan(&after, &streams()).is_ok());
        let rolling = "SELECT user_id, COUNT(*) OVER (PARTITION BY user_id ORDER BY ts RANGE INTERVAL '1' DAY PRECEDING) AS n FROM clicks";
        assert!(plan(rolling, &streams()).is_ok());
    }
}
