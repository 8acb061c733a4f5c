//! Postgres' types and functions as its catalog knows them, from `types.txt` and `functions.txt`.
//!
//! All built-in types that a driver may ask for are listed, with the oids that never change, also
//! those that no column here can have: drivers load the whole table and look up by oid or name.
//! Functions are those that exist here under Postgres' name, and the input and output functions of
//! the types, by which drivers tell an array from its elements.

use std::sync::LazyLock;

use crate::types::SqlType;

/// A row of `pg_type`.
#[derive(Debug)]
pub struct TypeRow {
    pub oid: u32,
    pub name: &'static str,
    pub len: i16,
    pub is_by_value: bool,
    /// `b` base or `p` pseudo.
    pub kind: &'static str,
    pub category: &'static str,
    pub is_preferred: bool,
    pub delimiter: &'static str,
    pub element: u32,
    pub array: u32,
    pub input: &'static str,
    pub output: &'static str,
    pub receive: &'static str,
    pub send: &'static str,
    pub align: &'static str,
    pub storage: &'static str,
    pub collation: u32,
    pub subscript: &'static str,
}

/// A row of `pg_proc`.
#[derive(Debug)]
pub struct FunctionRow {
    pub oid: u32,
    pub name: &'static str,
    /// `f` function, `a` aggregate, `w` window function.
    pub kind: &'static str,
    pub volatility: &'static str,
    pub returns_set: bool,
    pub returns: u32,
    pub arguments: Vec<u32>,
}

/// Every type, by oid.
pub fn types() -> &'static [TypeRow] {
    static TYPES: LazyLock<Vec<TypeRow>> =
        LazyLock::new(|| include_str!("types.txt").lines().map(parse_type).collect());
    &TYPES
}

/// Every function, by oid.
pub fn functions() -> &'static [FunctionRow] {
    static FUNCTIONS: LazyLock<Vec<FunctionRow>> = LazyLock::new(|| {
        include_str!("functions.txt")
            .lines()
            .map(parse_function)
            .collect()
    });
    &FUNCTIONS
}

fn parse_type(line: &'static str) -> TypeRow {
    let words: Vec<&'static str> = line.split(' ').collect();
    let number = |index: usize| words[index].parse().expect("an oid is a number");
    TypeRow {
        oid: number(0),
        name: words[1],
        len: words[2].parse().expect("a length is a number"),
        is_by_value: words[3] == "t",
        kind: words[4],
        category: words[5],
        is_preferred: words[6] == "t",
        delimiter: words[7],
        element: number(8),
        array: number(9),
        input: words[10],
        output: words[11],
        receive: words[12],
        send: words[13],
        align: words[14],
        storage: words[15],
        collation: number(16),
        subscript: words[17],
    }
}

fn parse_function(line: &'static str) -> FunctionRow {
    let words: Vec<&'static str> = line.split(' ').collect();
    let number = |word: &str| word.parse().expect("an oid is a number");
    FunctionRow {
        oid: number(words[0]),
        name: words[1],
        kind: words[2],
        volatility: words[3],
        returns_set: words[4] == "t",
        returns: number(words[5]),
        arguments: words[6]
            .split(',')
            .filter(|word| *word != "-")
            .map(number)
            .collect(),
    }
}

pub fn type_by_oid(oid: u32) -> Option<&'static TypeRow> {
    types()
        .binary_search_by_key(&oid, |row| row.oid)
        .ok()
        .map(|index| &types()[index])
}

pub fn function_by_oid(oid: u32) -> Option<&'static FunctionRow> {
    functions()
        .binary_search_by_key(&oid, |row| row.oid)
        .ok()
        .map(|index| &functions()[index])
}

/// The oid of the only, or first, function of this name; 0 for `-`, which stands for none.
pub fn function_oid(name: &str) -> u32 {
    functions()
        .iter()
        .find(|row| row.name == name)
        .map_or(0, |row| row.oid)
}

