//! The columns of every system relation, read from `relations.txt`.
//!
//! A line of the file is `schema.name oid kind column:type[!] …`; `!` is NOT NULL. Relations of
//! `pg_catalog` and `information_schema` have the names, columns, order and oids of Postgres 15, so
//! that a query over one of them plans here if it does there. Kind `-` marks what Postgres has as a
//! function: it can be read but is not listed.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{Schema, SchemaRef};

use crate::types::{SqlType, SystemType};

/// One relation's columns.
#[derive(Debug)]
pub struct Shape {
    pub schema_name: &'static str,
    pub name: &'static str,
    pub oid: u32,
    /// `r` or `v` as in `pg_class.relkind`.
    pub kind: &'static str,
    pub columns: Vec<ShapeColumn>,
    pub schema: SchemaRef,
}

#[derive(Debug)]
pub struct ShapeColumn {
    pub name: &'static str,
    /// Postgres' name of the type (`oid`, `name`, `_text`).
    pub type_name: &'static str,
    pub sql_type: SqlType,
    pub is_not_null: bool,
}

impl Shape {
    /// The relation of this schema and name.
    pub fn find(schema_name: &str, name: &str) -> Option<&'static Shape> {
        let place = |shape: &Shape| (shape.schema_name, shape.name).cmp(&(schema_name, name));
        SHAPES
            .binary_search_by(place)
            .ok()
            .map(|index| &SHAPES[index])
    }

    /// Every relation, by schema and name.
    pub fn all() -> impl Iterator<Item = &'static Shape> {
        SHAPES.iter()
    }

    pub fn is_listed(&self) -> bool {
        self.kind != "-"
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let mut shapes: Vec<Shape> = include_str!("relations.txt").lines().map(parse).collect();
    shapes.sort_by_key(|shape| (shape.schema_name, shape.name));
    shapes
});

fn parse(line: &'static str) -> Shape {
    let mut words = line.split(' ');
    let mut next = || words.next().expect("a line has a name, an oid and a kind");
    let (schema_name, name) = next().split_once('.').expect("a name has a schema");
    let oid = next().parse().expect("an oid is a number");
    let kind = next();
    let columns: Vec<ShapeColumn> = words.map(parse_column).collect();
    let fields: Vec<_> = columns
        .iter()
        .map(|column| {
            let field = column.sql_type.to_field(column.name, !column.is_not_null);
            SystemType::mark(field, column.type_name)
        })
        .collect();
    Shape {
        schema_name,
        name,
        oid,
        kind,
        columns,
        schema: Arc::new(Schema::new(fields)),
    }
}

fn parse_column(word: &'static str) -> ShapeColumn {
    let (name, rest) = word.split_once(':').expect("a column has a type");
    let type_name = rest.trim_end_matches('!');
    ShapeColumn {
        name,
        type_name,
        sql_type: sql_type(type_name),
        is_not_null: rest.ends_with('!'),
    }
}

/// How values of a Postgres type are carried here: oids as `bigint`, what is shown but not computed
/// with as `text`.
pub fn sql_type(type_name: &str) -> SqlType {
    if let Some(element) = type_name.strip_prefix('_') {
        return SqlType::Array(Box::new(sql_type(element)));
    }
    match type_name {
        "bool" => SqlType::Boolean,
        "int2" => SqlType::SmallInt,
        "int4" => SqlType::Integer,
        "int8" | "oid" | "xid" | "cid" | "regproc" | "regtype" => SqlType::BigInt,
        "float4" => SqlType::Real,
        "float8" => SqlType::DoublePrecision,
        "numeric" => SqlType::NUMERIC,
        "bytea" => SqlType::Bytea,
        "timestamptz" => SqlType::Timestamptz,
        "interval" => SqlType::Interval,
        "int2vector" => SqlType::Array(Box::new(SqlType::SmallInt)),
        "oidvector" => SqlType::Array(Box::new(SqlType::BigInt)),
        _ => SqlType::Text,
    }
}

#[cfg(test)]
mod tests {
    use crate::system::shape::Shape;

    #[test]
    fn every_line_is_a_relation_with_an_oid_of_its_own() {
        let mut oids: Vec<u32> = Shape::all()
            .filter(|shape| shape.is_listed())
            .map(|shape| shape.oid)
            .collect();
        let count = oids.len();
        oids.sort_unstable();
        oids.dedup();
        assert_eq!(oids.len(), count);
        let class = Shape::find("pg_catalog", "pg_class").unwrap();
        assert_eq!((class.oid, class.column("relkind")), (1259, Some(16)));
    }
}
