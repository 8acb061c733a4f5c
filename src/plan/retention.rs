//! Retention in a stream plan: by which column a view's rows are old.

use arrow::datatypes::SchemaRef;

use crate::catalog::Changelog;
use crate::error::{Error, Result};
use crate::plan::build::Build;
use crate::plan::emit::close_column;
use crate::plan::stream::{Retention, RetentionMode};

/// What a view's WITH says of it.
#[derive(Clone, Copy, Debug)]
pub struct RetentionOption {
    pub micros: i64,
    pub mode: RetentionMode,
}

impl Build<'_> {
    /// The retention of the rows that a node puts out, which are the view's.
    ///
    /// Their age is that of the column which says best when a row is final, else of the event time
    /// of a source that passes through: rows behind its watermark may still come, and are old as
    /// soon as the others of their time.
    pub(super) fn retention(&self, root: usize, schema: &SchemaRef) -> Result<Option<Retention>> {
        let Some(RetentionOption { micros, mode }) = self.options.retention else {
            return Ok(None);
        };
        let bounded = close_column(&self.nodes[root].bounded, schema);
        let mut columns = 0..schema.fields().len();
        let column = bounded.or_else(|| columns.find(|&column| self.judges(root, column)));
        let column = column.ok_or_else(|| {
            Error::unsupported("retention needs a column that a watermark bounds").hint(
                "select window_end, or the event time of a source with a WATERMARK; or write a \
                 condition: WHERE ts > now() - INTERVAL '1 hour'",
            )
        })?;
        Ok(Some(Retention {
            column,
            micros,
            mode,
        }))
    }
}

impl Retention {
    /// What the changes of a view are like that has the retention.
    pub fn changelog(self, without: Changelog) -> Changelog {
        match self.mode {
            RetentionMode::Retract => Changelog::Retracting,
            RetentionMode::Forget => without,
        }
    }
}
