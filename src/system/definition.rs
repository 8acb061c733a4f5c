//! What only an object's text tells: defaults, generated columns, connector, a view's query.

use std::collections::BTreeMap;

use crate::catalog::{Object, ObjectKind};
use crate::sql::as_of::as_written;
use crate::sql::statement::CreateRelation;
use crate::sql::{Statement, parse_single};

/// The parts of a definition that the system relations show.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// What a column that is not given becomes, by column name.
    pub defaults: BTreeMap<String, ColumnDefault>,
    /// A source's connector.
    pub connector: Option<String>,
    /// The query of a view, with its EMIT clause.
    pub query: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ColumnDefault {
    pub text: String,
    /// Computed from the row's other columns, and not a default.
    pub is_generated: bool,
}

impl Described {
    /// Reads an object's text. A text that is no longer understood tells nothing: it has been
    /// planned to get into the catalog, and listing must not fail.
    pub fn of(object: &Object) -> Described {
        let Ok(Some(parsed)) = parse_single(&object.definition.text) else {
            return Described::default();
        };
        match parsed.statement {
            Statement::CreateSource(relation) | Statement::CreateTable(relation) => {
                of_relation(&relation, object.kind())
            }
            Statement::CreateView(view) => Described {
                query: Some(as_written(&view.query.to_string())),
                ..Described::default()
            },
            Statement::CreateMaterializedView(view) => {
                let emit = view.emit.map(|emit| format!(" {emit}")).unwrap_or_default();
                let query = as_written(&view.query.to_string());
                let query = format!("{query}{emit}");
                Described {
                    query: Some(query),
                    ..Described::default()
                }
            }
            _ => Described::default(),
        }
    }
}

fn of_relation(relation: &CreateRelation, kind: ObjectKind) -> Described {
    let mut described = Described::default();
    for column in &relation.columns {
        let (expr, is_generated) = match (&column.generated, &column.default) {
            (Some(expr), _) => (expr, true),
            (None, Some(expr)) => (expr, false),
            (None, None) => continue,
        };
        let default = ColumnDefault {
            text: expr.to_string(),
            is_generated,
        };
        described.defaults.insert(column.name.clone(), default);
    }
    if kind == ObjectKind::Source {
        let connector = relation
            .options
            .iter()
            .find(|option| option.name == "connector");
        let name = connector.map_or("topic", |option| option.value.as_str());
        described.connector = Some(name.to_string());
    }
    described
}