/// The type that a name means: Postgres' own (`int8`, `_text`) or the standard's (`bigint`,
/// `character varying(20)[]`).
pub fn type_by_name(name: &str) -> Option<&'static TypeRow> {
    let name = name.trim().trim_start_matches("pg_catalog.");
    let bare = name.trim_matches('"');
    if let Some(row) = types().iter().find(|row| row.name == bare) {
        return Some(row);
    }
    if let Some(element) = name.strip_suffix("[]") {
        return type_by_name(element).and_then(|row| type_by_oid(row.array));
    }
    let base = name.split('(').next().unwrap_or(name).trim().to_lowercase();
    let known = NAMES
        .iter()
        .find(|(_, written)| *written == base)
        .map(|(name, _)| *name);
    if let Some(known) = known {
        return types().iter().find(|row| row.name == known);
    }
    let sql_type = SqlType::parse(name).ok()?;
    type_by_oid(crate::types::pg::PgType::of_sql_type(&sql_type).oid)
}

/// Types that have another name in SQL than in `pg_type`.
const NAMES: [(&str, &str); 16] = [
    ("bool", "boolean"),
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("varchar", "character varying"),
    ("bpchar", "character"),
    ("time", "time without time zone"),
    ("timetz", "time with time zone"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("bit", "bit"),
    ("varbit", "bit varying"),
    ("char", "\"char\""),
    ("numeric", "decimal"),
];

/// `format_type`: the type as SQL writes it, with what its modifier says.
pub fn format_type(oid: u32, modifier: Option<i32>) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    let Some(row) = type_by_oid(oid) else {
        return "???".to_string();
    };
    // int2vector and oidvector have elements too, but are no arrays by name.
    if row.category == "A" && row.name.starts_with('_') {
        return format!("{}[]", format_type(row.element, modifier));
    }
    let written = match row.name {
        "numeric" => "numeric",
        name => NAMES
            .iter()
            .find(|(own, _)| *own == name)
            .map_or(name, |(_, written)| written),
    };
    let Some(modifier) = modifier.filter(|modifier| *modifier >= 0) else {
        return written.to_string();
    };
    match row.name {
        "varchar" | "bpchar" => format!("{written}({})", modifier - 4),
        "numeric" => {
            let digits = modifier - 4;
            format!("numeric({},{})", digits >> 16, digits & 0x7ff)
        }
        "bit" | "varbit" => format!("{written}({modifier})"),
        _ => written.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::system::pg_type::{format_type, function_oid, type_by_name, type_by_oid, types};
    use crate::types::pg::PgType;

    #[test]
    fn types_are_written_as_postgres_does() {
        assert_eq!(format_type(20, Some(-1)), "bigint");
        assert_eq!(format_type(1043, Some(24)), "character varying(20)");
        assert_eq!(format_type(1700, Some(655_366)), "numeric(10,2)");
        assert_eq!(format_type(1009, None), "text[]");
        assert_eq!(format_type(1016, Some(-1)), "bigint[]");
        assert_eq!(format_type(18, None), "\"char\"");
        assert_eq!(format_type(22, None), "int2vector");
        assert_eq!(format_type(4_000_000, None), "???");
    }

    #[test]
    fn every_type_of_ours_is_listed_and_every_array_leads_to_its_element() {
        for name in [
            "bigint",
            "text[]",
            "varchar(3)",
            "jsonb[]",
            "uuid",
            "timestamptz",
            "interval",
        ] {
            let sql_type = crate::types::SqlType::parse(name).unwrap();
            let oid = PgType::of_sql_type(&sql_type).oid;
            assert_eq!(type_by_name(name).unwrap().oid, oid, "{name}");
        }
        for row in types().iter().filter(|row| row.array != 0) {
            assert_eq!(type_by_oid(row.array).unwrap().element, row.oid);
        }
        assert_eq!(function_oid("array_recv"), 2400);
    }
}
