//! Generated tables, and what happens to their rows.

use super::choice::Choices;
use super::value::{TYPES, Type, Value};

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub of: Type,
    /// Its values are at the ends of the type; nothing is computed of them.
    pub is_wild: bool,
    pub is_nullable: bool,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<Column>,
    /// The first column is its key.
    pub has_key: bool,
}

const NAMES: [&str; 3] = ["t0", "t1", "t2"];

/// Tables of few columns, most of whose names and types are those of the other tables', too.
pub fn tables(choices: &mut Choices) -> Vec<Table> {
    NAMES.map(|name| table(choices, name)).into()
}

fn table(choices: &mut Choices, name: &'static str) -> Table {
    let has_key = choices.one_in(3);
    let mut columns = Vec::new();
    if has_key {
        columns.push(Column {
            name: "k".to_string(),
            of: Type::BigInt,
            is_wild: false,
            is_nullable: false,
        });
    }
    for _ in 0..2 + choices.below(4) {
        let of = *choices.pick(&TYPES);
        let number = columns.iter().filter(|column| column.of == of).count();
        let name = match number {
            0 => of.letter().to_string(),
            _ => format!("{}{number}", of.letter()),
        };
        columns.push(Column {
            name,
            of,
            is_wild: choices.one_in(5),
            is_nullable: !choices.one_in(5),
        });
    }
    Table {
        name,
        columns,
        has_key,
    }
}

impl Table {
    pub fn create(&self) -> String {
        let column = |(place, column): (usize, &Column)| {
            let condition = match (place == 0 && self.has_key, column.is_nullable) {
                (true, _) => " PRIMARY KEY",
                (false, true) => "",
                (false, false) => " NOT NULL",
            };
            format!("{} {}{condition}", column.name, column.of.sql())
        };
        let columns: Vec<String> = self.columns.iter().enumerate().map(column).collect();
        format!("CREATE TABLE {} ({})", self.name, columns.join(", "))
    }

    /// A row as it stands in VALUES.
    pub fn literals(&self, row: &[Value]) -> String {
        let values = self.columns.iter().zip(row);
        let literals: Vec<String> = values
            .map(|(column, value)| value.literal(column.of))
            .collect();
        literals.join(", ")
    }
}

pub type Row = Vec<Value>;

/// A row that comes, or goes, so many times.
#[derive(Clone, Debug)]
pub struct Change {
    pub table: usize,
    pub row: Row,
    pub weight: i64,
}

/// What is taken in at once.
pub type Step = Vec<Change>;

/// The most rows that a table has: a product of three tables is to stay small.
const ROWS_MAX: usize = 10;

/// Rows that come and go in `steps` steps; after the last one but one nothing is left.
pub fn history(choices: &mut Choices, tables: &[Table], steps: usize) -> Vec<Step> {
    let mut live: Vec<Vec<Row>> = vec![Vec::new(); tables.len()];
    let mut history = Vec::new();
    for number in 0..steps {
        let mut step = Step::new();
        let first = usize::from(number == 0) * 9;
        for _ in 0..first + choices.below(5) {
            let table = choices.below(tables.len());
            change(choices, &tables[table], table, &mut live[table], &mut step);
        }
        history.push(step);
    }
    let mut last = Step::new();
    for (table, rows) in live.into_iter().enumerate() {
        last.extend(rows.into_iter().map(|row| Change {
            table,
            row,
            weight: -1,
        }));
    }
    let refill: Step = last.iter().rev().take(4).cloned().collect();
    history.push(last);
    let again = |change: Change| Change {
        weight: 1,
        ..change
    };
    history.push(refill.into_iter().map(again).collect());
    history
}

fn change(
    choices: &mut Choices,
    table: &Table,
    number: usize,
    live: &mut Vec<Row>,
    step: &mut Step,
) {
    let mut push = |row: Row, weight| {
        step.push(Change {
            table: number,
            row,
            weight,
        });
    };
    match choices.below(8) {
        0..4 if live.len() < ROWS_MAX => {
            if let Some(row) = fresh(choices, table, live) {
                live.push(row.clone());
                push(row, 1);
            }
        }
        // The same row once more.
        4 if live.len() < ROWS_MAX && !live.is_empty() && !table.has_key => {
            let row = choices.pick(live).clone();
            live.push(row.clone());
            push(row, 1);
        }
        // There and gone.
        5 => {
            if let Some(row) = fresh(choices, table, live) {
                push(row.clone(), 1);
                push(row, -1);
            }
        }
        6 if !live.is_empty() => {
            let at = choices.below(live.len());
            let old = live.swap_remove(at);
            let mut new = old.clone();
            let first = usize::from(table.has_key);
            let place = first + choices.below(table.columns.len() - first);
            new[place] = value(choices, &table.columns[place]);
            live.push(new.clone());
            push(old, -1);
            push(new, 1);
        }
        _ if !live.is_empty() => {
            let at = choices.below(live.len());
            push(live.swap_remove(at), -1);
        }
        _ => {}
    }
}

/// A row whose key is free.
fn fresh(choices: &mut Choices, table: &Table, live: &[Row]) -> Option<Row> {
    let is_free = |key: &i64| live.iter().all(|row| row[0] != Value::Integer(*key));
    let key = match table.has_key {
        true => (0..20).find(is_free)?,
        false => 0,
    };
    Some(row(choices, table, key))
}

/// A random row; the key is for a table that has one.
pub fn row(choices: &mut Choices, table: &Table, key: i64) -> Row {
    let columns = table.columns.iter().enumerate();
    let value = |(place, column): (usize, &Column)| match place == 0 && table.has_key {
        true => Value::Integer(key),
        false => value(choices, column),
    };
    columns.map(value).collect()
}

pub fn value(choices: &mut Choices, column: &Column) -> Value {
    match column.is_nullable && choices.one_in(5) {
        true => Value::Null,
        false => Value::drawn(choices, column.of, column.is_wild),
    }
}
