//! Types and casts: Postgres' names of types, numbers of objects, arrays in strings.

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, DataType, Expr, Ident, ObjectName, Value,
};

use crate::plan::compatibility::system_name;
use crate::plan::compatibility::tree::{call, null, string, unnested};

/// Types whose values are numbers that are shown as names.
pub(super) const OBJECT_TYPES: [&str; 5] =
    ["regclass", "regtype", "regproc", "regnamespace", "regrole"];

/// A type's name without its schema; `None` for a type that is not written as a name.
pub(super) fn type_name(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Regclass => Some("regclass".to_string()),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => system_name(name),
        _ => None,
    }
}

pub(super) fn cast(expr: &mut Expr, data_type: &mut DataType) -> Option<Expr> {
    if let Some(name) = type_name(data_type) {
        let object_type = match name.as_str() {
            "regprocedure" => "regproc",
            other => other,
        };
        if OBJECT_TYPES.contains(&object_type) {
            let argument = std::mem::replace(expr, null());
            return Some(call(&format!("{object_type}in"), vec![argument]));
        }
    }
    plain_type(data_type);
    if let (DataType::Array(_), Some(array)) = (&*data_type, array_literal(expr)) {
        *expr = array;
    }
    let is_text = matches!(
        data_type,
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_)
    );
    if is_text {
        return shown(expr);
    }
    None
}

/// The name that an object's number stands for, if the expression is such a number.
pub(super) fn shown(expr: &mut Expr) -> Option<Expr> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let name = system_name(&function.name)?;
    let object_type = name.strip_suffix("in").or(name.strip_prefix("to_"));
    let object_type = object_type.filter(|name| OBJECT_TYPES.contains(name))?;
    let output = format!("{object_type}out");
    Some(call(&output, vec![std::mem::replace(expr, null())]))
}

pub(super) fn plain_type(data_type: &mut DataType) {
    if let DataType::Array(
        ArrayElemTypeDef::SquareBracket(element, _)
        | ArrayElemTypeDef::AngleBracket(element)
        | ArrayElemTypeDef::Parenthesis(element),
    ) = data_type
    {
        plain_type(element);
        return;
    }
    let DataType::Custom(name, modifiers) = data_type else {
        return;
    };
    let Some(system) = system_name(name) else {
        return;
    };
    let plain = match system.as_str() {
        "oid" | "xid" | "cid" | "xid8" => DataType::BigInt(None),
        "name" | "char" | "cstring" | "aclitem" | "pg_node_tree" | "unknown" | "text"
        | "sql_identifier" | "character_data" | "yes_or_no" => DataType::Text,
        "cardinal_number" => DataType::Integer(None),
        "int2vector" => array_of(DataType::SmallInt(None)),
        "oidvector" => array_of(DataType::BigInt(None)),
        _ if name.0.len() > 1 => {
            let bare = ObjectName::from(vec![Ident::new(system)]);
            DataType::Custom(bare, std::mem::take(modifiers))
        }
        _ => return,
    };
    *data_type = plain;
}

pub(super) fn array_of(element: DataType) -> DataType {
    DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(element), None))
}

/// `'{a,b}'` as `ARRAY['a', 'b']`; quotes inside and nested arrays are left alone.
pub(super) fn array_literal(expr: &Expr) -> Option<Expr> {
    let Expr::Value(value) = unnested(expr) else {
        return None;
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return None;
    };
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inner.contains(['{', '"', '\\']) {
        return None;
    }
    let items = inner
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let items = items.map(|item| match item.eq_ignore_ascii_case("null") {
        true => null(),
        false => string(item),
    });
    Some(Expr::Array(Array {
        elem: items.collect(),
        named: true,
    }))
}
