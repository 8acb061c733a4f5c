//! SELECT: a row by its key is looked up, all else DataFusion plans and runs.
//!
//! ```text
//!   prepared, and compiled then ────────────────────────► point_read
//!   its shape is known ─────────────────────────────────► point_read
//!   planned ──► is a point read (and its shape kept) ───► point_read
//!           └─► is another query ───────────────────────► the pool of queries
//! ```

use std::sync::Arc;

use datafusion::scalar::ScalarValue;

use crate::engine::point_cache::Shape;
use crate::engine::point_read::PointRead;
use crate::engine::query::{Parameters, PlannedQuery, Reading};
use crate::engine::response::{Response, RowsTag};
use crate::engine::session::Session;
use crate::error::Result;
use crate::sql::ast;

impl Session {
    pub(super) async fn query(
        &mut self,
        query: &ast::Query,
        parameters: Parameters,
    ) -> Result<Response> {
        self.pin_transaction()?;
        if parameters.values.is_empty()
            && let Some(response) = self.by_shape(query)?
        {
            return Ok(response);
        }
        let reading = self.reading().for_parameters(&parameters);
        let planned = reading.plan(query)?;
        let Parameters { values, types } = parameters;
        Reading::check_parameters(&planned.plan, values.len())?;
        if let Some(point) = PointRead::compile(&reading, &planned, &types)
            && let Some(response) = self.point_read(&point, &values)?
        {
            return Ok(response);
        }
        let PlannedQuery { plan, schema, .. } = planned;
        let batches = reading.run(plan, schema.clone(), values).await?;
        Ok(Response::Rows {
            schema,
            batches,
            tag: RowsTag("SELECT".to_string()),
        })
    }

    /// Answers a query of whose like is known, or can be found out, that it is a point read.
    fn by_shape(&self, query: &ast::Query) -> Result<Option<Response>> {
        if !self.reads_points() {
            return Ok(None);
        }
        let catalog = self.catalog();
        let Some(shape) = Shape::of(query, &catalog) else {
            return Ok(None);
        };
        let points = &self.shared().points;
        let known = match points.find(&shape.text, catalog.version()) {
            Some(known) => known,
            None => {
                let reading = self.reading();
                let version = reading.catalog.version();
                let compiled = reading.plan(&shape.query).ok().and_then(|planned| {
                    let types = Reading::parameters(&planned.plan, &[]).ok()?;
                    PointRead::compile(&reading, &planned, &types)
                });
                let known = compiled.map(Arc::new);
                points.keep(shape.text.clone(), known.clone(), version);
                known
            }
        };
        let Some(point) = known else {
            return Ok(None);
        };
        match shape.values(&point) {
            Some(values) => self.point_read(&point, &values),
            None => Ok(None),
        }
    }

    /// Whether compiled reads answer this session: they compute in UTC.
    fn reads_points(&self) -> bool {
        self.time_zone() == "UTC"
    }

    /// The answer of a compiled read; `None` where it does not hold any more, or the transaction
    /// reads other rows than the newest.
    pub(super) fn point_read(
        &self,
        point: &PointRead,
        parameters: &[ScalarValue],
    ) -> Result<Option<Response>> {
        if !self.reads_points() {
            return Ok(None);
        }
        let shared = self.shared();
        let reads_newest = match &self.transaction {
            None => true,
            Some(transaction) => {
                transaction.pin.is_none() && !transaction.writes.contains_key(&point.id())
            }
        };
        if !reads_newest || point.catalog_version() != shared.catalog().version() {
            return Ok(None);
        }
        shared.check_ready(point.object())?;
        let batch = point.run(self.engine.published(), parameters)?;
        Ok(Some(Response::Rows {
            schema: point.schema().clone(),
            batches: Box::pin(futures::stream::iter([Ok(batch)])),
            tag: RowsTag("SELECT".to_string()),
        }))
    }
}
