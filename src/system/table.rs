//! A system relation as DataFusion reads it: its rows are made when it is scanned.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::error::Result;
use crate::system::rows::RowSet;
use crate::system::shape::Shape;
use crate::system::snapshot::SystemSnapshot;
use crate::system::{information_schema, pg_catalog, tidemill};

/// One relation over one snapshot.
pub struct SystemTable {
    shape: &'static Shape,
    snapshot: Arc<SystemSnapshot>,
}

impl SystemTable {
    /// The relation of a name, if it is a system relation: `pg_class` and `pg_catalog.pg_class` are
    /// the same, the other schemas have to be named.
    pub fn find(
        snapshot: impl FnOnce() -> Arc<SystemSnapshot>,
        reference: &TableReference,
    ) -> Option<Arc<dyn TableProvider>> {
        let shape = SystemTable::shape_of(reference)?;
        Some(Arc::new(SystemTable::new(shape, &snapshot())))
    }

    /// The columns of the system relation of a name.
    pub fn shape_of(reference: &TableReference) -> Option<&'static Shape> {
        let schema = reference.schema().unwrap_or("pg_catalog");
        Shape::find(schema, reference.table())
    }

    pub fn new(shape: &'static Shape, snapshot: &Arc<SystemSnapshot>) -> SystemTable {
        SystemTable {
            shape,
            snapshot: snapshot.clone(),
        }
    }

    /// All rows, with every column.
    pub fn rows(&self) -> Result<RecordBatch> {
        let mut rows = RowSet::new(self.shape);
        match self.shape.schema_name {
            "information_schema" => information_schema::fill(self.shape, &self.snapshot, &mut rows),
            "tidemill" => tidemill::fill(self.shape, &self.snapshot, &mut rows),
            _ => pg_catalog::fill(self.shape, &self.snapshot, &mut rows),
        }
        rows.into_batch()
    }
}

impl fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SystemTable({}.{})",
            self.shape.schema_name, self.shape.name
        )
    }
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.shape.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let batch = self
            .rows()
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let partitions = [vec![batch]];
        let schema = self.shape.schema.clone();
        Ok(MemorySourceConfig::try_new_exec(
            &partitions,
            schema,
            projection.cloned(),
        )?)
    }
}
