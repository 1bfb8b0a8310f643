//! What keeps a table small and quick: checkpoints, compaction, vacuum. Runs inside the drain, under
//! the table's lock, never beside it; a failure is logged and costs nothing but the next try.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use deltalake::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake::{DeltaTable, DeltaTableError};

use super::table::{parquet, plain_commit};

/// Commits between checkpoints: what a reader must replay at most.
const CHECKPOINT: u64 = 100;
/// Commits between compactions.
const COMPACT: u64 = 50;
/// Files below this size are merged.
const TARGET: u64 = 64 << 20;
/// How long a file that no version names any more stays: readers may still be on an older version,
/// and a commit whose reply was lost may still land.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);
/// How often old files are looked for.
const VACUUM: Duration = Duration::from_hours(24);

/// What is due after the table went from one version to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Write a checkpoint.
    pub checkpoint: bool,
    /// Merge small files.
    pub compact: bool,
    /// Delete files that nothing names any more.
    pub vacuum: bool,
}

/// Decides by version, so that it does not matter in how many steps the table got there.
pub fn due(from: u64, to: u64, vacuumed: Option<Instant>, now: Instant) -> Due {
    let crossed = |every: u64| from / every < to / every;
    Due {
        checkpoint: crossed(CHECKPOINT),
        compact: crossed(COMPACT),
        vacuum: vacuumed.is_some_and(|then| now.duration_since(then) >= VACUUM),
    }
}

/// Does what is due.
pub async fn run(table: &DeltaTable, due: Due) -> Result<(), DeltaTableError> {
    let mut table = table.clone();
    if due.compact {
        let target = NonZeroU64::new(TARGET).unwrap_or(NonZeroU64::MIN);
        (table, _) = table
            .optimize()
            .with_target_size(target)
            .with_max_concurrent_tasks(1)
            .with_writer_properties(parquet())
            .with_commit_properties(plain_commit())
            .await?;
    }
    if due.checkpoint {
        create_checkpoint(&table, None).await?;
        cleanup_metadata(&table, None).await?;
    }
    if due.vacuum {
        let retention =
            chrono::Duration::from_std(RETENTION).map_err(|e| DeltaTableError::Generic(e.to_string()))?;
        table.vacuum().with_retention_period(retention).with_commit_properties(plain_commit()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_depends_on_versions_and_a_day() {
        let now = Instant::now();
        let at = |from, to| due(from, to, None, now);
        assert_eq!(at(48, 49), Due { checkpoint: false, compact: false, vacuum: false });
        assert_eq!(at(49, 50), Due { checkpoint: false, compact: true, vacuum: false });
        assert_eq!(at(99, 103), Due { checkpoint: true, compact: true, vacuum: false });
        assert!(!due(1, 2, Some(now), now).vacuum);
        assert!(due(1, 2, Some(now), now + VACUUM).vacuum);
    }
}
