//! The outermost query: what the client sees.

use datafusion::sql::sqlparser::ast::{Ident, Query, Select, SelectItem, SetExpr};

use crate::plan::compatibility::cast::shown;
use crate::plan::names::display_names;

/// In what the client sees, numbers of objects are names.
pub(super) fn show_names(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item
                else {
                    continue;
                };
                if let Some(name) = shown(expr) {
                    *expr = name;
                }
            }
        }
        SetExpr::Query(query) => show_names(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            show_names(left);
            show_names(right);
        }
        _ => {}
    }
}

/// Columns without an alias are called after what the client wrote, not after what it became.
pub(super) fn keep_display_names(query: &mut Query, names: Option<Vec<Option<String>>>) {
    let (Some(old), Some(new)) = (names, display_names(query)) else {
        return;
    };
    let Some(select) = leftmost(&mut query.body) else {
        return;
    };
    if old.len() != new.len() {
        return;
    }
    for (item, (old, new)) in select.projection.iter_mut().zip(old.into_iter().zip(new)) {
        if let (SelectItem::UnnamedExpr(expr), Some(old)) = (&*item, &old)
            && new.as_ref() != Some(old)
        {
            let alias = Ident::with_quote('"', old);
            *item = SelectItem::ExprWithAlias {
                expr: expr.clone(),
                alias,
            };
        }
    }
}

fn leftmost(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::SetOperation { left, .. } => leftmost(left),
        SetExpr::Query(query) => leftmost(&mut query.body),
        _ => None,
    }
}
