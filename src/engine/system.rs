//! The system relations as one statement sees them.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::logical_expr::ScalarUDF;

use crate::engine::session::Session;
use crate::error::Result;
use crate::sql::ast;

/// What the system relations say during one statement.
#[derive(Clone, Default)]
pub struct SystemView {}

impl SystemView {
    pub fn table(&self, _reference: &TableReference) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(None)
    }

    pub fn functions(&self) -> Vec<Arc<ScalarUDF>> {
        Vec::new()
    }

    pub fn rewrite(&self, _query: &mut ast::Query) {}
}

impl Session {
    pub(super) async fn system_snapshot(&self) -> Result<SystemView> {
        Ok(SystemView::default())
    }
}
